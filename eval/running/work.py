"""What one worker does, whatever process or machine it is in: makes a batch, finishes a cell, answers for both."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from eval.records import Cell, CellResult, ImageRow
from eval.running.atomic import RunFolderError, write_atomic
from eval.running.batch_file import Array, BatchRecord
from eval.running.bench import Bench
from eval.running.engine import Engine
from eval.running.films import make_film
from eval.running.generator import Batch
from eval.running.measure import measure_cell
from eval.running.mirror import Mirror
from eval.running.precision import doubt_memory
from eval.running.stopwatch import Failure
from eval.running.store import RunFolder
from eval.running.tasks import Finish, Make, Task
from eval.scoring.cell_scores import Scored, Seen, cell_scores, gather
from sdkit._errors import GenerationError, NotLinear, OutOfMemory, SdkitError

if TYPE_CHECKING:
    from torch import Tensor

OnPart = Callable[[Task, float], object]
"""Task -> the share of it that is done, 0..1, while it is at work."""


@dataclass(frozen=True)
class Described:
    """What a worker knows once its model and its scorer are read: all that the grid's keeper must know."""

    cells: tuple[Cell, ...]
    evals: tuple[int, ...]
    """Denoiser calls a picture, of each cell."""
    setup: str
    look: str
    """`Scorer.digest`."""
    device_name: str
    environment: dict[str, str]
    notes: tuple[str, ...]
    """What was odd about the reference, and what was not done as it was asked for."""


@dataclass(frozen=True)
class Outcome:
    """What became of one task."""

    task: Task | None
    """None where a worker only had something to say."""
    seconds: float
    result: CellResult | None = None
    """Of a finish."""
    error: str | None = None
    """Why the cell has failed, as the user should read it."""
    fatal: str | None = None
    """Why the whole run cannot go on: its folder can no longer be written."""
    notes: tuple[str, ...] = ()
    """What was found broken on the way."""
    lost: bool = False
    """The worker died; `error` says how."""


