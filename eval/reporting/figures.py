"""The figures, each a pure function of a run. What is missing leaves a gap and is never drawn as 0.

Each takes what it draws as a `Column`, so a run in which two keys meet under one name raises Incomparable;
`axes.separated` keeps them apart first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from eval.identity import Column
from eval.records import CellResult, Run
from eval.reporting import axes, canvas
from eval.reporting.axes import CLIP, Cost
from eval.reporting.ranking import pareto_front

MAX_FACETS = 6
FEW_TO_FRAME, FRAME_ROOM, FAR_OFF = 9, 1.3, 3
"""A frame is drawn around the better ones of so many settings, a little wider than they need, where others lie so many
times as far from the best."""
PLACES = ("top center", "bottom center", "middle right", "middle left")
"""Where the guidance stands beside the ends of a sampler's line, so that it does not cover another's."""


def quality_against_cost(run: Run, name: str) -> go.Figure:
    """One point a cell: the score against the run's cost, with the Pareto front as a staircase."""
    results, column = run.results, axes.column(run.results, name)
    cost = axes.cost_of(results)
    costs = [
        None if value is None else cost.of(result)
        for result, value in zip(results, column.values, strict=True)
    ]
    figure = canvas.blank()
    front = pareto_front(costs, column)
    figure.add_trace(_front_trace([results[i] for i in front], cost, name))
    for place, sampler in enumerate(run.plan.grid.series):
        mine = [i for i, r in enumerate(results) if r.cell.series == sampler and costs[i] is not None]
        figure.add_trace(
            go.Scatter(
                x=[costs[i] for i in mine],
                y=[column.values[i] for i in mine],
                mode="markers",
                name=canvas.plain(sampler),
                marker=_look(place, sampler)["marker"] | {"size": 9, "opacity": 0.85},
                hovertext=[hover(results[i], cost) for i in mine],
                hoverinfo="text",
            )
        )
    figure.update_xaxes(canvas.axis(cost.label, costs, cost.mixed))
    return figure.update_yaxes(_score_axis(column))


def clip_against_fid(run: Run) -> go.Figure:
    """A facet per step count: a line per sampler along guidance, FID across, CLIP score up.

    Raises:
        ValueError: no cell has both scores.
    """
    results = run.results
    fid, clip = axes.column(results, axes.fid_name(results) or "fid"), axes.column(results, CLIP)
    counts = facet_steps(run)
    titles = [f"{steps} steps" for steps in counts]
    figure = make_subplots(
        1, max(len(counts), 1), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03
    )
    for column, steps in enumerate(counts, start=1):
        for place, sampler in enumerate(run.plan.grid.series):
            line = [i for i, r in enumerate(results) if (r.cell.series, r.cell.steps) == (sampler, steps)]
            line.sort(key=lambda i: results[i].cell.guidance)
            look = _look(place, sampler) | {"showlegend": column == 1, "legendgroup": sampler}
            look["textposition"] = PLACES[place % len(PLACES)]
            figure.add_trace(_guidance_trace(results, line, fid, clip, look), row=1, col=column)
    figure.update_layout(canvas.layout(520))
    drawn = [x for x, y in zip(fid.values, clip.values, strict=True) if y is not None]
    title = axes.score_title(fid.key.metric)
    figure.update_xaxes(canvas.axis(title, drawn))
    # Below one plot alone: beside each other the notes would run into one.
    figure.update_xaxes(canvas.axis(title, drawn, axes.doubt(fid.unreliable)), col=1)
    across, up = _frame(fid), _frame(clip)
    if across:
        figure.update_xaxes(type="linear", tickvals=None, ticktext=None, range=across, nticks=5)
    for column in range(2, len(counts) + 1):
        figure.update_xaxes(matches="x", col=column)
    figure.update_yaxes(zeroline=False, **({"range": up} if up else {}))
    figure.update_yaxes(title_text=_directed(clip), col=1)
    return figure.update_layout(margin_t=72, legend_y=1.1)


def outside_frame(run: Run) -> int:
    """How many settings `clip_against_fid` leaves outside of its frame, among those that it draws."""
    results, counts = run.results, facet_steps(run)
    columns = (axes.column(results, axes.fid_name(results) or "fid"), axes.column(results, CLIP))
    frames = [_frame(column) for column in columns]
    return sum(
        any(
            frame and not min(frame) <= value <= max(frame)
            for frame, value in zip(frames, pair, strict=True)
            if value is not None
        )
        for result, *pair in zip(results, *(column.values for column in columns), strict=True)
        if result.cell.steps in counts and None not in pair
    )


