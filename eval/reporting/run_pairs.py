"""Settings of two runs that were asked for alike: what pairs off, and what only one of them has. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.accelerations import Point
from eval.records import Cell, CellResult, ImageRow, Plan, Run
from eval.reporting.shared_rows import Array
from eval.scoring.moments import Moments

Asked = tuple[object, ...]
_PARTS = ("sampler", "steps", "guidance", "size", "prompts", "pictures", "seeds", "negative prompt",
          "guidance interval", "precision")  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One of the runs that are compared, and where its features and pictures are read from."""

    letter: str
    """"a" is the baseline."""
    name: str
    """Of its folder."""
    run: Run
    folder: Path
    features: Callable[[str], Mapping[str, Array]]
    """Cell key -> extractor -> (N, D) float32. Raises SdkitError where they cannot be read."""
    reference: Callable[[str], Moments | None]
    """Extractor -> the reference's moments. Raises SdkitError likewise."""


@dataclass(frozen=True)
class CellPair:
    """One setting in both runs."""

    before: CellResult
    after: CellResult
    rows_before: tuple[ImageRow, ...]
    rows_after: tuple[ImageRow, ...]

    @property
    def label(self) -> str:
        """ "sampler · steps · guidance"."""
        return self.before.cell.label

    @property
    def failed(self) -> str | None:
        """Why there is nothing to compare; None where both have a result."""
        if self.before.error is not None:
            both = " in both runs" if self.after.error is not None else " in the baseline"
            return f"the cell failed{both}: {self.before.error}"
        return None if self.after.error is None else f"the cell failed: {self.after.error}"


@dataclass(frozen=True)
class Alone:
    """A setting that only one of the runs has."""

    letter: str
    """Whose it is."""
    label: str
    why: str
    unfinished: bool
    """True where the other run was asked for it too, and has not made it."""


@dataclass(frozen=True)
class RunPairs:
    """What two runs have in common."""

    pairs: tuple[CellPair, ...]
    alone: tuple[Alone, ...]
    sizes_differ: bool
    """True where two models were paired, each at its one size: pairs then share no noise."""


def pair_runs(before: Side, after: Side) -> RunPairs:
    """The settings of the two by what was asked: model, library, device and number format may differ.

    Sampler, steps, guidance, its interval, a precision of the grid's axis, size, prompts, seeds and negative prompt
    are alike in a pair. Two models that were
    each run at one size, their own, pair off at different sizes.
    """
    sized = not _two_sizes(before.run, after.run)
    ours, theirs = _by_asked(before.run, sized), _by_asked(after.run, sized)
    pairs = tuple(
        CellPair(
            result,
            theirs[asked],
            tuple(before.run.images.get(result.cell.key, ())),
            tuple(after.run.images.get(theirs[asked].cell.key, ())),
        )
        for asked, result in ours.items()
        if asked in theirs
    )
    alone = (*_alone(before, after, ours, theirs), *_alone(after, before, theirs, ours))
    return RunPairs(pairs, alone, not sized)


def _two_sizes(before: Run, after: Run) -> bool:
    """Whether two models stand at one size each, and those are not the same."""
    sizes = [{(each.cell.width, each.cell.height) for each in run.results} for run in (before, after)]
    models = [{each.cell.model_fingerprint for each in run.results} for run in (before, after)]
    return len(sizes[0]) == len(sizes[1]) == 1 and sizes[0] != sizes[1] and models[0] != models[1]


def _by_asked(run: Run, sized: bool) -> dict[Asked, CellResult]:
    return {_asked(result.cell, sized): result for result in run.results}


def _asked(cell: Cell, sized: bool) -> Asked:
    size = f"{cell.width} × {cell.height}" if sized else ""
    seeds = f"{cell.seed} for all" if cell.shared_seed else f"from {cell.seed}"
    return (
        cell.sampler, cell.steps, cell.guidance, size, cell.prompts_digest, cell.count, seeds, cell.negative_prompt,
        cell.guidance_interval, cell.precision,
    )  # fmt: skip


def _alone(
    mine: Side, other: Side, ours: Mapping[Asked, CellResult], theirs: Mapping[Asked, CellResult]
) -> Iterator[Alone]:
    for asked, result in ours.items():
        if asked not in theirs:
            near = [found for found in theirs if found[:3] == asked[:3]]
            unfinished = not near and _was_asked(other.run.plan, result.cell)
            yield Alone(
                mine.letter, result.cell.label, _why(other.letter, asked, near, unfinished), unfinished
            )


def _why(other: str, asked: Asked, near: Sequence[Asked], unfinished: bool) -> str:
    if unfinished:
        return f"{other} was asked for it and has not made it yet"
    if not near:
        return f"{other} was not asked for it"
    differ = [name for name, ours, theirs in zip(_PARTS, asked, near[0], strict=True) if ours != theirs]
    return f"{other} made it with different {' and '.join(differ)}"


def _was_asked(plan: Plan, cell: Cell) -> bool:
    grid = plan.grid
    return (
        Point(cell.sampler, cell.steps, cell.guidance, cell.guidance_interval, cell.precision) in grid.points
        and cell.prompts_digest == plan.prompts.digest
        and (cell.seed, cell.shared_seed) == (grid.seed, grid.shared_seed)
    )
