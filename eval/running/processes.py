"""Several devices of this machine: one process each, fed from one queue, replaced when it dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from eval.records import Plan
from eval.running.pool import LocalPool
from eval.running.tasks import Task
from eval.running.work import Described, OnPart, Outcome
from sdkit._errors import SdkitError

POLL_S = 0.5
"""How long `wait` blocks before it lets its caller look around."""
RESTARTS = 3
"""How often the process of one device is replaced."""
PART_EVERY_S = 0.2


@dataclass
class _Seat:
    """A device with the process that works on it."""

    device: str
    process: SpawnProcess | None = None
    pipe: Connection | None = None
    ready: bool = False
    task: Task | None = None
    since: float = 0.0
    restarts: int = 0

    @property
    def alive(self) -> bool:
        return self.pipe is not None


@dataclass
class ProcessPool:
    """One worker process a device; a device may be named several times.

    A process that dies gives its task back and is replaced, `RESTARTS` times a device. Workers end by
    themselves when this process does.
    """

    plan: Plan
    root: Path
    devices: tuple[str, ...]
    target: Callable[[Connection, Plan, str], object] | None = None
    """What a worker process runs; None is `work`."""
    _seats: list[_Seat] = field(init=False)
    _lost: list[Outcome] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._seats = [_Seat(device) for device in self.devices]

    @property
    def workers(self) -> int:
        return sum(seat.alive for seat in self._seats)

    @property
    def idle(self) -> int:
        return sum(seat.alive and seat.ready and seat.task is None for seat in self._seats)

    def start(self) -> Described:
        # The first alone, so that the reference is read once: the others find it in the cache.
        self._open(self._seats[0])
        described = self._first_word(self._seats[0])
        for seat in self._seats[1:]:
            self._open(seat)
        return described

    def submit(self, task: Task) -> None:
        seat = next(seat for seat in self._seats if seat.alive and seat.ready and seat.task is None)
        assert seat.pipe is not None
        seat.task, seat.since = task, time.monotonic()
        try:
            seat.pipe.send(task)
        except OSError:
            self._bury(seat)

    def wait(self, on_part: OnPart) -> Outcome | None:
        if self._lost:
            return self._lost.pop(0)
        if not self.workers:
            raise SdkitError("every worker process died; their last words stand above")
        pipes = {seat.pipe: seat for seat in self._seats if seat.pipe is not None}
        for pipe in wait(list(pipes), timeout=POLL_S):
            assert isinstance(pipe, Connection)
            seat = pipes[pipe]
            try:
                said = pipe.recv()
            except (EOFError, OSError):
                self._bury(seat)
                return self._lost.pop(0) if self._lost else None
            if isinstance(said, Outcome):
                seat.task = None
                return said
            if isinstance(said, Described):
                seat.ready = True
            elif isinstance(said, str):  # it could not start; it says so once and ends
                seat.restarts = RESTARTS
                self._lost.append(Outcome(None, 0.0, notes=(f"{seat.device}: {said}",)))
            elif seat.task is not None:
                on_part(seat.task, said)
        return self._lost.pop(0) if self._lost else None

    def close(self) -> None:
        for seat in self._seats:
            if seat.pipe is not None:
                seat.pipe.close()  # the worker reads an end of file, and ends
        for seat in self._seats:
            if seat.process is not None:
                if not seat.ready:  # still reading its model, which nobody waits for
                    seat.process.kill()
                seat.process.join(10)
                if seat.process.is_alive():
                    seat.process.kill()
                    seat.process.join()

    def _open(self, seat: _Seat) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        plan = replace(
            self.plan,
            model=replace(self.plan.model, device=seat.device),
            hardware=replace(self.plan.hardware, threads=self._threads(seat.device)),
        )
        seat.process = context.Process(
            target=self.target or work, args=(theirs, plan, str(self.root)), daemon=True
        )
        seat.process.start()
        theirs.close()
        seat.pipe, seat.ready, seat.task = ours, False, None

    def _threads(self, device: str) -> int | None:
        """Workers on the CPU share its cores, unless the plan says otherwise."""
        sharing = sum(each.startswith("cpu") for each in self.devices)
        if self.plan.hardware.threads is not None or not device.startswith("cpu") or sharing < 2:
            return self.plan.hardware.threads
        return max(1, (os.cpu_count() or 1) // sharing)

    def _first_word(self, seat: _Seat) -> Described:
        assert seat.pipe is not None
        assert seat.process is not None
        try:
            said = seat.pipe.recv()
        except EOFError:
            seat.process.join()
            raise SdkitError(
                f"the worker on {seat.device} {_how(seat.process)} before its model was read"
            ) from None
        if not isinstance(said, Described):
            raise SdkitError(str(said))
        seat.ready = True
        return said

    def _bury(self, seat: _Seat) -> None:
        """The process is gone: its task is lost, and another takes its place."""
        assert seat.process is not None
        assert seat.pipe is not None
        seat.pipe.close()
        seat.process.join(5)
        task, how = seat.task, _how(seat.process)
        seat.pipe, seat.task, seat.ready = None, None, False
        if task is not None:
            died = f"its worker on {seat.device} {how}"
            self._lost.append(Outcome(task, time.monotonic() - seat.since, error=died, lost=True))
        if seat.restarts < RESTARTS:
            seat.restarts += 1
            self._open(seat)


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
    code = process.exitcode
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"died with exit code {code}"
