"""Per-picture values of several cells over the same prompts and seeds, and their differences. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.records import CellResult, ImageRow
from eval.scoring.catalogue import unmarked
from eval.scoring.multiple import MaxT, max_t

Array = np.ndarray[Any, np.dtype[Any]]
Images = Mapping[str, Sequence[ImageRow]]
Place = tuple[int, int | None, str]
"""Index, seed and prompt: what makes two pictures of two cells a pair."""

SEED = 0
"""Of the signs that max-T draws."""


@dataclass(frozen=True)
class SharedRows:
    """Values that pair off: column i has one prompt and one seed for all cells."""

    results: tuple[CellResult, ...]
    """The first is the one that all are compared with."""
    values: Array
    """(cells, pictures) float64."""
    prompts: tuple[str, ...]
    """Of each picture."""
    apart: tuple[CellResult, ...]
    """Cells whose scored pictures are not the same, so that they are left out."""

    @property
    def pictures(self) -> int:
        return len(self.prompts)

    @property
    def clusters(self) -> tuple[str, ...] | None:
        """One label a picture where a prompt has several pictures, which may depend on each other."""
        return clusters_of(self.prompts)

    @property
    def pairs(self) -> int:
        """Differences between any two of the cells."""
        return len(self.results) * (len(self.results) - 1) // 2

    def differences(self) -> MaxT:
        """All differences between the cells with intervals that hold at once."""
        return max_t(self.values, clusters=self.clusters, seed=SEED)


def shared_rows(
    first: CellResult, others: Sequence[CellResult], images: Images, name: str
) -> SharedRows | None:
    """The cells that have a value for the very pictures that `first` has one for; None where it has none.

    Args:
        others: may hold `first` itself, which is not taken twice.
        name: the score, whose values are read from the pictures' rows.
    """
    own = values_of(images.get(first.cell.key, ()), name)
    if not own:
        return None
    kept, apart, table = [first], [], [list(own.values())]
    for other in others:
        if other.cell.key == first.cell.key:
            continue
        found = values_of(images.get(other.cell.key, ()), name)
        if found.keys() == own.keys():
            kept.append(other)
            table.append([found[place] for place in own])
        else:
            apart.append(other)
    prompts = tuple(prompt for _, _, prompt in own)
    return SharedRows(tuple(kept), np.asarray(table, dtype=np.float64), prompts, tuple(apart))


def values_of(rows: Sequence[ImageRow], name: str) -> dict[Place, float]:
    """What is known of each picture by itself, by its place; pictures without a value are left out."""
    found = {(row.index, row.seed, row.prompt): _value(row, unmarked(name)) for row in rows}
    return {place: value for place, value in found.items() if value is not None}


def clusters_of(prompts: Sequence[str]) -> tuple[str, ...] | None:
    """The prompts as labels of clusters; None where none comes twice, so that pictures stand for themselves."""
    return None if len(set(prompts)) == len(prompts) else tuple(prompts)


def _value(row: ImageRow, name: str) -> float | None:
    if name == "judge_all":
        return None if row.judge is None else float(all(row.judge.values()))
    return row.values.get(name)
