"""The first picture that a process makes, which no warm figure tells of: kernels are chosen, memory is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.hardware_plan import HardwarePlan
from eval.records import Cell
from eval.running.generator import Generator
from eval.running.stopwatch import Failure, attempt, time_batch

_Called = tuple[str, str, int, int, str | None]
"""Device, model, width, height, precision."""


@dataclass
class ColdCalls:
    """Remembers for one process what has been called already. Ask before a cell's first picture is made."""

    _made_by: dict[_Called, str] = field(default_factory=dict)

    def first(
        self, generator: Generator[Any], prompts: Sequence[str], cell: Cell, hardware: HardwarePlan
    ) -> float | Failure:
        """Seconds of the first picture at this model, size and precision on this device; a Failure for later cells.

        The weights are on the device and the prompts of the whole sweep were encoded before.
        """
        if not hardware.timed:
            return Failure("hardware.latency_repeats and hardware.throughput_repeats are 0")
        if self.told(generator, cell):
            made_by = self._made_by[_called(generator, cell)]
            return Failure(f"told once a process and device, by {made_by}")
        self._made_by[_called(generator, cell)] = cell.label
        return attempt(lambda: time_batch(generator, prompts, cell, 1).whole_s)

    def told(self, generator: Generator[Any], cell: Cell) -> bool:
        """Whether the first call of this kind was made."""
        return _called(generator, cell) in self._made_by


def _called(generator: Generator[Any], cell: Cell) -> _Called:
    return generator.device, cell.model_fingerprint, cell.width, cell.height, cell.precision
