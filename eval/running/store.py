"""A run's folder: what is written where, and how it is read back.

    plan.json  config.yaml  environment.json  grid.json (the cells' keys, in order)  reference-<extractor>.npz
    cells/<key>/cell.json  images.json  features.npz  images/00000.png ...

A cell is whole when its `cell.json` is there, which is written last. Its pictures are written
batch by batch and are decided by the key alone, so an interrupted cell goes on from what is there.
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.records import SCHEMA_VERSION, Cell, CellResult, ImageRow, Plan, Run
from eval.running.atomic import RunFolderError, make_folder, probe, write_atomic
from eval.running.serial import decode, encode
from eval.scoring.moments import Moments
from eval.scoring.moments_file import read_moments, write_moments
from sdkit._errors import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes one run's folder; every write is atomic."""

    root: Path

    def prepare(self) -> None:
        """Make the folder and try it. Raises RunFolderError before any work is done."""
        probe(self.root)

    def discard_if_empty(self) -> None:
        """Take back what `prepare` made, when nothing came of it."""
        with contextlib.suppress(OSError):  # it is not empty: an earlier run's cells stay
            self.root.rmdir()

    def write_head(
        self, plan: Plan, config_yaml: str, environment: Mapping[str, str], cells: Sequence[Cell]
    ) -> None:
        """Write what is known before the first cell."""
        write_atomic(self.root / "plan.json", encode(plan))
        write_atomic(self.root / "config.yaml", config_yaml.encode())
        write_atomic(self.root / "environment.json", _json(dict(environment)))
        write_atomic(self.root / "grid.json", _json([cell.key for cell in cells]))

    def cell_folder(self, key: str) -> Path:
        return self.root / "cells" / key

    def image_path(self, key: str, index: int) -> str:
        """Where picture `index` lies, relative to the run's folder."""
        return f"cells/{key}/images/{index:05d}.png"

    def open_cell(self, cell: Cell) -> None:
        """Make the cell's folders."""
        make_folder(self.cell_folder(cell.key) / "images")

    def write_images(self, key: str, first: int, pixels: Tensor) -> None:
        """Write (N, 3, H, W) uint8 pictures as PNGs numbered from `first`."""
        for offset, picture in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
            write_atomic(self.root / self.image_path(key, first + offset), _png(picture), durable=False)

    def read_images(self, cell: Cell, start: int, stop: int) -> Tensor | None:
        """Pictures start..stop as (N, 3, H, W) uint8; None unless all are there and whole."""
        import torch

        paths = [self.root / self.image_path(cell.key, index) for index in range(start, stop)]
        if not all(path.is_file() for path in paths):
            return None
        pictures = [_unpng(path) for path in paths]
        shape = (cell.height, cell.width, 3)
        if any(picture is None or picture.shape != shape for picture in pictures):
            return None
        return torch.from_numpy(np.stack([each for each in pictures if each is not None])).permute(0, 3, 1, 2)

    def write_cell(
        self, result: CellResult, rows: Sequence[ImageRow], features: Mapping[str, Array], setup: str
    ) -> None:
        """Write a cell, `cell.json` last. `setup` is the digest of what decides more than the pixels."""
        folder = self.cell_folder(result.cell.key)
        if features:
            write_atomic(folder / "features.npz", _npz(features))
        write_atomic(folder / "images.json", encode(tuple(rows)))
        stored = json.loads(encode(replace(result, reused=False)))
        envelope = {"schema_version": SCHEMA_VERSION, "setup": setup, "result": stored}
        write_atomic(folder / "cell.json", _json(envelope))

    def read_cell(self, cell: Cell, setup: str) -> CellResult | None:
        """The cell's result if it is whole, without error and scored the same way; else None."""
        path = self.cell_folder(cell.key) / "cell.json"
        try:
            stored, result = _read_envelope(path)
        except RunFolderError:
            return None
        if stored != setup or result.error is not None or result.cell != cell:
            return None
        return replace(result, reused=True)

    def write_reference(self, extractor: str, moments: Moments) -> None:
        """Keep the reference's moments, as one extractor sees it, beside the run: differences of FID need them."""
        try:
            write_moments(self.root / f"reference-{extractor}.npz", moments, style="sdkit")
        except InvalidRequest as error:
            raise RunFolderError(str(error)) from error


def load_run(folder: Path) -> Run:
    """The run in `folder`, with whatever of its grid is on disk.

    Raises:
        RunFolderError: it is no run's folder, or was written by another version.
    """
    plan = _decode(Plan, folder / "plan.json")
    keys = _decode(tuple[str, ...], folder / "grid.json")
    present = [folder / "cells" / key / "cell.json" for key in keys]
    results = tuple(_read_envelope(path)[1] for path in present if path.is_file())
    return Run(
        plan=plan,
        results=results,
        images={result.cell.key: load_images(folder, result.cell.key) for result in results},
        environment=_decode(dict[str, str], folder / "environment.json"),
        config_yaml=_read(folder / "config.yaml").decode(),
    )


def load_images(folder: Path, key: str) -> tuple[ImageRow, ...]:
    """The rows of one whole cell. Raises RunFolderError as `load_run`."""
    rows: tuple[ImageRow, ...] = _decode(tuple[ImageRow, ...], folder / "cells" / key / "images.json")
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
    path = folder / "cells" / key / "features.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RunFolderError(f"{path} cannot be read ({error}); run the sweep again") from error


def _read_envelope(path: Path) -> tuple[str, CellResult]:
    envelope = _parse(path)
    version = envelope.get("schema_version") if isinstance(envelope, dict) else None
    if not isinstance(envelope, dict) or version != SCHEMA_VERSION:
        raise RunFolderError(
            f"{path} has schema {version}, this version reads {SCHEMA_VERSION}; run the sweep again"
        )
    try:
        return str(envelope["setup"]), decode(CellResult, envelope["result"])
    except (KeyError, ValueError) as error:
        raise RunFolderError(f"{path}: {error}; run the sweep again") from error


def _decode(kind: Any, path: Path) -> Any:
    try:
        return decode(kind, _parse(path))
    except ValueError as error:
        raise RunFolderError(f"{path}: {error}; run the sweep again") from error


def _parse(path: Path) -> object:
    try:
        return json.loads(_read(path))
    except ValueError as error:
        raise RunFolderError(f"{path} is not whole JSON ({error}); run the sweep again") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read ({error.strerror}); is this a run's folder?") from error


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _npz(arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]  # numpy's own `allow_pickle` shares the keywords
    return buffer.getvalue()


def _png(picture: Array) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def _unpng(path: Path) -> Array | None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError):  # Pillow says SyntaxError for some broken PNGs
        return None
