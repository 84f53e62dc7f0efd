"""The decision: the cheapest setting that cannot be told apart from the best one, with its evidence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.records import CellResult, ImageRow
from eval.reporting import axes, evidence
from eval.reporting.axes import CLIP, Cost
from eval.reporting.ranking import clip_of
from eval.scoring.uncertainty import paired_difference

TIE = 0.05
"""Costs within this share of the cheapest count as equal: repeats of one measurement differ by as much."""

Images = Mapping[str, Sequence[ImageRow]]


@dataclass(frozen=True)
class Gap:
    """How far a cell's CLIP score lies below the best one's, over the same prompts and seeds."""

    mean: float
    """Mean of best − cell, in points of CLIP score."""
    low: float
    """Ends of the 95 % interval of the mean."""
    high: float
    n: int
    """Pairs of pictures."""

    @property
    def told_apart(self) -> bool:
        """True where the interval lies wholly above 0: the best one is better, beyond chance."""
        return self.low > 0


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

    Each cell is compared with the best one by the mean of per-picture differences (same prompt, same
    seed) and its 95 % interval by Student's t. A cell stays in the running unless that lies above 0. Of
    those, the cheapest is chosen; where costs lie within `TIE` of it, the one with the highest CLIP score.

    Args:
        results: cells of one run.
        images: cell key -> its pictures, with their CLIP scores.
    """
    results = axes.separated(results)
    cost = axes.cost_of(results)
    scored = [result for result in results if axes.value(result, CLIP) is not None]
    if not scored:
        return Decision(None, None, None, cost, (), _why_unscored(results))
    best = max(scored, key=clip_of)
    gaps = {result.cell.key: gap_between(best, result, images) for result in scored if result is not best}
    known = {key: gap for key, gap in gaps.items() if gap is not None}
    level = [r for r in scored if r is best or (r.cell.key in known and not known[r.cell.key].told_apart)]
    if gaps and not known:
        reason = "no setting shares two scored pictures with the best one, so none can be compared with it"
        return Decision(None, best, None, cost, (evidence.lead(best),), reason)
    equals = _cheapest(level, cost)
    if not equals:
        reason = "no cost was measured for the settings that are level with the best"
        return Decision(None, best, None, cost, (evidence.lead(best),), reason)
    chosen = max(equals, key=clip_of)
    gap = known.get(chosen.cell.key)
    sentences = (
        evidence.lead(best),
        *evidence.comparison(chosen, best, gap, cost),
        evidence.field(len(level), len(scored), len(equals), TIE, cost),
        *evidence.beside(chosen, scored),
        *evidence.cautions(
            len(results),
            len(scored),
            unpaired=len(gaps) - len(known),
            costless=sum(cost.of(result) is None for result in scored),
            fewest_pairs=min((each.n for each in known.values()), default=None),
        ),
    )
    return Decision(chosen, best, gap, cost, sentences)


def gap_between(best: CellResult, other: CellResult, images: Images) -> Gap | None:
    """The paired difference; None where fewer than two pictures of one prompt and seed have both scores."""
    theirs = {(row.index, row.seed, row.prompt): row.clip_score for row in images.get(other.cell.key, ())}
    first: list[float] = []
    second: list[float] = []
    for row in images.get(best.cell.key, ()):
        score = theirs.get((row.index, row.seed, row.prompt))
        if row.clip_score is not None and score is not None:
            first.append(row.clip_score)
            second.append(score)
    found = paired_difference(first, second) if len(first) > 1 else None
    if found is None or found.low is None or found.high is None:
        return None
    return Gap(found.value, found.low, found.high, len(first))


def _cheapest(level: Sequence[CellResult], cost: Cost) -> list[CellResult]:
    """Those whose cost lies within `TIE` of the lowest; a cell of unknown cost is not among them."""
    spent = [(value, result) for result in level if (value := cost.of(result)) is not None]
    limit = min((value for value, _ in spent), default=0.0) * (1 + TIE)
    return [result for value, result in spent if value <= limit]


def _why_unscored(results: Sequence[CellResult]) -> str:
    failed = sum(result.error is not None for result in results)
    return (
        f"no cell has a CLIP score ({failed} of {len(results)} failed)" if results else "no cell is whole yet"
    )
