"""Outer axes: `-m` runs one job a point, each with a run's folder of its own, in this process or in others."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from eval import launches, report, sweep
from eval.command import Job, run_command
from eval.config import CONF
from eval.launches import Launch, Outcome, claim, outcome_lines
from eval.reporting.merged import open_runs
from eval.running.loading import load_run
from eval.scoring import weights
from sdkit._errors import InvalidRequest

ROOT = Path(__file__).resolve().parents[1]
TINY = ["grid.sampler=[ddim]", "grid.steps=[2]", "grid.guidance=[1]", "prompts.count=3", "reference.count=8"]
TINY += ["hardware.latency_repeats=1", "hardware.timing_batch=1", "metrics.scores=[clip_score,fid]"]
HANGS_S = 300
"""A command that takes longer does not end: nothing is said of its speed."""
SUBMITIT = find_spec("hydra_plugins.hydra_submitit_launcher") if find_spec("hydra_plugins") else None


@pytest.fixture(autouse=True)
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Launches go to a folder of the test's."""
    monkeypatch.setattr(launches, "REPORTS", tmp_path / "reports")
    return tmp_path / "reports"


def told(folder: Path) -> tuple[Outcome, ...]:
    """What the jobs of the one launch below `folder` told."""
    (launch,) = (folder / "launches").iterdir()
    return Launch(launch, ()).outcomes()


# Work for run_command: functions of a module, as launchers need them.


def work_by_batch(composed: Any) -> int:
    """Exit code by batch: 1 a failed cell, 2 a user's mistake, 3 an accident, 4 an interrupt, else whole."""
    folder = Path(f"{composed.out}-{composed.hardware.batch}")
    claim(folder)
    folder.mkdir(parents=True)
    if composed.hardware.batch == 2:
        raise InvalidRequest("a mistake\nof the user's")
    if composed.hardware.batch == 3:
        raise IndexError("an accident")
    return {1: 1, 4: 143}.get(composed.hardware.batch, 0)


def work_in_one_folder(composed: Any) -> int:
    claim(Path(composed.out))
    return 0


def launched(work: Callable[[Any], int], tmp_path: Path, *arguments: str) -> int:
    return run_command(work, "sweep", ["-m", f"out={tmp_path / 'run'}", *arguments], CONF, merge="MERGE")


