"""Everything that stays the same over the grid, made ready and checked before the first picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from eval.records import Cell, Plan, PromptSet, digest
from eval.running.atomic import require_space
from eval.running.cold import ColdCalls
from eval.running.converged import ConvergedRuns
from eval.running.environment import environment
from eval.running.generator import Generator
from eval.running.grid import grid_cells
from eval.running.progress import counting
from eval.running.store import RunFolder
from eval.scoring.catalogue import CATALOGUE
from eval.scoring.metric import Needs
from eval.scoring.reference_cache import ReferenceCache
from eval.scoring.references import open_reference
from eval.scoring.scorer import Scorer, load_scorer


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
    cold: ColdCalls = field(default_factory=ColdCalls)
    """Which first calls this process has made."""

    def text_rows(self, start: int, stop: int) -> Any:
        """The encoded prompts of the pictures `start`..`stop - 1`."""
        return rows_of(self.text, self.plan.prompts, start, stop)

    @property
    def setup(self) -> str:
        """Digest of what decides scores and costs beside the pixels; a cell of another is done again."""
        return digest([self.scorer.digest, asdict(self.plan.hardware), self.generator.device_name])


def open_session(plan: Plan) -> Generator[Any]:
    """The plan's model in a `sdkit.Session`, its weights read. Raises SdkitError as that does."""
    from sdkit import Session

    session = Session(plan.model.source, device=plan.model.device, dtype=plan.model.dtype)
    session.check_size(plan.model.width, plan.model.height)
    session.load()
    return session


def prepare(plan: Plan, folder: RunFolder, generator: Generator[Any] | None = None) -> Bench:
    """Load the model and the scorer, encode the prompts, take the reference's moments.

    Args:
        generator: the plan's model, where it is read already.

    Raises:
        SdkitError: anything that can be known to be wrong before the first picture.
    """
    import torch

    if plan.hardware.threads is not None:
        torch.set_num_threads(plan.hardware.threads)
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
            lambda start, stop: rows_of(text, plan.prompts, start, stop),
            folder.root / "converged",
        )
    found = environment(generator.device_name)
    found["prompts cut by the model's text encoder"] = f"{len(text.truncated)} of {len(text)}"
    found["prompts cut by the scorer's text encoder"] = (
        f"{scorer.clip.truncated(plan.prompts.texts)} of {len(text)}"
    )
    return Bench(plan, generator, text, scorer, folder, cells, found, converged)


def rows_of(text: Any, prompts: PromptSet, start: int, stop: int) -> Any:
    """The encoded prompts of the pictures `start`..`stop - 1`: all pictures of a prompt stand together."""
    return text.take([index // prompts.seeds_per_prompt for index in range(start, stop)])


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
