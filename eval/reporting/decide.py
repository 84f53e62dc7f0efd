"""The decision: the cheapest setting that is shown to lie within a margin of the best one, with its evidence. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from eval.decide_plan import DecidePlan
from eval.records import CellResult
from eval.reporting import axes
from eval.reporting.axes import Cost
from eval.reporting.costs import breaches, cost_for, guarded
from eval.reporting.quality import Quality, by_key
from eval.reporting.shared_rows import Array
from eval.scoring.best import Bounds

TIE = 0.05
"""Costs within this share of the cheapest count as equal: repeats of one measurement differ by as much."""

MOST_MORE = 10_000
"""More pictures than this are not asked for: the setting lies too near the margin."""

Kind = Literal[
    "chosen", "tied", "dearer", "unsure", "worse", "over_limit", "guarded", "failed", "unscored", "uncosted"
]
Status = Literal["chosen", "too_few", "no_cell_meets_limits", "unknown"]
Membership = Literal["on", "off", "unsure"]


@dataclass(frozen=True)
class Verdict:
    """Why a setting is the choice, or is not."""

    kind: Kind
    sentence: str
    gap: float | None = None
    """How far its quality lies below the best one's that may be chosen, in margins, as measured."""
    upper: float | None = None
    """How far it may lie below it, whichever is the best, at the plan's confidence."""
    more_pictures: int | None = None
    """How many pictures more would show it to lie within the margin, were the values to stay; None where no number
    would, or none is needed."""


@dataclass(frozen=True)
class Unlimited:
    """How the choice stands among all settings that were compared, those that limits and guards leave out included."""

    best: CellResult
    gap: float
    """How far the choice lies below it, in margins, as measured."""
    upper: float
    """How far it may lie below the best of them all, whichever that is, at the plan's confidence."""


@dataclass(frozen=True)
class Decision:
    """What to ship, or why that cannot be known."""

    status: Status
    chosen: CellResult | None
    best: CellResult | None
    """The one of the highest quality measured among those that may be chosen."""
    cost: Cost
    plan: DecidePlan
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """By cell key, of every cell."""
    front: dict[str, Membership] = field(default_factory=dict)
    """Cell key -> whether it is on the Pareto front of quality and cost, as far as that is sure."""
    reason: str | None = None
    """Why nothing is chosen."""
    more_pictures: int | None = None
    """How many pictures more a setting would show one to lie within the margin, where none is shown so far."""
    unlimited: Unlimited | None = None
    """None where nothing is chosen, or where limits and guards leave nothing out."""

    def count(self, *kinds: Kind) -> int:
        """Cells with one of these verdicts."""
        return sum(verdict.kind in kinds for verdict in self.verdicts.values())


@dataclass(frozen=True)
class _Field:
    """The cells that may be chosen as far as limits and guards go, with their comparison."""

    results: tuple[CellResult, ...]
    values: Array
    bounds: Bounds
    quality: Quality

    @property
    def whole(self) -> bool:
        """Whether limits and guards left nothing out that could be compared."""
        return len(self.results) == len(self.quality.results)

    @property
    def gaps(self) -> Array:
        found: Array = self.values.max() - self.values
        return found


