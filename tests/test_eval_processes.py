"""Several workers: the same bytes as one, whoever dies on the way."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import fake_bench
import numpy as np
import pytest
from fake_bench import Stopping, contents, leftovers, plan, run

from eval import sweep
from eval.running.loading import load_run
from eval.running.processes import ProcessPool
from eval.running.stopping import Stop, Stopped
from eval.running.tasks import LOSSES
from sdkit import SdkitError

TWO = ("cpu", "cpu")


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    run(tmp_path / "whole")
    return contents(tmp_path / "whole")


def pool(root: Path, target: Any) -> ProcessPool:
    root.mkdir(parents=True, exist_ok=True)
    return ProcessPool(plan(root), root, TWO, target)


def test_two_processes_leave_the_same_bytes_as_one(tmp_path: Path, whole: dict[str, bytes]) -> None:
    root, said = tmp_path / "run", list[str]()
    found = run(root, said=said, pool=pool(root, fake_bench.work))
    assert contents(root) == whole
    assert [found.results[place].scores for place in range(4)] == [
        result.scores for result in load_run(tmp_path / "whole").results
    ]
    made = [line.partition(": made in")[0] for line in said if ": made in" in line]
    assert len(made) == len(set(made)) == 12
    assert leftovers(root) == []


def test_a_worker_killed_in_a_batch_costs_nothing_but_that_batch(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    root, said = tmp_path / "run", list[str]()
    run(root, said=said, pool=pool(root, fake_bench.work_and_die_once))
    assert contents(root) == whole
    assert sum("its worker on cpu was killed by SIGKILL" in line for line in said) == 1


def test_a_batch_that_kills_its_workers_costs_its_cell_and_the_others_go_on(tmp_path: Path) -> None:
    root, said = tmp_path / "run", list[str]()
    root.mkdir()
    asked = plan(root, guidances=(1.0,))
    found = run(root, asked, said=said, pool=ProcessPool(asked, root, TWO, fake_bench.work_and_die))
    errors = [found.results[place].error for place in range(2)]
    assert errors == ["its worker on cpu was killed by SIGKILL", None]
    assert sum("was killed by SIGKILL" in line for line in said) >= LOSSES


def test_workers_that_cannot_start_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SdkitError, match="model folder gone does not exist"):
        pool(tmp_path, fake_bench.refuse_to_work).start()


def test_asked_to_stop_the_workers_finish_their_batches(tmp_path: Path, whole: dict[str, bytes]) -> None:
    root, stop = tmp_path / "run", Stop()

    said = Stopping(stop)
    with pytest.raises(Stopped):
        run(root, stop=stop, said=said, pool=pool(root, fake_bench.work))
    assert 1 <= sum(": made in" in line for line in said) <= len(TWO)
    run(root)
    assert contents(root) == whole


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        made = pool(tmp_path, fake_bench.work)
        made.start()
        pids = [seat.worker.process.pid for seat in made.seats if seat.worker is not None]
        os.write(writer, " ".join(map(str, pids)).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    pids = [int(pid) for pid in os.read(reader, 100).split()]
    assert len(pids) == len(TWO)
    for _ in range(600):
        if not any(_alive(pid) for pid in pids):
            break
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in pids), "a worker outlived its parent"


def _alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


SMALL = [
    "grid.sampler=[ddim]", "grid.steps=[2]", "grid.guidance=[1,3]", "prompts.count=4", "reference.count=16",
    "hardware.batch=2", "hardware.timing_batch=1", "hardware.latency_repeats=1", "metrics.batch=3",
    "metrics.converged.steps=4", "metrics.converged.count=2", "metrics.clip=shapes",
]  # fmt: skip


def test_a_real_sweep_on_two_devices_equals_the_one_on_one(tmp_path: Path, tiny_sd: Path) -> None:
    command = ["model=folder", f"model.source={tiny_sd}", *SMALL, "model.width=64", "model.height=64"]
    assert sweep.main([*command, f"out={tmp_path / 'a' / 'one'}"]) == 0
    assert sweep.main([*command, f"out={tmp_path / 'b' / 'two'}", "hardware.devices=[cpu,cpu]"]) == 0
    one, two = load_run(tmp_path / "a" / "one"), load_run(tmp_path / "b" / "two")
    for first, second in zip(one.results, two.results, strict=True):
        assert (first.cell, second.error) == (second.cell, None)
        for ours, theirs in zip(first.scores, second.scores, strict=True):
            assert ours.key == theirs.key
            assert (ours.value is None) == (theirs.value is None)
            if ours.value is not None:
                assert ours.value == pytest.approx(theirs.value, rel=1e-3, abs=1e-3)
        for a, b in zip(one.images[first.cell.key], two.images[first.cell.key], strict=True):
            difference = np.abs(
                _pixels(tmp_path / "a" / "one" / a.path) - _pixels(tmp_path / "b" / "two" / b.path)
            )
            assert difference.max() <= 1


def _pixels(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)
