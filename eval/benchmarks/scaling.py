"""What a sweep costs as it grows: one of cells, prompts and steps at a time, the others as in the smallest."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval.benchmarks.inputs import NO_SPEED, sweep_command
from eval.benchmarks.part import Asked, Column, Part, Row, ratio
from eval.benchmarks.turns import Taken, Way, take_turns

COLUMNS = (
    Column("cells", ".0f"),
    Column("prompts", ".0f"),
    Column("steps", ".0f"),
    Column("rows through the denoiser", ".0f"),
    Column("seconds, median", ".1f"),
    Column("more than the smallest, ms a row more", ".2f"),
)


@dataclass(frozen=True)
class Size:
    """A sweep of DDIM with guidance, one guidance scale a cell."""

    cells: int = 1
    prompts: int = 32
    steps: int = 2

    @property
    def denoiser_rows(self) -> int:
        """Guided: two rows an evaluation."""
        return 2 * self.cells * self.prompts * self.steps

    @property
    def overrides(self) -> tuple[str, ...]:
        guidances = ",".join(f"{2 + 0.25 * cell:g}" for cell in range(self.cells))
        grid = ("grid.sampler=[ddim]", f"grid.steps=[{self.steps}]", f"grid.guidance=[{guidances}]")
        return (*grid, f"prompts.count={self.prompts}", "metrics.converged.count=0", *NO_SPEED)


def sizes(scale: float) -> tuple[Size, ...]:
    """The smallest, then each of the three grown alone; `scale` shrinks the prompts of all."""
    base = Size(prompts=max(2, round(32 * scale)))
    return (
        base,
        *(replace(base, cells=cells) for cells in (4, 16)),
        *(replace(base, prompts=base.prompts * times) for times in (4, 16)),
        *(replace(base, steps=base.steps * times) for times in (4, 16)),
    )


def scaling(asked: Asked) -> Part:
    """Seconds of sweeps of several sizes, in turns."""
    chosen = {
        f"{each.cells} cells, {each.prompts} prompts, {each.steps} steps": each for each in sizes(asked.scale)
    }
    ways = [Way(name, _command(size, asked), asked.runs) for name, size in chosen.items()]
    with tempfile.TemporaryDirectory(prefix="sdkit-benchmark-") as scratch:
        return table(chosen, take_turns(ways, Path(scratch)))


def table(chosen: Mapping[str, Size], taken: Mapping[str, Taken]) -> Part:
    """The part of what the turns took. Pure."""
    base = next(iter(chosen))
    rows = []
    for name, size in chosen.items():
        took = taken[name].median_s
        least = taken[base].median_s
        more = None if took is None or least is None else 1000 * (took - least)
        each = ratio(more, size.denoiser_rows - chosen[base].denoiser_rows)
        reason = taken[name].failure or ("it is the smallest" if name == base else None)
        values = (size.cells, size.prompts, size.steps, size.denoiser_rows, took, each)
        rows.append(Row(name, tuple(None if v is None else float(v) for v in values), reason))
    return Part(
        name="scaling",
        title="As a sweep grows",
        told="Ours, DDIM with guidance, a guidance scale a cell, without its separate measurement of speed, filmstrips "
        "and converged runs. Wall time of a process, the sizes in turns. The last column is what each row through "
        "the denoiser costs beside the fixed cost, with all that follows from it: decoding, scores, disk.",
        label="sweep",
        columns=COLUMNS,
        rows=tuple(rows),
        samples={f"seconds: {name}": each.seconds for name, each in taken.items()},
    )


def _command(size: Size, asked: Asked) -> Callable[[Path], Sequence[str]]:
    return lambda own: sweep_command(own / "out", (*asked.overrides, *size.overrides))
