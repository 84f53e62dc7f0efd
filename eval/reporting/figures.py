"""The figures, each a pure function of a run. What is missing leaves a gap and is never drawn as 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from eval.records import CellResult, Run
from eval.reporting import axes, canvas
from eval.reporting.axes import CLIP, Cost
from eval.reporting.ranking import pareto_front

MAX_FACETS = 6


def quality_against_cost(run: Run, name: str) -> go.Figure:
    """One point a cell: the score against the run's cost, with the Pareto front as a staircase."""
    results = axes.separated(run.results)
    cost = axes.cost_of(results)
    costs = [cost.of(result) if axes.value(result, name) is not None else None for result in results]
    values = [axes.value(result, name) for result in results]
    rising = axes.higher_is_better(results, name)
    figure = canvas.blank()
    front = pareto_front(costs, values, higher_is_better=rising)
    figure.add_trace(_front_trace([results[i] for i in front], cost, name))
    for place, sampler in enumerate(run.plan.grid.samplers):
        mine = [r for r in results if r.cell.sampler == sampler and axes.value(r, name) is not None]
        mine = [result for result in mine if cost.of(result) is not None]
        figure.add_trace(
            go.Scatter(
                x=[cost.of(r) for r in mine],
                y=[axes.value(r, name) for r in mine],
                mode="markers",
                name=canvas.plain(sampler),
                marker={
                    "color": canvas.colour(place),
                    "symbol": canvas.marker(place),
                    "size": 9,
                    "opacity": 0.85,
                },
                hovertext=[hover(r, cost) for r in mine],
                hoverinfo="text",
            )
        )
    figure.update_xaxes(canvas.axis(cost.label, costs))
    return figure.update_yaxes(_score_axis(name, rising, values))


def clip_against_fid(run: Run) -> go.Figure:
    """A facet per step count: a line per sampler along guidance, FID across, CLIP score up."""
    results = axes.separated(run.results)
    fid = axes.fid_name(results) or ""
    counts = facet_steps(run)
    titles = [f"{steps} steps" for steps in counts]
    figure = make_subplots(
        1, max(len(counts), 1), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03
    )
    for column, steps in enumerate(counts, start=1):
        for place, sampler in enumerate(run.plan.grid.samplers):
            line = [r for r in results if (r.cell.sampler, r.cell.steps) == (sampler, steps)]
            line.sort(key=lambda result: result.cell.guidance)
            look = _look(place, sampler) | {"showlegend": column == 1, "legendgroup": sampler}
            figure.add_trace(_guidance_trace(line, fid, look), row=1, col=column)
    figure.update_layout(canvas.layout(460))
    drawn = [
        axes.value(r, fid) for r in results if r.cell.steps in counts and axes.value(r, CLIP) is not None
    ]
    figure.update_xaxes(canvas.axis(axes.score_title(fid), drawn) | {"matches": "x"})
    figure.update_yaxes(zeroline=False)
    figure.update_yaxes(title_text=_directed(CLIP, True), col=1)
    return figure.update_layout(margin_t=72, legend_y=1.1)


def facet_steps(run: Run) -> list[int]:
    """The step counts that `clip_against_fid` shows: all that have both scores, or a spread of them."""
    results = axes.separated(run.results)
    fid = axes.fid_name(results)
    both = [r for r in results if axes.value(r, fid) is not None and axes.value(r, CLIP) is not None]
    return spread(sorted({result.cell.steps for result in both}), MAX_FACETS)


def score_against_steps(run: Run, name: str) -> go.Figure:
    """A line per sampler along steps; each point is the best of its guidance scales."""
    results = axes.separated(run.results)
    rising = axes.higher_is_better(results, name)
    pick = max if rising else min
    figure = canvas.blank()
    for place, sampler in enumerate(run.plan.grid.samplers):
        points = []
        for steps in sorted({r.cell.steps for r in results if r.cell.sampler == sampler}):
            row = [r for r in results if (r.cell.sampler, r.cell.steps) == (sampler, steps)]
            scored = [(value, r) for r in row if (value := axes.value(r, name)) is not None]
            points.append((steps, *(pick(scored, key=lambda pair: pair[0]) if scored else (None, None))))
        figure.add_trace(
            go.Scatter(
                x=[steps for steps, _, _ in points],
                y=[value for _, value, _ in points],
                mode="lines+markers",
                connectgaps=False,
                hovertext=[hover(r, axes.EVALUATIONS) if r else "" for _, _, r in points],
                hoverinfo="text",
                **_look(place, sampler),
            )
        )
    figure.update_xaxes(canvas.axis("Steps", [float(r.cell.steps) for r in results]))
    return figure.update_yaxes(_score_axis(name, rising, [axes.value(r, name) for r in results]))