def test_each_point_is_a_job_and_the_worst_exit_code_counts(
    tmp_path: Path, reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launched(work_by_batch, tmp_path, "hardware.batch=1,2,3,5") == 2
    found = told(reports)
    assert [outcome.code for outcome in found] == [1, 2, 1, 0]
    assert [outcome.num for outcome in found] == [0, 1, 2, 3]
    said = capsys.readouterr()
    assert said.err.count("error: ") == 1
    assert "error: a mistake of the user's\n" in said.err
    assert "IndexError: an accident" in said.err, "a bug leaves its traceback"
    lines = said.out.splitlines()
    assert f"job 3 (hardware.batch=5): {tmp_path / 'run-5'}; exit code 0" in lines
    merge = next(line for line in lines if "MERGE" in line)
    assert [part for part in merge.split() if "run-" in part] == [
        str(tmp_path / f"run-{each}") for each in (1, 3, 5)
    ]


def test_without_failures_the_exit_code_is_zero(tmp_path: Path) -> None:
    assert launched(work_by_batch, tmp_path, "hardware.batch=5,6") == 0


def test_an_interrupt_stops_the_launch_and_is_its_exit_code(
    tmp_path: Path, reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launched(work_by_batch, tmp_path, "hardware.batch=5,4,6") == 143
    assert [outcome.code for outcome in told(reports)] == [0, 143]
    assert "interrupted" in capsys.readouterr().err


def test_two_jobs_never_write_to_one_folder(
    tmp_path: Path, reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launched(work_in_one_folder, tmp_path, "hardware.batch=5,6") == 2
    assert "jobs 0 and 1 of the launch would write to one run folder" in capsys.readouterr().err
    assert [outcome.code for outcome in told(reports)] == [0, 2]


def test_a_folder_that_differs_by_job_is_taken(tmp_path: Path, reports: Path) -> None:
    given = f"out={tmp_path / 'other'}-${{hydra:job.num}}"
    assert launched(work_in_one_folder, tmp_path, given, "hardware.batch=5,6") == 0
    assert len(told(reports)) == 2


def test_nothing_is_left_where_nothing_was_launched(
    tmp_path: Path, reports: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert launched(work_by_batch, tmp_path, "model=shapes,sdlx") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_launch_writes_below_its_own_folder_and_nowhere_else(
    tmp_path: Path, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert launched(work_by_batch, tmp_path, "hardware.batch=5,6") == 0
    assert list(here.iterdir()) == []
    (launch,) = (reports / "launches").iterdir()
    assert {file.name for file in launch.iterdir()} == {"multirun.yaml", "jobs"}


def test_the_launchs_folder_can_be_chosen_but_not_left_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = tmp_path / "it's here"
    assert launched(work_by_batch, tmp_path, f"hydra.sweep.dir={chosen}", "hardware.batch=5,6") == 0
    assert len(Launch(chosen, ()).outcomes()) == 2
    assert launched(work_by_batch, tmp_path, "hydra.sweep.dir=${now:%Y}", "hardware.batch=7,8") == 2
    assert "must be a plain path" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["-m", "--multirun", "--multi", "hydra.mode=MULTIRUN"])
def test_every_way_to_ask_for_a_launch_is_known(form: str) -> None:
    assert Launch.of([form, "a=1,2"]) is not None
    assert Launch.of(["a=[1,2]", "--cfg", "job"]) is None


def test_a_job_that_told_no_end_is_said_to_have_none() -> None:
    ended = Outcome(0, ("a=1", "b=2"), 1, "/runs/x", 0)
    lines = outcome_lines([ended, replace(ended, num=1, overrides=("a=2", "b=2"), code=None)], "merge")
    assert lines == [
        "job 0 (a=1): /runs/x; exit code 0",
        "job 1 (a=2): /runs/x; not ended, or killed",
        "one report of all: merge /runs/x /runs/x",
    ]


def test_outside_a_launch_nothing_is_claimed_and_a_bug_is_a_traceback(tmp_path: Path, reports: Path) -> None:
    with pytest.raises(IndexError):
        run_command(work_by_batch, "sweep", [f"out={tmp_path / 'run'}", "hardware.batch=3"], CONF)
    assert not reports.exists()


def test_the_job_travels_by_name_and_finds_the_clone() -> None:
    there = pickle.loads(pickle.dumps(Job(sweep.sweep, "sweep")))
    assert there.work is sweep.sweep
    assert "eval.sweep" in pickle.dumps(there).decode("latin-1")
    script = (ROOT / "eval" / "sweep.py").read_text()
    assert 'import_module("eval.sweep").main()' in script, "never the functions of __main__"


def test_processes_that_a_launcher_starts_find_the_clone() -> None:
    from eval.command import with_overrides

    before = os.environ.get("PYTHONPATH")
    with with_overrides(["-m"]):
        assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    assert os.environ.get("PYTHONPATH") == before


def test_folders_of_models_are_labelled_by_their_own_names() -> None:
    from hydra import compose, initialize_config_dir

    from eval.config import to_plan
    from eval.schema import register

    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        asked = [["model=folder", f"model.source={source}"] for source in ("/models/ink", "owner/name")]
        plans = [to_plan(compose("sweep", overrides)) for overrides in asked]
    assert [plan.model.name for plan in plans] == ["ink", "name"]
    assert Path(plans[0].folder).name.startswith("ink-")


def test_two_models_run_as_jobs_and_merge_into_one_report(
    tiny_sd: Path,
    tiny_scorer: Path,
    tmp_path: Path,
    reports: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(weights, "bundled_scorer", lambda: tiny_scorer)
    out = f"out={tmp_path}/run-${{hydra:job.num}}"
    asked = ["-m", "model=folder", f"model.source=shapes,{tiny_sd}", "model.width=64", "model.height=64", out]
    assert sweep.main([*asked, *TINY]) == 0
    folders = [outcome.folder for outcome in told(reports)]
    assert folders == [str(tmp_path / "run-0"), str(tmp_path / "run-1")]
    assert [load_run(Path(each)).plan.model.name for each in folders if each] == ["shapes", tiny_sd.name]
    merge = next(line for line in capsys.readouterr().out.splitlines() if "report.py" in line)
    assert merge.endswith(f"python eval/report.py {folders[0]} {folders[1]}")
    assert report.main([*map(str, folders), f"out={tmp_path / 'all'}"]) == 0
    merged = open_runs([Path(each) for each in folders if each]).run
    assert [result.cell.label for result in merged.results] == [
        f"{name} · ddim · 2 steps · g 1" for name in ("shapes", tiny_sd.name)
    ]
    page = (tmp_path / "all" / "report.html").read_text()
    assert page.count('<tr data-key="run-') == 2
    assert all(f'<td data-sort="{name}"' in page for name in ("shapes", tiny_sd.name))


submitit = pytest.mark.skipif(
    SUBMITIT is None, reason="NOT TESTED: jobs in other processes; pip install -e '.[slurm]' for submitit"
)


def by_submitit(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user types it, from another folder, with the package found by the clone's path alone."""
    command = [sys.executable, str(ROOT / "eval" / "sweep.py"), "-m", "hydra/launcher=submitit_local"]
    command += [f"hydra.sweep.dir={tmp_path / 'launch'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=HANGS_S)


@submitit
@pytest.mark.slow
def test_submitit_runs_two_jobs_in_processes_of_their_own(tmp_path: Path) -> None:
    out = f"out={tmp_path}/run-${{hydra:job.num}}"
    done = by_submitit(tmp_path, "model=shapes", "grid.seed=0,7", out, *TINY)
    assert done.returncode == 0, done.stderr
    outcomes = Launch(tmp_path / "launch", ()).outcomes()
    assert [(each.code, each.said) for each in outcomes] == [(0, None), (0, None)]
    assert len({each.pid for each in outcomes}) == 2
    assert [load_run(tmp_path / f"run-{place}").plan.grid.seed for place in (0, 1)] == [0, 7]
    assert "one report of all: python eval/report.py run-0 run-1" in done.stdout
    assert len(list((tmp_path / "launch" / ".submitit").glob("*/*_0_log.out"))) == 2
    assert {file.name for file in tmp_path.iterdir()} == {"launch", "run-0", "run-1"}


@submitit
def test_a_mistake_in_a_submitted_job_comes_back_as_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = by_submitit(tmp_path, "model=folder", "model.source=/nowhere/a,/nowhere/b")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "error"]
    assert lines[0].startswith("error: job 0: ")
    assert "/nowhere/a" in lines[0]
    assert "/nowhere/b" in lines[1]
    assert json.loads(next((tmp_path / "launch" / "jobs").glob("*.json")).read_text())["code"] == 2


SBATCH = """#!/bin/bash
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
asked="$(dirname "$0")/asked.sh"
cp "$1" "$asked"  # as SLURM does: submitit moves its own once it has the number
echo "Submitted batch job 42"
for place in $(seq 0 "$last"); do
  SLURM_JOB_ID=$((42 + place)) SLURM_ARRAY_JOB_ID=42 SLURM_ARRAY_TASK_ID=$place bash "$asked" > /dev/null 2>&1 &
done
"""
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do [[ "$1" == --output || "$1" == --error ]] && shift; shift; done
exec "$@"
"""


SACCT = """#!/bin/sh
printf 'JobID|State|NodeList\\n42_0|FAILED|a\\n42_1|RUNNING|a\\n'
"""


def by_slurm(
    tmp_path: Path, *arguments: str, sbatch: str = SBATCH, sacct: str = "#!/bin/sh\n"
) -> subprocess.CompletedProcess[str]:
    """The command where scripts stand in for SLURM: sbatch runs each task of the array at once, as a process."""
    for name, script in (("sbatch", sbatch), ("srun", SRUN), ("sacct", sacct)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    command = [sys.executable, str(ROOT / "eval" / "sweep.py"), "-m", "hydra/launcher=submitit_slurm"]
    command += [f"hydra.sweep.dir={tmp_path / 'launch'}", *arguments]
    command += ["model=folder", "model.source=/nowhere/a,/nowhere/b"]
    slurm = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=slurm, check=False, timeout=HANGS_S
    )


@submitit
def test_a_job_that_dies_on_its_node_does_not_stop_the_others_being_reported(tmp_path: Path) -> None:
    dead = SBATCH.replace("seq 0", "seq 1").replace("SLURM_JOB_ID=", "sleep 25; SLURM_JOB_ID=")
    dead = dead.replace("sleep", "( sleep").replace("2>&1 &", "2>&1 ) > /dev/null 2>&1 &")
    done = by_slurm(tmp_path, sbatch=dead, sacct=SACCT)
    assert done.returncode == 2, "the highest: 1 of the job that died, 2 of the other"
    first, second = done.stderr.splitlines()
    assert first.startswith("error: one job died: Job 42_0")
    assert second.startswith("error: job 1: ")


def test_a_local_job_is_waited_for_while_it_lives_and_has_no_result(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        for name in (str(living.pid), "999999999"):
            place = tmp_path / ".submitit" / name
            place.mkdir(parents=True)
            (place / f"{name}_submitted.pkl").touch()
        assert launches._runs_here(tmp_path / ".submitit" / str(living.pid))
        assert not launches._runs_here(tmp_path / ".submitit" / "999999999")
        (tmp_path / ".submitit" / str(living.pid) / "1_0_result.pkl").touch()
        assert not launches._runs_here(tmp_path / ".submitit" / str(living.pid))
        Launch(tmp_path, ("-m",)).wait()
        living.communicate(b"\n")


@submitit
def test_slurm_is_asked_for_what_the_command_says_and_its_jobs_answer(tmp_path: Path) -> None:
    asked = [
        "hydra.launcher.partition=gpu",
        "hydra.launcher.gpus_per_node=1",
        "hydra.launcher.timeout_min=1440",
    ]
    done = by_slurm(tmp_path, *asked, "hydra.launcher.setup=['export HF_HUB_OFFLINE=1']")
    assert done.returncode == 2
    assert done.stderr.count("error: job ") == len(done.stderr.splitlines()) == 2
    script = (tmp_path / "asked.sh").read_text().splitlines()
    for line in ("partition=gpu", "gpus-per-node=1", "time=1440", "job-name=sweep"):
        assert f"#SBATCH --{line}" in script
    assert "export HF_HUB_OFFLINE=1" in script


@submitit
def test_without_slurm_its_launcher_says_so_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "eval" / "sweep.py"), "-m", "hydra/launcher=submitit_slurm"]
    command += [f"hydra.sweep.dir={tmp_path / 'launch'}", "grid.seed=0,1"]
    bare = {**os.environ, "PATH": "/nowhere"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=bare, check=False, timeout=HANGS_S
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "srun" in done.stderr
