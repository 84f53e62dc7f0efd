"""A run's folder read back: the run, its rows, its features and what it was scored against. Changes nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from eval.hashing import sha256
from eval.records import ImageRow, Plan, Run
from eval.running.atomic import RunFolderError
from eval.running.batch_file import unpack
from eval.running.envelope import Envelope, parse, parse_json, read_bytes, read_envelope
from eval.running.race_file import read_race
from eval.running.serial import decode
from eval.scoring.moments import Moments
from eval.scoring.moments_file import read_moments
from sdkit._errors import InvalidRequest

Array = np.ndarray[Any, np.dtype[Any]]


def load_run(folder: Path) -> Run:
    """The run in `folder`, with whatever of its grid is on disk.

    Raises:
        RunFolderError: it is no run's folder, another version wrote it, or a file is not as it was written.
    """
    plan = _decode(Plan, folder / "plan.json")
    keys = _decode(tuple[str, ...], folder / "grid.json")
    present = [folder / "cells" / key / "cell.json" for key in keys]
    cells = {path.parent.name: read_envelope(path) for path in present if path.is_file()}
    return Run(
        plan=plan,
        results=tuple(envelope.result for envelope in cells.values()),
        images={key: _rows(folder, key, envelope) for key, envelope in cells.items()},
        environment=_decode(dict[str, str], folder / "environment.json"),
        config_yaml=read_bytes(folder / "config.yaml").decode(),
        race=read_race(folder, plan.search),
    )


def load_images(folder: Path, key: str) -> tuple[ImageRow, ...]:
    """The rows of one whole cell. Raises RunFolderError as `load_run`."""
    return _rows(folder, key, read_envelope(folder / "cells" / key / "cell.json"))


def _rows(folder: Path, key: str, envelope: Envelope) -> tuple[ImageRow, ...]:
    path = folder / "cells" / key / "images.json"
    payload, expected = read_bytes(path), envelope.files.get("images.json")
    if expected is not None and sha256(payload) != expected:
        raise RunFolderError(f"{path} is not as it was written; run the sweep again")
    rows: tuple[ImageRow, ...] = _decoded(tuple[ImageRow, ...], parse_json(payload, path), path)
    return rows


def load_reference(folder: Path, extractor: str) -> Moments | None:
    """The reference's moments that the run was scored against; None where it had none. Raises as `load_run`."""
    path = folder / f"reference-{extractor}.npz"
    if not path.is_file():
        return None
    try:
        return read_moments(path)
    except InvalidRequest as error:
        raise RunFolderError(f"{error}; run the sweep again") from error


def load_features(folder: Path, key: str) -> dict[str, Array]:
    """The cell's features, "clip_image" and each extractor by name, (N, D) float32. Raises as `load_run`."""
    cell = folder / "cells" / key
    parts: dict[str, list[Array]] = {}
    for path in sorted((cell / "batches").glob("*.npz")):
        try:
            seen = unpack(path).seen
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path} cannot be read ({error}); run the sweep again") from error
        for name, rows in ({"clip_image": seen.clip_image} | dict(seen.features) if seen else {}).items():
            parts.setdefault(name, []).append(rows)
    return {name: np.concatenate(rows) for name, rows in parts.items()} or _features_of_schema_2(cell)


def _features_of_schema_2(cell: Path) -> dict[str, Array]:
    path = cell / "features.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RunFolderError(f"{path} cannot be read ({error}); run the sweep again") from error


def _decode(kind: Any, path: Path) -> Any:
    return _decoded(kind, parse(path), path)


def _decoded(kind: Any, value: object, path: Path) -> Any:
    try:
        return decode(kind, value)
    except ValueError as error:
        raise RunFolderError(f"{path}: {error}; run the sweep again") from error
