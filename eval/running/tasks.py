"""What is still to do of a grid, handed out batch by batch to any number of workers. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

LOSSES = 3
"""How often a task may take its worker with it before its cell is given up."""


@dataclass(frozen=True)
class Make:
    """Pictures `start`..`stop - 1` of a cell, by its place in the grid."""

    cell: int
    start: int
    stop: int


@dataclass(frozen=True)
class Finish:
    """Score and measure a cell whose pictures are all there, and write its result."""

    cell: int


Task = Make | Finish


@dataclass
class Tasks:
    """A queue in the grid's order: a cell's batches, then its finish; who asks next gets the next.

    Args:
        missing: place of each cell that is not whole -> the batches that it lacks; with none it is only finished.
    """

    missing: Mapping[int, Sequence[tuple[int, int]]]
    _waiting: deque[Task] = field(init=False)
    _open: dict[int, int] = field(init=False)
    """Cell -> batches that are not made yet, handed out or not."""
    _losses: dict[Task, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._open = {cell: len(spans) for cell, spans in self.missing.items()}
        self._waiting = deque()
        for cell, spans in self.missing.items():
            self._waiting.extend([Make(cell, *span) for span in spans] or [Finish(cell)])

    def next(self) -> Task | None:
        """The next task; None where nothing waits, though some may still be at work."""
        return self._waiting.popleft() if self._waiting else None

    def upcoming(self, most: int) -> tuple[Make, ...]:
        """The batches that come next, as far as is known; they stay where they are."""
        makes = (task for task in self._waiting if isinstance(task, Make))
        return tuple(islice(makes, most))

    def done(self, task: Task) -> None:
        """The task is done; the last batch of a cell lets its finish go first."""
        if task.cell not in self._open:
            return
        if isinstance(task, Finish):
            del self._open[task.cell]
            return
        self._open[task.cell] -= 1
        if self._open[task.cell] == 0:
            self._waiting.appendleft(Finish(task.cell))

    def give_up(self, cell: int) -> None:
        """The cell failed: none of its tasks is handed out any more."""
        self._open.pop(cell, None)
        self._waiting = deque(task for task in self._waiting if task.cell != cell)

    def lost(self, task: Task) -> bool:
        """The task's worker died. It goes to the next; False where it has cost too many workers already."""
        self._losses[task] = self._losses.get(task, 0) + 1
        if self._losses[task] >= LOSSES:
            return False
        if task.cell in self._open:
            self._waiting.appendleft(task)
        return True

    @property
    def empty(self) -> bool:
        """Whether every cell is finished or given up."""
        return not self._open