def decide(results: Sequence[CellResult], quality: Quality, plan: DecidePlan) -> Decision:
    """The cheapest cell that is shown to lie within the plan's margin of the best, whichever that is.

    Cells that break a limit or a guard leave first; the best is looked for among the rest. A cell is shown to lie
    within the margin where the upper bound of its gap does (`eval.scoring.best`): with the plan's confidence no
    cell that may be chosen is better than it by more. Of those the cheapest is chosen; where costs lie within `TIE`
    of it, the one of the highest quality.

    Args:
        results: cells of one run, or of merged runs.
        quality: of the same cells.
    """
    results = axes.separated(results)
    cost = cost_for(plan, results)
    verdicts = _left_out(results, quality, plan)
    front = _front(quality, cost, verdicts)
    contest = _contest(quality, verdicts)
    if contest is None:
        status, reason = _why_nobody(results, quality, verdicts)
        return Decision(status, None, None, cost, plan, verdicts, front, reason)
    uppers, lowers = contest.bounds.uppers(contest.values), contest.bounds.lowers(contest.values)
    best = contest.results[int(contest.values.argmax())]
    shown = [i for i in range(len(contest.results)) if uppers[i] <= plan.margin]
    place = _cheapest(shown, contest, cost)
    for i, result in enumerate(contest.results):
        verdicts[result.cell.key] = _verdict(i, place, contest, uppers, lowers, cost, plan)
    if place is not None:
        chosen = contest.results[place]
        everyone = None if contest.whole else _unlimited(chosen, quality)
        return Decision("chosen", chosen, best, cost, plan, verdicts, front, unlimited=everyone)
    if shown:
        reason = "no cost was measured for the settings that are shown to lie within the margin"
        return Decision("unknown", None, best, cost, plan, verdicts, front, reason)
    more = min(n for i in range(len(contest.results)) if (n := _more(i, contest, plan.margin)) is not None)
    reason = (
        f"too few images to tell: {contest.quality.pictures} pictures a setting show none to lie within the margin of "
        f"the best; {more} more would do, were the values to stay"
    )
    return Decision("too_few", None, best, cost, plan, verdicts, front, reason, more)


def _unlimited(chosen: CellResult, quality: Quality) -> Unlimited | None:
    if quality.bounds is None:
        return None
    place = quality.results.index(chosen)
    first = int(quality.values.argmax())
    gap = float(quality.values[first] - quality.values[place])
    return Unlimited(quality.results[first], gap, float(quality.bounds.uppers(quality.values)[place]))


def _left_out(results: Sequence[CellResult], quality: Quality, plan: DecidePlan) -> dict[str, Verdict]:
    """The verdict on every cell that cannot be chosen, whatever its quality."""
    compared = by_key(quality.results)
    found: dict[str, Verdict] = {}
    for result in results:
        key = result.cell.key
        if result.error is not None:
            found[key] = Verdict("failed", f"It failed: {result.error}")
        elif over := breaches(result, plan.limits):
            found[key] = Verdict("over_limit", "It does not meet the limits: " + "; ".join(over) + ".")
        elif why := guarded(result, plan.guards):
            found[key] = Verdict("guarded", f"A guard leaves it out: {why}.")
        elif key not in compared:
            why = quality.apart.get(key) or quality.reason or "it was not compared"
            found[key] = Verdict("unscored", f"It cannot be compared: {why}.")
    return found


def _contest(quality: Quality, out: dict[str, Verdict]) -> _Field | None:
    places = np.array([i for i, r in enumerate(quality.results) if r.cell.key not in out], dtype=int)
    if quality.bounds is None or not len(places):
        return None
    results = tuple(quality.results[i] for i in places)
    return _Field(results, quality.values[places], quality.bounds.among(places), quality)


def _cheapest(shown: Sequence[int], contest: _Field, cost: Cost) -> int | None:
    """Of those whose cost lies within `TIE` of the lowest, the best; one of unknown cost is not among them."""
    spent = [(value, i) for i in shown if (value := cost.of(contest.results[i])) is not None]
    if not spent:
        return None
    limit = min(value for value, _ in spent) * (1 + TIE)
    return max((i for value, i in spent if value <= limit), key=lambda i: float(contest.values[i]))


