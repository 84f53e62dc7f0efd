"""Several machines: one Ray actor a GPU, fed from one queue, replaced when it dies.

Every machine sees the clone and the run's folder under the same path; `ray start` or `ray up` makes the cluster.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.records import ExecutionPlan, Plan
from eval.running.processes import POLL_S, RESTARTS
from eval.running.tasks import Task
from eval.running.work import Described, OnPart, Outcome
from sdkit._errors import InvalidRequest, SdkitError

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Actor:
    """What runs inside Ray: a worker, made at `start`. Its words are plain, so that no error of ours is pickled."""

    plan: Plan
    root: str
    _pool: Any = None

    def start(self) -> Described | str:
        """What the worker is; or why it could not start."""
        from eval.running.pool import local_pool

        try:
            self._pool = local_pool(self.plan, Path(self.root))
        except SdkitError as error:
            return str(error)
        described: Described = self._pool.start()
        return described

    def run(self, task: Task) -> Outcome:
        outcome: Outcome = self._pool.worker.run(task, _unheard)
        return outcome

    def pid(self) -> int:
        return os.getpid()


def _unheard(task: Task, share: float) -> None:
    """Parts of a batch are not told across machines."""


@dataclass
class _Seat:
    """A place for an actor, with what it is doing."""

    number: int
    actor: Any = None
    said: Any = None
    """Ray's reference to what it is to answer next."""
    ready: bool = False
    task: Task | None = None
    since: float = 0.0
    restarts: int = 0


@dataclass
class RayPool:
    """Actors over one run's folder."""

    plan: Plan
    root: Path
    seats: int
    ray: Any
    ours: bool
    """Whether the cluster is this sweep's own, and ends with it."""
    actor: type[Actor] = Actor
    paths: tuple[str, ...] = (str(ROOT),)
    """Where its modules are found on the other machines."""
    _seats: list[_Seat] = field(init=False)
    _lost: list[Outcome] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._seats = [_Seat(number) for number in range(self.seats)]

    @property
    def workers(self) -> int:
        return sum(seat.actor is not None for seat in self._seats)

    @property
    def idle(self) -> int:
        return sum(seat.ready and seat.task is None for seat in self._seats)

    @property
    def actors(self) -> tuple[Any, ...]:
        """Ray's handles of the actors that are alive."""
        return tuple(seat.actor for seat in self._seats if seat.actor is not None)

    def start(self) -> Described:
        # The first alone, so that the reference is read once: the others find it in the cache.
        first = self._seats[0]
        self._open(first)
        try:
            said = self.ray.get(first.said)
        except self.ray.exceptions.RayError as error:
            raise SdkitError(f"Ray's first worker died before its model was read: {_line(error)}") from error
        if not isinstance(said, Described):
            raise SdkitError(str(said))
        first.ready, first.said = True, None
        for seat in self._seats[1:]:
            self._open(seat)
        return said

    def submit(self, task: Task) -> None:
        seat = next(seat for seat in self._seats if seat.ready and seat.task is None)
        seat.task, seat.since = task, time.monotonic()
        seat.said = seat.actor.run.remote(task)

    def wait(self, on_part: OnPart) -> Outcome | None:
        del on_part
        if self._lost:
            return self._lost.pop(0)
        if not self.workers:
            raise SdkitError("every worker of Ray died; their last words stand in run.log")
        asked = {seat.said: seat for seat in self._seats if seat.said is not None}
        done, _ = self.ray.wait(list(asked), num_returns=1, timeout=POLL_S)
        for reference in done:
            seat = asked[reference]
            try:
                said = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                self._bury(seat, error)
                return self._lost.pop(0) if self._lost else None
            seat.said = None
            if isinstance(said, Outcome):
                seat.task = None
                return said
            if isinstance(said, Described):
                seat.ready = True
                continue
            seat.actor, seat.ready = None, False
            return Outcome(None, 0.0, notes=(f"worker {seat.number}: {said}",))
        return None

    def close(self) -> None:
        for actor in self.actors:
            self.ray.kill(actor)
        if self.ours:
            self.ray.shutdown()

    def _open(self, seat: _Seat) -> None:
        execution = self.plan.execution
        gpus = execution.gpus_per_worker
        remote = self.ray.remote(
            num_cpus=1 if execution.cpus_per_worker is None else execution.cpus_per_worker,
            num_gpus=(1 if _on_gpu(self.plan) else 0) if gpus is None else gpus,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(self.paths)}},
        )(self.actor)
        seat.actor = remote.remote(self.plan, str(self.root))
        seat.ready, seat.task, seat.said = False, None, seat.actor.start.remote()

    def _bury(self, seat: _Seat, error: Exception) -> None:
        """The actor is gone: its task is lost, and another takes its place, on whatever machine has room."""
        if seat.task is not None:
            seconds = time.monotonic() - seat.since
            died = f"Ray's worker {seat.number} died: {_line(error)}"
            self._lost.append(Outcome(seat.task, seconds, error=died, lost=True))
        seat.actor, seat.said, seat.task, seat.ready = None, None, None, False
        if seat.restarts < RESTARTS:
            seat.restarts += 1
            self._open(seat)


def ray_pool(plan: Plan, root: Path) -> RayPool:
    """Join the cluster, or start one on this machine, and take as many places as the plan asks for.

    Raises:
        InvalidRequest: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError:
        raise InvalidRequest(
            "executor=ray needs Ray, which is not installed: pip install 'sdkit-t2i[ray]'"
        ) from None
    ours = not ray.is_initialized()
    if ours:
        _join(ray, plan.execution)
    seats = plan.execution.workers or max(1, int(ray.cluster_resources().get("GPU", 0)))
    threads = plan.hardware.threads
    if not _on_gpu(plan) and threads is None and plan.execution.cpus_per_worker:
        plan = replace(
            plan, hardware=replace(plan.hardware, threads=max(1, int(plan.execution.cpus_per_worker)))
        )
    return RayPool(plan, root.resolve(), seats, ray, ours)


def _join(ray: Any, execution: ExecutionPlan) -> None:
    address = execution.address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
    try:
        if address:
            ray.init(address=address, logging_level="error", log_to_driver=False)
        else:
            ray.init(
                include_dashboard=False, logging_level="error", log_to_driver=False,
                num_cpus=max(os.cpu_count() or 1, execution.workers or 1),
            )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InvalidRequest(f"cannot join Ray at {address or 'this machine'}: {_line(error)}") from error


def _on_gpu(plan: Plan) -> bool:
    return plan.model.device.startswith("cuda")


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
