"""Figures of what cells cost on one device: times, memory, energy, stages and batches. Pure.

What a cell lacks leaves a gap; a figure of which no cell has anything is None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import plotly.graph_objects as go

from eval.records import CellResult
from eval.reporting import canvas
from eval.reporting.figures import spread

MAX_BARS, MAX_CURVES = 24, 8
STAGES = (("Text", "text_s"), ("Denoise", "denoise_s"), ("Decode", "decode_s"), ("Rest", "rest_s"))
PATTERNS = ("", "/", ".", "x")
"""Of the stages, so that colour is not the only sign."""

Getter = Callable[[CellResult], float | None]


def along_steps(
    results: Sequence[CellResult], samplers: Sequence[str], title: str, of: Getter, factor: float = 1.0
) -> go.Figure | None:
    """A line per sampler along steps: the median over guidance scales, the bar from lowest to highest.

    Args:
        results: of one device.
        factor: from the measure's unit to the axis's.
    """
    figure, drawn = canvas.blank(380), list[float]()
    for place, sampler in enumerate(samplers):
        groups = _by_steps([r for r in results if r.cell.series == sampler], of, factor)
        middles = {steps: median(values) for steps, values in groups.items()}
        drawn += middles.values()
        figure.add_trace(
            go.Scatter(
                x=list(groups),
                y=list(middles.values()),
                error_y={
                    "array": [max(values) - middles[n] for n, values in groups.items()],
                    "arrayminus": [middles[n] - min(values) for n, values in groups.items()],
                    "thickness": 1.2,
                    "width": 3,
                },
                mode="lines+markers",
                name=canvas.plain(sampler),
                line={"color": canvas.colour(place), "dash": canvas.dash(place), "width": 2},
                marker={"color": canvas.colour(place), "symbol": canvas.marker(place), "size": 8},
                hovertemplate=f"{canvas.plain(sampler)}, %{{x}} steps: %{{y:.4g}}<extra></extra>",
            )
        )
    if not drawn:
        return None
    figure.update_xaxes(canvas.axis("Steps", [float(r.cell.steps) for r in results]))
    up = canvas.axis(title, drawn)
    return figure.update_yaxes(up if "type" in up else up | {"rangemode": "tozero"})


def stage_split(results: Sequence[CellResult]) -> go.Figure | None:
    """Milliseconds of a picture by stage, as stacked bars: a spread of cells, quickest first."""
    known = [r for r in results if r.timing is not None and r.timing.denoise_s is not None]
    if not known:
        return None
    known.sort(key=_seconds)
    shown = [known[i] for i in spread(range(len(known)), MAX_BARS)][::-1]
    labels = [canvas.plain(result.cell.label) for result in shown]
    figure = canvas.blank(120 + 22 * len(shown))
    for place, (name, field) in enumerate(STAGES):
        seconds = [getattr(result.timing, field) for result in shown]
        figure.add_trace(
            go.Bar(
                x=[None if value is None else 1e3 * value for value in seconds],
                y=labels,
                name=name,
                orientation="h",
                marker={"color": canvas.colour(place), "pattern": {"shape": PATTERNS[place], "size": 5}},
                hovertemplate=f"%{{y}}<br>{name}: %{{x:.3g}} ms<extra></extra>",
            )
        )
    figure.update_layout(barmode="stack", margin_l=8, bargap=0.25, legend_traceorder="normal")
    figure.update_xaxes(title_text="Milliseconds a picture, in batches", zeroline=False, rangemode="tozero")
    return figure.update_yaxes(type="category", automargin=True, showgrid=False, ticks="")


def batch_curves(results: Sequence[CellResult]) -> go.Figure | None:
    """Pictures a second over the batch, a line per cell that was searched; the best batch has a ring."""
    searched = [r for r in results if r.measured is not None and r.measured.curve is not None]
    if not searched:
        return None
    figure, batches = canvas.blank(380), set[int]()
    for place, index in enumerate(spread(range(len(searched)), MAX_CURVES)):
        result = searched[index]
        curve = result.measured.curve if result.measured else None
        if curve is None:
            continue
        batches |= {point.batch for point in curve.points}
        best = [point.batch == curve.best_batch for point in curve.points]
        figure.add_trace(
            go.Scatter(
                x=[point.batch for point in curve.points],
                y=[point.images_per_s for point in curve.points],
                customdata=[_peak(point.peak_bytes, point.reason) for point in curve.points],
                mode="lines+markers",
                connectgaps=False,
                name=canvas.plain(result.cell.label),
                line={"color": canvas.colour(place), "dash": canvas.dash(place), "width": 2},
                marker={
                    "color": canvas.colour(place),
                    "symbol": canvas.marker(place),
                    "size": [14 if each else 8 for each in best],
                },
                hovertemplate="batch %{x}: %{y:.4g} pictures/s%{customdata}<extra></extra>",
            )
        )
    ticks = sorted(batches)
    figure.update_xaxes(title_text="Batch", type="log", tickvals=ticks, ticktext=[str(n) for n in ticks])
    return figure.update_yaxes(title_text="Pictures a second", rangemode="tozero", zeroline=False)


def _by_steps(results: Sequence[CellResult], of: Getter, factor: float) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for result in sorted(results, key=lambda each: each.cell.steps):
        value = None if result.error else of(result)
        if value is not None:
            found.setdefault(result.cell.steps, []).append(value * factor)
    return found


def _seconds(result: CellResult) -> float:
    timing = result.timing
    return sum(getattr(timing, field) or 0.0 for _, field in STAGES)


def _peak(peak_bytes: int | None, reason: str | None) -> str:
    if peak_bytes is not None:
        return f", {peak_bytes / 1e9:.3g} GB"
    return f", {canvas.plain(reason)}" if reason else ""
