"""plan=true: what is to do, what is there, what it takes; and nothing is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eval import sweep
from eval.running.lock import sole_writer
from eval.scoring import weights

SMALL = [
    "grid.sampler=[ddim]", "grid.steps=[2,4]", "grid.guidance=[3]", "prompts.count=4", "reference.count=16",
    "hardware.batch=2", "hardware.timing_batch=1", "hardware.latency_repeats=1", "metrics.batch=3",
    "metrics.converged.steps=6", "metrics.converged.count=2",
]  # fmt: skip


@pytest.fixture
def command(tiny_sd: Path, tiny_scorer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(weights, "bundled_scorer", lambda: tiny_scorer)
    return ["model=folder", f"model.source={tiny_sd}", f"out={tmp_path / 'runs' / 'run'}", *SMALL]


def test_it_says_what_is_to_do_and_about_what_it_takes_and_writes_nothing(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert re.search(r"ddim · 2 steps · g 3 +4 pictures, 2 evaluations each: to do", said)
    assert re.search(r"ddim · 4 steps · g 3 +4 pictures, 4 evaluations each: to do", said)
    assert "2 cells, 0 whole; 8 pictures to make, 48 rows through the denoiser" in said
    assert re.search(r"about \d+ s and [0-9.e-]+ GB, by a calibration of 4 pictures on ", said)


def test_it_knows_what_is_whole_here_what_is_begun_and_what_lies_in_another_run(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main(command) == 0
    cells = tmp_path / "runs" / "run" / "cells"
    before = {path: path.stat().st_mtime_ns for path in cells.rglob("*")}
    capsys.readouterr()
    assert sweep.main([*command, "plan=true"]) == 0
    said = capsys.readouterr().out
    assert "2 cells, 2 whole; 0 pictures to make, 0 rows through the denoiser" in said
    assert "about 0 s and 0 GB" in said
    assert before == {path: path.stat().st_mtime_ns for path in cells.rglob("*")}
    other = [each for each in command if not each.startswith("out=")]
    assert sweep.main([*other, f"out={tmp_path / 'runs' / 'other'}", "plan=true"]) == 0
    assert f"whole in {tmp_path / 'runs' / 'run'}" in capsys.readouterr().out
    for path in cells.rglob("cell.json"):
        path.unlink()
    next(cells.rglob("000002-*.npz")).unlink()
    assert sweep.main([*command, "search=racing", "plan=true"]) == 0
    said = capsys.readouterr().out
    assert "settings are dropped on the way, so what follows is the most that it can come to" in said
    assert "2 of 4 pictures" in said
    assert "2 cells, 0 whole; 2 pictures to make" in said


def test_a_run_of_another_process_is_one_line_and_is_left_alone(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs" / "run"
    root.mkdir(parents=True)
    with sole_writer(root):
        assert sweep.main(command) == 2
    assert "is being written by process" in capsys.readouterr().err
    assert {path.name for path in root.iterdir()} == {"run.lock"}


def test_the_log_tells_what_happened_over_all_that_took_the_run_up(
    command: list[str], tmp_path: Path
) -> None:
    assert sweep.main(command) == 0
    assert sweep.main(command) == 0
    log = (tmp_path / "runs" / "run" / "run.log").read_text().splitlines()
    assert all(re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d ", line) for line in log)
    text = "\n".join(log)
    assert text.count("begun: 2 cells, 1 workers") == 2
    assert text.count(": made in ") == 4
    assert re.search(
        r" 1 of 2 cells, 4 pictures made, 4 to make, [0-9.]+ pictures/s, about .* left, 0 failed", text
    )
    assert "ended: 2 cells computed; 0 whole cells reused" in text
    assert "ended: 0 cells computed; 2 whole cells reused" in text
