"""The grid, cell by cell: reuse what is whole, make what is missing, score it, time it, write it down."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from eval.records import Cell, CellResult, ImageRow
from eval.running.atomic import RunFolderError, write_atomic
from eval.running.bench import Bench
from eval.running.generator import Batch
from eval.running.grid import denoiser_rows
from eval.running.measure import clock, peak_memory, time_cell
from eval.running.progress import Progress
from eval.scoring.cell_scores import Scored, Seen, cell_scores, gather
from sdkit._errors import SdkitError


def run_grid(bench: Bench) -> tuple[CellResult, ...]:
    """Every cell's result, in order; a cell that fails is a result with its error, and the others go on.

    Raises:
        RunFolderError: the folder can no longer be written, which no later cell would survive.
    """
    rows = [denoiser_rows(cell, _evals(bench, cell)) for cell in bench.cells]
    progress = Progress(rows, len(bench.plan.prompts.rows))
    results = []
    try:
        for index, cell in enumerate(bench.cells):
            progress.start(index, cell.label)
            results.append(run_cell(bench, cell, progress))
            progress.finish(results[-1])
    finally:
        progress.close()
    return tuple(results)


def run_cell(bench: Bench, cell: Cell, progress: Progress) -> CellResult:
    """One cell: read back if it is whole, else computed and written."""
    whole = bench.folder.read_cell(cell, bench.setup)
    if whole is not None:
        return whole
    bench.folder.open_cell(cell)
    try:
        return _compute(bench, cell, progress)
    except RunFolderError:
        raise
    except Exception as error:  # one scheduler's bug must not cost the other cells
        known = isinstance(error, SdkitError)
        if not known:
            trace = "".join(traceback.format_exception(error))
            write_atomic(bench.folder.cell_folder(cell.key) / "error.txt", trace.encode())
        reason = f"{'' if known else type(error).__name__ + ': '}{error}".splitlines()[0]
        failed = CellResult(cell, bench.generator.device_name, _evals(bench, cell), error=reason)
        bench.folder.write_cell(failed, (), {}, bench.setup)
        return failed


def _compute(bench: Bench, cell: Cell, progress: Progress) -> CellResult:
    generator, hardware = bench.generator, bench.plan.hardware
    made = _pictures(bench, cell, progress)
    progress.stage(f"{cell.label}: scores")
    converged = bench.converged.measure(cell, made.first) if bench.converged else None
    scored = cell_scores(made.seen, bench.scorer.rules, converged)
    progress.stage(f"{cell.label}: timing")
    timing = time_cell(generator, bench.text, cell, hardware, text_s=bench.text_s, warm=made.fresh)
    memory = peak_memory(generator, bench.text, cell, hardware, scorer_bytes=bench.scorer.device_bytes)
    result = CellResult(
        cell=cell,
        device=generator.device_name,
        model_evals=_evals(bench, cell),
        scores=scored.scores,
        timing=timing,
        memory=memory,
        generate_s=made.generate_s,
    )
    features = {"clip_image": made.seen.clip_image, **made.seen.features}
    rows = _image_rows(bench, cell, made.seen, scored)
    bench.folder.write_cell(result, rows, features, bench.setup)
    return result


@dataclass(frozen=True)
class _Made:
    seen: Seen
    first: tuple[Batch, ...]
    """The batches that hold the first pictures, as far as they were made just now."""
    generate_s: float | None
    """None where pictures of an interrupted run were taken up: the sum would be too low."""
    fresh: bool
    """Some were made just now."""


def _pictures(bench: Bench, cell: Cell, progress: Progress) -> _Made:
    """Make the cell's pictures, batch by batch, and look at each batch while it is in memory."""
    parts, seconds, taken_up = [], 0.0, False
    first: list[Batch] = []
    wanted = bench.converged.count(cell) if bench.converged else 0
    for start in range(0, cell.count, bench.plan.hardware.batch):
        stop = min(start + bench.plan.hardware.batch, cell.count)
        pixels = bench.folder.read_images(cell, start, stop)
        if pixels is None:
            begun = clock(bench.generator.device)
            made = _make(bench, cell, start, stop, _reporter(progress, start, stop, _evals(bench, cell)))
            seconds += clock(bench.generator.device) - begun
            pixels = made.images
            bench.folder.write_images(cell.key, start, pixels)
            if start < wanted and not taken_up:
                first.append(made)
        else:
            taken_up = True
        parts.append(bench.scorer.look(pixels, start))
        progress.pictures(stop)
    return _Made(gather(parts), tuple(first), None if taken_up else seconds, fresh=seconds > 0)


def _make(bench: Bench, cell: Cell, start: int, stop: int, on_call: Callable[[int], None]) -> Batch:
    made: Batch = bench.generator.sample(
        bench.text_rows(start, stop),
        sampler=cell.sampler,
        steps=cell.steps,
        guidance_scale=cell.guidance,
        seeds=cell.seeds(start, stop),
        width=cell.width,
        height=cell.height,
        on_call=on_call,
    )
    return made


def _reporter(progress: Progress, start: int, stop: int, evals: int) -> Callable[[int], None]:
    """Turns evaluations of a batch into pictures, so that the inner bar moves within a batch."""
    return lambda step: progress.pictures(start + (stop - start) * min(1.0, step / evals))


def _image_rows(bench: Bench, cell: Cell, seen: Seen, scored: Scored) -> tuple[ImageRow, ...]:
    verdicts = seen.verdicts or (None,) * cell.count
    return tuple(
        ImageRow(
            cell.key,
            index,
            seed,
            prompt,
            bench.folder.image_path(cell.key, index),
            {name: float(column[index]) for name, column in scored.values.items() if index < len(column)},
            verdict,
        )
        for index, (prompt, seed, verdict) in enumerate(
            zip(bench.plan.prompts.rows, cell.seeds(0, cell.count), verdicts, strict=True)
        )
    )


def _evals(bench: Bench, cell: Cell) -> int:
    return bench.generator.model_evals(cell.sampler, cell.steps)
