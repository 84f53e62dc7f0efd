"""A plan to its cells, and what each will cost in denoiser rows: the base of an honest time left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.records import Cell, Plan
from eval.running.batch_file import BatchRecord
from eval.running.generator import Generator
from eval.running.precision import model_options


def grid_cells(plan: Plan, generator: Generator[Any]) -> tuple[Cell, ...]:
    """Every sampler with every step count and every guidance scale, in that order; the first precision first."""
    width, height = generator.default_size
    return tuple(
        Cell(
            model_fingerprint=generator.fingerprint,
            sampler=point.sampler,
            steps=point.steps,
            guidance=point.guidance,
            prompts_digest=plan.prompts.digest,
            count=len(plan.prompts.rows),
            seed=plan.grid.seed,
            width=plan.model.width or width,
            height=plan.model.height or height,
            dtype=generator.dtype if point.precision is None else model_options(point.precision).dtype,
            device_type=generator.device.partition(":")[0],
            negative_prompt=plan.model.negative_prompt,
            shared_seed=plan.grid.shared_seed,
            guidance_interval=point.guidance_interval,
            precision=point.precision,
        )
        for point in plan.grid.points
    )


@dataclass(frozen=True)
class Spent:
    """A cell that was computed: how many denoiser rows it took, and how long."""

    rows: float
    seconds: float


def denoiser_rows(cell: Cell, model_evals: int) -> int:
    """Rows that go through the denoiser for the scored pictures; guidance doubles them.

    An upper bound where guidance has an interval: calls outside of it may be made with half of the rows.
    """
    return model_evals * cell.count * (1 if cell.guidance == 1 else 2)


def spans_missing(count: int, batch: int, records: Sequence[BatchRecord], look: str) -> list[tuple[int, int]]:
    """What is still to do of a cell's pictures: gaps, in batches, and batches that another scorer looked at.

    Args:
        records: the whole ones, in order, none overlapping another.
        look: digest of today's scorer.
    """
    found: list[tuple[int, int]] = []
    at = 0
    for start, stop, done in [(each.start, each.stop, each.look == look) for each in records] + [
        (count, count, True)
    ]:
        found += [(first, min(first + batch, start)) for first in range(at, start, batch)]
        if not done:
            found.append((start, stop))
        at = stop
    return found


def seconds_left(spent: Sequence[Spent], rows_left: Sequence[float]) -> float | None:
    """Time for the cells still to do: a line through the cells done, seconds = fixed + rate · rows.

    The mean time of a cell would mislead: cells differ tenfold, and the costly ones may all come last.
    None until one cell is done.
    """
    if not spent or not rows_left:
        return 0.0 if not rows_left else None
    n = len(spent)
    mean_rows = sum(each.rows for each in spent) / n
    mean_s = sum(each.seconds for each in spent) / n
    spread = sum((each.rows - mean_rows) ** 2 for each in spent)
    rate = mean_s / mean_rows
    if spread > 0:
        slope = sum((each.rows - mean_rows) * (each.seconds - mean_s) for each in spent) / spread
        rate = min(max(slope, 0.0), rate)  # neither part can be negative
    fixed = mean_s - rate * mean_rows
    return sum(fixed + rate * rows for rows in rows_left)
