"""Which cells lead: the Pareto front of quality and cost, and the winners by one measure alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.records import CellResult
from eval.reporting import axes
from eval.reporting.axes import CLIP


@dataclass(frozen=True)
class Winner:
    """The best cell by one measure alone."""

    title: str
    result: CellResult
    value: str


def pareto_front(
    costs: Sequence[float | None], qualities: Sequence[float | None], *, higher_is_better: bool
) -> tuple[int, ...]:
    """Indices of the points that no other point beats, cheapest first.

    A point is beaten by one that is no worse in cost and in quality, and better in one of them. Points
    without a cost or a quality are neither on the front nor do they beat another.
    """
    sign = -1 if higher_is_better else 1
    points = [
        (cost, sign * quality, index)
        for index, (cost, quality) in enumerate(zip(costs, qualities, strict=True))
        if cost is not None and quality is not None
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
    """The cell that a score ranks first, in the score's own direction; None where no cell has it."""
    have = [(value, result) for result in results if (value := axes.value(result, name)) is not None]
    if not have:
        return None
    pick = max if axes.higher_is_better(results, name) else min
    value, result = pick(have, key=lambda pair: pair[0])
    title = "Best by the judge" if name.startswith("judge") else f"Best {axes.in_sentence(name)}"
    return Winner(title, result, axes.text(name, value))


def clip_of(result: CellResult) -> float:
    """The cell's CLIP score; minus infinity where it has none, so that it ranks last."""
    value = axes.value(result, CLIP)
    return float("-inf") if value is None else value
