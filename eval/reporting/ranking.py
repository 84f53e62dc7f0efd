"""Which cells lead: the Pareto front of quality and cost, and the winners by one measure alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.identity import Column
from eval.records import CellResult
from eval.reporting import axes
from eval.reporting.axes import CLIP


@dataclass(frozen=True)
class Winner:
    """The best cell by one measure alone."""

    title: str
    result: CellResult
    value: str
    unreliable: str | None = None
    """Why the value must not be relied on."""


def pareto_front(costs: Sequence[float | None], quality: Column) -> tuple[int, ...]:
    """Indices of the cells that no other beats, cheapest first.

    A cell is beaten by one that is no worse in cost and in quality, and better in one of them. Cells
    without a cost or a quality are neither on the front nor do they beat another.

    Raises:
        ValueError: neither direction of the score is better.
    """
    points = [
        (cost, -quality.merit(index), index)
        for index, (cost, value) in enumerate(zip(costs, quality.values, strict=True))
        if cost is not None and value is not None
    ]
    front: list[tuple[float, float, int]] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1] or point[:2] == front[-1][:2]:
            front.append(point)
    return tuple(index for _, _, index in front)


def winners(results: Sequence[CellResult]) -> tuple[Winner, ...]:
    """Best CLIP score, best FID, best by the judge, and the fastest; what nobody has is left out."""
    results = axes.separated(results)
    names = (CLIP, axes.fid_name(results), axes.judge_name(results))
    found = [best_by(results, name) for name in names if name]
    cost = axes.cost_of(results)
    priced = [(spent, i) for i, r in enumerate(results) if not r.error and (spent := cost.of(r)) is not None]
    if priced:
        spent, index = min(priced)
        found.append(Winner("Fastest", results[index], cost.text(spent)))
    return tuple(winner for winner in found if winner)


def best_by(results: Sequence[CellResult], name: str) -> Winner | None:
    """The cell that a score ranks first, in the score's own direction.

    None where no cell has it, or neither direction is better. Raises Incomparable for two keys.
    """
    place = axes.column(results, name).best if name in axes.known_names(results) else None
    score = None if place is None else axes.score_of(results[place], name)
    if place is None or score is None or score.value is None:
        return None
    title = "Best by the judge" if name.startswith("judge") else f"Best {axes.score_title(name)}"
    return Winner(title, results[place], axes.text(name, score.value), score.unreliable)
