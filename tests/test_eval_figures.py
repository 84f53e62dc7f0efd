"""Figures: right points, right labels, and gaps where something is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from eval.hardware_plan import HardwarePlan
from eval.identity import Incomparable, Score, ScoreKey
from eval.measured import Measured, Timing
from eval.records import (
    Cell,
    CellResult,
    GridPlan,
    MetricsPlan,
    ModelPlan,
    Plan,
    PromptSet,
    ReferencePlan,
    Run,
)
from eval.reporting import canvas
from eval.reporting.axes import LATENCY
from eval.reporting.figures import (
    clip_against_fid,
    hover,
    outside_frame,
    quality_against_cost,
    score_against_steps,
    spread,
)
from eval.reporting.heatmaps import heat_maps
from eval.reporting.panels import panels

FID = "fid[shapes-clip]"


def score(name: str, value: float | None, rising: bool | None, unreliable: str | None = None) -> Score:
    return Score(ScoreKey(name, 8, "unit", reference="r"), value, rising, unreliable=unreliable)


def result(
    sampler: str, steps: int, guidance: float, clip: float | None, fid: float | None, latency_s: float | None
) -> CellResult:
    cell = Cell("f00d", sampler, steps, guidance, "p", 8, 0, 64, 64, "float32", "cpu")
    scores = (score("clip_score", clip, True), score(FID, fid, False))
    return CellResult(
        cell, "CPU", steps, scores, Measured(Timing(4, (), (), None, latency_s, None, None, None, None))
    )


def run(*results: CellResult) -> Run:
    samplers = tuple(dict.fromkeys(each.cell.sampler for each in results))
    plan = Plan(
        ModelPlan("shapes", "shapes", "cpu", "float32"),
        PromptSet("few", ("a star",)),
        ReferencePlan("shapes", 64),
        MetricsPlan("shapes", ("shapes-clip",), ("clip_score", "fid")),
        GridPlan(samplers, (5, 10), (1.0, 4.0), 0),
        HardwarePlan(4, 1, 1),
        "nowhere",
    )
    return Run(plan, results, {}, {}, "")


FOUR = (
    result("ddim", 5, 4.0, 29.0, 3.0, 1.0),
    result("ddim", 5, 1.0, 25.0, 4.0, 0.9),
    result("ddim", 10, 1.0, 26.0, 2.0, 2.0),
    result("ddim", 10, 4.0, 31.0, 1.0, 2.1),
)


def test_quality_against_cost_puts_each_cell_at_its_cost_and_score() -> None:
    front, points = quality_against_cost(run(*FOUR), FID).data
    assert list(zip(points.x, points.y, strict=True)) == [(1.0, 3.0), (0.9, 4.0), (2.0, 2.0), (2.1, 1.0)]
    assert list(front.x) == [0.9, 1.0, 2.0, 2.1]
    assert list(front.y) == [4.0, 3.0, 2.0, 1.0]


def test_a_cell_without_score_or_cost_is_no_point() -> None:
    missing = (result("ddim", 20, 1.0, 26.0, None, 4.0), result("ddim", 20, 4.0, 26.0, 1.5, None))
    _, points = quality_against_cost(run(*FOUR, *FOUR, *missing), FID).data
    assert len(points.x) == 8
    assert None not in points.y
    assert 0 not in points.x


def test_the_cost_axis_says_which_cost_it_is() -> None:
    title = quality_against_cost(run(*FOUR), FID).layout.xaxis.title.text
    assert "p50" in title
    untimed = [replace(each, measured=None) for each in FOUR]
    figure = quality_against_cost(run(*untimed), FID)
    assert "evaluations" in figure.layout.xaxis.title.text
    assert list(figure.data[1].x) == [5.0, 5.0, 10.0, 10.0]
    timing = Timing(4, (), (), 4.0, None, None, None, None, None)
    batched = quality_against_cost(run(*(replace(each, measured=Measured(timing)) for each in FOUR)), FID)
    assert "in batches" in batched.layout.xaxis.title.text
    assert set(batched.data[1].x) == {0.25}


def test_clip_against_fid_draws_each_sampler_along_guidance_one_plot_a_step_count() -> None:
    other = [replace(each, cell=replace(each.cell, sampler="heun")) for each in FOUR]
    figure = clip_against_fid(run(*FOUR, *other))
    assert [trace.name for trace in figure.data] == ["ddim", "heun", "ddim", "heun"]
    assert list(figure.data[0].x) == [4.0, 3.0]
    assert list(figure.data[0].y) == [25.0, 29.0]
    assert list(figure.data[0].text) == ["1", "4"]
    assert [note.text for note in figure.layout.annotations] == ["5 steps", "10 steps"]


def test_a_missing_value_breaks_the_line_and_is_not_bridged() -> None:
    line = [result("ddim", 5, g, 20 + g, None if g == 2 else 3 - g / 4, 1.0) for g in (1.0, 2.0, 4.0)]
    (trace,) = clip_against_fid(run(*line)).data
    assert list(trace.x) == [2.75, None, 2.0]
    assert list(trace.y) == [21.0, None, 24.0]
    assert trace.connectgaps is False


def test_far_off_settings_do_not_press_the_better_ones_into_a_corner() -> None:
    near = [result("ddim", 5, 1 + i / 10, 95 - i / 10, 10 + i / 10, 1.0) for i in range(9)]
    far = [result("ddim", 5, 9.0 + i, 40.0, 500.0, 1.0) for i in range(3)]
    told = run(*near, *far)
    low, high = clip_against_fid(told).layout.yaxis.range
    assert 90 < low < 94.2, "all nine are inside"
    assert high > 95
    assert outside_frame(told) == 3
    assert (
        "3 far-off settings lie outside it" in next(p for p in panels(told) if p.anchor == "clip-fid").caption
    )
    assert clip_against_fid(run(*near)).layout.yaxis.range is None


def test_a_sampler_without_a_value_has_no_entry_in_the_key() -> None:
    other = result("heun", 5, 1.0, 20.0, None, 1.0)
    assert [trace.name for trace in score_against_steps(run(*FOUR, other), FID).data] == ["ddim"]


def test_steps_are_drawn_at_the_best_guidance_of_each() -> None:
    (trace,) = score_against_steps(run(*FOUR), FID).data
    assert list(trace.x) == [5, 10]
    assert list(trace.y) == [3.0, 1.0]
    (trace,) = score_against_steps(run(*FOUR), "clip_score").data
    assert list(trace.y) == [29.0, 31.0]


def test_heat_maps_lay_guidance_over_steps_and_leave_missing_fields_empty() -> None:
    (trace,) = heat_maps(run(*FOUR[:3]), "clip_score").data
    (worst, middle), (best, missing) = trace.z
    assert worst < middle < best == 0
    assert missing is None
    assert [list(row) for row in trace.text] == [["25.00", "26.00"], ["29.00", ""]]
    assert (list(trace.x), list(trace.y)) == (["5", "10"], ["1", "4"])


def test_heat_maps_share_one_scale_on_which_dark_is_better() -> None:
    for name, best in (("clip_score", max), (FID, min)):
        figure = heat_maps(run(*FOUR), name)
        fields = [(z, float(text)) for t in figure.data for zs, ts in zip(t.z, t.text, strict=True)
                  for z, text in zip(zs, ts, strict=True) if z is not None]  # fmt: skip
        assert max(fields)[1] == best(value for _, value in fields)
        assert figure.layout.coloraxis.reversescale is None
        assert float(figure.layout.coloraxis.colorbar.ticktext[0]) == max(fields)[1]


def test_settings_near_the_best_are_told_apart_by_colour_though_one_is_far_off() -> None:
    clips = (95.0, 94.6, 94.2, 60.0)
    results = [result("ddim", 5, float(g), clip, 1.0, 1.0) for g, clip in enumerate(clips, start=1)]
    (trace,) = heat_maps(run(*results), "clip_score").data
    heights = [row[0] for row in trace.z]
    assert heights == sorted(heights, reverse=True)
    assert (heights[0] - heights[2]) / (heights[0] - heights[3]) > 0.2, "on an even scale, 0.02"


def test_values_over_a_wide_range_are_drawn_on_a_logarithmic_axis_with_plain_ticks() -> None:
    axis = canvas.axis("FID", [0.5, None, 40.0])
    assert axis["type"] == "log"
    assert {"0.5", "1", "10"} <= set(axis["ticktext"])
    assert "type" not in canvas.axis("FID", [0.0, 40.0])
    assert "type" not in canvas.axis("FID", [])


def test_round_ticks_cover_the_range() -> None:
    for low, high in ((0.9, 8.7), (0.00012, 3), (3, 3.1), (47, 761)):
        ticks = canvas.round_ticks(low, high)
        assert ticks
        assert all(math.isfinite(tick) for tick in ticks)
        assert ticks[0] <= high
        assert ticks[-1] >= low


def test_only_figures_with_data_are_made() -> None:
    without_fid = [replace(each, scores=each.scores[:1]) for each in FOUR]
    assert [panel.anchor for panel in panels(run(*without_fid))] == ["cost-clip-score", "heat-clip-score"]
    assert panels(run(replace(FOUR[0], error="out of memory"))) == ()
    assert panels(run()) == ()


def test_every_panel_of_a_full_run_is_there_once() -> None:
    anchors = [panel.anchor for panel in panels(run(*FOUR))]
    assert anchors == ["cost-fid", "cost-clip-score", "clip-fid", "steps", "heat-clip-score", "heat-fid"]


def test_labels_are_shown_literally_and_never_as_markup() -> None:
    evil = replace(FOUR[0], cell=replace(FOUR[0].cell, sampler='<a href="x">s</a>'))
    assert "<a" not in hover(evil, LATENCY)
    assert all("<a" not in (trace.name or "") for trace in quality_against_cost(run(evil), FID).data)


@pytest.mark.parametrize(("count", "most"), [(3, 6), (6, 6), (20, 6), (7, 1), (0, 4)])
def test_a_spread_keeps_both_ends_and_repeats_nothing(count: int, most: int) -> None:
    chosen = spread(range(count), most)
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    if count and most > 1:
        assert (chosen[0], chosen[-1]) == (0, count - 1)


MIXED = (
    *FOUR[:3],
    replace(
        FOUR[3], scores=tuple(replace(s, key=replace(s.key, reference="another")) for s in FOUR[3].scores)
    ),
)


@pytest.mark.parametrize("draw", [quality_against_cost, score_against_steps, heat_maps])
@pytest.mark.parametrize("name", ["clip_score", FID])
def test_no_figure_puts_two_identities_on_one_axis(draw: Callable[[Run, str], object], name: str) -> None:
    with pytest.raises(Incomparable, match="reference: r against another"):
        draw(run(*MIXED), name)


def test_clip_against_fid_refuses_two_identities_too() -> None:
    with pytest.raises(Incomparable):
        clip_against_fid(run(*MIXED))


def test_a_mixed_run_is_drawn_with_the_identity_of_most_cells_alone() -> None:
    drawn = {panel.anchor: panel.figure for panel in panels(run(*MIXED))}
    assert list(drawn["cost-fid"].data[1].y) == [3.0, 4.0, 2.0]
    assert list(drawn["cost-clip-score"].data[1].y) == [29.0, 25.0, 26.0]


def doubted(*results: CellResult) -> tuple[CellResult, ...]:
    why = "unreliable: 8 pictures, of <2048> needed"
    return tuple(
        replace(each, scores=(each.scores[0], replace(each.scores[1], unreliable=why))) for each in results
    )


def test_an_unreliable_score_says_so_on_its_axis_its_colour_bar_and_at_every_point() -> None:
    told = run(*doubted(*FOUR))
    text = "unreliable: 8 pictures, of &lt;2048&gt; needed"
    for draw in (quality_against_cost, score_against_steps):
        figure = draw(told, FID)
        assert text in figure.layout.yaxis.title.text
        assert all(text in said for said in figure.data[-1].hovertext)
    assert text in clip_against_fid(told).layout.xaxis.title.text
    assert text in heat_maps(told, FID).layout.coloraxis.colorbar.title.text
    assert text not in quality_against_cost(told, "clip_score").layout.yaxis.title.text
    captions = {panel.anchor: panel.caption for panel in panels(told)}
    for anchor in ("cost-fid", "clip-fid", "steps", "heat-fid"):
        assert "unreliable: 8 pictures" in captions[anchor]
    assert "unreliable" not in captions["cost-clip-score"]


def test_a_score_without_a_direction_has_no_panel_and_cannot_be_ranked() -> None:
    results = [replace(each, scores=(score("saturation", 0.4, None),)) for each in FOUR]
    assert panels(run(*results)) == ()
    for draw in (quality_against_cost, score_against_steps):
        with pytest.raises(ValueError, match="neither direction"):
            draw(run(*results), "saturation")


def test_distance_to_the_converged_picture_is_drawn_along_steps() -> None:
    results = [
        replace(each, scores=(*each.scores, score("latent_rmse", 1 / each.cell.steps, False)))
        for each in FOUR
    ]
    panel = next(panel for panel in panels(run(*results)) if panel.anchor == "convergence")
    (trace,) = panel.figure.data
    assert list(trace.x) == [5, 10]
    assert list(trace.y) == [0.2, 0.1]


def test_other_scores_have_no_panel_of_their_own() -> None:
    results = [
        replace(each, scores=(*each.scores, score("kid[shapes-clip]", 0.1, False), score("ssim", 0.5, True)))
        for each in FOUR
    ]
    assert [panel.anchor for panel in panels(run(*results))] == [panel.anchor for panel in panels(run(*FOUR))]
