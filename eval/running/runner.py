"""The grid: reuse what is whole, hand out what is missing, write down what failed, stop when asked to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from eval.records import Cell, CellResult
from eval.running.atomic import RunFolderError, RunFolderGaveOut
from eval.running.grid import denoiser_rows, spans_missing
from eval.running.mirror import Mirror
from eval.running.pool import Pool
from eval.running.progress import Progress
from eval.running.reuse import adopt
from eval.running.stopping import Stop
from eval.running.store import VERIFIED_PICTURES, RunFolder
from eval.running.tasks import Finish, Make, Task, Tasks
from eval.running.work import Described, Outcome

OnDone = Callable[[CellResult], object]
UPCOMING = 2
"""Batches that a worker is told of beforehand: enough to fill one denoiser call."""


def _nothing(result: CellResult) -> None:
    """Nobody listens."""


@dataclass
class GridRun:
    """One pass over a grid's cells by a pool of workers."""

    pool: Pool
    folder: RunFolder
    described: Described
    batch: int
    """Pictures a task."""
    stop: Stop = field(default_factory=Stop)
    say: Callable[[str], object] = print
    """Is told, line by line, what happened; the run's log."""
    on_done: OnDone = _nothing
    """Called with each cell's result, reused ones too."""
    elsewhere: Sequence[Path] = ()
    """Folders of other runs, whose whole cells are taken over."""
    mirror: Mirror | None = None
    """The run's cells in object storage, which this folder is then a copy of."""
    results: dict[int, CellResult] = field(default_factory=dict, init=False)
    """By the cell's place; what is whole so far."""

    def run(self, progress: Progress) -> tuple[CellResult, ...]:
        """Every cell's result, in order; a cell that fails is a result with its error, and the others go on.

        Raises:
            RunFolderGaveOut: the folder can no longer be written, which no later cell would survive.
            Stopped: a signal asked for it; the batches at hand were finished.
        """
        try:
            self.make_all(progress)
        except RunFolderError as error:
            done = f"{len(self.results)} of {len(self.described.cells)} cells are whole and kept"
            raise RunFolderGaveOut(f"{error}; {done}") from error
        finally:
            progress.close()
        return tuple(self.results[place] for place in sorted(self.results))

    def make_all(self, progress: Progress) -> None:
        """Every cell to its end."""
        self.work_off(Tasks(self.take_stock(progress)), progress)

    def work_off(self, tasks: Tasks, progress: Progress) -> None:
        """Have the pool do the tasks. Raises Stopped as `run`."""
        while not tasks.empty:
            self._hand_out(tasks, progress)
            if self._busy() or self.stop.signum is None:
                outcome = self.pool.wait(progress.part)
                if outcome is not None:
                    self._take(outcome, tasks, progress)
            if self.stop.signum is not None and not self._busy():
                self.stop.check()

    def take_stock(self, progress: Progress) -> dict[int, list[tuple[int, int]]]:
        """What is missing of each cell that is not whole; whole ones are results at once."""
        missing: dict[int, list[tuple[int, int]]] = {}
        pictures = sum(cell.count for cell in self.described.cells) <= VERIFIED_PICTURES
        if not pictures:
            self.say(f"more than {VERIFIED_PICTURES} pictures: those of whole cells are not hashed again")
        for place, cell in enumerate(self.described.cells):
            self.stop.check()
            whole = self.whole(cell, pictures=pictures)
            if whole is not None:
                self._keep(place, whole, progress, 0.0)
                continue
            self.folder.take_up_earlier(cell, self.batch)
            records = self.folder.read_batches(cell)
            spans = spans_missing(cell.count, self.batch, records, self.described.look)
            missing[place] = spans
            progress.expect(place, spans)
        return missing

    def whole(self, cell: Cell, *, pictures: bool) -> CellResult | None:
        """The cell's result, from this folder or taken over from another run; None where it must be computed."""
        if self.mirror is not None:
            self.mirror.pull(self.folder.cell_folder(cell.key))
        found = self.folder.read_cell(cell, self.described.setup, pictures=pictures)
        if found is not None:
            return found
        source = adopt(self.folder, cell, self.described.setup, self.elsewhere)
        if source is None:
            return None
        self.say(f"{cell.label}: taken over from {source}")
        return self.folder.read_cell(cell, self.described.setup)

    def _busy(self) -> int:
        return self.pool.workers - self.pool.idle

    def _hand_out(self, tasks: Tasks, progress: Progress) -> None:
        while self.pool.idle and self.stop.signum is None:
            task = tasks.next()
            if task is None:
                return
            if isinstance(task, Make):
                self.folder.open_cell(self.described.cells[task.cell])
            progress.start(task)
            self.pool.submit(task, tasks.upcoming(UPCOMING))

    def _take(self, outcome: Outcome, tasks: Tasks, progress: Progress) -> None:
        for note in outcome.notes:
            self.say(note)
        task = outcome.task
        if outcome.fatal is not None:
            raise RunFolderError(outcome.fatal)
        if task is None:
            return
        cell = self.described.cells[task.cell]
        if outcome.lost:
            self.say(f"{_named(cell, task)}: {outcome.error}")
            if tasks.lost(task):
                progress.again(task)
                return
        if outcome.error is not None:
            tasks.give_up(task.cell)
            if task.cell not in self.results:
                evals = self.described.evals[task.cell]
                failed = CellResult(cell, self.described.device_name, evals, error=outcome.error)
                self.folder.open_cell(cell)
                self.folder.write_cell(failed, (), self.described.setup)
                self._keep(task.cell, failed, progress, outcome.seconds)
            return
        tasks.done(task)
        if isinstance(task, Make):
            self.say(f"{_named(cell, task)}: made in {outcome.seconds:.2f} s")
            progress.made(task, outcome.seconds)
        elif outcome.result is not None:
            if self.mirror is not None:
                self.mirror.pull(self.folder.cell_folder(cell.key))
            self._keep(task.cell, outcome.result, progress, outcome.seconds)

    def _keep(self, place: int, result: CellResult, progress: Progress, seconds: float) -> None:
        self.results[place] = result
        self.say(progress.finish(place, result, seconds))
        if not result.reused:
            self.say(progress.standing)
        self.on_done(result)


def progress_of(
    described: Described, workers: int = 1, finishers: int = 1, stream: TextIO | None = None
) -> Progress:
    """What is shown of the grid while it runs, on standard error unless said otherwise."""
    cells, evals = described.cells, described.evals
    return Progress(
        labels=[cell.label for cell in cells],
        rows=[denoiser_rows(cell, calls) for cell, calls in zip(cells, evals, strict=True)],
        evals=evals,
        counts=[cell.count for cell in cells],
        workers=workers,
        finishers=finishers,
        stream=stream or sys.stderr,
    )


def _named(cell: Cell, task: Task) -> str:
    if isinstance(task, Finish):
        return f"{cell.label}: scores and costs"
    return f"{cell.label}: pictures {task.start}..{task.stop - 1} ({cell.key})"
