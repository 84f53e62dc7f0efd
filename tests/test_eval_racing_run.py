"""A race on disk: it drops, survives, decides the same again, and can be completed to the whole grid."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_bench import Appending, FakeGenerator, contents, leftovers
from graded_bench import COUNT, GradedGenerator, graded_plan, race, whole_grid, work

from eval import sweep
from eval.report import rebuild
from eval.reporting.facts import tally
from eval.reporting.merged import open_runs
from eval.running.atomic import RunFolderError, RunFolderGaveOut
from eval.running.loading import load_run
from eval.running.processes import ProcessPool
from eval.running.race_file import NAME, read_race
from eval.running.stopping import Stop, Stopped
from eval.scoring import weights
from eval.search_plan import RaceRecord, SearchPlan
from sdkit import InvalidPixels

SCORED = ("ddim", "euler_a")
SMALL = [
    "grid.sampler=[ddim]", "grid.steps=[2]", "grid.guidance=[1,3]", "prompts.count=8", "reference.count=16",
    "hardware.batch=4", "hardware.timing_batch=1", "hardware.latency_repeats=1", "metrics.batch=3",
    "metrics.converged.steps=6", "metrics.converged.count=2",
]  # fmt: skip


def scored(generator: FakeGenerator) -> list[tuple[str, float, int]]:
    """Scored pictures that were made, each time they were; sampler, guidance and seed."""
    return [
        (name, scale, seed)
        for name, scale, seeds in generator.made
        for seed in seeds
        if seed < COUNT and name in SCORED
    ]


def raced(root: Path) -> RaceRecord:
    found = read_race(root, SearchPlan("racing"))
    assert found is not None
    return found


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The folder of an undisturbed race."""
    race(tmp_path / "whole")
    return tmp_path / "whole"


def test_bad_settings_leave_early_and_dear_ones_for_a_cheaper_one(tmp_path: Path) -> None:
    said: list[str] = []
    generator = GradedGenerator()
    found = race(tmp_path, generator=generator, said=said)
    record = raced(tmp_path)
    assert [step.n for step in record.steps] == [4, 8, 16]
    assert record.steps[0].racing == 8
    behind = [drop for drop in record.dropped if drop.kind == "behind"]
    assert {drop.label.partition(" ")[0] for drop in behind} == {"euler_a"}
    assert all(0 < drop.low < 40 / 255 * 100 < drop.high for drop in behind)
    dearer = [drop for drop in record.dropped if drop.kind == "dearer"]
    assert dearer
    assert all(drop.rows >= drop.against_rows for drop in dearer)
    assert len(found.results) + len(record.dropped) == 8
    assert len(scored(generator)) < 8 * COUNT / 2
    for drop in record.dropped:
        assert any(f"{drop.label}: dropped at n = {drop.n}: " in line for line in said)
        assert len(list((tmp_path / "cells" / drop.key / "images").glob("*.png"))) == drop.n
    best = min(found.results.values(), key=lambda each: (each.model_evals or 0, each.cell.guidance))
    assert best.cell.label == "ddim · 2 steps · g 1"


def test_a_race_reads_back_and_its_report_says_who_was_dropped(whole: Path) -> None:
    run = load_run(whole)
    assert run.race == raced(whole)
    counts = tally(run)
    assert (counts["planned"], counts["failed"], counts["waiting"]) == (8, 0, 0)
    assert counts["done"] + counts["dropped"] == 8
    done = rebuild(whole)
    page, text = done.report.read_text(), (whole / "summary.md").read_text()
    assert f"{counts['dropped']} of 8 settings dropped on the way" in page
    assert f"### {counts['dropped']} settings dropped on the way" in text
    assert "dropped at n = 4: CLIP score" in page
    assert (
        f"the decision and its bounds are about the {counts['done']} that have all {COUNT} pictures" in text
    )
    assert done.found.decision.chosen is not None


def test_merged_with_another_run_the_report_says_where_settings_were_dropped(whole: Path) -> None:
    whole_grid(whole.parent / "plain")
    notes = open_runs([whole, whole.parent / "plain"]).run.notes
    assert (
        "Settings may have been dropped on the way (whole): a run's own report says which, and why." in notes
    )


def test_a_sweep_races_where_it_is_asked_to_and_ends_well(
    tiny_sd: Path, tiny_scorer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "bundled_scorer", lambda: tiny_scorer)
    command = ["model=folder", f"model.source={tiny_sd}", f"out={tmp_path / 'run'}", *SMALL]
    assert sweep.main([*command, "search=racing", "search.first=4"]) == 0
    assert [step.n for step in raced(tmp_path / "run").steps] == [4]
    assert sweep.main(command) == 0
    assert len(load_run(tmp_path / "run").results) == 2


