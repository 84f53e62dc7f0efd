"""Several machines: one Ray actor a GPU, fed from one queue, replaced when it dies.

Every machine sees the clone and the run's folder under the same path; `ray start` or `ray up` makes the cluster.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.execution_plan import ExecutionPlan
from eval.records import Plan
from eval.running.seats import POLL_S, Seat, Seats
from eval.running.tasks import Make, Task
from eval.running.work import Described, OnPart, Outcome
from eval.scoring.weight_files import first_line
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


def _unheard(task: Task, share: float) -> None:
    """Parts of a batch are not told across machines."""


@dataclass
class Hand:
    """Ray's handle of an actor, and its reference to what it is to answer next."""

    actor: Any
    said: Any


@dataclass
class RayPool(Seats[Hand]):
    """Actors over one run's folder; one that dies is replaced on whatever machine has room."""

    plan: Plan
    root: Path
    count: int
    ray: Any
    ours: bool
    """Whether the cluster is this sweep's own, and ends with it."""
    actor: type[Actor] = Actor
    paths: tuple[str, ...] = (str(ROOT),)
    """Where its modules are found on the other machines."""

    def __post_init__(self) -> None:
        self.seats = [Seat(f"Ray's place {number}") for number in range(self.count)]

    def submit(self, task: Task, upcoming: Sequence[Make] = ()) -> None:
        del upcoming  # who is idle next may be another
        seat = self.take_seat(task)
        assert seat.worker is not None
        seat.worker.said = seat.worker.actor.run.remote(task)

    def wait(self, on_part: OnPart) -> Outcome | None:
        del on_part  # parts of a batch are not told across machines
        waiting = self.heard()
        if waiting is not None:
            return waiting
        asked = {
            seat.worker.said: seat
            for seat in self.seats
            if seat.worker is not None and seat.worker.said is not None
        }
        done, _ = self.ray.wait(list(asked), num_returns=1, timeout=POLL_S)
        for reference in done:
            seat = asked[reference]
            assert seat.worker is not None
            try:
                said = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                self.bury(seat, f"died: {first_line(error)}")
                return None
            seat.worker.said = None
            if isinstance(said, str):  # it could not start, and Ray would keep it
                self.ray.kill(seat.worker.actor)
                seat.worker = None
            return self.answer(seat, said)
        return None

    def close(self) -> None:
        for seat in self.seats:
            if seat.worker is not None:
                self.ray.kill(seat.worker.actor)
        if self.ours:
            self.ray.shutdown()

    def _open(self, seat: Seat[Hand]) -> None:
        execution = self.plan.execution
        gpus = execution.gpus_per_worker
        remote = self.ray.remote(
            num_cpus=1 if execution.cpus_per_worker is None else execution.cpus_per_worker,
            num_gpus=(1 if _on_gpu(self.plan) else 0) if gpus is None else gpus,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(self.paths)}},
        )(self.actor)
        actor = remote.remote(self.plan, str(self.root))
        seat.worker = Hand(actor, actor.start.remote())

    def _first_word(self, seat: Seat[Hand]) -> Described | str:
        assert seat.worker is not None
        try:
            said: Described | str = self.ray.get(seat.worker.said)
        except self.ray.exceptions.RayError as error:
            raise SdkitError(
                f"Ray's first worker died before its model was read: {first_line(error)}"
            ) from error
        seat.worker.said = None
        return said


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
        raise InvalidRequest(
            f"cannot join Ray at {address or 'this machine'}: {first_line(error)}"
        ) from error


def _on_gpu(plan: Plan) -> bool:
    return plan.model.device.startswith("cuda")
