"""Several devices of this machine: one process each, fed from one queue, replaced when it dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from eval.records import Plan
from eval.running.pool import LocalPool
from eval.running.seats import POLL_S, Seat, Seats
from eval.running.tasks import Make, Task
from eval.running.work import Described, OnPart, Outcome
from sdkit._errors import SdkitError

PART_EVERY_S = 0.2


@dataclass(frozen=True)
class Child:
    """A worker process and this end of the pipe to it."""

    process: SpawnProcess
    pipe: Connection


@dataclass
class ProcessPool(Seats[Child]):
    """One worker process a device; a device may be named several times.

    A process that dies gives its task back and is replaced, a few times a device. Workers end by themselves
    when this process does.
    """

    plan: Plan
    root: Path
    devices: tuple[str, ...]
    target: Callable[[Connection, Plan, str], object] | None = None
    """What a worker process runs; None is `work`."""

    def __post_init__(self) -> None:
        self.seats = [Seat(device) for device in self.devices]

    def submit(self, task: Task, upcoming: Sequence[Make] = ()) -> None:
        del upcoming  # who is idle next may be another
        seat = self.take_seat(task)
        assert seat.worker is not None
        try:
            seat.worker.pipe.send(task)
        except OSError:
            self._gone(seat)

    def wait(self, on_part: OnPart) -> Outcome | None:
        waiting = self.heard()
        if waiting is not None:
            return waiting
        pipes = {seat.worker.pipe: seat for seat in self.seats if seat.worker is not None}
        for pipe in wait(list(pipes), timeout=POLL_S):
            assert isinstance(pipe, Connection)
            seat = pipes[pipe]
            try:
                said = pipe.recv()
            except (EOFError, OSError):
                self._gone(seat)
                continue
            if not isinstance(said, float):
                outcome = self.answer(seat, said)
                if outcome is not None:
                    return outcome
            elif seat.task is not None:
                on_part(seat.task, said)
        return None

    def close(self) -> None:
        children = [(seat.worker, seat.ready) for seat in self.seats if seat.worker is not None]
        for child, _ in children:
            child.pipe.close()  # the worker reads an end of file, and ends
        for child, ready in children:
            if not ready:  # still reading its model, which nobody waits for
                child.process.kill()
            child.process.join(10)
            if child.process.is_alive():
                child.process.kill()
                child.process.join()

    def _open(self, seat: Seat[Child]) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        plan = replace(
            self.plan,
            model=replace(self.plan.model, device=seat.name),
            hardware=replace(self.plan.hardware, threads=self._threads(seat.name)),
        )
        process = context.Process(
            target=self.target or work, args=(theirs, plan, str(self.root)), daemon=True
        )
        process.start()
        theirs.close()
        seat.worker = Child(process, ours)

    def _threads(self, device: str) -> int | None:
        """Workers on the CPU share its cores, unless the plan says otherwise."""
        sharing = sum(each.startswith("cpu") for each in self.devices)
        if self.plan.hardware.threads is not None or not device.startswith("cpu") or sharing < 2:
            return self.plan.hardware.threads
        return max(1, (os.cpu_count() or 1) // sharing)

    def _first_word(self, seat: Seat[Child]) -> Described | str:
        assert seat.worker is not None
        try:
            said: Described | str = seat.worker.pipe.recv()
        except EOFError:
            how = _how(seat.worker.process)
            raise SdkitError(f"the worker on {seat.name} {how} before its model was read") from None
        return said

    def _gone(self, seat: Seat[Child]) -> None:
        assert seat.worker is not None
        seat.worker.pipe.close()
        self.bury(seat, _how(seat.worker.process))


def work(pipe: Connection, plan: Plan, root: str) -> None:
    """A worker process: says what it is, then does what it is told until the pipe ends."""
    from eval.running.pool import local_pool

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    try:
        pool = local_pool(plan, Path(root))
    except SdkitError as error:
        pipe.send(str(error))
        return
    serve(pipe, pool)


def serve(pipe: Connection, pool: LocalPool) -> None:
    """Answer for a pool of one until the pipe ends."""
    pipe.send(pool.start())
    said = time.monotonic()

    def part(task: Task, share: float) -> None:
        nonlocal said
        if time.monotonic() - said > PART_EVERY_S:
            said = time.monotonic()
            try:
                pipe.send(share)
            except OSError:  # the parent is gone; nobody may take that for the cell's failure
                raise SystemExit(1) from None

    while True:
        try:
            task = pipe.recv()
            pipe.send(pool.worker.run(task, part))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _how(process: SpawnProcess) -> str:
    """What became of a process that has closed its pipe."""
    process.join(5)
    code = process.exitcode
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"died with exit code {code}"