def test_the_same_command_again_makes_nothing_and_drops_the_same(whole: Path) -> None:
    before = (whole / NAME).read_bytes()
    generator = GradedGenerator()
    again = race(whole, generator=generator)
    assert generator.made == []
    assert all(result.reused for result in again.results.values())
    assert (whole / NAME).read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_eight_times_it_ends_with_the_same_bytes_and_the_same_drops(
    tmp_path: Path, whole: Path
) -> None:
    root, log, draws, kills = tmp_path / "run", tmp_path / "log", random.Random(4), 0
    while True:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                race(root, generator=GradedGenerator(seconds=0.004), said=Appending(log))
                code = 0
            finally:
                os._exit(code)
        if kills < 8:
            time.sleep(draws.uniform(0.02, 0.2))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            break
        kills += 1
    assert contents(root) == contents(whole)
    assert (root / NAME).read_bytes() == (whole / NAME).read_bytes()
    assert leftovers(root) == []
    made = [line.partition(": made in")[0] for line in log.read_text().splitlines() if ": pictures " in line]
    assert len(made) == len(set(made)), "a whole batch was made twice"


def test_the_grid_completes_what_a_race_has_left_and_makes_no_picture_twice(tmp_path: Path) -> None:
    generator = GradedGenerator()
    race(tmp_path / "run", generator=generator)
    completed = whole_grid(tmp_path / "run", generator)
    made = [(name, scale, seed) for name, scale, seed in scored(generator)]
    assert len(made) == 8 * COUNT  # two step counts a sampler and a guidance
    assert max(made.count(each) for each in set(made)) == 2
    assert len(completed.results) == 8
    whole_grid(tmp_path / "plain")
    assert contents(tmp_path / "run") == contents(tmp_path / "plain")
    run = load_run(tmp_path / "run")
    assert (run.race, run.dropped) == (None, ())


def test_a_race_over_a_whole_grid_makes_nothing_and_takes_no_result_away(tmp_path: Path) -> None:
    whole_grid(tmp_path)
    generator = GradedGenerator()
    found = race(tmp_path, generator=generator)
    assert generator.made == []
    assert len(found.results) == 8
    assert raced(tmp_path).dropped
    assert load_run(tmp_path).dropped == ()


def test_several_workers_drop_what_one_does(tmp_path: Path, whole: Path) -> None:
    root = tmp_path / "run"
    asked = graded_plan(root)
    race(root, asked, pool=ProcessPool(asked, root, ("cpu", "cpu"), work))
    assert (root / NAME).read_bytes() == (whole / NAME).read_bytes()
    assert contents(root) == contents(whole)


def test_a_setting_that_fails_leaves_the_race_as_a_result_with_its_error(tmp_path: Path) -> None:
    def before(asked: dict[str, Any]) -> None:
        if (asked["sampler"], asked["steps"], asked["guidance_scale"]) == ("ddim", 2, 1.0):
            raise InvalidPixels("NaN at step 1 of 2")

    found = race(tmp_path, generator=GradedGenerator(before))
    failed = [result for result in found.results.values() if result.error]
    assert [result.cell.label for result in failed] == ["ddim · 2 steps · g 1"]
    assert raced(tmp_path).steps[0].racing == 7
    assert sum(result.error is None for result in found.results.values()) >= 1


def test_where_every_setting_fails_each_is_a_result_with_its_error(tmp_path: Path) -> None:
    def before(asked: dict[str, Any]) -> None:
        raise InvalidPixels("NaN at step 1 of 2")

    found = race(tmp_path, generator=GradedGenerator(before))
    assert [result.error for result in found.results.values()] == ["NaN at step 1 of 2"] * 8
    assert raced(tmp_path).dropped == ()


def test_a_stop_before_the_first_step_makes_nothing(tmp_path: Path) -> None:
    generator = GradedGenerator()
    with pytest.raises(Stopped):
        race(tmp_path, generator=generator, stop=Stop(signal.SIGTERM))
    assert generator.made == []


def test_too_few_pictures_for_a_step_are_the_whole_grid(tmp_path: Path) -> None:
    found = race(tmp_path, graded_plan(tmp_path, count=7))
    assert len(found.results) == 8
    assert raced(tmp_path).steps == ()


def test_terms_of_another_race_are_judged_anew(whole: Path) -> None:
    asked = graded_plan(whole)
    surer = replace(asked, search=replace(asked.search, confidence=0.999))
    race(whole, surer)
    assert raced(whole).confidence == 0.999
    assert {drop.key for drop in load_run(whole).dropped} <= {drop.key for drop in raced(whole).dropped}


@pytest.mark.parametrize("spoilt", ['{"score": 1}', "{", '{"score": "clip_score", "more": 1}'])
def test_a_race_that_cannot_be_read_is_said_so_and_judged_anew(whole: Path, spoilt: str) -> None:
    kept = (whole / NAME).read_bytes()
    (whole / NAME).write_text(spoilt)
    with pytest.raises(RunFolderError, match=r"racing\.json.*run the sweep again"):
        load_run(whole)
    race(whole)
    assert (whole / NAME).read_bytes() == kept


def test_a_picture_that_is_lost_between_its_making_and_the_judging_stops_the_run(tmp_path: Path) -> None:
    def spoil(line: str) -> None:
        if ": made in" in line and "pictures 4..7" in line:
            for path in (tmp_path / "cells").glob("*/images/00005.png"):
                path.unlink()

    class Spoiling(list[str]):
        def append(self, line: str) -> None:
            spoil(line)

    with pytest.raises(RunFolderGaveOut, match="the same command makes them again"):
        race(tmp_path, said=Spoiling())
    assert race(tmp_path).results
