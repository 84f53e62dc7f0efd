"""The decision: the cheapest setting that cannot be told apart from the best one, with its evidence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eval.records import CellResult
from eval.reporting import axes, evidence
from eval.reporting.axes import CLIP, Cost
from eval.reporting.shared_rows import Images, shared_rows

TIE = 0.05
"""Costs within this share of the cheapest count as equal: repeats of one measurement differ by as much."""


@dataclass(frozen=True)
class Gap:
    """How far a cell's CLIP score lies below the best one's, over the same prompts and seeds."""

    mean: float
    """Mean of best − cell, in points of CLIP score."""
    low: float
    """Ends of the interval of the mean, which holds together with those of all other pairs at 95 %."""
    high: float
    n: int
    """Pairs of pictures."""

    @property
    def told_apart(self) -> bool:
        """True where the interval lies wholly above 0: the best one is better, beyond chance."""
        return self.low > 0


@dataclass(frozen=True)
class Gaps:
    """The gaps of all cells that could be compared with the best one, and what became of the others."""

    by_key: dict[str, Gap] = field(default_factory=dict)
    """Cell key -> gap; the best cell's own is not among them."""
    pairs: int = 0
    """Differences that the intervals hold for at once: of any two of the compared cells."""
    apart: int = 0
    """Cells left out because their scored pictures are not the best one's."""
    prompts: int | None = None
    """Independent clusters, where prompts have several pictures; None where pictures stand for themselves."""
    reason: str | None = None
    """Why there is no gap at all."""


@dataclass(frozen=True)
class Decision:
    """What to ship, or why that cannot be known."""

    chosen: CellResult | None
    best: CellResult | None
    """The cell with the highest CLIP score."""
    gap: Gap | None
    """Between `best` and `chosen`; None where they are one cell, or nothing was chosen."""
    cost: Cost
    evidence: tuple[str, ...]
    """Sentences with numbers, in the order in which they should be read."""
    reason: str | None = None
    """Why `chosen` is None."""


def decide(results: Sequence[CellResult], images: Images) -> Decision:
    """The cheapest cell whose CLIP score cannot be told apart from the best cell's.

    Each cell that has the very same pictures (prompt and seed) is compared with the best one by the mean of
    their differences. The intervals are simultaneous over all pairs of cells (max-T), so the best may be
    picked from the same pictures. A cell stays in the running unless its interval lies above 0. Of those, the
    cheapest is chosen; where costs lie within `TIE` of it, the one with the highest CLIP score.

    Args:
        results: cells of one run.
        images: cell key -> its pictures, with their CLIP scores.
    """
    results = axes.separated(results)
    cost = axes.cost_of(results)
    scored = [result for result in results if axes.score_of(result, CLIP) is not None]
    if not scored:
        return Decision(None, None, None, cost, (), _why_unscored(results))
    column = axes.column(scored, CLIP)
    place = column.best
    best = scored[0 if place is None else place]
    gaps = gaps_to(best, scored, images)
    if gaps.reason is not None:
        return Decision(None, best, None, cost, (evidence.lead(best),), gaps.reason)
    level = [i for i, r in enumerate(scored) if r is best or _in_the_running(gaps.by_key.get(r.cell.key))]
    equals = _cheapest(level, scored, cost)
    chosen_place = column.best_of(equals)
    if chosen_place is None:
        reason = "no cost was measured for the settings that are level with the best"
        return Decision(None, best, None, cost, (evidence.lead(best),), reason)
    chosen = scored[chosen_place]
    gap = gaps.by_key.get(chosen.cell.key)
    sentences = (
        evidence.lead(best),
        *evidence.comparison(chosen, best, gap, cost),
        evidence.field(len(level), len(scored), len(equals), TIE, cost),
        *evidence.mixed(chosen, cost),
        *evidence.beside(chosen, scored),
        *evidence.cautions(
            gaps, len(results), len(scored), costless=sum(cost.of(result) is None for result in scored)
        ),
    )
    return Decision(chosen, best, gap, cost, sentences)


def gaps_to(best: CellResult, scored: Sequence[CellResult], images: Images) -> Gaps:
    """How far each cell lies below the best one, with simultaneous intervals; a cell alone has no gap."""
    if len(scored) < 2:
        return Gaps()
    shared = shared_rows(best, scored, images, CLIP)
    if shared is None or len(shared.results) < 2:
        why = "no setting has the same scored pictures as the best one, so none can be compared with it"
        return Gaps(reason=why)
    found, by_key = shared.differences(), {}
    for place, result in enumerate(shared.results[1:], start=1):
        between = found.difference(0, place)
        if between.low is not None and between.high is not None:
            by_key[result.cell.key] = Gap(between.value, between.low, between.high, shared.pictures)
    if not by_key:
        why = "settings cannot be compared over a single picture, nor over a single prompt: use more prompts"
        return Gaps(reason=why)
    prompts = None if shared.clusters is None else len(set(shared.clusters))
    return Gaps(by_key, shared.pairs, len(shared.apart), prompts)


def _in_the_running(gap: Gap | None) -> bool:
    return gap is not None and not gap.told_apart


def _cheapest(level: Sequence[int], scored: Sequence[CellResult], cost: Cost) -> list[int]:
    """Those whose cost lies within `TIE` of the lowest; a cell of unknown cost is not among them."""
    spent = [(value, place) for place in level if (value := cost.of(scored[place])) is not None]
    limit = min((value for value, _ in spent), default=0.0) * (1 + TIE)
    return [place for value, place in spent if value <= limit]


def _why_unscored(results: Sequence[CellResult]) -> str:
    failed = sum(result.error is not None for result in results)
    return (
        f"no cell has a CLIP score ({failed} of {len(results)} failed)" if results else "no cell is whole yet"
    )