def hover(result: CellResult, cost: Cost) -> str:
    """What a point says: its setting, its cost, and every score with its interval, one a line."""
    lines = [f"<b>{canvas.plain(result.cell.label)}</b>"]
    spent = cost.of(result)
    if spent is not None:
        lines.append(canvas.plain(cost.text(spent)) + " a picture")
    if result.model_evals is not None and cost is not axes.EVALUATIONS:
        lines.append(f"{result.model_evals} evaluations")
    for score in result.scores:
        if score.value is not None:
            span = (
                ""
                if score.low is None or score.high is None
                else (f" ({axes.text(score.name, score.low)} to {axes.text(score.name, score.high)})")
            )
            title = canvas.plain(axes.score_title(score.name))
            lines.append(f"{title}: {axes.text(score.name, score.value)}{span}")
    return "<br>".join(lines)


def spread(items: Sequence[int], most: int) -> list[int]:
    """At most `most` of the items, evenly spread, both ends kept; of one alone, the last."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _guidance_trace(line: Sequence[CellResult], fid: str, look: dict[str, Any]) -> go.Scatter:
    """The line of one sampler at one step count; a cell without either score breaks it."""
    both = [axes.value(r, fid) is not None and axes.value(r, CLIP) is not None for r in line]
    known = [i for i, there in enumerate(both) if there]
    ends = {known[0], known[-1]} if known else set()
    return go.Scatter(
        x=[axes.value(r, fid) if there else None for r, there in zip(line, both, strict=True)],
        y=[axes.value(r, CLIP) if there else None for r, there in zip(line, both, strict=True)],
        mode="lines+markers+text",
        text=[f"{r.cell.guidance:g}" if i in ends else "" for i, r in enumerate(line)],
        textposition="top center",
        textfont={"size": 10},
        connectgaps=False,
        hovertext=[hover(r, axes.EVALUATIONS) for r in line],
        hoverinfo="text",
        **look,
    )


def _front_trace(front: Sequence[CellResult], cost: Cost, name: str) -> go.Scatter:
    """The Pareto front, cheapest first, with the 95 % intervals of its scores where they are known."""
    scores = [score for result in front if (score := result.score(name)) is not None]
    above = [0 if s.high is None or s.value is None else s.high - s.value for s in scores]
    below = [0 if s.low is None or s.value is None else s.value - s.low for s in scores]
    return go.Scatter(
        x=[cost.of(result) for result in front],
        y=[score.value for score in scores],
        error_y={
            "array": above,
            "arrayminus": below,
            "thickness": 1.2,
            "width": 3,
            "visible": any(above + below),
        },
        mode="lines",
        name="Pareto front",
        line={"color": canvas.NEUTRAL, "width": 2, "shape": "hv"},
        hoverinfo="skip",
    )


def _look(place: int, sampler: str) -> dict[str, Any]:
    """The line, marker and name of the sampler at this place of the grid."""
    return {
        "name": canvas.plain(sampler),
        "line": {"color": canvas.colour(place), "dash": canvas.dash(place), "width": 2},
        "marker": {"color": canvas.colour(place), "symbol": canvas.marker(place), "size": 8},
    }


def _score_axis(name: str, rising: bool, values: Sequence[float | None]) -> dict[str, Any]:
    """The axis of a score; the judge's shares are read in per cent."""
    if name.startswith("judge"):
        return {"title": {"text": _directed(name, rising)}, "zeroline": False, "tickformat": ".0%"}
    return canvas.axis(_directed(name, rising), values)


def _directed(name: str, rising: bool) -> str:
    return f"{axes.score_title(name)} ({'higher' if rising else 'lower'} is better)"
