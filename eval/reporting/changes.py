"""What changed between two runs, setting by setting and measure by measure, as records. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eval.reporting.run_pairs import CellPair
from eval.scoring.catalogue import base_name
from eval.scoring.uncertainty import Interval

NOTABLE = 0.05
"""Share of the baseline that is one margin: repeats of one measurement of speed differ by as much."""
NOTABLE_BY_SCORE = {"clip_score": 0.005}
"""Where a margin is another share: CLIP scores of all that anyone would ship lie within a few per cent."""

WORSE, BETTER, LEVEL, MOVED, OPEN, UNKNOWN = "worse", "better", "level", "moved", "open", "unknown"
VERDICTS = {
    WORSE: "worse, beyond doubt",
    BETTER: "better, beyond doubt",
    LEVEL: "not told apart",
    MOVED: "moved; neither direction is better",
    OPEN: "no interval is known",
    UNKNOWN: "not compared",
}
"""What each verdict means, for people."""


@dataclass(frozen=True)
class Measure:
    """A score or a cost: what stands in a row's `measure`, and how to read it."""

    name: str
    """As in cells.csv: "clip_score", "fid[inception]", "latency_p50_s" ..."""
    title: str
    unit: str
    higher_is_better: bool | None
    cost: bool = False
    """True for what was measured of time, memory, energy and money; its ratios are told."""
    gate: str = ""
    """The short name that a gate may use, of costs: "latency"."""


@dataclass(frozen=True)
class Change:
    """One measure of one setting, after less before."""

    pair: CellPair
    measure: Measure
    before: float | None = None
    after: float | None = None
    difference: float | None = None
    """In the measure's unit; None where the two cannot be compared."""
    low: float | None = None
    """Ends of an interval that holds at 95 % for all settings of this measure at once."""
    high: float | None = None
    ratio: Interval | None = None
    """after / before with its interval, of costs only."""
    n: int | None = None
    """Pictures, or timed samples of the run that has fewer."""
    method: str | None = None
    caution: str | None = None
    """What must be known before the difference is believed."""
    reason: str | None = None
    """Why there is no difference, or no interval of it."""

    @property
    def loss(self) -> float | None:
        """How far it went in the bad direction; below 0 for a gain. None without a difference or a direction."""
        if self.difference is None or self.measure.higher_is_better is None:
            return None
        return -self.difference if self.measure.higher_is_better else self.difference

    @property
    def excludes_zero(self) -> bool:
        """True where the interval lies wholly to one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def margins(self) -> float:
        """The loss as multiples of what is worth noticing: 0.5 % of the baseline for CLIP score, 5 % for the rest."""
        if self.loss is None or not self.before:
            return 0.0
        share = NOTABLE_BY_SCORE.get(base_name(self.measure.name), NOTABLE)
        return self.loss / (abs(self.before) * share)

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`. Costs within `NOTABLE` are level: two runs of one thing differ by as much."""
        if self.difference is None:
            return UNKNOWN
        if self.difference == 0 or (self.measure.cost and abs(self.margins) <= 1):
            return LEVEL
        if self.low is None:
            return OPEN
        if not self.excludes_zero:
            return LEVEL
        if self.loss is None:
            return MOVED
        return WORSE if self.loss > 0 else BETTER

    @property
    def verdict_text(self) -> str:
        """The verdict for people; where no interval is known it says whether the change is worth noticing."""
        if self.verdict == OPEN and abs(self.margins) > 1:
            return f"{'worse' if self.margins > 0 else 'better'}; {VERDICTS[OPEN]}"
        return "the same" if self.difference == 0 else VERDICTS[self.verdict]


@dataclass(frozen=True)
class Overall:
    """One measure over all settings that were compared."""

    measure: Measure
    changes: tuple[Change, ...]
    """Of every setting, those that cannot be compared too."""
    mean: Interval | None
    """Mean of the differences, with an interval of its own at 95 % where one is known."""

    def count(self, *verdicts: str) -> int:
        return sum(each.verdict in verdicts for each in self.changes)

    @property
    def worse(self) -> int:
        """Settings that are among the regressions."""
        return len(regressions(self.changes))

    @property
    def better(self) -> int:
        """Settings that are among the improvements."""
        return len(improvements(self.changes))

    @property
    def known(self) -> tuple[Change, ...]:
        return tuple(each for each in self.changes if each.difference is not None)

    @property
    def together(self) -> str:
        """The verdict on the mean of all settings: a small change of each may be beyond doubt of all together."""
        if len(self.known) < 2:
            return LEVEL
        ratio, rises = self.mean_ratio, self.measure.higher_is_better
        if ratio is not None:
            changed, value = abs(ratio - 1) > NOTABLE, ratio - 1
        elif self.mean is not None and self.mean.excludes_zero:
            changed, value = True, self.mean.value
        else:
            return LEVEL
        if not changed:
            return LEVEL
        if rises is None:
            return MOVED
        return BETTER if (value > 0) == rises else WORSE

    @property
    def worst(self) -> Change | None:
        """The setting that lost most; None where none can be compared, or no direction is better."""
        lost = [each for each in self.known if each.loss is not None]
        return max(lost, key=lambda each: each.loss or 0.0, default=None)

    @property
    def mean_ratio(self) -> float | None:
        """Geometric mean of after / before, of costs."""
        ratios = [each.ratio.value for each in self.known if each.ratio and each.ratio.value > 0]
        if not ratios:
            return None
        product = 1.0
        for ratio in ratios:
            product *= ratio ** (1 / len(ratios))
        return product


def regressions(changes: Iterable[Change]) -> tuple[Change, ...]:
    """What got worse beyond doubt, or by more than a margin where no interval is known; worst first."""
    found = [each for each in changes if each.verdict == WORSE or (each.verdict == OPEN and each.margins > 1)]
    return tuple(sorted(found, key=lambda each: -each.margins))


def improvements(changes: Iterable[Change]) -> tuple[Change, ...]:
    """What got better, likewise; best first."""
    found = [
        each for each in changes if each.verdict == BETTER or (each.verdict == OPEN and each.margins < -1)
    ]
    return tuple(sorted(found, key=lambda each: each.margins))