@dataclass
class Worker:
    """One model on one device with its scorer, over the run's folder."""

    bench: Bench
    mirror: Mirror | None = None
    """Where batches and cells go besides, and other machines' come from."""
    notes: list[str] = field(default_factory=list)
    """What was found broken since the last outcome; the folder's `report` adds to it."""
    ceiling: int = field(init=False)
    """Most pictures made together: halved when memory runs out, for the rest of the run."""
    _plain: set[tuple[str, int]] = field(default_factory=set, init=False)
    """Sampler and steps of the cells that the engine cannot make."""
    _cold: dict[str, float | Failure] = field(default_factory=dict, init=False)
    """Cell's key -> the process's first call, where this cell made it."""

    def __post_init__(self) -> None:
        self.ceiling = self.bench.plan.hardware.batch

    def twin(self) -> Worker:
        """The same worker for another thread; what either learns of samplers and first calls both know."""
        notes: list[str] = []
        folder = RunFolder(self.bench.folder.root, notes.append)
        twin = Worker(self.bench.twin(folder), self.mirror, notes)
        twin._plain, twin._cold = self._plain, self._cold
        return twin

    def needs_all(self, task: Task) -> bool:
        """Whether the task must not share the machine: it times something, or goes the plain path."""
        cell = self.bench.cells[task.cell]
        bench = self.bench.at(cell)
        if isinstance(task, Finish):
            return bench.plan.hardware.timed
        untold = bench.plan.hardware.timed and not bench.cold.told(bench.generator, cell)
        return untold or bench.engine is None or not self._linear(bench.engine, cell)

    def describe(self) -> Described:
        bench = self.bench
        return Described(
            bench.cells,
            tuple(bench.at(cell).generator.model_evals(cell.sampler, cell.steps) for cell in bench.cells),
            bench.setup,
            bench.scorer.digest,
            bench.generator.device_name,
            bench.environment,
            (*bench.scorer.notes, *bench.notes),
        )

    def run(self, task: Task, on_part: OnPart, upcoming: Sequence[Make] = ()) -> Outcome:
        """Do the task; whatever goes wrong is in the outcome.

        Args:
            upcoming: batches that this worker will be given next.
        """
        cell, start = self.bench.cells[task.cell], time.monotonic()
        result, failed, fatal = None, None, None
        try:
            if self.mirror is not None:
                self.mirror.pull(self.bench.folder.cell_folder(cell.key))
            if isinstance(task, Make):
                self._make(cell, task, on_part, upcoming)
            else:
                result = self._finish(cell, task, on_part)
            if self.mirror is not None:
                self.mirror.push(self.bench.folder.cell_folder(cell.key), self._fresh(cell, task))
        except RunFolderError as error:
            fatal = str(error)
        except Exception as error:  # one scheduler's bug must not cost the other cells
            failed = self._reason(cell, error)
        notes, self.notes[:] = tuple(self.notes), []
        return Outcome(task, time.monotonic() - start, result, failed, fatal, notes)

    def _reason(self, cell: Cell, error: Exception) -> str:
        if isinstance(error, SdkitError):
            return " ".join(str(error).split())
        trace = "".join(traceback.format_exception(error))
        write_atomic(self.bench.folder.cell_folder(cell.key) / "error.txt", trace.encode())
        return f"{type(error).__name__}: {error}".splitlines()[0]

    def _make(self, cell: Cell, task: Make, on_part: OnPart, upcoming: Sequence[Make]) -> None:
        """Make a batch and look at it; one that is on disk is only looked at again."""
        import torch

        folder, scorer = self.bench.folder, self.bench.scorer
        folder.open_cell(cell)
        record = folder.read_batch(cell, task.start, task.stop)
        if record is not None and record.look == scorer.digest:
            return
        if record is not None:
            pixels = folder.read_images(cell, task.start, task.stop)
            if pixels is not None:
                seen = scorer.look(pixels, task.start)
                folder.write_record(cell, replace(record, look=scorer.digest, seen=seen))
                return
        self._first_call(cell)
        parts = self._flown(cell, task, on_part, upcoming) or self._parts(cell, task, on_part)
        pixels, seconds = torch.cat([part.images for part in parts]), sum(map(_seconds, parts))
        seen = scorer.look(pixels, task.start)
        latents = self._latents(cell, task, parts)
        made = BatchRecord(task.start, task.stop, (), scorer.digest, seconds, seen, latents)
        folder.write_batch(cell, made, pixels)

    def _first_call(self, cell: Cell) -> float | Failure:
        """What the first call of this process took, told by the cell that begins."""
        if cell.key not in self._cold:
            bench = self.bench.at(cell)
            self._cold[cell.key] = bench.cold.first(
                bench.generator, bench.plan.prompts.texts, cell, bench.plan.hardware
            )
        return self._cold[cell.key]

    def _flown(self, cell: Cell, task: Make, on_part: OnPart, upcoming: Sequence[Make]) -> list[Batch] | None:
        """The batch by the shared engine; None where only the plain path can make it."""
        bench = self.bench.at(cell)
        engine = bench.engine
        if engine is None or not self._linear(engine, cell):
            return None
        evals = bench.generator.model_evals(cell.sampler, cell.steps)
        following = [
            bench.asked(bench.cells[each.cell], each.start, each.stop)
            for each in upcoming
            if bench.cells[each.cell].precision == cell.precision
            and bench.folder.read_batch(bench.cells[each.cell], each.start, each.stop) is None
        ]
        try:
            return [
                engine.make(
                    bench.asked(cell, task.start, task.stop),
                    following,
                    lambda call: on_part(task, min(1.0, call / evals)),
                )
            ]
        finally:
            self.notes += [f"{cell.label}: {note}" for note in engine.notes]
            engine.notes.clear()

    def _fly(self, cell: Cell, count: int) -> tuple[Tensor, Tensor] | None:
        """Latents and pictures of the cell's first ones by the shared engine, whose batches under way go on beside.

        None where only the plain path can make them.
        """
        bench = self.bench.at(cell)
        engine = bench.engine
        if engine is None or not self._linear(engine, cell):
            return None
        flown = engine.make(bench.asked(cell, 0, count), engine.flying)
        return flown.latents, flown.images

    def _linear(self, engine: Engine, cell: Cell) -> bool:
        """Whether the engine can run the cell's sampler; where it cannot, the log says so once."""
        if (cell.sampler, cell.steps) in self._plain:
            return False
        try:
            engine.plan(cell)
        except NotLinear as error:
            self._plain.add((cell.sampler, cell.steps))
            self.notes.append(f"{cell.label}: the plain path was taken: {error}")
            return False
        return True

    def _parts(self, cell: Cell, task: Make, on_part: OnPart) -> list[Batch]:
        """The batch by the plain path, in as many parts as memory asks for."""
        parts: list[Batch] = []
        start = task.start
        evals = self.bench.at(cell).generator.model_evals(cell.sampler, cell.steps)
        while start < task.stop:
            stop = min(start + self.ceiling, task.stop)
            share, before = (stop - start) / (task.stop - task.start), start - task.start

            def on_call(call: int, share: float = share, before: int = before) -> None:
                done = before / (task.stop - task.start) + share * min(1.0, call / evals)
                on_part(task, done)

            try:
                parts.append(self._sample(cell, start, stop, on_call))
            except OutOfMemory:
                if stop - start == 1:
                    raise
                self.ceiling = (stop - start) // 2
                self.notes.append(
                    f"{cell.label}: out of memory with {stop - start} pictures at once; {self.ceiling} from here on"
                )
                continue
            start = stop
        return parts

    def _sample(self, cell: Cell, start: int, stop: int, on_call: Callable[[int], None]) -> Batch:
        bench = self.bench.at(cell)
        made: Batch = bench.generator.sample(
            bench.text_rows(start, stop),
            sampler=cell.sampler,
            steps=cell.steps,
            guidance_scale=cell.guidance,
            guidance_interval=cell.guidance_interval,
            seeds=cell.seeds(start, stop),
            width=cell.width,
            height=cell.height,
            on_call=on_call,
        )
        return made

    def _latents(self, cell: Cell, task: Make, parts: list[Batch]) -> Array | None:
        wanted = (self.bench.converged.count(cell) if self.bench.converged else 0) - task.start
        if wanted < 1 or any(part.latents is None for part in parts):
            return None
        import torch

        found = torch.cat([part.latents for part in parts if part.latents is not None])[:wanted]
        return found.numpy()

    def _finish(self, cell: Cell, task: Finish, on_part: OnPart) -> CellResult:
        """Score, measure and write down a cell whose batches are all there."""
        bench = self.bench.at(cell)
        records = bench.folder.read_batches(cell)
        parts = [record.seen for record in records if record.seen and record.look == bench.scorer.digest]
        if sum(part.n for part in parts) != cell.count:
            raise GenerationError(
                f"{cell.label}: pictures that were whole are no longer; the same command makes them again"
            )
        cold = self._first_call(cell)
        seen = gather(parts)
        converged = None
        if bench.converged:
            converged = bench.converged.measure(cell, self._first(cell, records), self._fly)
        scored = cell_scores(seen, bench.scorer.rules, converged)
        on_part(task, 0.1)
        measured = measure_cell(
            bench.generator,
            bench.plan.prompts.texts,
            cell,
            bench.plan.hardware,
            cold=cold,
            beside_bytes=bench.scorer.device_bytes + bench.beside_bytes,
        )
        self._film(cell)  # before the cell is whole, or a kill between the two would leave it without
        seconds = [record.generate_s for record in records]
        result = CellResult(
            cell=cell,
            device=bench.generator.device_name,
            model_evals=bench.generator.model_evals(cell.sampler, cell.steps),
            scores=scored.scores,
            measured=doubt_memory(measured, len(bench.precise)),
            generate_s=None if None in seconds else sum(each for each in seconds if each is not None),
        )
        bench.folder.write_cell(result, _image_rows(bench, cell, seen, scored), bench.setup)
        return result

    def _film(self, cell: Cell) -> None:
        """Draw the cell's filmstrips; where that fails the cell stands without, and the log says why."""
        bench = self.bench.at(cell)
        place = bench.folder.cell_folder(cell.key)
        try:
            make_film(bench.generator, bench.text_rows, cell, bench.plan.report, place)
        except RunFolderError:
            raise
        except Exception as error:  # a sampler's bug, or no memory for one picture more
            said = str(error) if isinstance(error, SdkitError) else f"{type(error).__name__}: {error}"
            self.notes.append(f"{cell.label}: no filmstrip: {' '.join(said.split())}")

    def _fresh(self, cell: Cell, task: Task) -> tuple[str, ...]:
        """Files that the task may have written anew, which the storage may hold of an earlier time."""
        if isinstance(task, Make):
            return tuple(f"images/{index:05d}.png" for index in range(task.start, task.stop))
        place = self.bench.folder.cell_folder(cell.key)
        return tuple(f"film/{path.name}" for path in (place / "film").glob("*") if path.name[0] != ".")

    def _first(self, cell: Cell, records: tuple[BatchRecord, ...]) -> tuple[Tensor, Tensor] | None:
        """Latents and pictures of the cell's first ones, as its records hold them; None where they do not."""
        import torch

        assert self.bench.converged is not None
        count = self.bench.converged.count(cell)
        held = [record.latents for record in records if record.start < count]
        if count < 1 or any(each is None for each in held):
            return None
        latents = torch.cat([torch.from_numpy(each) for each in held if each is not None])
        images = self.bench.folder.read_images(cell, 0, count)
        return None if images is None or len(latents) < count else (latents[:count], images)


def _seconds(part: Batch) -> float:
    return part.denoise_s + part.decode_s


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
