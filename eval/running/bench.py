"""Everything that stays the same over the grid, made ready and checked before the first picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from eval.accelerations import finest
from eval.records import Cell, Plan, PromptSet, digest
from eval.running.atomic import require_space
from eval.running.cold import ColdCalls
from eval.running.common_calls import CommonCalls
from eval.running.converged import ConvergedRuns
from eval.running.engine import Engine
from eval.running.environment import environment
from eval.running.flight import Asked
from eval.running.generator import Generator
from eval.running.grid import grid_cells
from eval.running.precision import Loaded, ModelOptions, held_bytes, model_options, refuse_precision
from eval.running.progress import counting
from eval.running.store import RunFolder
from eval.scoring.catalogue import CATALOGUE
from eval.scoring.metric import Needs
from eval.scoring.reference_cache import ReferenceCache
from eval.scoring.references import open_reference
from eval.scoring.scorer import Scorer, load_scorer
from sdkit._compile import MODES
from sdkit._errors import InvalidRequest


@dataclass(frozen=True)
class Bench:
    """A model with its prompts encoded, a scorer with its reference, and the folder that results go to."""

    plan: Plan
    generator: Generator[Any]
    text: Any
    """The encoded prompts, all of them, once: one row a prompt, not a picture."""
    scorer: Scorer
    folder: RunFolder
    cells: tuple[Cell, ...]
    environment: dict[str, str]
    converged: ConvergedRuns | None
    """None where nothing is measured against a converged run."""
    engine: Engine | None = None
    """None where every batch goes the plain path."""
    notes: tuple[str, ...] = ()
    """Why the engine that was asked for is not there."""
    cold: ColdCalls = field(default_factory=ColdCalls)
    """Which first calls this process has made."""
    precise: Mapping[str, Loaded] = field(default_factory=dict)
    """The model by precision, where the grid has such an axis; `generator` is then the finest of them."""
    beside_bytes: int = 0
    """What other precisions of the model hold on the GPU."""

    def at(self, cell: Cell) -> Bench:
        """The bench that a cell is made on: with the model, and its text, in the cell's precision."""
        if cell.precision is None:
            return self
        own = self.precise[cell.precision]
        others = sum(each.held_bytes for each in self.precise.values() if each is not own)
        return replace(self, generator=own.generator, text=own.text, engine=own.engine, beside_bytes=others)

    def twin(self, folder: RunFolder) -> Bench:
        """The same bench for another thread, which has engines of its own and reports what it finds elsewhere."""
        precise = {
            name: replace(each, engine=None if each.engine is None else each.engine.twin())
            for name, each in self.precise.items()
        }
        engine = None if self.engine is None else self.engine.twin()
        return replace(self, folder=folder, engine=engine, precise=precise)

    def text_rows(self, start: int, stop: int) -> Any:
        """The encoded prompts of the pictures `start`..`stop - 1`."""
        return rows_of(self.text, self.plan.prompts, start, stop)

    def asked(self, cell: Cell, start: int, stop: int) -> Asked:
        """The pictures `start`..`stop - 1` of a cell, as the engine takes them."""
        each = self.plan.prompts.seeds_per_prompt
        return Asked(cell, start, stop, tuple(index // each for index in range(start, stop)))

    @property
    def setup(self) -> str:
        """Digest of what decides scores and costs beside the pixels; a cell of another is done again."""
        return digest([self.scorer.digest, self.plan.hardware.asked, self.generator.device_name])


def open_session(plan: Plan, options: ModelOptions | None = None) -> Generator[Any]:
    """The plan's model in a `sdkit.Session`, its weights read. Raises SdkitError as that does.

    Args:
        options: of a precision; None is the plan's own dtype.
    """
    from sdkit import Session

    options = options or ModelOptions(plan.model.dtype)
    session = Session(
        plan.model.source,
        device=plan.model.device,
        dtype=options.dtype,
        quantise=options.quantise,
        compile=plan.hardware.compile,
    )
    session.check_size(plan.model.width, plan.model.height)
    for interval in plan.grid.guidance_intervals:
        session.check_interval(interval)
    session.load()
    return session


def prepare(plan: Plan, folder: RunFolder, generator: Generator[Any] | None = None) -> Bench:
    """Load the model and the scorer, encode the prompts, take the reference's moments.

    Args:
        generator: the plan's model, where it is read already; for a grid without an axis of precisions.

    Raises:
        SdkitError: anything that can be known to be wrong before the first picture.
    """
    import torch

    if plan.hardware.threads is not None:
        torch.set_num_threads(plan.hardware.threads)
    precise = _precise(plan)
    if precise:
        generator = precise[finest(plan.grid.precisions)].generator
    generator = generator or open_session(plan)
    cells = grid_cells(plan, generator)
    require_space(folder.root, _bytes_needed(cells))
    scorer = _scorer(plan, generator, folder, (cells[0].width, cells[0].height))
    text = generator.encode(plan.prompts.texts, negative_prompt=plan.model.negative_prompt)
    converged = None
    if plan.metrics.converged is not None:
        converged = ConvergedRuns(
            plan.metrics.converged,
            generator,
            _rows_by(text, plan.prompts),
            folder.root / "converged",
            {name: (each.generator, _rows_by(each.text, plan.prompts)) for name, each in precise.items()},
        )
    found = environment(generator.device_name)
    found["prompts cut by the model's text encoder"] = f"{len(text.truncated)} of {len(text)}"
    found["prompts cut by the scorer's text encoder"] = (
        f"{scorer.clip.truncated(plan.prompts.texts)} of {len(text)}"
    )
    engine, notes = _engine(plan, generator, text, cells)
    return Bench(
        plan, generator, text, scorer, folder, cells, found, converged, engine, notes, precise=precise
    )


def _engine(
    plan: Plan, generator: Any, text: Any, cells: Iterable[Cell]
) -> tuple[Engine | None, tuple[str, ...]]:
    """The shared engine where it is asked for and the model can do it; else why it cannot."""
    asked = plan.execution.engine
    if asked.kind != "shared":
        return None, ()
    try:
        denoiser = generator.denoiser(text, width=plan.model.width, height=plan.model.height)
    except InvalidRequest as error:
        return None, (f"engine=percell was taken: {error}",)
    rows, mode = asked.rows or 2 * plan.hardware.batch, MODES[getattr(generator, "compile", "off")]
    common = CommonCalls() if asked.share_first_calls else None
    engine = Engine(generator, denoiser, rows, common, one_shape=mode.compiles)
    engine.expect(cells)
    return engine, ()


def _precise(plan: Plan) -> dict[str, Loaded]:
    """The model in every precision of the axis, all refused ones told before the first is read."""
    for name in plan.grid.precisions:
        refuse_precision(name, plan.model.device)
    found: dict[str, Loaded] = {}
    for name in plan.grid.precisions:
        before = held_bytes(plan.model.device)
        generator = open_session(plan, model_options(name))
        held = held_bytes(plan.model.device) - before
        text = generator.encode(plan.prompts.texts, negative_prompt=plan.model.negative_prompt)
        cells = [cell for cell in grid_cells(plan, generator) if cell.precision == name]
        found[name] = Loaded(generator, text, held, _engine(plan, generator, text, cells)[0])
    return found


def rows_of(text: Any, prompts: PromptSet, start: int, stop: int) -> Any:
    """The encoded prompts of the pictures `start`..`stop - 1`: all pictures of a prompt stand together."""
    return text.take([index // prompts.seeds_per_prompt for index in range(start, stop)])


def _rows_by(text: Any, prompts: PromptSet) -> Callable[[int, int], Any]:
    return lambda start, stop: rows_of(text, prompts, start, stop)


def _scorer(plan: Plan, generator: Generator[Any], folder: RunFolder, size_px: tuple[int, int]) -> Scorer:
    asked = {CATALOGUE[name].needs for name in plan.metrics.scores}
    needed = bool(asked & {Needs.REFERENCE, Needs.REFERENCE_FEATURES})
    reference = open_reference(plan.reference) if needed else None
    passes = len(plan.metrics.extractors)
    with counting("reference pictures", reference.count * passes if reference else 0) as bar:
        scorer = load_scorer(
            plan.metrics,
            plan.prompts,
            reference,
            device=generator.device,
            size_px=size_px,
            cache=ReferenceCache.at(plan.reference.cache),
            on_reference=bar.update,
        )
    for against in scorer.rules.against:
        folder.write_reference(against.extractor, against.moments)
    return scorer


def _bytes_needed(cells: tuple[Cell, ...]) -> int:
    """Half of the raw pixels, which is what PNG makes of photographs, and 16 kB a picture for the rest."""
    return sum(cell.count * (cell.width * cell.height * 3 // 2 + 16_384) for cell in cells)
