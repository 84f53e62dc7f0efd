"""What a person sees while a sweep runs: a bar of cells with an honest time left, and one of pictures."""

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

_CELLS = "cells    {n_fmt:>3}/{total_fmt} |{bar:24}| {elapsed}{postfix}"
_PICTURES = "{desc} |{bar:24}| {n:.0f}/{total_fmt} pictures"


@dataclass
class Progress:
    """Bars on a terminal, one line a cell elsewhere.

    Call `start(cell's place)`, `pictures(n)` any number of times, `finish(result)`, for each cell.
    """

    rows: Sequence[float]
    """Denoiser rows of each cell, in order."""
    pictures_each: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    spent: list[Spent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._live = self.stream.isatty()
        self._started = self._cell_started = time.monotonic()
        self._index = 0
        self._cells: tqdm[NoReturn] = self._bar(len(self.rows), _CELLS, 0)
        self._inner: tqdm[NoReturn] = self._bar(self.pictures_each, _PICTURES, 1)

    def start(self, index: int, label: str) -> None:
        self._index, self._cell_started = index, time.monotonic()
        self._inner.reset()
        self._inner.set_description_str(label)

    def pictures(self, done: float) -> None:
        """`done` of the cell's pictures; a fraction while a batch is half denoised."""
        self._inner.n = min(done, self.pictures_each)
        self._inner.refresh()
        self._show_left(done / self.pictures_each)

    def stage(self, label: str) -> None:
        self._inner.set_description_str(label)

    def finish(self, result: CellResult) -> None:
        if not result.reused and result.error is None:
            self.spent.append(Spent(self.rows[self._index], time.monotonic() - self._cell_started))
        self._cells.update()
        self._show_left(0.0, self._index + 1)
        if not self._live:
            self.stream.write(
                f"[{self._index + 1}/{len(self.rows)}] {result.cell.label}: {self._outcome(result)}\n"
            )
            self.stream.flush()

    def close(self) -> None:
        self._inner.close()
        self._cells.close()

    def left(self, fraction: float, index: int) -> float | None:
        """Seconds left with `fraction` of cell `index` done; from that cell alone while none is whole."""
        rest = [self.rows[index] * (1 - fraction), *self.rows[index + 1 :]] if index < len(self.rows) else []
        spent = self.spent
        if not spent and fraction > 0:
            spent = [Spent(self.rows[index] * fraction, time.monotonic() - self._cell_started)]
        return seconds_left(spent, rest)

    def _show_left(self, fraction: float, index: int | None = None) -> None:
        left = self.left(fraction, self._index if index is None else index)
        self._cells.set_postfix_str(f"about {duration(left)} left" if left else "")

    def _outcome(self, result: CellResult) -> str:
        if result.error is not None:
            return f"failed: {result.error}"
        scores = ", ".join(
            f"{score.name} {score.value:.3g}" for score in result.scores if score.value is not None
        )
        left = self.left(0.0, self._index + 1)
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
