"""Which cells of a grid can be dropped before their last picture. Pure.

All cells are made to a first number of pictures, judged, made to the next, and so on; what is left runs to the
end, where the decision is made as ever. A cell leaves at a step for one of two reasons:

behind: another's lead over it is so large that the whole grid would not show it to lie within the margin, and it is
    surely not the best. A lead over all N pictures lies within critical · error · √(1 - n/N) of that over the
    first n, which are a random part of them.
dearer: another cell, which takes no more denoiser rows, is shown to be within the margin of the best, whichever that
    is, by the very rule of the decision. The best one measured stays, so that the choice is held against it in the end.

What is guaranteed: with the race's confidence, over all steps and all other cells at once, the cell that the whole grid
would choose never leaves as "behind", and one for which others leave as "dearer" truly lies within the margin of
every cell in the race. Each of the two events gets half of 1 - confidence, shared evenly by the steps (Bonferroni); at
each step a cell's leads over all others are bounded together (Dunnett's problem, as in `eval.scoring.best`). The choice
may still be another than the grid's: a cheaper one, or one as cheap in rows; or a dearer one, where what was good
enough at a step is no longer shown to be so in the end. It has passed the decision's own rule against all that are
left.

It rests on prompts that stand in no order, so that the first n speak for all; on spreads as they are measured so far;
and on costs that rise with denoiser rows.

Source: Maron & Moore, Hoeffding races (1994); Birattari et al., A racing algorithm for configuring metaheuristics
(2002); Hsu (1981) and Dunnett (1955) as in `eval.scoring.best`; Cochran, Sampling Techniques (1977), 2.6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from eval.decide_plan import DecidePlan, RuleScore
from eval.scoring.best import Bounds, bounds
from eval.scoring.moments import Array
from eval.scoring.uncertainty import unit_scores, units

SEED = 0
"""Of the signs that the bounds draw."""
Kind = Literal["behind", "dearer"]


@dataclass(frozen=True)
class Terms:
    """What a race is held by."""

    total: int
    """Pictures of a cell that runs to the end."""
    steps: int
    confidence: float
    score: RuleScore
    """The rule's score, with its margin."""
    decide: DecidePlan

    @property
    def level(self) -> float:
        """Of one event at one step."""
        return 1 - (1 - self.confidence) / (2 * max(self.steps, 1))

    @property
    def margin_text(self) -> str:
        """As the configuration has it."""
        times = self.decide.margin
        return self.score.margin if times == 1 else f"{times:g} times {self.score.margin}"

    def margin(self, best: float) -> float | None:
        """How far below the best a choice may lie, in the score's unit; None where the margin is a share of 0."""
        size = self.score.size(best)
        return None if size is None else size * self.decide.margin


@dataclass(frozen=True)
class Fate:
    """A cell that leaves, by its place in the grid; differences are `against` less the cell."""

    place: int
    kind: Kind
    against: int
    difference: float
    low: float
    high: float


def step_sizes(total: int, first: int, growth: float) -> tuple[int, ...]:
    """Pictures a cell at each step, while at least `growth` times as many can follow."""
    sizes, n = [], first
    while n * growth <= total:
        sizes.append(n)
        n = math.ceil(n * growth)
    return tuple(sizes)


@dataclass
class Race:
    """Who is still in the race. The same values give the same fates, so a race can be run again from its records.

    Args:
        rows: denoiser rows of each cell of the grid, by place; they rank the cells' costs.
        clusters: one label a picture, (total,), where a prompt has several.
    """

    rows: Sequence[float]
    terms: Terms
    clusters: Sequence[object] | None = None
    racing: list[int] = field(init=False)
    """Places, in the grid's order."""
    _held: set[int] = field(default_factory=set, init=False)
    """Cells that others were held against, which so stay."""

    def __post_init__(self) -> None:
        self.racing = list(range(len(self.rows)))

    def withdraw(self, places: Iterable[int]) -> None:
        """These cells have failed."""
        gone = set(places)
        self.racing = [place for place in self.racing if place not in gone]

    def step(self, values: Mapping[int, Array]) -> tuple[Fate, ...]:
        """Who leaves, in the grid's order.

        Args:
            values: place -> the score of its first n pictures, (n,), of every cell in the race; higher is better.

        Raises:
            ValueError: values that are not finite, or not one n.
        """
        if len(self.racing) < 2:
            return ()
        table = np.array([np.asarray(values[place], np.float64) for place in self.racing])
        if table.ndim != 2 or not np.isfinite(table).all():
            raise ValueError(f"values must be finite, as many of each cell, got shape {table.shape}")
        found = self._judged(table)
        self.withdraw(fate.place for fate in found)
        return found

    def _judged(self, table: Array) -> tuple[Fate, ...]:
        n = table.shape[1]
        by = units(n, None if self.clusters is None else self.clusters[:n])
        means = table.mean(axis=1)
        margin = self.terms.margin(float(means.max()))
        if by.count < 2 or margin is None:
            return ()
        known = bounds(unit_scores(table.T, by).T, seed=SEED, level=self.terms.level)
        behind = self._behind(means, known, margin, n)
        dearer = self._dearer(means, known, margin, behind)
        return tuple(sorted((*behind.values(), *dearer), key=lambda fate: fate.place))

    def _behind(self, means: Array, known: Bounds, margin: float, n: int) -> dict[int, Fate]:
        """By index in the race."""
        leads = means[:, None] - means[None, :]  # [j, i]: of j over i
        reach = known.critical[None, :] * known.errors * math.sqrt(1 - n / self.terms.total)
        # The grid's own bound of a gap adds this to it, at the least.
        added = self._least_critical * known.errors * math.sqrt(n / self.terms.total)
        low = leads - reach
        sure = low > np.maximum(0.0, margin - added)
        found = {}
        for i in np.flatnonzero(sure.any(axis=0)):
            if self.racing[i] not in self._held:
                j = int(np.where(sure[:, i], low[:, i], -np.inf).argmax())
                found[int(i)] = self._fate(int(i), "behind", j, leads[j, i], reach[j, i])
        return found

    @property
    def _least_critical(self) -> float:
        """Student's one-sided value, which no bound of the decision goes below."""
        from scipy.special import stdtrit

        count = units(self.terms.total, self.clusters).count
        return float(stdtrit(count - 1, self.terms.decide.confidence))

    def _dearer(self, means: Array, known: Bounds, margin: float, behind: Mapping[int, Fate]) -> list[Fate]:
        rows = np.array([self.rows[place] for place in self.racing])
        uppers = known.uppers(means)
        good = [i for i in range(len(means)) if uppers[i] <= margin and i not in behind]
        if not good:
            return []
        least = min(good, key=lambda i: (rows[i], -means[i]))
        leader = int(means.argmax())
        found = []
        for i in range(len(means)):
            stays = i in behind or i in (least, leader) or self.racing[i] in self._held
            if not stays and (rows[i], -means[i]) >= (rows[least], -means[least]):
                gap, reach = means[least] - means[i], known.critical[i] * known.errors[least, i]
                found.append(self._fate(i, "dearer", least, gap, reach))
        if found:
            self._held.add(self.racing[leader])
        return found

    def _fate(self, i: int, kind: Kind, j: int, gap: float, reach: float) -> Fate:
        low, high = float(gap - reach), float(gap + reach)
        return Fate(self.racing[i], kind, self.racing[j], float(gap), low, high)
