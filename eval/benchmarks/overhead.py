"""What a sweep costs beside its models: the share of its wall time in which none of them runs, and what does."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.benchmarks.clock import IMPORTS, REST
from eval.benchmarks.clocked_sweep import MODELS, WORK
from eval.benchmarks.inputs import NO_SPEED, compose, overrides_of
from eval.benchmarks.part import Asked, Column, Part, Row, median, ratio
from eval.benchmarks.turns import Turn, Way, take_turns

GOAL = 0.05
"""Share of the wall time without a model that a sweep should stay below."""
OUTSIDE = "the interpreter's start and end"
COLUMNS = (Column("seconds, median", ".2f"), Column("share of the whole, median", ".1%"))


@dataclass(frozen=True)
class Clocked:
    """One sweep, clocked."""

    wall_s: float
    """From the start of the process to its exit."""
    seconds: dict[str, float]
    """By label, on the host; they add up to what passed inside the process."""
    gpu_s: dict[str, float] | None
    """By model's label; None on a CPU."""
    quiet_s: float
    """Of the process's inside: in which no thread ran a model."""
    missing: tuple[str, ...]

    def of(self, label: str) -> float:
        """Seconds under a label: of a model on a GPU, the GPU's own."""
        if label == OUTSIDE:
            return max(0.0, self.wall_s - sum(self.seconds.values()))
        if self.gpu_s is not None and label in MODEL_LABELS:
            return self.gpu_s.get(label, 0.0)
        return self.seconds.get(label, 0.0)

    @property
    def without_models_s(self) -> float:
        """Wall time in which no model runs; on a GPU, which runs on by itself, what its events leave."""
        if self.gpu_s is not None:
            return self.wall_s - sum(self.gpu_s.values())
        return self.of(OUTSIDE) + self.quiet_s

    @property
    def beside_models_s(self) -> float:
        """What all else takes of the threads' time."""
        return self.wall_s - sum(self.of(label) for label in MODEL_LABELS)


MODEL_LABELS = tuple(dict.fromkeys(label for label, _ in MODELS))
OTHER_LABELS = (OUTSIDE, *dict.fromkeys((IMPORTS, *(label for label, _ in WORK), REST)))


def overhead(asked: Asked) -> Part:
    """The shares, as medians of several sweeps. Raises InvalidRequest as `overrides_of`."""
    overrides = overrides_of(asked)
    found: list[Clocked] = []

    def keep(way: Way, turn: Turn, own: Path) -> None:
        if turn.seconds is not None:
            told = json.loads((own / "clock.json").read_bytes())
            found.append(read(turn.seconds, told))

    def command(own: Path) -> Sequence[str]:
        clock, out = own / "clock.json", own / "out"
        return ("-m", "eval.benchmarks.clocked_sweep", str(clock), f"out={out}", *overrides, *NO_SPEED)

    with tempfile.TemporaryDirectory(prefix="sdkit-benchmark-") as scratch:
        taken = take_turns([Way("clocked", command, asked.runs)], Path(scratch), keep)
    plan = compose(overrides)
    size = f"{len(plan.grid.samplers) * len(plan.grid.steps) * len(plan.grid.guidances)} cells of "
    return table(found, f"{size}{len(plan.prompts.rows)} pictures", taken["clocked"].failure)


def read(wall_s: float, told: Mapping[str, Any]) -> Clocked:
    """What a clocked sweep has written."""
    return Clocked(wall_s, told["seconds"], told["gpu_s"], told["quiet_s"], tuple(told["missing"]))


def table(found: Sequence[Clocked], size: str, failure: str | None) -> Part:
    """The part of what the clocks told. Pure."""

    def row(label: str, seconds: Sequence[float]) -> Row:
        shares = [ratio(each, run.wall_s) for each, run in zip(seconds, found, strict=True)]
        return Row(label, (median(seconds), median(shares)), None if found else failure)

    rows = [row(label, [run.of(label) for run in found]) for label in (*MODEL_LABELS, *OTHER_LABELS)]
    rows.append(row("all beside the models", [run.beside_models_s for run in found]))
    rows.append(row("**without a model**", [run.without_models_s for run in found]))
    rows.append(row("the whole", [run.wall_s for run in found]))
    share = rows[-2].values[1]
    goal = "is not known" if share is None else f"is {'met' if share <= GOAL else 'MISSED'} at {share:.1%}"
    notes = [f"the goal of at most {GOAL:.0%} without a model {goal}"]
    notes += [
        f"not clocked, for it is not there: {each}" for each in sorted({m for r in found for m in r.missing})
    ]
    if any(run.gpu_s is not None for run in found):
        notes.append("models by the GPU's events; all else by the host's clock, which overlaps with them")
    return Part(
        name="overhead",
        title="What a sweep costs beside its models",
        told=f"{size}, ours without its separate measurement of speed and without filmstrips. Each moment is "
        "charged, in equal parts, to the innermost call that each thread at work is in: a decoder's to the decoder, "
        "not to the engine that calls it. *all beside the models* is what is not denoiser, decoder, text encoder or "
        "scorer; *without a model* is the wall time in which no thread runs one of these. Both hold the clock's own "
        "cost.",
        label="what",
        columns=COLUMNS,
        rows=tuple(rows),
        notes=tuple(notes),
        samples={"seconds: the whole": tuple(run.wall_s for run in found)},
    )