def _verdict(
    i: int,
    chosen: int | None,
    contest: _Field,
    uppers: Array,
    lowers: Array,
    cost: Cost,
    plan: DecidePlan,
) -> Verdict:
    gap, upper, say = float(contest.gaps[i]), float(uppers[i]), contest.quality.text
    spent = cost.of(contest.results[i])
    if i == chosen:
        return Verdict("chosen", "It is the choice.", gap, upper)
    if upper <= plan.margin:
        if spent is None:
            return Verdict("uncosted", "It is good enough, but its cost is not known.", gap, upper)
        least = None if chosen is None else cost.of(contest.results[chosen])
        better = chosen is not None and contest.values[chosen] >= contest.values[i]
        if least is not None and better and spent <= least * (1 + TIE):
            text = "It is good enough and costs as much; the choice has the higher quality."
            return Verdict("tied", text, gap, upper)
        return Verdict("dearer", _dearer(spent, least), gap, upper)
    if lowers[i] > plan.margin:
        text = f"Its quality is lower by {say(gap)}, and surely by more than {say(float(lowers[i]))}."
        return Verdict("worse", text, gap, upper)
    more = _more(i, contest, plan.margin)
    which = "the best one measured" if contest.whole else "the best within the limits"
    text = f"It lies {say(gap)} below {which}, and may lie {say(upper)} below. {_hope(more)}"
    return Verdict("unsure", text, gap, upper, more)


def _dearer(spent: float, least: float | None) -> str:
    if least is None or least <= 0:
        return "It is good enough too."
    times = spent / least
    more = f"{times:.1f} times as much" if times >= 2 else f"{100 * (times - 1):.0f} % more"
    return f"It is good enough, but costs {more}."


def _hope(more: int | None) -> str:
    """Whether more pictures would settle it."""
    if more is None:
        return "It is measured to lie beyond the margin."
    if more > MOST_MORE:
        return "It lies too near the margin for more pictures to settle."
    return f"{more} pictures more would show it to be good enough, were the values to stay."


def _more(i: int, contest: _Field, margin: float) -> int | None:
    """How many pictures more, in whole shares of what there are, would show cell i to lie within the margin."""
    leads = contest.values - contest.values[i]
    reach = contest.bounds.critical * contest.bounds.errors[:, i]
    others = np.arange(len(leads)) != i
    if (leads[others] >= margin).any():
        return None
    factor = float(((reach / (margin - leads)) ** 2)[others].max(initial=0.0))
    return max(0, math.ceil(contest.quality.pictures * (factor - 1)))


def _front(quality: Quality, cost: Cost, out: Collection[str]) -> dict[str, Membership]:
    """Which of the cells that may be chosen are beaten by none in quality and cost.

    Costs within `TIE` may be either way around.

    A cell is on it where it is surely better than every other that is not surely dearer; off it where one that is
    not dearer is surely better; otherwise nobody knows. All pairs hold at once.
    """
    spent = {
        i: value
        for i, result in enumerate(quality.results)
        if result.cell.key not in out and (value := cost.of(result)) is not None
    }
    if quality.bounds is None or not spent:
        return {}
    places = np.array(list(spent), dtype=int)
    costs, values = np.array(list(spent.values())), quality.values[places]
    reach = quality.bounds.critical_pairs * quality.bounds.errors[np.ix_(places, places)]
    surely_better = values[:, None] - values[None, :] > reach  # [i, j]: i is better than j
    perhaps_as_cheap = costs[None, :] <= costs[:, None] * (1 + TIE)  # [i, j]: j costs no more than i, perhaps
    surely_as_cheap = costs[:, None] <= costs[None, :]  # [j, i]: j costs no more than i, as measured
    itself = np.eye(len(places), dtype=bool)
    on = (surely_better | ~perhaps_as_cheap | itself).all(axis=1)
    off = (surely_better & surely_as_cheap & ~itself).any(axis=0)
    return {
        quality.results[place].cell.key: "on" if on[i] else "off" if off[i] else "unsure"
        for i, place in enumerate(places)
    }


def _why_nobody(
    results: Sequence[CellResult], quality: Quality, verdicts: dict[str, Verdict]
) -> tuple[Status, str]:
    """Why no cell may be chosen at all."""
    kept_out = [v for v in verdicts.values() if v.kind in ("over_limit", "guarded")]
    if quality.bounds is not None and kept_out:
        what = "limits" if all(v.kind == "over_limit" for v in kept_out) else "limits and guards"
        tried = len(results) - sum(v.kind == "failed" for v in verdicts.values())
        return "no_cell_meets_limits", f"no setting of the {tried} that have a result meets the {what}"
    return "unknown", quality.reason or "no setting can be compared"
