"""What a person sees while a sweep runs: cells, pictures, pictures a second, failures, and an honest time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn, TextIO

from tqdm import tqdm

from eval.records import CellResult
from eval.running.grid import Spent, seconds_left
from eval.running.tasks import Finish, Make, Task

_CELLS = "cells    {n_fmt:>3}/{total_fmt} |{bar:24}| {elapsed}{postfix}"
_PICTURES = "pictures {n:.0f}/{total_fmt} |{bar:24}| {desc}"


@dataclass
class Progress:
    """Bars on a terminal, one line a cell elsewhere.

    Call `expect` for each cell that is not whole, then `start`, `part`, `made` and `finish` as tasks go.
    """

    labels: Sequence[str]
    rows: Sequence[float]
    """Denoiser rows of each cell's scored pictures, in order."""
    evals: Sequence[float]
    """Denoiser calls a picture of each cell: what measuring it costs goes with them."""
    counts: Sequence[int]
    """Pictures of each cell."""
    workers: int = 1
    finishers: int = 1
    """How many cells are finished beside each other."""
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    batches: list[Spent] = field(default_factory=list)
    """Batches that were made: denoiser rows and seconds of each."""
    finishes: list[Spent] = field(default_factory=list)
    """Cells that were scored and measured: calls a picture and seconds of each."""
    failures: int = 0

    def __post_init__(self) -> None:
        self._live = self.stream.isatty()
        self._begun = time.monotonic()
        self._waiting: dict[int, list[tuple[int, int]]] = {}
        self._at_work: dict[Task, tuple[float, float]] = {}
        """Task -> when it was begun, and the share that is done."""
        self._pictures_made = 0
        self._done = 0
        self._bar_cells: tqdm[NoReturn] = self._bar(len(self.rows), _CELLS, 0)
        self._bar_pictures: tqdm[NoReturn] = self._bar(sum(self.counts), _PICTURES, 1)

    def expect(self, place: int, spans: Sequence[tuple[int, int]]) -> None:
        """These pictures of a cell are still to be made, and then the cell to be finished."""
        self._waiting[place] = list(spans)
        self._bar_pictures.n += self.counts[place] - sum(stop - start for start, stop in spans)

    def expect_instead(self, place: int, spans: Sequence[tuple[int, int]]) -> None:
        """What is still to be made of a cell comes in other batches than were expected."""
        self._waiting[place] = list(spans)

    def drop(self, place: int, why: str) -> str:
        """A cell is made no further; the line that says so."""
        self._waiting.pop(place, None)
        self._done += 1
        self._bar_cells.update()
        line = f"[{self._done}/{len(self.rows)}] {self.labels[place]}: {why}"
        self._bar_cells.write(line, file=self.stream)
        return line

    def start(self, task: Task) -> None:
        """A worker has the task."""
        self._at_work[task] = (time.monotonic(), 0.0)
        self._show()

    def part(self, task: Task, share: float) -> None:
        """`share` of the task is done, 0..1."""
        begun, _ = self._at_work.get(task, (time.monotonic(), 0.0))
        self._at_work[task] = (begun, share)
        self._show()

    def again(self, task: Task) -> None:
        """The task's worker died; it waits again."""
        self._at_work.pop(task, None)

    def made(self, task: Make, seconds: float) -> None:
        """A batch is on disk."""
        self._at_work.pop(task, None)
        waiting = self._waiting.get(task.cell, [])  # none of a cell that failed meanwhile
        if (task.start, task.stop) in waiting:
            waiting.remove((task.start, task.stop))
        self.batches.append(Spent(self._rows(task), seconds))
        self._pictures_made += task.stop - task.start
        self._bar_pictures.n += task.stop - task.start
        self._show()

    def finish(self, place: int, result: CellResult, seconds: float) -> str:
        """A cell has its result; the line that says so."""
        self._at_work = {task: at for task, at in self._at_work.items() if task.cell != place}
        expected = self._waiting.pop(place, None)
        self._done += 1
        if result.reused or expected is None:
            self._bar_pictures.n += self.counts[place]
        elif result.error is None:
            self.finishes.append(Spent(self.evals[place], seconds))
        self.failures += result.error is not None
        self._bar_cells.update()
        self._show()
        line = f"[{self._done}/{len(self.rows)}] {result.cell.label}: {self._outcome(result)}"
        if not self._live:
            self.stream.write(f"{line}\n")
            self.stream.flush()
        return line

    def close(self) -> None:
        self._bar_pictures.close()
        self._bar_cells.close()

    @property
    def standing(self) -> str:
        """Cells, pictures, pictures a second, time left and failures, in a line for a log."""
        left, rate = self.left() if self._waiting else None, self.pictures_per_s
        to_make = sum(stop - start for spans in self._waiting.values() for start, stop in spans)
        said = [
            f"{self._done} of {len(self.rows)} cells",
            f"{self._pictures_made} pictures made, {to_make} to make",
            f"{rate:.3g} pictures/s" if rate else "",
            f"about {duration(left)} left" if left else "",
            f"{self.failures} failed",
        ]
        return ", ".join(each for each in said if each)

    @property
    def pictures_per_s(self) -> float | None:
        """Made since the start, whatever else was done meanwhile; None before the first batch."""
        passed = time.monotonic() - self._begun
        return self._pictures_made / passed if self._pictures_made and passed > 0 else None

    def left(self) -> float | None:
        """Seconds left; None until a batch is made or begun. What workers do beside each other is shared."""
        now = time.monotonic()
        at_work = {
            task: share for task, (_, share) in self._at_work.items() if isinstance(task, Make) and share > 0
        }
        batches = self.batches or [
            Spent(self._rows(task) * share, now - self._at_work[task][0]) for task, share in at_work.items()
        ]
        waiting = [self._rows(Make(place, *span)) for place, spans in self._waiting.items() for span in spans]
        to_make = seconds_left(batches, waiting)
        if to_make is None:
            return None
        for task, share in at_work.items():
            to_make -= share * (seconds_left(batches, [self._rows(task)]) or 0.0)
        # A cell that is being finished still waits in `_waiting`, with no batches.
        to_finish = seconds_left(self.finishes, [self.evals[place] for place in self._waiting]) or 0.0
        return max(0.0, to_make / self.workers + to_finish / self.finishers)

    def _rows(self, task: Task) -> float:
        if isinstance(task, Finish):
            return 0.0
        return self.rows[task.cell] * (task.stop - task.start) / self.counts[task.cell]

    def _show(self) -> None:
        if not self._live:
            return
        left, rate = self.left(), self.pictures_per_s
        said = [
            f"{rate:.3g} pictures/s" if rate else "",
            f"about {duration(left)} left" if left else "",
            f"{self.failures} failed" if self.failures else "",
        ]
        self._bar_cells.set_postfix_str(", ".join(each for each in said if each))
        busy = [self.labels[task.cell] + self._doing(task) for task in self._at_work]
        self._bar_pictures.set_description_str("; ".join(busy))

    def _doing(self, task: Task) -> str:
        return ": scores and costs" if isinstance(task, Finish) else f" {self._at_work[task][1]:.0%}"

    def _outcome(self, result: CellResult) -> str:
        if result.error is not None:
            return f"failed: {result.error}"
        scores = ", ".join(
            f"{score.name} {score.value:.3g}" for score in result.scores if score.value is not None
        )
        left = self.left() if self._waiting else None
        reused = " (reused)" if result.reused else ""
        return f"{scores}{reused}" + (f"; about {duration(left)} left" if left else "")

    def _bar(self, total: int, layout: str, position: int) -> tqdm[NoReturn]:
        return tqdm(
            total=total, bar_format=layout, position=position, file=self.stream, leave=position == 0,
            disable=not self._live, dynamic_ncols=True,
        )  # fmt: skip


@contextmanager
def counting(label: str, total: int) -> Iterator[tqdm[NoReturn]]:
    """A bar for work before the first cell; silent away from a terminal."""
    with tqdm(total=total, desc=label, leave=False, disable=None) as bar:
        yield bar


def duration(seconds: float) -> str:
    """Seconds as people say them: "48 s", "6 min 10 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
