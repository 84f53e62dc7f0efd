"""Heat maps of one score over steps and guidance, one plot a sampler. Pure; what is missing stays empty."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from eval.identity import Column
from eval.records import Run
from eval.reporting import axes, canvas

COLUMNS = 4
ROW_PX = 230
LONG_TITLE = 26
"""Characters."""
MOST_ACROSS = 26
"""Fields side by side, in all plots, in which a number can be read."""


@dataclass(frozen=True)
class _Scale:
    """Where a value lies on the colours: by the distance from the best, even at first and by its logarithm far off.

    Values far from the best would else take up all colours, and those that are worth choosing look alike.
    """

    best: float
    worst: float
    sign: float
    """1 where higher is better, -1 where lower is."""
    unit: float
    """The distance up to which colours go evenly."""

    @classmethod
    def of(cls, column: Column) -> _Scale:
        known = column.known or [0.0]
        low, high = min(known), max(known)
        best, worst = (low, high) if column.higher_is_better is False else (high, low)
        typical = median(abs(best - value) for value in known)
        unit = typical / 2 or abs(best - worst) or 1.0
        return cls(best, worst, 1.0 if best >= worst else -1.0, unit)

    def height(self, value: float) -> float:
        """0 for the best, and less the worse the value."""
        return -math.asinh(abs(self.best - value) / self.unit)

    def ticks(self) -> dict[float, float]:
        """Height -> value: the best, the worst, and three between them at even heights."""
        most = self.height(self.worst)
        if most == 0:
            return {0.0: self.best}
        heights = [most * part / 4 for part in range(5)]
        return {h: self.best - self.sign * self.unit * math.sinh(-h) for h in heights}


def heat_maps(run: Run, name: str) -> go.Figure:
    """One plot a sampler, steps across and guidance up, on one colour scale; dark is better.

    Raises:
        Incomparable: two keys meet under the name.
    """
    results, column = run.results, axes.column(run.results, name)
    samplers = [s for s in run.plan.grid.series if any(r.cell.series == s for r in results)]
    steps = sorted({result.cell.steps for result in results})
    guidances = sorted({result.cell.guidance for result in results})
    columns, scale = columns_of(samplers), _Scale.of(column)
    rows = max(1, math.ceil(len(samplers) / columns))
    figure = make_subplots(
        rows, columns, subplot_titles=[canvas.plain(sampler) for sampler in samplers],
        horizontal_spacing=0.03, vertical_spacing=0.24 / rows, shared_yaxes=True,
    )  # fmt: skip
    for place, sampler in enumerate(samplers):
        mine = {
            (r.cell.steps, r.cell.guidance): value
            for r, value in zip(results, column.values, strict=True)
            if r.cell.series == sampler
        }
        table = [[mine.get((n, g)) for n in steps] for g in guidances]
        trace = _map(table, steps, guidances, name, scale)
        if columns * len(steps) > MOST_ACROSS:
            trace.texttemplate = None  # the values are told on hover, and stand in the table
        figure.add_trace(trace, row=place // columns + 1, col=place % columns + 1)
    figure.update_layout(canvas.layout(130 + ROW_PX * rows))
    figure.update_layout(coloraxis=_colour_axis(column, scale), margin_r=90)
    # Categories, not numbers: 5, 10, 50 steps get fields of one width.
    figure.update_xaxes(type="category", showgrid=False, ticks="")
    figure.update_yaxes(type="category", showgrid=False, ticks="")
    figure.update_xaxes(title_text="Steps", row=rows)
    return figure.update_yaxes(title_text="Guidance", col=1)


def columns_of(series: Collection[str]) -> int:
    """Plots side by side: fewer where their titles are long."""
    longest = max(map(len, series), default=0)
    return max(1, min(len(series), COLUMNS if longest <= LONG_TITLE else COLUMNS // 2))


def _map(
    table: Sequence[Sequence[float | None]],
    steps: Sequence[int],
    guidances: Sequence[float],
    name: str,
    scale: _Scale,
) -> go.Heatmap:
    labels = [["" if value is None else axes.text(name, value) for value in row] for row in table]
    hovers = [
        [f"{n} steps · g {g:g}<br>{label or 'no value'}" for n, label in zip(steps, row, strict=True)]
        for g, row in zip(guidances, labels, strict=True)
    ]
    return go.Heatmap(
        z=[[None if value is None else scale.height(value) for value in row] for row in table],
        x=[str(n) for n in steps],
        y=[f"{g:g}" for g in guidances],
        text=labels,
        texttemplate="%{text}",
        textfont={"size": 11, "color": canvas.ON_SCALE},
        hovertext=hovers,
        hoverinfo="text",
        coloraxis="coloraxis",
        xgap=2,
        ygap=2,
        hoverongaps=False,
    )


def _colour_axis(column: Column, scale: _Scale) -> dict[str, Any]:
    """One scale for all plots, with its ticks in plain numbers."""
    name = column.key.metric
    bar: dict[str, Any] = {"thickness": 12, "outlinewidth": 0, "len": 0.9}
    if column.unreliable:
        bar["title"] = {
            "text": canvas.plain(axes.doubt(column.unreliable)),
            "side": "right",
            "font": {"size": 11},
        }
    ticks = scale.ticks()
    bar |= {"tickvals": list(ticks), "ticktext": [axes.text(name, value) for value in ticks.values()]}
    return {"colorscale": canvas.SCALE, "colorbar": bar}
