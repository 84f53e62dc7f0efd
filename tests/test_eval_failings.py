"""Where the choice fails, what to keep away from, what would make it surer, and what is doubtful about the costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from picture_runs import CELLS, run_on_disk
from rendering import found_in

from eval.measured import Measured, Timing
from eval.records import CellResult, Run
from eval.reporting.cautions import cautions
from eval.reporting.decide import Verdict
from eval.reporting.failings import NAMED, failings
from eval.reporting.findings import Findings
from eval.reporting.html import render
from eval.running.loading import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(run_on_disk(tmp_path_factory.mktemp("failing") / "run"))


@pytest.fixture(scope="module")
def found(run: Run) -> Findings:
    return found_in(run)


def choosing(found: Findings, result: CellResult, **verdicts: Verdict) -> Findings:
    """The findings as if `result` had been chosen, with other verdicts besides."""
    decision = replace(found.decision, chosen=result, verdicts=found.decision.verdicts | verdicts)
    return replace(found, decision=decision)


def test_pictures_that_the_judge_rejects_are_named_with_what_is_wrong(run: Run, found: Findings) -> None:
    shown = run.results[0]
    rows = run.images[shown.cell.key]
    wrong = [row for row in rows if row.judge and not all(row.judge.values())]
    judged = [row for row in rows if row.judge is not None]
    told = failings(run, choosing(found, shown))
    assert told.lead is not None
    assert f"{len(wrong)} of {len(judged)} pictures are not all right" in told.lead
    assert len(told.prompts) == min(NAMED, len(wrong))
    for each in told.prompts:
        assert each.prompt in [row.prompt for row in wrong]
        assert "of 11 settings" in each.why, "the twelfth failed"


def test_without_a_judge_the_lowest_clip_scores_are_named(run: Run, found: Findings) -> None:
    shown = run.results[0]
    bare = {key: tuple(replace(row, judge=None) for row in rows) for key, rows in run.images.items()}
    told = failings(replace(run, images=bare), choosing(found, shown))
    lowest = min(bare[shown.cell.key], key=lambda row: row.clip_score or 0.0)
    assert told.prompts[0].prompt == lowest.prompt
    assert told.prompts[0].why.startswith("CLIP score")


def test_steps_and_guidance_that_fail_every_sampler_are_told_as_such(run: Run, found: Findings) -> None:
    worse = {
        each.cell.key: Verdict("worse", "It is worse.")
        for each in run.results
        if (each.cell.steps, each.cell.guidance) == (CELLS[0].steps, CELLS[0].guidance)
    }
    assert len(worse) > 1
    single = next(each for each in run.results if each.cell.key not in worse)
    decision = replace(found.decision, verdicts=worse | {single.cell.key: Verdict("worse", "It is worse.")})
    first, second = failings(run, replace(found, decision=decision)).settings
    assert f"{CELLS[0].steps} steps at guidance {CELLS[0].guidance:g}" in first
    assert single.cell.label in second


def test_what_would_make_it_surer_is_told_with_its_option(run: Run, found: Findings) -> None:
    told = failings(run, found).surer
    assert any("hardware.latency_repeats=20" in each for each in told) == any(
        result.timing is not None for result in run.results
    )
    few = replace(found, decision=replace(found.decision, status="too_few", chosen=None, more_pictures=7))
    (wanted,) = [each for each in failings(run, few).surer if each.startswith("For a decision")]
    assert f"prompts.count={len(run.plan.prompts.rows) + 7}" in wanted


def timed(result: CellResult, latency_s: float, doubt: str | None = None) -> CellResult:
    timing = Timing(1, (), (), None, latency_s, None, None, None, None, latency_unreliable=doubt)
    return replace(result, measured=Measured(timing), model_evals=8)


def test_unreliable_latencies_say_whether_the_choice_is_among_them(run: Run, found: Findings) -> None:
    first, second, *rest = run.results
    noisy = replace(run, results=(timed(first, 1.0, "samples spread"), timed(second, 1.0), *rest))
    (said,) = [each for each in cautions(noisy, choosing(found, first)) if "unreliable" in each]
    assert "the choice among them" in said
    (said,) = [each for each in cautions(noisy, choosing(found, second)) if "unreliable" in each]
    assert "the choice is not among them" in said or "the best one among them" in said


def test_latencies_of_equal_work_that_differ_tell_of_a_busy_machine(run: Run, found: Findings) -> None:
    same = [r for r in run.results if r.cell.guidance > 1][:2]
    busy = replace(run, results=(timed(same[0], 1.0), timed(same[1], 1.5)))
    assert any("differ by up to 50 % in latency" in each for each in cautions(busy, found))
    quiet = replace(run, results=(timed(same[0], 1.0), timed(same[1], 1.05)))
    assert not any("same work" in each for each in cautions(quiet, found))


def test_the_page_tells_all_of_it(run: Run, found: Findings) -> None:
    shown = run.results[0]
    told = choosing(found, shown, **{shown.cell.key: Verdict("chosen", "It is the choice.", 0.0, 0.5)})
    told = replace(told, decision=replace(told.decision, best=shown))
    page = render(run, told, Path(run.plan.folder))
    assert 'id="failings"' in page
    assert 'id="surer"' in page
    assert "Holds for the model shapes at 8 × 8 on CPU, float32." in page
