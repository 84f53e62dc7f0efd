"""What the page's own figure and its parts that move are drawn from, as plain values. Pure.

The decision's own data are `decision_json.page_json`; here is what can be laid along an axis beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from eval.records import CellResult, Run
from eval.reporting import axes, canvas
from eval.reporting.costs import LIMITED, Limited
from eval.reporting.decide import Decision
from eval.reporting.evidence import code
from eval.reporting.sheet import VERDICTS

Values = list[float | None]


@dataclass(frozen=True)
class _Cost:
    """One measure that can be laid along the axis of costs."""

    name: str
    title: str
    unit: str
    values: Values
    factor: float
    """From its unit to the one of the axis."""
    shown: str
    """That one's name."""
    limit: str | None = None
    """Name of the limit that is set on it."""
    rising: bool = False
    """True where more is better."""
    doubts: tuple[str, ...] = ()
    """A cell's reason why its value must not be relied on; empty text where it may be."""


def page_data(run: Run, decision: Decision) -> dict[str, object]:
    """Axes with a value a cell in the cells' order, how each series is drawn, and the code of each cell."""
    results = axes.separated(run.results)
    return {
        "verdicts": VERDICTS,
        "looks": _looks(run),
        "series": [result.cell.series for result in results],
        "doubts": [_cost_doubt(result, decision) for result in results],
        "codes": [_code(run, decision, result) for result in results],
        "costs": _costs(results, decision),
        "scores": [_score(results, name) for name in axes.known_names(results)],
    }


@dataclass(frozen=True)
class LimitField:
    """One limit as the reader sets it, in a unit that suits what was measured."""

    name: str
    title: str
    unit: str
    factor: float
    """From the measure's unit to this one."""
    value: str
    """Empty where the run sets none."""
    span: str
    """The lowest and the highest value of any cell."""
    hint: str = ""
    """What the number means, where its name does not say; empty otherwise."""


_HINTS = {
    "max_latency_s": "Half of the pictures take at most",
    "max_latency_p95_s": "19 of 20 pictures take at most",
}


def limit_fields(run: Run, decision: Decision) -> tuple[LimitField, ...]:
    """The limits on what any cell has a value of."""
    done = [result for result in run.results if result.error is None]
    found = ((each, [v for r in done if (v := each.of(r)) is not None]) for each in LIMITED)
    return tuple(
        _limit_field(each, values, getattr(decision.plan.limits, each.name))
        for each, values in found
        if values
    )


def _limit_field(limited: Limited, values: Sequence[float], limit: float | None) -> LimitField:
    factor, unit = _readable(limited.unit, values)
    low, high = (f"{value * factor:.3g}" for value in (min(values), max(values)))
    span = low if low == high else f"{low} to {high}"
    own = "" if limit is None else f"{limit * factor:.3g}"
    return LimitField(limited.name, limited.title, unit, factor, own, span, _HINTS.get(limited.name, ""))


def _looks(run: Run) -> dict[str, dict[str, str]]:
    return {
        sampler: {"colour": canvas.colour(place), "marker": canvas.marker(place)}
        for place, sampler in enumerate(run.plan.grid.series)
    }


def _cost_doubt(result: CellResult, decision: Decision) -> str:
    """Why the cell's cost must not be relied on; empty where it may, and for counts."""
    timing = result.timing
    if timing is None or decision.cost.unit != "s":
        return ""
    single = decision.cost.label == axes.LATENCY.label
    return axes.doubt(timing.latency_unreliable if single else timing.throughput_unreliable)


def _code(run: Run, decision: Decision, result: CellResult) -> str | None:
    return None if result.error else code(replace(decision, chosen=result), run.plan, run.plans)


def _costs(results: Sequence[CellResult], decision: Decision) -> list[dict[str, object]]:
    """The decision's cost first, then every other that any cell has; with the limit that may be set on it."""
    done = [result if result.error is None else None for result in results]

    def of(getter: Callable[[CellResult], float | None]) -> Values:
        return _short([None if result is None else getter(result) for result in done])

    own, cost = of(decision.cost.of), decision.cost
    measured = [(each, of(each.of)) for each in LIMITED]
    found = [_cost(each, values) for each, values in measured if any(v is not None for v in values)]
    other = _Cost("decision", cost.label, cost.unit, own, 1.0, "")
    first = next((each for each in found if each.values == own), other)
    kept = (first, *(each for each in found if each is not first))
    return [vars(replace(each, doubts=_doubts(results, each))) for each in kept]


_TIMED = {
    "latency_p50_s": "latency_unreliable",
    "latency_p95_s": "latency_unreliable",
    "images_per_s": "throughput_unreliable",
    "joules_per_image": "throughput_unreliable",
    "cost_per_1000_images": "throughput_unreliable",
}
"""Measure -> the field of its timing that says why it is doubted."""


def _doubts(results: Sequence[CellResult], cost: _Cost) -> tuple[str, ...]:
    name = _TIMED.get(cost.name)
    if name is None:
        return ("",) * len(results)
    return tuple(axes.doubt(getattr(result.timing, name, None)) for result in results)


def _cost(limited: Limited, values: Values) -> _Cost:
    title = limited.title.removesuffix(" at most").removesuffix(" at least")
    factor, shown = _readable(limited.unit, [value for value in values if value is not None])
    return _Cost(
        limited.measure, title, limited.unit, values, factor, shown, limited.name, rising=not limited.most
    )


def _readable(unit: str, values: Sequence[float]) -> tuple[float, str]:
    """Factor to the unit in which these are read, and its name."""
    scales = {"s": ((1.0, "s"), (1e3, "ms")), "B": ((1e-9, "GB"), (1e-6, "MB"))}
    large, small = scales.get(unit, ((1.0, unit),) * 2)
    return large if max(values, default=0.0) * large[0] >= 1 else small


def _score(results: Sequence[CellResult], name: str) -> dict[str, object]:
    found = [axes.score_of(result, name) for result in results]
    column = axes.column(results, name)
    return {
        "name": name,
        "title": axes.score_title(name),
        "rising": column.higher_is_better,
        "direction": axes.direction(column.higher_is_better),
        "doubt": axes.doubt(column.unreliable),
        "values": _short([None if score is None else score.value for score in found]),
        "low": _short([None if score is None else score.low for score in found]),
        "high": _short([None if score is None else score.high for score in found]),
    }


def _short(values: Sequence[float | None]) -> Values:
    """Seven digits are more than a figure shows."""
    return [None if value is None else float(f"{value:.7g}") for value in values]
