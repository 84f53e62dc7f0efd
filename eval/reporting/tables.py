"""The tables on disk: written whole or not at all, and read back with the kinds that they were written from."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from eval.records import CellResult, ImageRow
from eval.reporting.columns import Table, kind_of
from eval.reporting.comparisons import Comparison
from eval.reporting.csv_text import from_csv, to_csv
from eval.reporting.frames import cells_frame, comparisons_frame, images_frame
from eval.running.atomic import write_atomic
from sdkit._errors import InvalidRequest

_NEEDED: dict[Table, tuple[str, ...]] = {
    "cells": ("key", "sampler", "steps"),
    "images": ("cell_key", "index", "prompt"),
    "comparisons": ("metric", "difference", "best_key"),
}
"""Columns without which a file is no such table."""


def write_tables(
    folder: Path,
    results: Sequence[CellResult],
    rows: Iterable[ImageRow],
    comparisons: Sequence[Comparison],
) -> None:
    """Write cells, images and comparisons into `folder`, each as CSV and as Parquet.

    Args:
        results: of one run, or of merged ones, whose tables then begin with model and run.

    Raises:
        RunFolderError: the disk refuses.
    """
    frames = {
        "comparisons": comparisons_frame(comparisons),
        "cells": cells_frame(results),
        "images": images_frame(rows, results),
    }
    for name, frame in frames.items():
        write_csv(frame, folder / f"{name}.csv")
        write_parquet(frame, folder / f"{name}.parquet")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV, whole or not at all. Raises RunFolderError where the disk refuses."""
    write_atomic(path, to_csv(frame))


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as Parquet: the CSV's columns with their kinds, and text as it is. Raises as `write_csv`."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    write_atomic(path, buffer.getvalue())


def read_table(table: Table, path: Path) -> pd.DataFrame:
    """A table as its frame was: kinds, missing fields as NA, and every text to the letter.

    Args:
        path: a CSV, the Parquet file beside it, which reads faster, or the folder of both.

    Raises:
        InvalidRequest: it is no such table; the message names a column that it lacks.
        OSError: it cannot be read.
    """
    path = path / f"{table}.csv" if path.is_dir() else path
    payload = path.read_bytes()
    try:
        found = (
            pd.read_parquet(io.BytesIO(payload))
            if path.suffix == ".parquet"
            else _kinds(table, from_csv(payload))
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidRequest(
            f"{path} is no {table} table: {error}; give a {table}.csv that report.py wrote"
        ) from error
    lacking = [name for name in _NEEDED[table] if name not in found]
    if lacking:
        raise InvalidRequest(
            f"{path} is no {table} table: it has no column {lacking[0]!r}; give a {table}.csv that report.py wrote"
        )
    return found


def write_cells_csv(results: Sequence[CellResult], path: Path) -> None:
    """Write `cells_frame` to `path`. Raises as `write_csv`."""
    write_csv(cells_frame(results), path)


def write_images_csv(rows: Iterable[ImageRow], path: Path, results: Sequence[CellResult] = ()) -> None:
    """Write `images_frame` to `path`. Raises as `write_csv`."""
    write_csv(images_frame(rows, results), path)


def write_comparisons_csv(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write `comparisons_frame` to `path`. Raises as `write_csv`."""
    write_csv(comparisons_frame(comparisons), path)


def _kinds(table: Table, texts: pd.DataFrame) -> pd.DataFrame:
    """Columns of text as what they are; numbers by Python's own reading, which rounds none."""
    return pd.DataFrame({name: _as_kind(texts[name], kind_of(table, name)) for name in texts.columns})


def _as_kind(texts: pd.Series, kind: str) -> pd.Series:
    if kind == "str":
        return texts
    read = _READERS.get(kind, int)
    values = pd.Series([None if pd.isna(text) else read(text) for text in texts], dtype="object")
    return values.astype(kind)  # type: ignore[call-overload, no-any-return]


def _truth(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(f"a verdict must be True or False, got {text!r}")
    return text == "True"


_READERS: dict[str, Callable[[str], object]] = {"Float64": float, "boolean": _truth}
"""Kind -> what reads a field of it; all others are whole numbers."""
