"""The report's figures in reading order, each with its title and how to read it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import plotly.graph_objects as go

from eval.records import Run
from eval.reporting import axes
from eval.reporting.axes import CLIP, Cost
from eval.reporting.figures import (
    clip_against_fid,
    facet_steps,
    outside_frame,
    quality_against_cost,
    score_against_steps,
)
from eval.reporting.heatmaps import columns_of, heat_maps
from eval.scoring.catalogue import base_name

LATENT_RMSE = "latent_rmse"


@dataclass(frozen=True)
class Panel:
    """One figure of the report with its words."""

    anchor: str
    """HTML id."""
    title: str
    caption: str
    """What is drawn, and how to read it."""
    figure: go.Figure
    facets: int = 1
    """Plots side by side, so that the page can give them room."""


def panels(run: Run) -> tuple[Panel, ...]:
    """Every figure that the run's scores allow, in reading order."""
    run = replace(run, results=axes.separated(run.results))
    results = run.results
    have = [
        name for name in axes.known_names(results) if axes.column(results, name).higher_is_better is not None
    ]
    fid, clip, judge, rmse = (
        name if name in have else None
        for name in (axes.fid_name(results), CLIP, axes.judge_name(results), LATENT_RMSE)
    )
    found = [_cost_panel(run, name) for name in (fid, clip, judge) if name]
    if fid and clip:
        found.append(_trade_panel(run))
    found += [_steps_panel(run, fid)] if fid else []
    found += [_convergence_panel(run)] if rmse else []
    found += [_heat_panel(run, name) for name in (clip, fid, judge) if name]
    return tuple(found)


def _cost_panel(run: Run, name: str) -> Panel:
    cost, title = axes.cost_of(run.results), axes.score_title(name)
    caption = (
        f"One point a setting. The staircase, the Pareto front, joins the settings that no other beats in "
        f"both {title} and {cost.noun}; bars on it are 95 % intervals, where they are known. Anything off it "
        f"costs more, scores worse, or both.{_doubt(run, name)}{_mixed(cost)}"
    )
    return Panel(
        f"cost-{_anchor(name)}", f"{title} against {cost.noun}", caption, quality_against_cost(run, name)
    )


def _trade_panel(run: Run) -> Panel:
    steps, asked = facet_steps(run), len({result.cell.steps for result in run.results})
    few = f" {len(steps)} of {asked} step counts are shown." if len(steps) < asked else ""
    count = outside_frame(run)
    who = f"{count} far-off {'setting lies' if count == 1 else 'settings lie'}"
    beyond = f" The frame is around the better ones: {who} outside it, and lines lead there." if count else ""
    caption = (
        "One plot a step count; each line follows one sampler from the lowest guidance to the highest, whose "
        "values stand at its ends. Up follows the prompt more closely, left is nearer to the reference."
        f"{few}{beyond}{_doubt(run, CLIP)}{_doubt(run, axes.fid_name(run.results) or CLIP)}"
    )
    return Panel(
        "clip-fid", "CLIP score against FID, along guidance", caption, clip_against_fid(run), len(steps)
    )


def _steps_panel(run: Run, name: str) -> Panel:
    title = axes.score_title(name)
    caption = (
        "Each point is the best of its guidance scales. Steps are not evaluations: Heun calls the denoiser "
        f"twice a step.{_doubt(run, name)}"
    )
    return Panel(
        "steps", f"{title} along steps, at the best guidance", caption, score_against_steps(run, name)
    )


def _convergence_panel(run: Run) -> Panel:
    caption = (
        "How far each sampler is from the picture that the same seed ends in after many steps, in latent space. "
        "A line that falls quickly converges in few steps; no reference pictures take part, and nothing here "
        f"says that the picture is good.{_doubt(run, LATENT_RMSE)}"
    )
    without = [
        series
        for series in dict.fromkeys(result.cell.series for result in run.results)
        if all(axes.score_of(r, LATENT_RMSE) is None for r in run.results if r.cell.series == series)
    ]
    if without:
        why = "it was not measured, as where noise is added on the way"
        caption += f" No line for {', '.join(without)}: {why}."
    title = f"Convergence: {axes.score_title(LATENT_RMSE)} along steps"
    return Panel("convergence", title, caption, score_against_steps(run, LATENT_RMSE))


def _heat_panel(run: Run, name: str) -> Panel:
    better = axes.direction(axes.column(run.results, name).higher_is_better).split()[0]
    caption = (
        f"Dark is better ({better} values), and colours are finer near the best than far from it. One colour scale for "
        f"all samplers; an empty field has no value."
        f"{_doubt(run, name)}"
    )
    facets = columns_of({result.cell.series for result in run.results})
    title = f"{axes.score_title(name)} over steps and guidance"
    return Panel(f"heat-{_anchor(name)}", title, caption, heat_maps(run, name), facets)


def _mixed(cost: Cost) -> str:
    """The sentence below a figure whose costs are not of one kind, with a space before it; else empty."""
    return f" Costs are {cost.mixed}; compare across only as such." if cost.mixed else ""


def _anchor(name: str) -> str:
    return base_name(name).replace("_", "-")


def _doubt(run: Run, name: str) -> str:
    """The sentence below a figure whose values must not be relied on, with a space before it; else empty."""
    column = axes.column(run.results, name)
    if not column.unreliable:
        return ""
    return f" {axes.score_title(name)} here is {axes.doubt(column.unreliable)}."
