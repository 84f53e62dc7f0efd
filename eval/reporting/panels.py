"""The report's figures in reading order, each with its title and how to read it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from eval.records import Run
from eval.reporting import axes
from eval.reporting.axes import CLIP
from eval.reporting.figures import clip_against_fid, facet_steps, quality_against_cost, score_against_steps
from eval.reporting.heatmaps import COLUMNS, heat_maps


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
    results = axes.separated(run.results)
    have = [
        name for name in axes.score_names(results) if any(axes.value(r, name) is not None for r in results)
    ]
    fid = axes.fid_name(results) if axes.fid_name(results) in have else None
    judge = axes.judge_name(results) if axes.judge_name(results) in have else None
    clip = CLIP if CLIP in have else None
    found = [_cost_panel(run, name) for name in (fid, clip, judge) if name]
    if fid and clip:
        found.append(_trade_panel(run))
    found += [_steps_panel(run, fid)] if fid else []
    found += [_heat_panel(run, name) for name in (clip, fid, judge) if name]
    return tuple(found)


def _cost_panel(run: Run, name: str) -> Panel:
    cost, title = axes.cost_of(run.results), axes.score_title(name)
    anchor = f"cost-{axes.in_sentence(name).split('[')[0].replace(' ', '-').lower()}"
    caption = (
        f"One point a setting. The staircase, the Pareto front, joins the settings that no other beats in "
        f"both {title} and {cost.noun}; bars on it are 95 % intervals, where they are known. Anything off it "
        "costs more, scores worse, or both."
    )
    return Panel(anchor, f"{title} against {cost.noun}", caption, quality_against_cost(run, name))


def _trade_panel(run: Run) -> Panel:
    steps = facet_steps(run)
    caption = (
        "One plot a step count; each line follows one sampler from the lowest guidance to the highest, whose "
        "values stand at its ends. Up follows the prompt more closely, left is nearer to the reference."
    )
    return Panel(
        "clip-fid", "CLIP score against FID, along guidance", caption, clip_against_fid(run), len(steps)
    )


def _steps_panel(run: Run, name: str) -> Panel:
    title = axes.score_title(name)
    caption = (
        "Each point is the best of its guidance scales. Steps are not evaluations: Heun calls the denoiser "
        "twice a step."
    )
    return Panel(
        "steps", f"{title} along steps, at the best guidance", caption, score_against_steps(run, name)
    )


def _heat_panel(run: Run, name: str) -> Panel:
    results = axes.separated(run.results)
    better = "higher" if axes.higher_is_better(results, name) else "lower"
    caption = (
        f"Dark is better ({better} values). One colour scale for all samplers; an empty field has no value."
    )
    samplers = len({result.cell.sampler for result in results})
    anchor = f"heat-{axes.in_sentence(name).split('[')[0].replace(' ', '-').lower()}"
    title = f"{axes.score_title(name)} over steps and guidance"
    return Panel(anchor, title, caption, heat_maps(run, name), min(samplers, COLUMNS))
