"""`plan=true`: what a sweep would do, what is done already, and about what it will take, from a short calibration."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.records import Cell, GridPlan, Plan
from eval.running.executors import visible_gpus
from eval.running.generator import Generator
from eval.running.grid import denoiser_rows, seconds_left, spans_missing
from eval.running.pool import LocalPool, local_pool
from eval.running.progress import Progress, duration
from eval.running.reuse import find, offers, other_runs
from eval.running.runner import GridRun, progress_of
from eval.running.store import RunFolder
from eval.running.work import Described

CALIBRATED = 3
"""Cells that a calibration makes a batch of; the first is warm-up where there are others."""


@dataclass(frozen=True)
class Standing:
    """What is there of one cell."""

    cell: Cell
    evals: int
    spans: tuple[tuple[int, int], ...]
    """Batches still to make; with none the cell may still have to be scored."""
    whole: bool
    source: Path | None = None
    """The other run that it will be taken over from."""

    @property
    def missing(self) -> int:
        """Pictures still to make."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def rows(self) -> float:
        """Denoiser rows still to go through."""
        return denoiser_rows(self.cell, self.evals) * self.missing / self.cell.count

    @property
    def state(self) -> str:
        if self.source is not None:
            return f"whole in {self.source}"
        if self.whole:
            return "whole"
        there = self.cell.count - self.missing
        return f"{there} of {self.cell.count} pictures" if there else "to do"


@dataclass(frozen=True)
class Estimate:
    """About what the rest takes."""

    seconds: float | None
    """Wall seconds, all workers together; None where the calibration failed."""
    disk_bytes: int | None
    pictures: int
    """How many the calibration made."""
    reason: str | None = None


def standings(folder: RunFolder, described: Described, batch: int, runs: Sequence[Path]) -> list[Standing]:
    """What is there of each cell. Reads only."""
    found = []
    for cell, evals in zip(described.cells, described.evals, strict=True):
        if offers(folder.root, cell, described.setup):
            found.append(Standing(cell, evals, (), whole=True))
            continue
        source = find(cell, described.setup, runs)
        if source is not None:
            found.append(Standing(cell, evals, (), whole=True, source=source))
            continue
        spans = spans_missing(cell.count, batch, folder.peek_batches(cell), described.look)
        found.append(Standing(cell, evals, tuple(spans), whole=False))
    return found


def calibrate(plan: Plan, todo: Sequence[Standing], workers: int, generator: Generator[Any]) -> Estimate:
    """Make, score and measure a batch of up to `CALIBRATED` cheap cells in a folder of its own, and draw the line.

    Args:
        todo: cells of one precision, which is the generator's.
    """
    if not any(not each.whole for each in todo):
        return Estimate(0.0, 0, 0)
    steps = sorted({each.cell.steps for each in todo if not each.whole})[:CALIBRATED]
    first = next(each.cell for each in todo if not each.whole)
    texts = plan.prompts.texts[: max(1, -(-plan.hardware.batch // plan.prompts.seeds_per_prompt))]
    small = replace(
        plan,
        prompts=replace(plan.prompts, texts=texts),
        # The generator has its precision already, and rows are counted as if guidance had no interval.
        grid=GridPlan(
            (first.sampler,), tuple(steps), (first.guidance,), plan.grid.seed, plan.grid.shared_seed
        ),
    )
    with tempfile.TemporaryDirectory(prefix="sdkit-plan-") as scratch:
        root = Path(scratch)
        pool = local_pool(replace(small, folder=scratch), root, generator)
        progress, failed = _run(pool, root, small)
        size = sum(path.stat().st_size for path in (root / "cells").rglob("*") if path.is_file())
    warm = slice(1 if len(progress.finishes) > 1 else 0, None)
    to_make = seconds_left(progress.batches[warm], [each.rows for each in todo if each.missing])
    to_finish = seconds_left(progress.finishes[warm], [each.evals for each in todo if not each.whole])
    made = len(texts) * plan.prompts.seeds_per_prompt * len(progress.finishes)
    if to_make is None or to_finish is None or not made:
        return Estimate(None, None, made, failed or "no calibration cell has its result")
    pictures = sum(each.missing for each in todo)
    return Estimate((to_make + to_finish) / workers, size * pictures // made, made)


def _together(found: Sequence[Estimate]) -> Estimate:
    """What the precisions take, one after the other; not known where one of them is not."""
    pictures, reason = sum(each.pictures for each in found), next((e.reason for e in found if e.reason), None)
    if reason is not None:
        return Estimate(None, None, pictures, reason)
    return Estimate(
        sum(each.seconds or 0.0 for each in found), sum(each.disk_bytes or 0 for each in found), pictures
    )


def _run(pool: LocalPool, root: Path, plan: Plan) -> tuple[Progress, str | None]:
    """The small grid's progress, and why a cell failed, where one did."""
    described = pool.start()
    progress = progress_of(described, stream=io.StringIO())
    folder = RunFolder(root)
    results = GridRun(pool, folder, described, plan.hardware.batch, say=lambda line: None).run(progress)
    return progress, next((result.error for result in results if result.error), None)


def plan_lines(plan: Plan) -> Iterator[str]:
    """The lines that `plan=true` prints. Writes nothing into the run's folder.

    Raises:
        SdkitError: as the sweep itself, before its first picture.
    """
    root = Path(plan.folder)
    with tempfile.TemporaryDirectory(prefix="sdkit-plan-") as scratch:
        pool = local_pool(replace(plan, folder=scratch), Path(scratch))
        described = pool.start()
    runs = other_runs(root, plan.execution.store)
    todo = standings(RunFolder(root), described, plan.hardware.batch, runs)
    width = max(len(each.cell.label) for each in todo)
    for each in todo:
        yield f"{each.cell.label:<{width}}  {each.cell.count} pictures, {each.evals} evaluations each: {each.state}"
    workers = _workers(plan)
    by_precision: dict[str | None, list[Standing]] = {}
    for each in todo:
        by_precision.setdefault(each.cell.precision, []).append(each)
    bench = pool.worker.bench
    found = _together(
        [calibrate(plan, part, workers, bench.at(part[0].cell).generator) for part in by_precision.values()]
    )
    whole = sum(each.whole for each in todo)
    yield f"run folder: {root}"
    if plan.search.kind == "racing":
        yield "search=racing: settings are dropped on the way, so what follows is the most that it can come to"
    yield (
        f"{len(todo)} cells, {whole} whole; {sum(each.missing for each in todo)} pictures to make, "
        f"{sum(each.rows for each in todo):.0f} rows through the denoiser"
    )
    if found.seconds is None or found.disk_bytes is None:
        yield f"time and disk: not known, because {found.reason}"
    else:
        beside = "" if workers == 1 else f" with {workers} workers"
        yield (
            f"about {duration(found.seconds)}{beside} and {found.disk_bytes / 1e9:.3g} GB, "
            f"by a calibration of {found.pictures} pictures on {described.device_name}"
        )


def _workers(plan: Plan) -> int:
    execution = plan.execution
    if execution.executor == "ray":
        return execution.workers or 1
    return len(visible_gpus() if execution.devices == ("all",) else execution.devices) or 1
