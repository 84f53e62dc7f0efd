"""Which denoiser calls of a sweep's cells are the same call, so that one answer serves them all.

First calls are, wherever noise and level are: always across guidances. Later ones are as long as two samplers do the
same: what comes second after a first-order step is often the same for ddim, dpmpp_2m, unipc and deis, and for euler,
heun and lms.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eval.records import Cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdkit._plan import SamplerPlan

_NEAR = 1e-6
"""Coefficients this near, relatively, are the same: schedulers come by the same product with roundings of their own,
up to 4e-7 apart over all samplers of the table at 4 and 12 steps."""


class CallKey(NamedTuple):
    """Equal for calls that are the same, but for the pictures."""

    place: int
    """In the tree of all calls that were met."""
    guidance: tuple[float, tuple[bool, ...]] | None
    """The scale, and in which earlier calls it was applied; None where it was in none."""


@dataclass(frozen=True)
class _Call:
    """A call, reached from the one before it."""

    place: int
    timestep: float
    reads: NDArray[np.float64]
    after: list[_Call] = field(default_factory=list)

    def is_like(self, timestep: float, reads: NDArray[np.float64]) -> bool:
        return abs(timestep - self.timestep) <= _NEAR * abs(self.timestep) and np.allclose(
            reads, self.reads, rtol=_NEAR, atol=0.0
        )


class CommonCalls:
    """All calls of the cells that were met, as a tree. Safe for threads."""

    def __init__(self) -> None:
        self._roots: list[_Call] = []
        self._count = 0
        self._planned: Counter[CallKey] = Counter()
        self._lock = threading.Lock()

    def expect(self, cell: Cell, plan: SamplerPlan) -> None:
        """Tell of a cell that will be made."""
        self._planned.update(self._keys(cell, plan))

    def keys(self, cell: Cell, plan: SamplerPlan) -> tuple[CallKey | None, ...]:
        """(K,) of the cell's calls; None where no other cell that is expected makes the call.

        The first one always has a key: pictures of one seed share it within a cell.
        """
        found = list(self._keys(cell, plan))
        known = [key if not call or self._planned[key] > 1 else None for call, key in enumerate(found)]
        return (*known, *[None] * (plan.calls - len(known)))

    def _keys(self, cell: Cell, plan: SamplerPlan) -> Iterator[CallKey]:
        guided = guided_calls(cell, plan)
        calls, reads = self._roots, plan.reads()
        for number, timestep in enumerate(plan.timesteps[: len(reads)]):
            call = self._met(calls, timestep, reads[number])
            earlier = tuple(guided[:number])
            yield CallKey(call.place, (cell.guidance, earlier) if any(earlier) else None)
            calls = call.after

    def _met(self, calls: list[_Call], timestep: float, reads: NDArray[np.float64]) -> _Call:
        with self._lock:
            for call in calls:
                if call.is_like(timestep, reads):
                    return call
            self._count += 1
            calls.append(_Call(self._count, timestep, reads))
            return calls[-1]


def guided_calls(cell: Cell, plan: SamplerPlan) -> Sequence[bool]:
    """(K,) whether the negative prompt takes part in each call."""
    return plan.guided(cell.guidance_interval) if cell.guidance != 1.0 else (False,) * plan.calls
