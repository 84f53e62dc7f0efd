"""What a sweep costs beside its models: the share of its wall time in which none of them runs, and what does."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eval.benchmarks.clock import IMPORTS, REST
from eval.benchmarks.clocked_sweep import MODELS, WORK
from eval.benchmarks.inputs import NO_SPEED, PIPELINE, compose, overrides_of
from eval.benchmarks.part import Asked, Column, Part, Row, median, ratio
from eval.benchmarks.turns import Turn, Way, take_turns

GOAL = 0.05
"""Share of the wall time without a model that a sweep should stay below."""
OUTSIDE = "the interpreter's start and end"
SIZES = (1, 4)
"""Times the prompts: what a sweep pays once is a smaller share of a larger one."""
BARE = "diffusers alone, until it has read the model"
_READ = """
import os, sys
from diffusers import DiffusionPipeline
DiffusionPipeline.from_pretrained(sys.argv[1])
os._exit(0)
"""
"""It ends as a sweep does, without taking its modules apart."""


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
    plan = compose(overrides)
    each, count = plan.prompts.seeds_per_prompt, len(plan.prompts.texts)
    cells = len(plan.grid.samplers) * len(plan.grid.steps) * len(plan.grid.guidances)
    sizes = {
        f"{cells} cells of {factor * count * each} pictures": (*overrides, f"prompts.count={factor * count}")
        for factor in SIZES
    }
    found: dict[str, list[Clocked]] = {size: [] for size in sizes}

    def keep(way: Way, turn: Turn, own: Path) -> None:
        if way.name in found and turn.seconds is not None:
            told = json.loads((own / "clock.json").read_bytes())
            found[way.name].append(read(turn.seconds, told))

    ways = [Way(size, _clocked(its_own), asked.runs) for size, its_own in sizes.items()]
    ways.append(Way(BARE, lambda own: ("-c", _READ, _folder(plan.model.source)), asked.runs))
    with tempfile.TemporaryDirectory(prefix="sdkit-benchmark-") as scratch:
        taken = take_turns(ways, Path(scratch), keep)
    failures = {name: each.failure for name, each in taken.items() if each.failure is not None}
    return table(found, taken[BARE].seconds, failures)


def _clocked(overrides: Sequence[str]) -> Callable[[Path], Sequence[str]]:
    words = ("-m", "eval.benchmarks.clocked_sweep")
    return lambda own: (*words, str(own / "clock.json"), f"out={own / 'out'}", *overrides, *NO_SPEED)


def _folder(source: str) -> str:
    """What diffusers calls the model."""
    return str(PIPELINE) if source == "shapes" else source


def read(wall_s: float, told: Mapping[str, Any]) -> Clocked:
    """What a clocked sweep has written."""
    return Clocked(wall_s, told["seconds"], told["gpu_s"], told["quiet_s"], tuple(told["missing"]))


def table(
    found: Mapping[str, Sequence[Clocked]], bare_s: Sequence[float], failures: Mapping[str, str]
) -> Part:
    """The part of what the clocks told. Pure.

    Args:
        found: by the sweep's size.
        bare_s: what diffusers alone took to read the model, a turn each.
        failures: why a way has no figures, by size, or `BARE`.
    """

    def row(label: str, seconds: Callable[[Clocked], float]) -> Row:
        values: list[float | None] = []
        for runs in found.values():
            taken = [seconds(run) for run in runs]
            shares = [ratio(each, run.wall_s) for each, run in zip(taken, runs, strict=True)]
            values += [median(taken), median(shares)]
        return Row(label, tuple(values))

    rows = [row(label, partial(_under, label)) for label in (*MODEL_LABELS, *OTHER_LABELS)]
    rows.append(row("all beside the models", lambda run: run.beside_models_s))
    rows.append(row("**without a model**", lambda run: run.without_models_s))
    rows.append(row("the whole", lambda run: run.wall_s))
    bare = median(bare_s)
    wholes = rows[-1].values[::2]
    beside = [value for whole in wholes for value in (bare, ratio(bare, whole))]
    rows.append(Row(BARE, tuple(beside)))
    notes = [_judged(size, share) for size, share in zip(found, rows[-3].values[1::2], strict=True)]
    notes += [f"{name}: {failure}" for name, failure in failures.items()]
    everyone = [run for runs in found.values() for run in runs]
    notes += [
        f"not clocked, for it is not there: {each}"
        for each in sorted({m for r in everyone for m in r.missing})
    ]
    if any(run.gpu_s is not None for run in everyone):
        notes.append("models by the GPU's events; all else by the host's clock, which overlaps with them")
    return Part(
        name="overhead",
        title="What a sweep costs beside its models",
        told="Ours without its separate measurement of speed and without filmstrips, at two sizes. Each moment is "
        "charged, in equal parts, to the innermost call that each thread at work is in: a decoder's to the decoder, "
        "not to the engine that calls it. *all beside the models* is what is not denoiser, decoder, text encoder or "
        "scorer; *without a model* is the wall time in which no thread runs one of these. Both hold the clock's own "
        f"cost. *{BARE}* is a process of its own, which imports diffusers, reads the model and ends at once.",
        label="what",
        columns=tuple(
            column
            for size in found
            for column in (Column(f"{size}, seconds", ".2f"), Column("share of the whole", ".1%"))
        ),
        rows=tuple(rows),
        notes=tuple(notes),
        samples={f"seconds: {size}": tuple(run.wall_s for run in runs) for size, runs in found.items()}
        | {f"seconds: {BARE}": tuple(bare_s)},
    )


def _under(label: str, run: Clocked) -> float:
    return run.of(label)


def _judged(size: str, share: float | None) -> str:
    goal = "is not known" if share is None else f"is {'met' if share <= GOAL else 'MISSED'} at {share:.1%}"
    return f"{size}: the goal of at most {GOAL:.0%} without a model {goal}"
