"""The sentences beside the decision: what was compared, in numbers, and what to be careful about. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval.identity import Score
from eval.records import CellResult
from eval.reporting import axes
from eval.reporting.axes import CLIP, Cost
from eval.reporting.ranking import best_by

if TYPE_CHECKING:
    from eval.reporting.decide import Gap, Gaps

FEW_IMAGES = 64
"""Below this many pictures a cell, a warning stands beside the decision."""


def lead(best: CellResult) -> str:
    """Which setting has the highest CLIP score, and how well that score is known."""
    score = best.score(CLIP)
    if score is None or score.value is None:
        raise ValueError(f"the best cell needs a CLIP score, got none for {best.cell.label}")
    known = score.low is not None and score.high is not None
    span = f"95 % interval {score.low:.2f} to {score.high:.2f}, " if known else ""
    doubt = axes.doubt_beside(score.unreliable)
    pictures = "1 picture" if score.n == 1 else f"{score.n} pictures"
    return f"{best.cell.label} has the highest CLIP score, {score.value:.2f} ({span}{pictures}){doubt}."


def comparison(chosen: CellResult, best: CellResult, gap: Gap | None, cost: Cost) -> list[str]:
    """How the chosen setting compares with the best one in CLIP score, and in cost."""
    if chosen is best or gap is None:
        return ["No setting that cannot be told apart from it costs less, so it is the choice."]
    own = _shown(axes.score_of(chosen, CLIP), CLIP)
    sentences = [
        f"{chosen.cell.label} has {own}. Over the same {gap.n} prompts and seeds the best one is "
        f"{signed(gap.mean)} points ahead, 95 % interval {signed(gap.low)} to {signed(gap.high)}. The interval "
        "reaches 0 or below, so the two cannot be told apart."
    ]
    ours, theirs = cost.of(chosen), cost.of(best)
    if ours and theirs:
        ratio = f": {theirs / ours:.1f} times less" if theirs / ours >= 1.1 else ", about the same"
        sentences.append(f"It costs {cost.text(ours)} a picture against {cost.text(theirs)}{ratio}.")
    return sentences


def field(level: int, scored: int, equals: int, tie: float, cost: Cost) -> str:
    """How many settings stayed in the running, and how one was picked from them.

    Args:
        level: settings that cannot be told apart from the best, which is one of them.
        scored: settings with a CLIP score.
        equals: settings among `level` whose cost lies within `tie` of the lowest, the chosen one included.
    """
    if level == 1:
        return f"Of {scored} settings with a CLIP score, every other that can be compared lies below it."
    pick = f"The choice is the cheapest of them by {cost.noun}"
    if equals > 1:
        near = f"within {100 * tie:g} % of the lowest {cost.noun}"
        pick = f"{equals} of them lie {near}, too close to rank; there the choice has the highest CLIP score"
    field = (
        f"Of {scored} settings with a CLIP score, {level} cannot be told apart from the best, itself included"
    )
    return f"{field}. {pick}."


def mixed(chosen: CellResult, cost: Cost) -> list[str]:
    """What to know of the costs where they are not of one kind."""
    if not cost.mixed:
        return []
    return [
        f"Costs are {cost.mixed}; that of the choice is of {chosen.device}. Elsewhere another may be the cheapest."
    ]


def beside(chosen: CellResult, scored: Sequence[CellResult]) -> list[str]:
    """FID and the judge for the chosen setting, each beside the best of the sweep."""
    sentences = []
    for name in (axes.fid_name(scored), axes.judge_name(scored)):
        top = best_by(scored, name) if name else None
        if name is None or top is None:
            continue
        own = _shown(axes.score_of(chosen, name), name)
        other = f"the best is {top.value}{axes.doubt_beside(top.unreliable)}, by {top.result.cell.label}"
        rest = "the best of the sweep" if top.result is chosen else other
        sentences.append(f"Beside the choice, not part of it: {axes.score_title(name)} is {own}; {rest}.")
    return sentences


def cautions(gaps: Gaps, cells: int, scored: int, costless: int) -> list[str]:
    """What was left out, whether there are enough pictures, and what the intervals hold for.

    Args:
        costless: scored cells whose cost is not known.
    """
    sentences = []
    if scored < cells:
        sentences.append(f"Left out for want of a comparable CLIP score: {cells - scored} of {cells} cells.")
    if gaps.apart:
        sentences.append(
            f"Left out for not sharing all scored pictures with the best one: {gaps.apart} of {scored} cells."
        )
    if costless:
        sentences.append(f"Left out of the choice for want of a known cost: {costless} of {scored} cells.")
    pictures = min((gap.n for gap in gaps.by_key.values()), default=None)
    if pictures is None:
        return sentences
    if pictures < FEW_IMAGES:
        sentences.append(f"{pictures} pictures a cell hide many real differences: use more prompts.")
    return [*sentences, _method(gaps)]


def _method(gaps: Gaps) -> str:
    """What the intervals of the comparisons hold for, and by which method."""
    by = "" if gaps.prompts is None else f", clustered by the {gaps.prompts} prompts"
    if gaps.pairs == 1:
        return f"There is one comparison, of two settings, with its own 95 % interval (max-T{by})."
    return (
        f"The intervals hold together, at 95 %, for all {gaps.pairs} comparisons between "
        f"{len(gaps.by_key) + 1} settings (max-T{by}), so the best one may be picked from the same pictures."
    )


def _shown(score: Score | None, name: str) -> str:
    """The score's value as text with what there is to doubt about it."""
    if score is None or score.value is None:
        return "unknown"
    return axes.text(name, score.value) + axes.doubt_beside(score.unreliable)


def signed(number: float) -> str:
    """Two decimals with a true minus sign."""
    return f"{number:.2f}".replace("-", "−")
