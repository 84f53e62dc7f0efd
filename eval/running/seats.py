"""Places for workers that may die: who is idle, what is lost with one, and how often it is replaced."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from eval.running.tasks import Task
from eval.running.work import Described, Outcome
from sdkit._errors import SdkitError

POLL_S = 0.5
"""How long a pool's `wait` blocks before it lets its caller look around."""
RESTARTS = 3
"""How often the worker of one seat is replaced."""

HandleT = TypeVar("HandleT")


@dataclass
class Seat(Generic[HandleT]):
    """A place with the worker that sits there and what it is doing."""

    name: str
    """A device, or a number, for people."""
    worker: HandleT | None = None
    """None where nobody sits any more."""
    ready: bool = False
    """Whether its model is read."""
    task: Task | None = None
    since: float = 0.0
    restarts: int = 0

    @property
    def idle(self) -> bool:
        return self.ready and self.task is None


@dataclass
class Seats(ABC, Generic[HandleT]):
    """The seats of one pool; what is the same whether workers are processes or Ray's actors."""

    seats: list[Seat[HandleT]] = field(init=False)
    _waiting: list[Outcome] = field(default_factory=list, init=False)
    """Outcomes that nobody has heard yet: of workers that died, or would not start."""

    @property
    def workers(self) -> int:
        return sum(seat.worker is not None for seat in self.seats)

    @property
    def finishers(self) -> int:
        return self.workers

    @property
    def idle(self) -> int:
        return sum(seat.idle for seat in self.seats)

    def start(self) -> Described:
        """Seat the first worker and hear it, then the others: so the reference is read once, and kept for them.

        Raises:
            SdkitError: the first cannot start.
        """
        first, *others = self.seats
        self._open(first)
        said = self._first_word(first)
        if not isinstance(said, Described):
            raise SdkitError(str(said))
        first.ready = True
        for seat in others:
            self._open(seat)
        return said

    def take_seat(self, task: Task) -> Seat[HandleT]:
        """An idle seat, which now has the task."""
        seat = next(seat for seat in self.seats if seat.idle)
        seat.task, seat.since = task, time.monotonic()
        return seat

    def heard(self) -> Outcome | None:
        """The next outcome that waits to be heard, if any.

        Raises:
            SdkitError: none waits, and nobody is left to make one.
        """
        if self._waiting:
            return self._waiting.pop(0)
        if not self.workers:
            raise SdkitError("every worker died; their last words stand in run.log")
        return None

    def answer(self, seat: Seat[HandleT], said: object) -> Outcome | None:
        """What a worker said: an outcome, what it is, or why it cannot start, which ends its seat."""
        if isinstance(said, Outcome):
            seat.task = None
            return said
        if isinstance(said, Described):
            seat.ready = True
            return None
        seat.restarts = RESTARTS
        return Outcome(None, 0.0, notes=(f"worker {seat.name}: {said}",))

    def bury(self, seat: Seat[HandleT], how: str) -> None:
        """The worker is gone: its task is lost, and another takes its place."""
        if seat.task is not None:
            seconds = time.monotonic() - seat.since
            died = f"its worker on {seat.name} {how}"
            self._waiting.append(Outcome(seat.task, seconds, error=died, lost=True))
        seat.worker, seat.task, seat.ready = None, None, False
        if seat.restarts < RESTARTS:
            seat.restarts += 1
            self._open(seat)

    @abstractmethod
    def _open(self, seat: Seat[HandleT]) -> None:
        """Begin a worker there; it is not ready yet."""

    @abstractmethod
    def _first_word(self, seat: Seat[HandleT]) -> Described | str:
        """Wait for what a worker that was just begun is, or why it cannot start. Raises SdkitError if it died."""
