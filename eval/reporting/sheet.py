"""The sortable table of the report: one row a cell, one column a measure that any cell has. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from eval.records import CellResult
from eval.reporting import accelerated, axes
from eval.reporting.decide import Verdict
from eval.reporting.merging import PlacedCell
from eval.scoring.catalogue import base_name

MAIN = (axes.CLIP, "judge_all", "latent_rmse")
"""Scores whose columns are shown at once, beside the first FID; others unfold."""

VERDICTS = {
    "chosen": "chosen",
    "tied": "as cheap",
    "dearer": "costs more",
    "uncosted": "cost unknown",
    "unsure": "cannot tell",
    "worse": "worse",
    "over_limit": "over a limit",
    "guarded": "guarded",
    "unscored": "not compared",
    "failed": "failed",
}
"""Kind -> what stands in the table, in the order in which the column sorts."""

Getter = Callable[[CellResult], float | None]


@dataclass(frozen=True)
class Column:
    """Head of one column."""

    title: str
    hint: str
    numeric: bool
    main: bool = True
    """False for columns that unfold on demand."""
    rising: bool = False
    """True where more is better, so that a first click sorts the largest first."""
    verdict: bool = False
    """True for the one that follows the reader's limits."""


@dataclass(frozen=True)
class Field:
    """One field: what is read, what is sorted by."""

    text: str
    """Empty where the value is not known."""
    sort: str
    """Plain number or text; empty where not known, which sorts last."""
    margin: str = ""
    """Half the width of the 95 % interval, as text."""
    best: bool = False
    unreliable: str = ""
    """Why the value must not be relied on; empty where it may be."""
    low: str = ""
    """Ends of the 95 % interval in full; empty where there is none."""
    high: str = ""


@dataclass(frozen=True)
class SheetRow:
    """One cell of the grid."""

    result: CellResult
    fields: tuple[Field, ...]
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Sheet:
    """`rows[i].fields[j]` belongs to `columns[j]`."""

    columns: tuple[Column, ...]
    rows: tuple[SheetRow, ...]

    @property
    def folded(self) -> int:
        """Columns that unfold on demand."""
        return sum(not column.main for column in self.columns)


@dataclass(frozen=True)
class _Measure:
    column: Column
    fields: tuple[Field, ...]


def sheet(results: Sequence[CellResult], verdicts: Mapping[str, Verdict] | None = None) -> Sheet:
    """The table of all cells, failed ones with empty fields; measures that no cell has are left out.

    Args:
        verdicts: by cell key; None leaves their column out.
    """
    results, verdicts = axes.separated(results), verdicts or {}
    measures = [
        *_marks(results),
        _text("Sampler", "", [result.cell.sampler for result in results]),
        _number("Steps", "Steps asked for", [float(r.cell.steps) for r in results], exact=True),
        _number("Guidance", "Guidance scale; 1 is off", [r.cell.guidance for r in results], exact=True),
        *_marked(accelerated.marks([result.cell for result in results])),
        _verdicts([verdicts.get(result.cell.key) for result in results]),
        _number("Evals", "Denoiser calls a picture", _take(results, axes.EVALUATIONS.of), exact=True),
        *(_score(results, name) for name in axes.known_names(results)),
        *_costs(results),
    ]
    kept = [m for m in measures if any(field.sort for field in m.fields)] if results else measures
    rows = [
        SheetRow(result, tuple(m.fields[i] for m in kept), verdicts.get(result.cell.key))
        for i, result in enumerate(results)
    ]
    return Sheet(tuple(measure.column for measure in kept), tuple(rows))


def _marks(results: Sequence[CellResult]) -> list[_Measure]:
    """A column for whatever tells merged runs apart."""
    return _marked([dict(r.cell.marks) if isinstance(r.cell, PlacedCell) else {} for r in results])


def _marked(marks: Sequence[Mapping[str, str]]) -> list[_Measure]:
    headings = dict.fromkeys(heading for each in marks for heading in each)
    return [_text(heading, "", [each.get(heading, "") for each in marks]) for heading in headings]


def _costs(results: Sequence[CellResult]) -> list[_Measure]:
    late, through, memory = (
        [axes.doubt(getattr(getattr(r, part), name, None)) for r in results]
        for part, name in (
            ("timing", "latency_unreliable"),
            ("timing", "throughput_unreliable"),
            ("memory", "unreliable"),
        )
    )
    p50, p95, p99 = (_part(results, "timing", f"latency_p{percent}_s") for percent in (50, 95, 99))
    speed, joules = _part(results, "timing", "images_per_s"), _part(results, "energy", "joules_per_image")
    share, price = _part(results, "compute", "mfu"), _part(results, "price", "per_1000_images")
    measures = [
        _doubted(_scaled("Latency p50", "One picture, median", p50, "s"), late),
        _doubted(_scaled("Latency p95", "One picture, 95th percentile", p95, "s"), late),
        _folded(_doubted(_scaled("Latency p99", "One picture, 99th percentile", p99, "s"), late)),
        _doubted(_number("Pictures/s", "At the batch; higher is better", speed, rising=True), through),
        _doubted(_number("J a picture", "GPU alone; lower is better", joules, rising=False), through),
        _doubted(
            _number("MFU", "Share of the device’s dense peak, 0 to 1; higher is better", share, rising=True),
            through,
        ),
        _doubted(_number(f"{_currency(results)} for 1,000", "Lower is better", price, rising=False), through),
    ]
    for title, name in _PEAKS:
        measures.append(_scaled(title, "Peak", _part(results, "memory", name), "B"))
    own = _part(results, "memory", "process_peak_rss_bytes")
    # Where there is no GPU this is the peak memory that limits are set on, so it has that name.
    on_gpu = any(value is not None for _, name in _PEAKS for value in _part(results, "memory", name))
    measures.append(_scaled("Peak memory, process" if on_gpu else "Peak memory", "Of the process", own, "B"))
    driver = _scaled(
        "GPU by driver", "Peak, all that is on it", _part(results, "memory", "gpu_driver_bytes"), "B"
    )
    return [*measures, _folded(_doubted(driver, memory))]