def _frame(column: Column) -> list[float] | None:
    """The range around the better two thirds, where the rest is so far off that these would fall on one spot."""
    known = sorted(column.known, reverse=column.higher_is_better is not False)
    if len(known) < FEW_TO_FRAME:
        return None
    best, near, far = known[0], known[2 * len(known) // 3], known[-1]
    reach = FRAME_ROOM * abs(best - near)
    if not 0 < FAR_OFF * reach < abs(best - far):
        return None
    sign = -1 if best > far else 1
    return sorted((best - 0.2 * sign * reach, best + sign * reach))


def facet_steps(run: Run) -> list[int]:
    """The step counts that `clip_against_fid` shows: all that have both scores, or a spread of them."""
    fid = axes.fid_name(run.results)
    both = [r for r in run.results if axes.score_of(r, fid) and axes.score_of(r, CLIP)]
    return spread(sorted({result.cell.steps for result in both}), MAX_FACETS)


def score_against_steps(run: Run, name: str) -> go.Figure:
    """A line per sampler along steps; each point is the best of its guidance scales.

    Raises:
        ValueError: neither direction of the score is better.
    """
    results, column = run.results, axes.column(run.results, name)
    figure, drawn = canvas.blank(), set[int]()
    for place, sampler in enumerate(run.plan.grid.series):
        counts = sorted({r.cell.steps for r in results if r.cell.series == sampler})
        best = [
            column.best_of(
                i for i, r in enumerate(results) if (r.cell.series, r.cell.steps) == (sampler, steps)
            )
            for steps in counts
        ]
        drawn |= {i for i in best if i is not None}
        if all(i is None or column.values[i] is None for i in best):
            continue  # no entry of the key without a line
        figure.add_trace(
            go.Scatter(
                x=counts,
                y=[None if i is None else column.values[i] for i in best],
                mode="lines+markers",
                connectgaps=False,
                hovertext=["" if i is None else hover(results[i], axes.EVALUATIONS) for i in best],
                hoverinfo="text",
                **_look(place, sampler),
            )
        )
    figure.update_xaxes(canvas.axis("Steps", [float(r.cell.steps) for r in results]))
    shown = tuple(value if i in drawn else None for i, value in enumerate(column.values))
    return figure.update_yaxes(_score_axis(replace(column, values=shown)))


def hover(result: CellResult, cost: Cost) -> str:
    """What a point says: its setting, its cost, and every score with its interval, one a line."""
    lines = [f"<b>{canvas.plain(result.cell.label)}</b>"]
    spent = cost.of(result)
    if spent is not None:
        lines.append(canvas.plain(cost.text(spent)) + " a picture")
    if result.model_evals is not None and cost.of is not axes.EVALUATIONS.of:
        lines.append(f"{result.model_evals} evaluations")
    for score in result.scores:
        if score.value is not None:
            span = (
                ""
                if score.low is None or score.high is None
                else (f" ({axes.text(score.name, score.low)} to {axes.text(score.name, score.high)})")
            )
            title = canvas.plain(axes.score_title(score.name))
            doubt = canvas.plain(axes.doubt_beside(score.unreliable))
            lines.append(f"{title}: {axes.text(score.name, score.value)}{span}{doubt}")
    return "<br>".join(lines)


def spread(items: Sequence[int], most: int) -> list[int]:
    """At most `most` of the items, evenly spread, both ends kept; of one alone, the last."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _guidance_trace(
    results: Sequence[CellResult], line: Sequence[int], fid: Column, clip: Column, look: dict[str, Any]
) -> go.Scatter:
    """The line of one sampler at one step count; a cell without either score breaks it."""
    known = [i for i in line if fid.values[i] is not None and clip.values[i] is not None]
    ends = {known[0], known[-1]} if known else set()
    return go.Scatter(
        x=[fid.values[i] if i in known else None for i in line],
        y=[clip.values[i] if i in known else None for i in line],
        mode="lines+markers+text",
        text=[f"{results[i].cell.guidance:g}" if i in ends else "" for i in line],
        textfont={"size": 10},
        connectgaps=False,
        hovertext=[hover(results[i], axes.EVALUATIONS) for i in line],
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


def _score_axis(column: Column) -> dict[str, Any]:
    """The axis of a score; shares are read in per cent."""
    if axes.is_share(column.key.metric):
        title = {"text": canvas.titled(_directed(column), axes.doubt(column.unreliable))}
        return {"title": title, "zeroline": False, "tickformat": ".0%", "automargin": True}
    return canvas.axis(_directed(column), column.values, axes.doubt(column.unreliable))


def _directed(column: Column) -> str:
    return f"{axes.score_title(column.key.metric)} ({axes.direction(column.higher_is_better)})"
