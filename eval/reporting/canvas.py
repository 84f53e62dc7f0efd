"""What all figures share: one colour and marker per sampler, axes that read plainly, and a bare layout. Pure.

Backgrounds are transparent and no text colour is set: the page paints both for light and for dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

COLOURS = ("#3f7fd9", "#e0702d", "#2e9e74", "#b05fcf", "#c99a17", "#d94a78", "#2ba3b8", "#8f7257")
DASHES = ("solid", "dash", "dot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star", "hexagon", "cross", "triangle-down")
# Light enough that dark numbers stay readable on all of it, on a white page and on a black one.
SCALE = ((0.0, "#f8f1e3"), (0.5, "#b2d8cb"), (1.0, "#4a93c7"))
ON_SCALE = "#14181d"
NEUTRAL = "#8a8f98"
WIDE_RATIO = 8
"""Positive values that span more than this are drawn on a logarithmic axis."""


def colour(index: int) -> str:
    """The colour of the sampler at this place of the grid; colours come round, dashes then differ."""
    return COLOURS[index % len(COLOURS)]


def dash(index: int) -> str:
    """The line's dash: solid until the colours are used up."""
    return DASHES[index // len(COLOURS) % len(DASHES)]


def marker(index: int) -> str:
    """A marker symbol for the sampler or step count at this place, so that colour is not the only sign."""
    return MARKERS[index % len(MARKERS)]


def plain(text: str) -> str:
    """The text as plotly shows it literally: plotly reads labels as a little HTML."""
    return escape(text, quote=False)


def axis(title: str, values: Sequence[float | None], note: str = "") -> dict[str, Any]:
    """An axis for the values: logarithmic with 1-2-5 ticks where they span a wide positive range.

    Args:
        note: what must be known of all values; a second line of the title.
    """
    known = [value for value in values if value is not None]
    options: dict[str, Any] = {"title": {"text": titled(title, note)}, "zeroline": False}
    if note:
        options["automargin"] = True
    if not is_wide(known):
        return options
    ticks = round_ticks(min(known), max(known))
    return options | {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def titled(title: str, note: str) -> str:
    """The title as plotly shows it literally, the note as a line below it."""
    return plain(title) + (f"<br>{plain(note)}" if note else "")


def is_wide(known: Sequence[float]) -> bool:
    """True where the values are positive and span more than `WIDE_RATIO`."""
    return bool(known) and min(known) > 0 and max(known) / min(known) > WIDE_RATIO


def round_ticks(low: float, high: float) -> list[float]:
    """The numbers 1, 2, 5 · 10^k that cover low..high, and one beyond at either end."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    series = [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]
    inside = [i for i, tick in enumerate(series) if low <= tick <= high]
    if not inside:
        return [tick for tick in series if low / 3 <= tick <= high * 3]
    return series[max(inside[0] - 1, 0) : inside[-1] + 2]


def blank(height: int = 440) -> go.Figure:
    """An empty figure in the report's layout, `height` pixels tall."""
    return go.Figure(layout=layout(height))


def layout(height: int) -> dict[str, Any]:
    """Layout options: transparent, roomy, legend above the plot."""
    return {
        "template": "none",
        "height": height,
        "margin": {"l": 64, "r": 16, "t": 40, "b": 56},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"align": "left"},
        "hovermode": "closest",
    }