_PEAKS = (
    ("GPU allocated", "gpu_allocated_bytes"),
    ("GPU reserved", "gpu_reserved_bytes"),
)


def _part(results: Sequence[CellResult], part: str, name: str) -> list[float | None]:
    """A field of what was measured, by the record that holds it."""
    return _take(results, lambda result: getattr(getattr(result.measured, part, None), name, None))


def _currency(results: Sequence[CellResult]) -> str:
    prices = (result.measured.price for result in results if result.measured is not None)
    return next((price.currency for price in prices if price is not None), "")


def _doubted(measure: _Measure, doubts: Sequence[str]) -> _Measure:
    """The column with the reasons why its values must not be relied on; an empty field needs none."""
    fields = (
        replace(field, unreliable=why, best=field.best and not why) if field.sort else field
        for field, why in zip(measure.fields, doubts, strict=True)
    )
    return replace(measure, fields=tuple(fields))


def _folded(measure: _Measure) -> _Measure:
    return replace(measure, column=replace(measure.column, main=False))


def _score(results: Sequence[CellResult], name: str) -> _Measure:
    column = axes.column(results, name)
    decimals = _decimals(column.values)
    top = None if column.best is None else column.values[column.best]
    fields = []
    for score in (axes.score_of(result, name) for result in results):
        if score is None or score.value is None:
            fields.append(Field("", ""))
            continue
        half = None if score.low is None or score.high is None else (score.high - score.low) / 2
        margin = "" if half is None else "±" + axes.text(name, half).removesuffix(" %")
        text = f"{score.value:.{decimals}f}" if base_name(name) == "fid" else axes.text(name, score.value)
        doubt = axes.doubt(score.unreliable)
        ends = ("", "") if half is None else (repr(score.low), repr(score.high))
        fields.append(Field(text, repr(score.value), margin, score.value == top and not doubt, doubt, *ends))
    first = (axes.fid_name(results), axes.judge_name(results))
    main = base_name(name) in MAIN or name.partition(" #")[0] in first
    hint = "; ".join(filter(None, (axes.direction(column.higher_is_better), axes.doubt(column.unreliable))))
    return _Measure(
        Column(axes.score_title(name), hint, numeric=True, main=main, rising=column.higher_is_better is True),
        tuple(fields),
    )


def _text(title: str, hint: str, values: Sequence[str]) -> _Measure:
    return _Measure(Column(title, hint, numeric=False), tuple(Field(value, value) for value in values))


def _verdicts(verdicts: Sequence[Verdict | None]) -> _Measure:
    """The verdict in a word or two; it sorts by how near a cell is to being the choice."""
    ranks = list(VERDICTS)
    fields = (
        Field("", "") if each is None else Field(VERDICTS[each.kind], str(ranks.index(each.kind)))
        for each in verdicts
    )
    hint = "Why it is the choice, or is not; it follows the limits above"
    return _Measure(Column("Verdict", hint, numeric=True, verdict=True), tuple(fields))


def _scaled(title: str, hint: str, values: Sequence[float | None], unit: str) -> _Measure:
    """A column of seconds or bytes, in the one unit that suits its largest value."""
    largest = max((value for value in values if value is not None), default=0.0)
    scales = ((1.0, "s"), (1e3, "ms")) if unit == "s" else ((1e-9, "GB"), (1e-6, "MB"))
    factor, shown = scales[0] if largest * scales[0][0] >= 1 else scales[1]
    scaled = [None if value is None else value * factor for value in values]
    # Memory hangs on the batch and on what the process held before, so no peak is marked as the best.
    return _number(
        f"{title} ({shown})", f"{hint}; lower is better", scaled, rising=False if unit == "s" else None
    )


def _number(
    title: str,
    hint: str,
    values: Sequence[float | None],
    *,
    exact: bool = False,
    rising: bool | None = None,
) -> _Measure:
    """A column of numbers, `exact` ones as they are and others with one count of decimals."""
    decimals = _decimals(values)
    top = None if rising is None else _top(values, rising)
    fields = []
    for value in values:
        text = "" if value is None else f"{value:g}" if exact else f"{value:.{decimals}f}"
        fields.append(
            Field(text, "" if value is None else repr(value), "", value is not None and value == top)
        )
    return _Measure(Column(title, hint, numeric=True, rising=rising is True), tuple(fields))


def _decimals(values: Sequence[float | None]) -> int:
    """Decimals that give the smallest value three digits, at most four."""
    smallest = min((abs(value) for value in values if value), default=1.0)
    return min(4, max(0, 2 - math.floor(math.log10(smallest))))


def _take(results: Sequence[CellResult], of: Getter) -> list[float | None]:
    return [None if result.error else of(result) for result in results]


def _top(values: Sequence[float | None], rising: bool) -> float | None:
    known = [value for value in values if value is not None]
    return (max if rising else min)(known, default=None)
