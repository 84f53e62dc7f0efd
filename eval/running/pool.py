"""Who does the tasks: one worker in this process, or several elsewhere; the grid's keeper cannot tell which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from eval.records import Plan
from eval.running.generator import Generator
from eval.running.tasks import Make, Task
from eval.running.work import Described, OnPart, Outcome, Worker


class Pool(Protocol):
    """Workers over one run's folder."""

    @property
    def workers(self) -> int:
        """How many are alive."""
        ...

    @property
    def finishers(self) -> int:
        """How many can finish cells beside each other."""
        ...

    @property
    def idle(self) -> int:
        """How many can be given a task."""
        ...

    def start(self) -> Described:
        """Read models and scorers, as far as one worker needs. Raises SdkitError where none can start."""
        ...

    def submit(self, task: Task, upcoming: Sequence[Make] = ()) -> None:
        """Give the task to an idle worker.

        Args:
            upcoming: batches that will be submitted next, which a lone worker may begin in the room this one leaves.
        """
        ...

    def wait(self, on_part: OnPart) -> Outcome | None:
        """The next task that is done; None where a signal or a short while came first."""
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


@dataclass
class LocalPool:
    """One worker, in this process."""

    worker: Worker
    _waiting: tuple[Task, Sequence[Make]] | None = field(default=None, init=False)

    @property
    def workers(self) -> int:
        return 1

    @property
    def finishers(self) -> int:
        return 1

    @property
    def idle(self) -> int:
        return int(self._waiting is None)

    def start(self) -> Described:
        return self.worker.describe()

    def submit(self, task: Task, upcoming: Sequence[Make] = ()) -> None:
        self._waiting = (task, upcoming)

    def wait(self, on_part: OnPart) -> Outcome | None:
        assert self._waiting is not None
        (task, upcoming), self._waiting = self._waiting, None
        return self.worker.run(task, on_part, upcoming)

    def close(self) -> None:
        return


def local_pool(plan: Plan, root: Path, generator: Generator[Any] | None = None) -> LocalPool:
    """The plan's model and scorer in this process.

    Args:
        generator: the model, where it is read already.

    Raises:
        SdkitError: as `prepare`.
    """
    from eval.running.bench import prepare
    from eval.running.heap import keep_freed
    from eval.running.mirror import open_mirror
    from eval.running.store import RunFolder

    keep_freed()
    notes: list[str] = []
    mirror = open_mirror(plan.execution.store, root.name)
    return LocalPool(Worker(prepare(plan, RunFolder(root, notes.append), generator), mirror, notes))
