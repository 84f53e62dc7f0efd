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
    places = list(own)
    kept, apart, table = [first], [], [np.fromiter(own.values(), np.float64)]
    for other in others:
        if other.cell.key == first.cell.key:
            continue
        values = _values_at(places, images.get(other.cell.key, ()), name)
        if values is None:
            apart.append(other)
        else:
            kept.append(other)
            table.append(np.array(values, dtype=np.float64))
    prompts = tuple(prompt for _, _, prompt in places)
    return SharedRows(tuple(kept), np.stack(table), prompts, tuple(apart))


def _values_at(places: Sequence[Place], rows: Sequence[ImageRow], name: str) -> Sequence[float] | None:
    """The values at these places, where they are all that have one; else None."""
    # Nearly always the rows stand in the same order, those without a value last; looking up each costs far more.
    values = _values(rows, name)
    given = [value for value in values[: len(places)] if value is not None]
    alone = len(given) == len(places) and not any(value is not None for value in values[len(places) :])
    if alone and places_of(rows[: len(places)]) == places:
        return given
    found = values_of(rows, name)
    return [found[place] for place in places] if found.keys() == set(places) else None


def places_of(rows: Sequence[ImageRow]) -> list[Place]:
    """Where each picture belongs."""
    return [(row.index, row.seed, row.prompt) for row in rows]


def values_of(rows: Sequence[ImageRow], name: str) -> dict[Place, float]:
    """What is known of each picture by itself, by its place; pictures without a value are left out."""
    found = zip(places_of(rows), _values(rows, name), strict=True)
    return {place: value for place, value in found if value is not None}


def clusters_of(prompts: Sequence[str]) -> tuple[str, ...] | None:
    """The prompts as labels of clusters; None where none comes twice, so that pictures stand for themselves."""
    return None if len(set(prompts)) == len(prompts) else tuple(prompts)


def _values(rows: Sequence[ImageRow], name: str) -> list[float | None]:
    if name == "judge_all":
        return [None if row.judge is None else float(all(row.judge.values())) for row in rows]
    bare = unmarked(name)
    return [row.values.get(bare) for row in rows]
