"""Batches beside each other in one process: the same bytes as one after the other, and speed measured alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_bench import Appending, FakeGenerator, Stopping, contents, fake_pool, leftovers, plan, run
from fake_flights import FakeDenoiser, FlyingGenerator

from eval.records import Plan
from eval.running.first_calls import FirstCalls
from eval.running.flight import Asked
from eval.running.lanes import LanePool, in_lanes
from eval.running.pool import LocalPool
from eval.running.stopping import Stop, Stopped
from eval.running.tasks import Finish, Make
from eval.scoring.threads import SMALL_WIDTH, threads_for
from sdkit import NotLinear
from sdkit._plan import SamplerPlan

LONG_S = 30.0
"""What is waited for comes at once, or never."""
GRID: dict[str, Any] = {"samplers": ("ddim", "dpmpp_2m", "heun"), "steps": (3,), "guidances": (1.0, 2.0)}


def untimed(root: Path, **grid: Any) -> Plan:
    asked = plan(root, **(GRID | grid))
    return replace(asked, hardware=replace(asked.hardware, latency_repeats=0, throughput_repeats=0))


def lanes(asked: Plan, root: Path, generator: FakeGenerator, count: int = 2) -> LanePool:
    root.mkdir(parents=True, exist_ok=True)
    return LanePool(fake_pool(asked, str(root), generator).worker, count)


def in_turn(root: Path, **grid: Any) -> dict[str, bytes]:
    """What one worker alone leaves."""
    run(root, untimed(root, **grid), FlyingGenerator())
    return contents(root)


@pytest.mark.parametrize("count", [2, 3])
def test_lanes_leave_the_same_bytes_as_one_after_the_other(tmp_path: Path, count: int) -> None:
    root, said = tmp_path / "lanes", list[str]()
    asked = untimed(root)
    found = run(root, asked, said=said, pool=lanes(asked, root, FlyingGenerator(), count))
    assert contents(root) == in_turn(tmp_path / "turns")
    assert [found.results[place].error for place in range(6)] == [None] * 6
    assert len([line for line in said if ": made in" in line]) == 6 * 3
    assert leftovers(root) == []


def test_two_lanes_are_in_the_denoiser_at_the_same_time(tmp_path: Path) -> None:
    both, met = threading.Barrier(2, timeout=LONG_S), threading.Event()

    def before(rows: int) -> None:
        if not met.is_set():
            both.wait()  # broken, and so the cell's error, where the other never comes
            met.set()

    asked = untimed(tmp_path)
    found = run(
        tmp_path,
        asked,
        pool=lanes(asked, tmp_path, FlyingGenerator(denoiser_=FakeDenoiser(before))),
    )
    assert [found.results[place].error for place in range(6)] == [None] * 6


@dataclass
class Watched(FlyingGenerator):
    """Counts denoiser calls that are under way when the plain path, which is what is timed, is asked."""

    beside: list[int] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    at_work: int = 0

    def __post_init__(self) -> None:
        predict, lock = self.denoiser_.predict, threading.Lock()

        def counted(*given: Any) -> torch.Tensor:
            with lock:
                self.at_work += 1
            try:
                time.sleep(0.001)
                return predict(*given)
            finally:
                with lock:
                    self.at_work -= 1

        self.denoiser_.predict = counted  # type: ignore[method-assign]

    def sample(self, text: Any, **asked: Any) -> Any:
        self.beside.append(self.at_work)
        self.threads.add(threading.get_ident())
        return super().sample(text, **asked)


def test_speed_is_measured_in_the_calling_thread_while_every_lane_is_idle(tmp_path: Path) -> None:
    asked, generator = plan(tmp_path, **GRID), Watched()
    found = run(tmp_path, asked, pool=lanes(asked, tmp_path, generator))
    assert [found.results[place].error for place in range(6)] == [None] * 6
    assert len(generator.beside) > 6
    assert set(generator.beside) == {0}
    assert generator.threads == {threading.get_ident()}
    told = [found.results[place].measured for place in range(6)]
    assert all(each is not None and each.timing is not None and each.timing.batch_samples_s for each in told)


def test_the_first_call_of_a_process_is_timed_alone_and_told_by_the_first_cell(tmp_path: Path) -> None:
    asked = plan(tmp_path, **GRID)
    pool = lanes(asked, tmp_path, FlyingGenerator())
    assert pool.worker.needs_all(Make(0, 0, 4))
    found = run(tmp_path, asked, pool=pool)
    cold = [found.results[place].measured.timing.cold_s for place in range(6)]  # type: ignore[union-attr]
    assert cold[0] is not None
    assert cold[1:] == [None] * 5
    assert not pool.worker.needs_all(Make(0, 0, 4))
    assert pool.worker.needs_all(Finish(0))
    assert pool.finishers == 1


def test_what_is_not_timed_is_finished_beside_batches(tmp_path: Path) -> None:
    asked = untimed(tmp_path)
    pool = lanes(asked, tmp_path, FlyingGenerator())
    assert not pool.worker.needs_all(Finish(0))
    assert not pool.worker.needs_all(Make(0, 0, 4))
    assert (pool.workers, pool.finishers, pool.idle) == (2, 2, 2)


def test_a_sampler_without_a_table_goes_the_plain_path_in_the_calling_thread(tmp_path: Path) -> None:
    class Clipping(Watched):
        def plan(self, sampler: str, steps: int) -> SamplerPlan:
            if sampler == "heun" and not self.beside:
                raise NotLinear("heun at 3 steps clips")
            return super().plan(sampler, steps)

    generator, said = Clipping(), list[str]()
    asked = untimed(tmp_path, samplers=("heun", "ddim"))
    found = run(tmp_path, asked, said=said, pool=lanes(asked, tmp_path, generator))
    assert [found.results[place].error for place in range(4)] == [None] * 4
    assert generator.threads >= {threading.get_ident()}
    assert sum("the plain path was taken: heun at 3 steps clips" in line for line in said) == 1


def test_a_failure_in_a_lane_costs_its_cell_and_no_other(tmp_path: Path) -> None:
    class Failing(FlyingGenerator):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            if threading.current_thread().name == "lane 1" and not failed:
                failed.append(True)
                raise RuntimeError("a kernel's bug")
            return super().decode(latents)

    failed: list[bool] = []
    asked = untimed(tmp_path)
    found = run(tmp_path, asked, pool=lanes(asked, tmp_path, Failing()))
    errors = [found.results[place].error for place in range(6)]
    assert sorted(errors, key=str) == [None] * 5 + ["RuntimeError: a kernel's bug"]


def test_what_no_worker_answers_for_reaches_the_caller(tmp_path: Path) -> None:
    def before(rows: int) -> None:
        raise SystemExit(7)

    asked = untimed(tmp_path)
    pool = lanes(asked, tmp_path, FlyingGenerator(denoiser_=FakeDenoiser(before)))
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, asked, pool=pool)
    assert ended.value.code == 7


def test_asked_to_stop_the_lanes_finish_their_batches_and_nothing_is_made_twice(tmp_path: Path) -> None:
    root, stop = tmp_path / "run", Stop()

    said, asked = Stopping(stop), untimed(root)
    with pytest.raises(Stopped):
        run(root, asked, said=said, stop=stop, pool=lanes(asked, root, FlyingGenerator()))
    done = [line for line in said if ": made in" in line]
    assert 1 <= len(done) <= 2
    again = list[str]()
    run(root, asked, said=again, pool=lanes(asked, root, FlyingGenerator()))
    assert len([line for line in again if ": made in" in line]) == 18 - len(done)
    assert contents(root) == in_turn(tmp_path / "turns")


@pytest.mark.parametrize("kill_at", [0, 5, 17, 40])
def test_killed_in_any_call_lanes_lose_nothing_whole_and_end_with_the_same_bytes(
    tmp_path: Path, kill_at: int
) -> None:
    root, said = tmp_path / "run", tmp_path / "said"
    process = os.fork()
    if process == 0:  # only this thread goes on in here, and nothing of the parent's is touched
        left = iter(range(kill_at))

        def before(rows: int) -> None:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        asked = untimed(root)
        torch.set_num_threads(1)
        pool = lanes(asked, root, FlyingGenerator(denoiser_=FakeDenoiser(before)))
        run(root, asked, said=Appending(said), pool=pool)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    before_kill = said.read_text().splitlines() if said.exists() else []
    asked, after = untimed(root), list[str]()
    run(root, asked, said=after, pool=lanes(asked, root, FlyingGenerator()))
    made = [line.partition(": made in")[0] for line in [*before_kill, *after] if ": made in" in line]
    assert len(made) == len(set(made)) <= 18  # one that was whole and not yet told is not made again
    assert contents(root) == in_turn(tmp_path / "turns")
    assert leftovers(root) == []


def test_lanes_are_for_the_shared_engine_on_a_cpu(tmp_path: Path) -> None:
    asked = untimed(tmp_path)

    def pool_of(generator: FakeGenerator, **engine: Any) -> object:
        execution = replace(asked.execution, engine=replace(asked.execution.engine, **engine))
        return in_lanes(fake_pool(replace(asked, execution=execution), str(tmp_path), generator).worker)

    assert isinstance(pool_of(FakeGenerator()), LocalPool)  # it has no engine
    assert isinstance(pool_of(FlyingGenerator(), lanes=1), LocalPool)
    assert isinstance(pool_of(FlyingGenerator(one_shape=True), lanes=2), LocalPool)
    several = pool_of(FlyingGenerator(), lanes=3)
    assert isinstance(several, LanePool)
    assert several.workers == 3
    found = pool_of(FlyingGenerator())
    assert isinstance(found, LanePool) == (torch.get_num_threads() > 1)


def test_a_lane_has_its_share_of_the_cores_and_the_caller_keeps_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[tuple[str, int]] = []
    # Told, not done: who forks after torch has had several threads waits for them for ever, and other tests fork.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(
        torch, "set_num_threads", lambda share: shares.append((threading.current_thread().name, share))
    )
    asked = untimed(tmp_path)
    run(tmp_path, asked, pool=lanes(asked, tmp_path, FlyingGenerator()))
    assert sorted(shares) == [("lane 0", 2), ("lane 1", 2)]


def test_engines_of_one_process_know_each_others_first_calls() -> None:
    generator = FlyingGenerator(rows=4)
    other = generator.engine.twin()
    cell = plan_cell()
    generator.engine.make(Asked(cell, 0, 3, (0, 1, 2)))
    asked = sum(generator.denoiser_.calls)
    other.make(Asked(replace(cell, steps=3), 0, 3, (0, 1, 2)))
    assert sum(generator.denoiser_.calls) == asked + 2 * 6
    assert other.first_calls.answers is generator.engine.first_calls.answers


def plan_cell() -> Any:
    from eval.records import Cell

    return Cell("f00d", "ddim", 2, 3.0, "p", 3, 0, 16, 12, "float32", "cpu")


def test_two_engines_that_ask_at_the_same_time_keep_one_answer() -> None:
    one = FirstCalls()
    other = FirstCalls(one.answers)
    key: Any = ("start", 1, 2)
    assert one.claim(key)
    assert other.claim(key)
    assert not one.claim(key)
    answer = torch.zeros(4)
    one.put(key, answer)
    other.put(key, torch.ones(4))
    assert one.get(key) is answer
    assert other.get(key) is answer


def test_blas_is_given_back_its_threads_when_the_last_thread_is_done() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    pytest.importorskip("scipy.linalg")  # whose BLAS is counted before it is held

    def threads() -> list[int]:
        return [each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"]

    before, inside, leave = threads(), threading.Event(), threading.Event()

    def other() -> None:
        with threads_for(SMALL_WIDTH):
            inside.set()
            leave.wait(LONG_S)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(LONG_S)
    with threads_for(SMALL_WIDTH):
        leave.set()
        thread.join()
        assert set(threads()) <= {1}
    assert threads() == before


def test_blas_is_held_for_a_thread_that_was_not_the_first_to_ask() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    counted: list[int] = []

    def other() -> None:
        with threads_for(SMALL_WIDTH):
            counted.extend(
                each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"
            )

    with threads_for(SMALL_WIDTH):
        pass
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert set(counted) == {1}


FAULTS = """
import resource, sys
import numpy as np
from eval.running.heap import give_back, keep_freed
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def pages():
    return int(open("/proc/self/statm").read().split()[1])
if sys.argv[1] == "keep" and not keep_freed():
    sys.exit("not glibc")
np.ones(2**23)
before = faults()
for _ in range(8):
    np.ones(2**23)
told, held = faults() - before, pages()
give_back()
print(told, held - pages())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_what_is_freed_is_taken_again_without_page_faults_until_it_is_given_back() -> None:
    pages = 8 * 2**23 * 8 // os.sysconf("SC_PAGE_SIZE")

    def faults(how: str) -> tuple[int, int]:
        command = [sys.executable, "-c", FAULTS, how]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if "not glibc" in found.stderr:
            pytest.skip("this C library is not glibc")
        told = found.stdout.split()
        return int(told[0]), int(told[1])

    plain, kept = faults("plain"), faults("keep")
    if plain[0] > pages // 2:  # where pages are huge there is nothing to save
        assert kept[0] < plain[0] / 10
    assert kept[1] > pages // 16  # 64 MB of 8 x 64
