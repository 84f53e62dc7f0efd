"""Several batches beside each other in one process: threads that share the model, and divide the cores.

Two lanes of one core each need no barrier between them at every operation, and while one of them scores, writes or
waits for Python, the other goes on. What must have the machine for itself, a measurement of speed above all, runs in
the calling thread with all cores, when every lane is idle.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from eval.running.pool import LocalPool, Pool
from eval.running.processes import PART_EVERY_S
from eval.running.seats import POLL_S
from eval.running.tasks import Make, Task
from eval.running.work import Described, OnPart, Outcome, Worker

LANES = 2
"""On a CPU, where nobody says otherwise."""


def in_lanes(worker: Worker) -> Pool:
    """A pool of as many lanes as the plan asks for; of the worker alone, where that is one.

    Lanes are for the shared engine, whose calls do not wait for each other on a CPU; compiled code is not shared.
    """
    import torch

    bench = worker.bench
    if bench.engine is None or bench.engine.one_shape:
        return LocalPool(worker)
    asked = bench.plan.execution.engine.lanes
    on_cpu = bench.plan.model.device.startswith("cpu")
    count = asked or (min(LANES, torch.get_num_threads()) if on_cpu else 1)
    return LocalPool(worker) if count == 1 else LanePool(worker, count)


@dataclass
class _Lane:
    """One thread and what it is doing."""

    worker: Worker
    inbox: queue.SimpleQueue[Task | None] = field(default_factory=queue.SimpleQueue)
    """None ends it."""
    task: Task | None = None
    thread: threading.Thread | None = None


_Said = tuple[_Lane, float | Outcome | BaseException]


class LanePool:
    """Workers in threads of this process, over one model.

    Args:
        worker: the calling thread's own, for what is done alone.
        count: of lanes, at least 2.
    """

    def __init__(self, worker: Worker, count: int) -> None:
        self.worker = worker
        self._lanes = [_Lane(worker.twin()) for _ in range(count)]
        self._said: queue.SimpleQueue[_Said] = queue.SimpleQueue()
        self._alone: Task | None = None
        """Waits for all lanes."""

    @property
    def workers(self) -> int:
        return len(self._lanes)

    @property
    def finishers(self) -> int:
        return 1 if self.worker.bench.plan.hardware.timed else self.workers

    @property
    def idle(self) -> int:
        return 0 if self._alone is not None else sum(lane.task is None for lane in self._lanes)

    def start(self) -> Described:
        """What the model and the scorer are. The threads begin."""
        import torch

        share = max(1, torch.get_num_threads() // len(self._lanes))
        for number, lane in enumerate(self._lanes):
            lane.thread = threading.Thread(target=self._work, args=(lane, share), name=f"lane {number}")
            lane.thread.daemon = True
            lane.thread.start()
        return self.worker.describe()

    def submit(self, task: Task, upcoming: Sequence[Make] = ()) -> None:
        del upcoming  # another lane may be given them
        if self.worker.needs_all(task):
            self._alone = task
            return
        lane = next(lane for lane in self._lanes if lane.task is None)
        lane.task = task
        lane.inbox.put(task)

    def wait(self, on_part: OnPart) -> Outcome | None:
        if self._alone is not None and all(lane.task is None for lane in self._lanes):
            task, self._alone = self._alone, None
            return self.worker.run(task, on_part)
        try:
            lane, said = self._said.get(timeout=POLL_S)
        except queue.Empty:
            return None
        if isinstance(said, float):
            if lane.task is not None:
                on_part(lane.task, said)
            return None
        lane.task = None
        if isinstance(said, BaseException):
            raise said
        return said

    def close(self) -> None:
        """End the lanes after what they are at."""
        for lane in self._lanes:
            lane.inbox.put(None)
        for lane in self._lanes:
            if lane.thread is not None:
                lane.thread.join()

    def _work(self, lane: _Lane, share: int) -> None:
        """A lane's thread, on its share of the cores."""
        import torch

        torch.set_num_threads(share)  # of this thread; others keep theirs
        last = 0.0

        def part(task: Task, done: float) -> None:
            nonlocal last
            if time.monotonic() - last > PART_EVERY_S:
                last = time.monotonic()
                self._said.put((lane, done))

        while (task := lane.inbox.get()) is not None:
            try:
                self._said.put((lane, lane.worker.run(task, part)))
            except BaseException as error:
                self._said.put((lane, error))
