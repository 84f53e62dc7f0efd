"""Trackers together: what they are told, what happens when one fails, and what a resumed run does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from asking import Ask
from hypothesis import given
from hypothesis import strategies as st
from tracked_runs import CELLS, HOSTILE, TrackedRun, make_run

from eval import sweep
from eval.config import ROOT
from eval.measured import Memory
from eval.records import CellResult, ImageRow, Plan, TrackingPlan
from eval.running.atomic import RunFolderError
from eval.running.serial import decode, encode
from eval.scoring import weights
from eval.tracking import tracker as tracker_room
from eval.tracking import trackers as trackers_room
from eval.tracking.kept import KeptRun, read_kept
from eval.tracking.readings import figures, named, pictures, plain, remarks, settings, short_name, valid_text
from eval.tracking.trackers import Trackers, _Attended
from sdkit import InvalidRequest


@dataclass
class _Fake:
    """Notes what it hears, and fails as often as it is told to."""

    name: str = "fake"
    place: str = "here"
    failures: int = 0
    fails_on: str = ""
    """Key of a cell that it never takes."""
    heard: list[str] = field(default_factory=list)
    calls: int = 0

    def _maybe_fail(self) -> None:
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise ConnectionError("http://user:hush@server is down\nand more")

    def started(
        self, plan: Plan, config_yaml: str, environment: Mapping[str, str], earlier: KeptRun | None
    ) -> KeptRun:
        self._maybe_fail()
        return earlier or KeptRun(self.place, "run-1")

    def cell_done(self, result: CellResult, rows: Sequence[ImageRow], folder: Path, step: int) -> None:
        self._maybe_fail()
        if result.cell.key == self.fails_on:
            raise ValueError("not this one")
        self.heard.append(f"{step}:{len(rows)}")

    def finished(self, folder: Path, exit_code: int) -> str | None:
        self._maybe_fail()
        self.heard.append(f"end {exit_code}")
        return None


@pytest.fixture
def run(tmp_path: Path) -> TrackedRun:
    return make_run(tmp_path / "run", TrackingPlan())


def _go(run: TrackedRun, *fakes: _Fake, results: tuple[CellResult, ...] | None = None) -> tuple[str, ...]:
    trackers = Trackers(run.folder, run.rows, tuple(_Attended(fake) for fake in fakes))
    trackers.started(run.plan, "", {}, CELLS)
    for result in run.results if results is None else results:
        trackers.cell_done(result)
    return trackers.finished(0)


def test_without_a_tracker_nothing_is_written_and_nothing_said(run: TrackedRun) -> None:
    before = sorted(run.folder.rglob("*"))
    assert run.go() == ()
    assert sorted(run.folder.rglob("*")) == before


def test_every_tracker_hears_of_every_cell_in_the_grids_places(run: TrackedRun) -> None:
    one, other = _Fake(), _Fake("other")
    lines = _go(run, one, other)
    assert one.heard == other.heard == ["0:3", "1:0", "2:3", "end 0"]
    assert lines == ("fake: run run-1 in here", "other: run run-1 in here")
    assert read_kept(run.folder).runs["fake"] == KeptRun("here", "run-1", tuple(cell.key for cell in CELLS))


def test_a_resumed_run_goes_on_with_the_trackers_run_and_logs_no_reused_cell_twice(run: TrackedRun) -> None:
    _go(run, _Fake(), results=run.results[:2])
    again = _Fake()
    _go(run, again, results=run.reused)
    # The failed cell was computed again, so it is logged again.
    assert again.heard == ["1:0", "2:3", "end 0"]


def test_a_tracker_that_is_new_to_the_run_hears_of_reused_cells(run: TrackedRun) -> None:
    _go(run, _Fake())
    late, elsewhere = _Fake("late"), _Fake(place="there")
    _go(run, late, elsewhere, results=run.reused)
    assert late.heard == elsewhere.heard == ["0:3", "1:0", "2:3", "end 0"]


def test_a_tracker_whose_server_is_down_is_reported_once_and_catches_up(
    run: TrackedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    weak, well = _Fake("weak", failures=2), _Fake("well")
    lines = _go(run, weak, well)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "tracking by weak failed, the sweep goes on: ConnectionError: http://server is down" in said
    assert "hush" not in said
    assert well.heard == ["0:3", "1:0", "2:3", "end 0"]
    assert sorted(weak.heard) == ["0:3", "1:0", "2:3", "end 0"]
    assert lines[0] == "weak: run run-1 in here"


def test_a_tracker_that_stays_down_costs_few_calls_and_the_summary_says_what_is_missing(
    run: TrackedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = _Fake(failures=10_000)
    results = tuple(replace(run.results[0], cell=replace(CELLS[0], seed=i)) for i in range(200))
    (line,) = _go(run, gone, results=results)
    assert gone.calls < 15
    assert line.startswith("fake: 200 cells are NOT logged (ConnectionError: http://server is down)")
    assert "the same command again" in line
    assert capsys.readouterr().err.count("\n") == 1
    mended = _Fake()
    _go(run, mended, results=run.reused)
    assert mended.heard == ["0:3", "1:0", "2:3", "end 0"]


def test_one_cell_that_a_tracker_cannot_take_holds_up_no_other(run: TrackedRun) -> None:
    fake = _Fake(fails_on=CELLS[0].key)
    (line,) = _go(run, fake)
    assert sorted(fake.heard) == ["1:0", "2:3", "end 0"]
    assert "1 cells are NOT logged (ValueError: not this one)" in line


def test_a_failure_at_the_end_is_in_the_summary(run: TrackedRun) -> None:
    fake = _Fake()
    trackers = Trackers(run.folder, run.rows, (_Attended(fake),))
    trackers.started(run.plan, "", {}, CELLS)
    fake.failures = 1
    assert trackers.finished(0) == ("fake: ConnectionError: http://server is down",)
    assert trackers.finished(0) == ()


def test_an_interrupt_ends_the_trackers_runs_and_goes_on_up(run: TrackedRun) -> None:
    fake = _Fake()
    trackers = Trackers(run.folder, run.rows, (_Attended(fake),))
    trackers.started(run.plan, "", {}, CELLS)
    with pytest.raises(KeyboardInterrupt), trackers:
        raise KeyboardInterrupt
    assert fake.heard == ["end 130"]


def test_a_disk_that_is_full_fails_the_tracker_and_not_the_sweep(
    run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, kept: object) -> None:
        raise RunFolderError("no space left")

    monkeypatch.setattr(trackers_room, "write_kept", full)
    (line,) = _go(run, _Fake())
    assert "no space left" in line


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"runs": {"fake": {"place": 1}}}', "\xff"])
def test_a_torn_tracking_file_begins_a_new_run(run: TrackedRun, torn: str) -> None:
    (run.folder / "tracking.json").write_text(torn, encoding="latin-1")
    fake = _Fake()
    _go(run, fake, results=run.reused)
    assert fake.heard[0] == "0:3"
    assert read_kept(run.folder).runs["fake"].run == "run-1"


@pytest.mark.parametrize("name", ["mlflow", "wandb", "tensorboard"])
def test_an_absent_client_is_refused_in_one_line_with_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}")

    monkeypatch.setattr(tracker_room.importlib, "import_module", absent)
    with pytest.raises(InvalidRequest) as caught:
        make_run(tmp_path / "run", TrackingPlan((name,))).open()
    assert f"pip install 'sdkit-t2i[{name}]'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_figures_leave_out_what_has_no_value_and_never_say_0(run: TrackedRun) -> None:
    assert figures(run.results[0]) == {
        "scores/clip_score": 30.5,
        "scores/clip_score_low": 29.5,
        "scores/clip_score_high": 31.5,
        "scores/fid[shapes-clip]": 12.0,
        "timing/batch": 2.0,
        "timing/images_per_s": 2.0,
        "timing/denoise_s": 0.4,
        "timing/decode_s": 0.1,
        "memory/process_peak_rss_bytes": 123.0,
        "cost/model_evals": 4.0,
    }
    assert figures(run.results[1]) == {"cost/model_evals": 4.0}


def test_a_figure_that_a_later_version_adds_is_told_too(run: TrackedRun) -> None:
    @dataclass(frozen=True)
    class Later(Memory):
        joules: float = 3.0
        throttled: bool = True
        inner: Memory | None = None

    measured = run.results[0].measured
    assert measured is not None
    later = replace(measured, memory=Later(None, None, 1, inner=Memory(5, None, None)))
    found = figures(replace(run.results[0], measured=later))
    assert {name for name in found if name.startswith("memory/")} == {
        "memory/process_peak_rss_bytes",
        "memory/joules",
        "memory/inner_gpu_allocated_bytes",
    }


def test_remarks_say_why_a_figure_is_missing_or_unreliable_and_why_a_cell_failed(run: TrackedRun) -> None:
    assert remarks(run.results[0]) == {
        "scores/fid[shapes-clip]": "3 pictures, of 2048 needed",
        "scores/fid_inf[shapes-clip]": "no value: too few pictures",
        "timing": "no latency was asked for",
        "memory": "the device is a CPU",
    }
    assert remarks(run.results[1]) == {"failed": "the picture is wholly black"}


def test_pictures_are_the_first_ones_that_are_there_with_captions_on_one_line(run: TrackedRun) -> None:
    rows = run.rows(CELLS[0].key)
    (run.folder / rows[1].path).unlink()
    found = pictures(rows, run.folder, 3)
    assert [each.index for each in found] == [0, 2]
    assert found[0].caption == HOSTILE[0]
    assert len(found[1].caption) == 1000
    assert pictures(rows, run.folder, 0) == ()


def test_settings_are_flat_and_nothing_is_missing() -> None:
    found = settings("a:\n  b: [1, 2]\n  c: {}\nd: null\ne: text\nf: {é.g: 1.5}\n")
    assert found == {"a.b": "[1, 2]", "a.c": "{}", "d": "null", "e": "text", "f.é.g": "1.5"}


def test_names_become_plain_and_cells_have_short_ones() -> None:
    assert plain("scores/fid[shapes-clip]_low") == "scores/fid.shapes-clip_low"
    assert plain("scores/fid[shapes-clip]", "A-Za-z0-9_") == "scores/fid_shapes_clip"
    assert plain("../é x//y") == "_/_x/_/y"
    assert [short_name(cell) for cell in CELLS] == ["ddim-4-g1", "ddim-4-g2.5", "ddim-4-g3"]


@given(st.dictionaries(st.text(min_size=1), st.floats(allow_nan=False), max_size=8))
def test_plain_names_lose_no_value(values: dict[str, float]) -> None:
    found = named(values)
    assert list(found.values()) == list(values.values())
    assert all(len(name) <= 250 for name in found)


@given(st.text(st.characters()))
def test_any_text_becomes_one_that_can_be_sent(text: str) -> None:
    sent = valid_text(text)
    assert sent.encode().decode() == sent
    assert "\x00" not in sent


def test_a_whole_sweep_is_tracked_and_another_run_of_it_logs_nothing_twice(
    tiny_sd: Path,
    tiny_scorer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake = _Fake()
    monkeypatch.setattr(trackers_room, "_open", lambda *_: fake)
    monkeypatch.setattr(weights, "bundled_scorer", lambda: tiny_scorer)
    command = ["model=folder", f"model.source={tiny_sd}", f"out={tmp_path / 'run'}", "tracking=tensorboard"]
    command += ["grid.sampler=[ddim]", "grid.steps=[2]", "grid.guidance=[1,3]", "prompts.count=2"]
    command += ["reference.count=2", "hardware.latency_repeats=0", "hardware.throughput_repeats=0"]
    assert sweep.main([*command, "metrics.scores=[clip_score]"]) == 0
    assert fake.heard == ["0:2", "1:2", "end 0"]
    assert sweep.main([*command, "metrics.scores=[clip_score]"]) == 0
    assert fake.heard == ["0:2", "1:2", "end 0", "end 0"]
    assert "fake: run run-1 in here" in capsys.readouterr().out


def test_nothing_is_tracked_by_default_and_trackers_change_no_folder(ask: Ask) -> None:
    assert ask().tracking == TrackingPlan()
    tracked = ask("tracking=mlflow", "tracking.use=[mlflow,tensorboard,mlflow]", "tracking.images=2")
    assert tracked.tracking.use == ("mlflow", "tensorboard")
    assert tracked.folder == ask().folder
    assert ask("tracking=wandb").tracking.wandb.mode == "offline"
    assert decode(Plan, json.loads(encode(tracked))) == tracked


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["tracking.use=[mlfow]"], "tracking.use must be one of mlflow, wandb, tensorboard, got 'mlfow'"),
        (["tracking.images=-1"], "tracking.images must be 0.."),
        (["tracking.wandb.mode=on"], "tracking.wandb.mode must be one of offline, online, got 'on'"),
        (["tracking.mlflow.uri=mlruns"], "tracking.mlflow.uri must be http://SERVER"),
        (["tracking.mlflow.uri='file:///x'"], "MLflow writes to plain folders no longer"),
        (["tracking.mlflow.uri='http://me:hush@server'"], "tracking.mlflow.uri must hold no password"),
    ],
)
def test_a_bad_setting_is_one_line_without_a_secret(ask: Ask, overrides: list[str], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(*overrides)
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


def test_importing_the_trackers_imports_no_client() -> None:
    code = (
        "import sys, eval.tracking.trackers, eval.tracking.mlflow_tracker, eval.tracking.wandb_tracker, "
        "eval.tracking.tensorboard_tracker; "
        "print([name for name in ('mlflow', 'wandb', 'tensorboard', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
