"""What two runs cost, setting by setting: time, memory, energy and money, as ratios of after to before. Pure.

Times have raw samples: the ratio of their medians (or of their 95th percentiles) has a bootstrap interval where both
runs have `LEAST` samples. It knows the spread within each run, not how a machine drifts from one run to the next, so
a limit on speed should leave room for that. What was measured once has no interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.records import CellResult
from eval.reporting.changes import Change, Measure, Overall
from eval.reporting.run_pairs import CellPair
from eval.reporting.shared_rows import SEED, Array
from eval.scoring.uncertainty import LEVEL, Interval

LEAST = 5
"""Samples of each run that an interval needs."""
DRAWS = 4_000
ONCE = "no interval: measured once"


@dataclass(frozen=True)
class Cost:
    """One measured figure, and where it stands in a result."""

    measure: Measure
    of: Callable[[CellResult], float | None]
    samples: Callable[[CellResult], tuple[float, ...]] | None = None
    """Raw seconds that it was taken from; None where it was measured once."""
    percent: float = 50
    """Which percentile of the samples the figure is taken from."""
    pictures: Callable[[CellResult], int] | None = None
    """Pictures in a sample, of a rate; None where the figure is the seconds themselves."""
    doubt: Callable[[CellResult], str | None] = lambda result: None
    reason: Callable[[CellResult], str | None] = lambda result: None
    same: Callable[[CellResult], str] = lambda result: ""
    """What must be alike in both runs for the two to mean the same, as text."""


def _timing(name: str) -> Callable[[CellResult], float | None]:
    return lambda result: getattr(result.timing, name, None)


def _memory(name: str) -> Callable[[CellResult], float | None]:
    return lambda result: getattr(result.memory, name, None)


def _part(part: str, name: str) -> Callable[[CellResult], float | None]:
    return lambda result: getattr(getattr(result.measured, part, None), name, None)


def _because(part: str, name: str) -> Callable[[CellResult], str | None]:
    """The record's reason for this figure alone, as `eval.measured.because` writes them."""

    def found(result: CellResult) -> str | None:
        text = getattr(getattr(result.measured, part, None), "reason", None) or ""
        for each in text.split("; "):
            names, colon, why = each.partition(": ")
            if colon and name in names.split(", "):
                return str(why)
        return text or None

    return found


def _singles(result: CellResult) -> tuple[float, ...]:
    return result.timing.latency_samples_s if result.timing else ()


def _batches(result: CellResult) -> tuple[float, ...]:
    return result.timing.batch_samples_s if result.timing else ()


def _pictures(result: CellResult) -> int:
    return result.timing.batch if result.timing else 1


def _batch(result: CellResult) -> str:
    return f"batch {result.timing.batch}" if result.timing else ""


def _latency(name: str, title: str, percent: float, gate: str) -> Cost:
    return Cost(
        Measure(name, title, "s", False, True, gate),
        _timing(name),
        _singles,
        percent,
        doubt=_doubt("latency_unreliable"),
        reason=_because("timing", name),
    )


def _doubt(name: str) -> Callable[[CellResult], str | None]:
    return lambda result: getattr(result.timing, name, None)


def _bytes(name: str, title: str, gate: str) -> Cost:
    return Cost(
        Measure(name, title, "bytes", False, True, gate),
        _memory(name),
        reason=_because("memory", name),
        same=lambda result: f"batch {result.memory.batch}" if result.memory and result.memory.batch else "",
    )


COSTS = (
    _latency("latency_p50_s", "Latency, p50", 50, "latency"),
    _latency("latency_p95_s", "Latency, p95", 95, "latency_p95"),
    Cost(
        Measure("images_per_s", "Throughput", "images/s", True, True, "throughput"),
        _timing("images_per_s"), _batches, 50, _pictures, _doubt("throughput_unreliable"),
        _because("timing", "images_per_s"), _batch,
    ),
    _bytes("gpu_allocated_bytes", "GPU memory, allocated", "memory"),
    _bytes("gpu_reserved_bytes", "GPU memory, reserved", ""),
    _bytes("process_peak_rss_bytes", "Memory of the process", "memory"),
    Cost(
        Measure("joules_per_image", "Energy a picture", "J", False, True, "joules"),
        _part("energy", "joules_per_image"), doubt=_doubt("throughput_unreliable"),
        reason=_because("energy", "joules_per_image"),
    ),
    Cost(
        Measure("cost_per_1000_images", "Cost of 1,000 pictures", "currency", False, True, "cost"),
        _part("price", "per_1000_images"), doubt=_doubt("throughput_unreliable"),
        reason=_because("price", "per_1000_images"),
        same=lambda result: result.measured.price.currency if result.measured and result.measured.price else "",
    ),
    Cost(
        Measure("model_evals", "Denoiser evaluations a picture", "evaluations", False, True, "evaluations"),
        lambda result: None if result.model_evals is None else float(result.model_evals),
    ),
)  # fmt: skip
"""In the order of the tables."""


