"""The benchmarks' clock: where the seconds of a sweep's threads go, and in which no model runs."""

from __future__ import annotations

import builtins
import importlib
import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from eval.benchmarks import clock, clocked_sweep, inputs, overhead, scaling
from eval.benchmarks.turns import CACHE, run_once


class _Hands:
    """A clock that stands still but when it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> _Hands:
    made = _Hands()
    monkeypatch.setattr(clock, "time", made)
    return made


def test_seconds_are_charged_to_the_innermost_call(hands: _Hands) -> None:
    made = clock.Clock()
    hands.now = 1.0
    with made.under("engine"):
        hands.now = 3.0
        with made.under("denoiser"):
            hands.now = 7.0
        hands.now = 8.0
    hands.now = 8.5
    assert made.stop() == {clock.REST: 1.5, "engine": 3.0, "denoiser": 4.0}


def test_a_moment_is_charged_to_all_threads_at_work_and_is_quiet_where_none_runs_a_model(
    hands: _Hands,
) -> None:
    made, steps = clock.Clock({"denoiser"}), threading.Barrier(2, timeout=30)

    def work() -> None:
        with made.under("disk"):  # from 1 to 9
            steps.wait()
            steps.wait()
            with made.under("denoiser"):  # from 5 to 7
                steps.wait()
                steps.wait()
            steps.wait()
            steps.wait()

    thread = threading.Thread(target=work)
    hands.now = 1.0
    thread.start()
    steps.wait()
    with made.under(clock.WAITING):  # from 3 to 5 the other is alone at work
        hands.now = 5.0
        steps.wait()
        steps.wait()
    hands.now = 7.0
    steps.wait()
    steps.wait()
    hands.now = 9.0
    steps.wait()
    thread.join()
    hands.now = 10.0
    assert made.stop() == {clock.REST: 1 + 1 + 1 + 1, "disk": 4 + 1, "denoiser": 1}
    assert made.quiet_s == 8.0


def test_a_moment_in_which_every_thread_waits_is_charged_to_waiting(hands: _Hands) -> None:
    made = clock.Clock()
    with made.under(clock.WAITING):
        hands.now = 2.0
    assert made.stop() == {clock.WAITING: 2.0, clock.REST: 0.0}


def test_a_wrapped_call_is_the_same_call_and_a_missing_one_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "ratio", scaling.ratio)  # puts it back afterwards
    made = clock.Clock()
    made.wrap("arithmetic", "eval.benchmarks.scaling:ratio")
    assert scaling.ratio(3.0, 2.0) == 1.5
    assert "arithmetic" in made.stop()
    made.wrap("gone", "eval.benchmarks.scaling:no_such")
    made.wrap("gone", "eval.no_such:name")
    assert made.missing == ["eval.benchmarks.scaling:no_such", "eval.no_such:name"]


def test_an_import_within_a_call_is_charged_to_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)  # both are put back afterwards
    monkeypatch.setattr(importlib, "import_module", importlib.import_module)
    made = clock.Clock()
    made.watch_imports()
    with made.under("engine"), pytest.raises(ModuleNotFoundError):
        import there_is_no_such_module  # noqa: F401
    assert clock.IMPORTS in made.stop()


def test_what_is_awaited_is_clocked_once_the_program_imports_it_and_is_not_imported_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)  # both are put back afterwards
    monkeypatch.setattr(importlib, "import_module", importlib.import_module)
    (tmp_path / "awaited_work.py").write_text("def work():\n    return 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    made = clock.Clock()
    made.watch_imports()
    made.await_import("work", "awaited_work:work")
    made.await_import("gone", "awaited_work:no_such")
    made.await_import("gone", "awaited_never:name")
    assert "awaited_work" not in sys.modules
    found = importlib.import_module("awaited_work")
    assert "work" not in made.seconds
    assert found.work() == 7
    assert "work" in made.stop()
    assert made.missing == ["awaited_work:no_such", "awaited_never:name"]


@pytest.mark.slow  # half a minute, most of it imports
def test_a_clocked_sweep_tells_where_its_seconds_went(tmp_path: Path) -> None:
    overrides = ("grid.sampler=[ddim]", "grid.steps=[2]", "grid.guidance=[2]", "prompts.count=4")
    cheap = ("reference.count=128", "metrics.converged.count=0", *inputs.NO_SPEED)
    words = ("-m", "eval.benchmarks.clocked_sweep", str(tmp_path / "clock.json"), f"out={tmp_path / 'run'}")
    turn = run_once((*words, *overrides, *cheap), {CACHE: str(tmp_path / "cache")})
    assert turn.seconds is not None, turn.failure
    told = json.loads((tmp_path / "clock.json").read_bytes())
    labels = {*overhead.MODEL_LABELS, *overhead.OTHER_LABELS} - {overhead.OUTSIDE}
    assert labels - set(told["seconds"]) <= {clock.WAITING}  # on one core nobody waits for another
    assert (told["gpu_s"], told["missing"]) == (None, [])
    assert told["quiet_s"] < sum(told["seconds"].values()) <= turn.seconds


@pytest.mark.parametrize("place", [place for _, place in (*clocked_sweep.MODELS, *clocked_sweep.WORK)])
def test_what_is_clocked_is_there(place: str) -> None:
    assert clock.find(place) is not None


def test_the_share_without_models_is_of_the_whole_process() -> None:
    seconds = {"denoiser": 6.0, "scorer": 1.0, "imports": 2.0}
    run = overhead.Clocked(10.0, seconds, None, 0.2, ("eval.x:y",))
    larger = replace(run, wall_s=40.0, seconds=seconds | {"denoiser": 36.0}, missing=())
    part = overhead.table({"small": [run], "large": [larger]}, (0.5, 0.3, 0.4), {})
    assert [column.title for column in part.columns[::2]] == ["small, seconds", "large, seconds"]
    rows = {row.label: row.values for row in part.rows}
    assert rows[overhead.OUTSIDE] == (1.0, 0.1, 1.0, 0.025)
    assert rows["all beside the models"] == (3.0, 0.3, 3.0, 0.075)
    assert rows["**without a model**"] == pytest.approx((1.2, 0.12, 1.2, 0.03))
    assert rows[overhead.BARE] == (0.4, 0.04, 0.4, 0.01)
    assert part.notes == (
        "small: the goal of at most 5% without a model is MISSED at 12.0%",
        "large: the goal of at most 5% without a model is met at 3.0%",
        "not clocked, for it is not there: eval.x:y",
    )
    by_events = replace(run, gpu_s={"denoiser": 9.0})
    assert by_events.without_models_s == 1.0


def test_a_size_that_failed_has_no_figures_and_the_others_stand() -> None:
    run = overhead.Clocked(10.0, {"denoiser": 9.0}, None, 0.0, ())
    part = overhead.table({"small": [run], "large": []}, (), {"large": "exit code 2: no room"})
    rows = {row.label: row.values for row in part.rows}
    assert rows["the whole"] == (10.0, 1.0, None, None)
    assert part.notes[1:] == (
        "large: the goal of at most 5% without a model is not known",
        "large: exit code 2: no room",
    )
