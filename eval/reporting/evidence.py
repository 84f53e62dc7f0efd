"""The sentences beside the decision: what was compared, in numbers, and what to be careful about. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval.records import CellResult
from eval.reporting import axes
from eval.reporting.axes import CLIP, Cost
from eval.reporting.ranking import best_by, clip_of

if TYPE_CHECKING:
    from eval.reporting.decide import Gap

FEW_IMAGES = 64
"""Below this many pictures a cell, a warning stands beside the decision."""


def lead(best: CellResult) -> str:
    """Which setting has the highest CLIP score, and how well that score is known."""
    score = best.score(CLIP)
    if score is None or score.value is None:
        raise ValueError(f"the best cell needs a CLIP score, got none for {best.cell.label}")
    known = score.low is not None and score.high is not None
    span = f"95 % interval {score.low:.2f} to {score.high:.2f}, " if known else ""
    pictures = "1 picture" if score.n == 1 else f"{score.n} pictures"
    return f"{best.cell.label} has the highest CLIP score, {score.value:.2f} ({span}{pictures})."


def comparison(chosen: CellResult, best: CellResult, gap: Gap | None, cost: Cost) -> list[str]:
    """How the chosen setting compares with the best one in CLIP score, and in cost."""
    if chosen is best or gap is None:
        return ["No setting that cannot be told apart from it costs less, so it is the choice."]
    sentences = [
        f"{chosen.cell.label} has {clip_of(chosen):.2f}. Over the same {gap.n} prompts and seeds the best "
        f"one is {signed(gap.mean)} points ahead, 95 % interval {signed(gap.low)} to {signed(gap.high)}. The "
        "interval reaches 0 or below, so the two cannot be told apart."
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


def beside(chosen: CellResult, scored: Sequence[CellResult]) -> list[str]:
    """FID and the judge for the chosen setting, each beside the best of the sweep."""
    sentences = []
    for name in (axes.fid_name(scored), axes.judge_name(scored)):
        top = best_by(scored, name) if name else None
        if name is None or top is None:
            continue
        ours = axes.value(chosen, name)
        own = "unknown" if ours is None else axes.text(name, ours)
        other = f"the best is {top.value}, by {top.result.cell.label}"
        rest = "the best of the sweep" if top.result is chosen else other
        sentences.append(f"Beside the choice, not part of it: {axes.score_title(name)} is {own}; {rest}.")
    return sentences


def cautions(cells: int, scored: int, unpaired: int, costless: int, fewest_pairs: int | None) -> list[str]:
    """What was left out, and whether there are enough pictures to tell settings apart.

    Args:
        unpaired: scored cells that share fewer than two scored pictures with the best one.
        costless: scored cells whose cost is not known.
        fewest_pairs: pairs of pictures behind the weakest comparison; None where there was none.
    """
    sentences = []
    if scored < cells:
        sentences.append(f"Left out for want of a comparable CLIP score: {cells - scored} of {cells} cells.")
    if unpaired:
        sentences.append(
            f"Left out for sharing too few pictures with the best one: {unpaired} of {scored} cells."
        )
    if costless:
        sentences.append(f"Left out of the choice for want of a known cost: {costless} of {scored} cells.")
    if fewest_pairs is not None and fewest_pairs < FEW_IMAGES:
        sentences.append(f"{fewest_pairs} pictures a cell hide many real differences: use more prompts.")
    if fewest_pairs is not None:
        sentences.append(
            "Each interval is for its own pair; none is widened for the number of settings tried."
        )
    return sentences


def signed(number: float) -> str:
    """Two decimals with a true minus sign."""
    return f"{number:.2f}".replace("-", "−")