class Resamples:
    """Bootstrap draws, kept by the number of samples: every setting of a run takes the same ones."""

    def __init__(self) -> None:
        self._ranks: dict[tuple[int, int], Array] = {}

    def percentile(self, seconds: Sequence[float], percent: float, side: int) -> Array:
        """A percentile of each resample, (DRAWS,), by interpolation between ranks as numpy's.

        Args:
            side: 0 or 1; the two runs are drawn from independently.
        """
        n = len(seconds)
        if (n, side) not in self._ranks:
            drawn = np.random.default_rng([SEED, side]).integers(0, n, (DRAWS, n))
            self._ranks[n, side] = np.sort(drawn, axis=1)
        ranks, ordered = self._ranks[n, side], np.sort(np.asarray(seconds, dtype=np.float64))
        place = (n - 1) * percent / 100
        low = int(place)
        high = min(low + 1, n - 1)
        below, above = ordered[ranks[:, low]], ordered[ranks[:, high]]
        found: Array = below + (above - below) * (place - low)
        return found


def cost_changes(pairs: Sequence[CellPair]) -> tuple[Overall, ...]:
    """Every figure that either run has for one of the settings."""
    found, resamples = [], Resamples()
    for cost in COSTS:
        if any(cost.of(each) is not None for pair in pairs for each in (pair.before, pair.after)):
            timed = sum(_enough(cost, pair) for pair in pairs)
            changes = tuple(_change(cost, pair, timed, resamples) for pair in pairs)
            found.append(Overall(cost.measure, changes, None))
    return tuple(found)


def _enough(cost: Cost, pair: CellPair) -> bool:
    return (
        cost.samples is not None
        and min(len(cost.samples(pair.before)), len(cost.samples(pair.after))) >= LEAST
    )


def _change(cost: Cost, pair: CellPair, timed: int, resamples: Resamples) -> Change:
    """One setting's change.

    Args:
        timed: settings whose intervals hold together.
    """
    empty = Change(pair, cost.measure)
    if pair.failed is not None:
        return replace(empty, reason=pair.failed)
    before, after = cost.of(pair.before), cost.of(pair.after)
    for value, result, whose in ((before, pair.before, "the baseline"), (after, pair.after, "the other run")):
        if value is None:
            return replace(empty, reason=f"{whose} has none: {cost.reason(result) or 'it was not measured'}")
    assert before is not None
    assert after is not None
    if cost.measure.unit == "currency" and cost.same(pair.before) != cost.same(pair.after):
        differ = f"{cost.same(pair.before)} against {cost.same(pair.after)}"
        return replace(empty, reason=f"not in one currency: {differ}")
    known = replace(
        empty,
        before=before,
        after=after,
        difference=after - before,
        ratio=Interval(after / before, None, None) if before > 0 else None,
        caution=_caution(cost, pair),
        method="measured once" if cost.samples is None else "medians",
        reason=ONCE,
    )
    if cost.measure.name == "model_evals":
        return replace(known, low=after - before, high=after - before, method="counted", reason=None)
    return known if cost.samples is None else _bootstrapped(known, cost, timed, resamples)


def _bootstrapped(change: Change, cost: Cost, timed: int, resamples: Resamples) -> Change:
    """The change with intervals of its difference and ratio, from resampled seconds."""
    assert cost.samples is not None
    results = (change.pair.before, change.pair.after)
    n = min(len(cost.samples(result)) for result in results)
    if n < LEAST:
        return replace(change, n=n, reason=f"no interval: {n} timed samples, of {LEAST} needed")
    drawn = [
        resamples.percentile(cost.samples(each), cost.percent, side) for side, each in enumerate(results)
    ]
    if cost.pictures is not None:
        drawn = [cost.pictures(each) / seconds for each, seconds in zip(results, drawn, strict=True)]
    first, second = drawn
    tail = (1 - LEVEL) / 2 / timed
    low, high = (float(each) for each in np.quantile(second - first, (tail, 1 - tail)))
    ends = [float(each) for each in np.quantile(second / first, (tail, 1 - tail))]
    ratio = None if change.ratio is None else Interval(change.ratio.value, ends[0], ends[1])
    method = f"bootstrap over timed samples; Bonferroni over {timed} setting{'s' if timed > 1 else ''}"
    return replace(change, low=low, high=high, ratio=ratio, n=n, method=method, reason=None)


def _caution(cost: Cost, pair: CellPair) -> str | None:
    """Doubts of either run, and what was not alike when the two were measured."""
    if cost.measure.name == "model_evals":
        return None
    said: dict[str, None] = {}
    for result, whose in ((pair.before, "before"), (pair.after, "after")):
        if doubt := cost.doubt(result):
            said[f"unreliable {whose}: {doubt}"] = None
    if pair.before.device != pair.after.device:
        said[f"on {pair.before.device} against {pair.after.device}"] = None
    if cost.same(pair.before) != cost.same(pair.after):
        said[f"at {cost.same(pair.before)} against {cost.same(pair.after)}"] = None
    if pair.before.cell.dtype != pair.after.cell.dtype:
        said[f"in {pair.before.cell.dtype} against {pair.after.cell.dtype}"] = None
    return "; ".join(said) or None
