"""What lies on disk of a run's pictures: which are there, which have a filmstrip, and how a page names them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from eval.records import Cell
from eval.reporting.merging import PlacedCell

FILM_BYTES = 65_536
"""A longer film.json is not ours."""


@dataclass(frozen=True)
class Film:
    """What film.json says of a cell's filmstrips: each one picture, from noise to the end, left to right."""

    pictures: tuple[int, ...]
    """Indices of the pictures that have a strip on disk."""
    steps: tuple[int, ...]
    """After which step each frame was taken."""
    width_px: int
    """Of one frame."""
    height_px: int


@dataclass(frozen=True)
class CellFiles:
    """A cell's pictures as they lie on disk, below the folder of its own run."""

    home: Path
    """The run's folder, resolved."""
    own_key: str
    """The cell's key there."""
    names: frozenset[str]
    """Plain files among its pictures; links are not among them."""
    film: Film | None
    """None where none was kept, or its file is not ours."""

    def has(self, index: int, path: str) -> bool:
        """Whether picture `index` is there, and its row names no other place."""
        return path == f"cells/{self.own_key}/images/{name(index)}" and name(index) in self.names

    def picture(self, index: int) -> Path:
        return self.home / "cells" / self.own_key / "images" / name(index)

    def strip(self, index: int) -> Path:
        return self.home / "cells" / self.own_key / "film" / name(index)


def name(index: int) -> str:
    """A picture's file name, as the sweep writes it."""
    return f"{index:05d}.png"


def cell_files(cell: Cell, folder: Path, folders: Mapping[str, Path]) -> CellFiles:
    """What is there of a cell.

    Args:
        folder: the report's folder, which is the run's own unless runs were merged.
        folders: run's name -> its folder, for the cells of merged runs.
    """
    placed = isinstance(cell, PlacedCell) and cell.run in folders
    home = (folders[cell.run] if placed and isinstance(cell, PlacedCell) else folder).resolve()
    own_key = cell.own_key if isinstance(cell, PlacedCell) and cell.own_key else cell.key
    place = home / "cells" / own_key
    return CellFiles(home, own_key, _plain_files(place / "images", home), _film(place / "film", home))


def address(home: Path, folder: Path) -> str:
    """How a page in `folder` names a run's folder: relative, percent-encoded, with a slash at its end."""
    try:
        relative = Path(os.path.relpath(home, folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return home.as_uri() + "/"
    return "" if relative == "." else "/".join(map(quote, relative.split("/"))) + "/"


def _plain_files(place: Path, home: Path) -> frozenset[str]:
    """Names in a folder; none where it leads out of the run's."""
    try:
        if not place.resolve().is_relative_to(home):
            return frozenset()
        with os.scandir(place) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    except OSError:
        return frozenset()


def _film(place: Path, home: Path) -> Film | None:
    names = _plain_files(place, home)
    if "film.json" not in names:
        return None
    try:
        with (place / "film.json").open("rb") as file:
            said = json.loads(file.read(FILM_BYTES))
        sizes = (said["frame_width"], said["frame_height"])
        pictures, steps = _numbers(said["pictures"], 1_000_000), _numbers(said["steps"], 100_000)
        width, height = _numbers(sizes, 4096)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    there = tuple(index for index in pictures if name(index) in names)
    return Film(there, steps, width, height) if there and steps and width and height else None


def _numbers(values: object, most: int) -> tuple[int, ...]:
    """Whole numbers from 0 to `most`. Raises ValueError for all else: the file is not ours."""
    if not isinstance(values, (list, tuple)) or len(values) > 1000:
        raise ValueError(f"a list of at most 1000 numbers is needed, got {type(values).__name__}")
    if not all(type(value) is int and 0 <= value <= most for value in values):
        raise ValueError(f"numbers must be whole and 0..{most}")
    return tuple(values)
