"""A comparison of runs as one small HTML page that opens offline and runs no script."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from jinja2 import Environment

from eval.reporting.before_after import Against, BeforeAfter
from eval.reporting.change_words import (
    change_text,
    difference_text,
    one_line,
    overall_text,
    ratio_text,
    value_text,
)
from eval.reporting.changes import Change, Overall
from eval.reporting.compare_text import headline
from eval.reporting.templating import environment
from eval.reporting.thumbnails import embedded_below
from eval.reporting.worst_prompts import WorstPrompt
from eval.scoring.uncertainty import Interval

MAIN = ("clip_score", "fid", "judge_all", "latency_p50_s", "images_per_s", "gpu_allocated_bytes")
"""Measures that stand open; the others unfold."""
MOST_ROWS = 60
"""Settings that are drawn a measure, those that lost most first; compare.csv has all."""
LISTED = 40
"""Regressions, improvements and lone settings that are listed."""
HALF_PX, HEIGHT_PX = 110, 18


@dataclass(frozen=True)
class Bar:
    """One setting's change, drawn: places from left to right in pixels."""

    change: Change
    at: float | None
    """The point; None where there is no difference."""
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Panel:
    """One measure: its settings, drawn on one scale with 0 in the middle."""

    overall: Overall
    bars: tuple[Bar, ...]
    left_out: int
    """Settings that are not drawn, for want of room."""
    refused: tuple[tuple[str, int], ...]
    """Why settings cannot be compared, and how many."""
    cautions: tuple[tuple[str, int], ...]
    """What must be known before the differences are believed, and of how many settings."""
    methods: tuple[str, ...]
    opened: bool
    span: str
    """The change at the right edge, as text; empty where nothing changed."""


@dataclass(frozen=True)
class Shot:
    """One of the worst prompts with its two pictures as `data:` addresses; None where there is none to read."""

    worst: WorstPrompt
    before: str | None
    after: str | None
    small: bool


def render_comparison(compared: BeforeAfter) -> str:
    """The page as HTML text; pictures of the worst prompts are embedded."""
    template = _environment().get_template("compare.html.j2")
    parts = [
        {
            "against": each,
            "headline": headline(each),
            "panels": panels(each),
            "shots": tuple(_shot(each, worst) for worst in each.worst.prompts),
        }
        for each in compared.others
    ]
    return template.render(compared=compared, parts=parts, half=HALF_PX, height=HEIGHT_PX, listed=LISTED)


def panels(against: Against) -> tuple[Panel, ...]:
    """Every measure: the gated ones and the main ones first, and open."""
    gated = [
        each for each in against.overalls if any(out.gate.covers(each.measure) for out in against.outcomes)
    ]
    main = [each for name in MAIN for each in against.overalls if each.measure.name.partition("[")[0] == name]
    first = list(dict.fromkeys(each.measure.name for each in (*gated, *main)))
    ordered = sorted(
        against.overalls,
        key=lambda each: first.index(each.measure.name) if each.measure.name in first else len(first),
    )
    return tuple(_panel(each, opened=each.measure.name in first[: max(len(gated), 3)]) for each in ordered)


def _panel(overall: Overall, *, opened: bool) -> Panel:
    known = sorted(overall.known, key=lambda each: -(each.loss if each.loss is not None else 0.0))
    shown = known[:MOST_ROWS]
    ends = [abs(end) for each in shown for end in _ends(each) if end is not None]
    span = max(ends, default=0.0) or 1.0
    refused = Counter(each.reason or "" for each in overall.changes if each.difference is None)
    cautions = Counter(each.caution for each in known if each.caution)
    reasons = dict.fromkeys(each.reason for each in known if each.reason)
    methods = dict.fromkeys(each.method for each in known if each.method and each.low is not None)
    return Panel(
        overall,
        tuple(_bar(each, span) for each in shown),
        len(known) - len(shown),
        tuple(refused.most_common()),
        tuple(cautions.most_common()),
        (*methods, *reasons),
        opened and bool(known),
        _span_text(overall, span) if any(ends) else "",
    )


def _ends(change: Change) -> tuple[float | None, float | None, float | None]:
    """Point and interval on the panel's scale: a share of the baseline for costs, else the measure's unit."""
    ratio = change.ratio
    if ratio is None:
        return change.difference, change.low, change.high
    return (
        ratio.value - 1,
        None if ratio.low is None else ratio.low - 1,
        None if ratio.high is None else ratio.high - 1,
    )


def _bar(change: Change, span: float) -> Bar:
    places = [None if end is None else round(HALF_PX * (1 + 0.94 * end / span), 1) for end in _ends(change)]
    return Bar(change, *places)


def _span_text(overall: Overall, span: float) -> str:
    if overall.measure.cost:
        return ratio_text(Interval(1 + span, None, None))
    return difference_text(overall.measure, Interval(span, None, None))


def _shot(against: Against, worst: WorstPrompt) -> Shot:
    before = embedded_below(against.before.folder, worst.before.path)
    after = embedded_below(against.after.folder, worst.after.path)
    untouched = all(uri is None or uri.startswith("data:image/png") for uri in (before, after))
    return Shot(worst, before, after, untouched)


def _environment() -> Environment:
    found = environment()
    found.filters |= {"line": one_line, "change": change_text, "mean": overall_text}
    found.globals["value"] = value_text
    return found
