"""Images a second of Stable Diffusion 1.5 and SDXL: diffusers, diffusers compiled, and ours, with their MFU.

Random weights of the true architecture, bfloat16, on a GPU; without one, small models in float32 on the CPU, which show
that it works and nothing else; there nothing is compiled, for that takes many minutes. Each way is a process of its
own, in turns. A process warms up with one whole batch at the same step count, and what it compiles is compiled in that;
then come the timed batches, the device synchronised before every reading of the clock.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.benchmarks.image_ways import COMPILED, EAGER, OURS, Batches, Shape
from eval.benchmarks.part import Asked, Column, Part, Row, median, ratio
from eval.benchmarks.turns import Turn, Way, run_once, take_turns

BUILD, MEASURE = "eval.running.benchmarks.gpu_rows", "eval.benchmarks.image_ways"
WAYS = (EAGER, COMPILED, OURS)
STEPS = 20
LARGE = {"sd15": (7.5, 32, 512), "sdxl": (8.0, 16, 1024)}
"""Guidance, batch and side of each model; SDXL as MLPerf runs it."""
SMALL = {name: (guidance, 2, 64) for name, (guidance, _, _) in LARGE.items()}
COLUMNS = (
    Column("batch", ".0f"),
    Column("images/s, median", ".3f"),
    Column("times diffusers", ".2f"),
    Column("TFLOP an image", ".3f"),
    Column("MFU", ".1%"),
)


@dataclass(frozen=True)
class Measured:
    """All turns of one way with one model."""

    model: str
    way: str
    shape: Shape
    batches: tuple[Batches, ...]
    """Of the turns that did not fail."""
    failure: str | None

    @property
    def images_per_s(self) -> float | None:
        each = median(second for found in self.batches for second in found.seconds)
        return ratio(self.shape.batch, each)


def images(asked: Asked) -> Part:
    """Every model, every way, in turns; a model is built once, in a process of its own."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    small = device == "cpu"
    found: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="sdkit-benchmark-") as scratch:
        for name, (guidance, batch, side) in (SMALL if small else LARGE).items():
            folder = Path(scratch) / name
            shape = Shape(
                str(folder), device, "float32" if small else "bfloat16", side, STEPS, guidance, batch
            )
            built = run_once(_build(name, folder, shape, small=small))
            if built.failure is not None:
                found += [Measured(name, way, shape, (), built.failure) for way in WAYS]
            else:
                found += _measured(name, shape, asked.runs, Path(scratch) / f"{name}-turns")
    return table(found, device)


def _build(name: str, folder: Path, shape: Shape, *, small: bool) -> tuple[str, ...]:
    options = ("--one", name, "--build", str(folder), "--device", shape.device, "--dtype", shape.dtype)
    return ("-m", BUILD, *options, "--out", str(folder), *(("--small",) if small else ()))


def _measured(name: str, shape: Shape, runs: int, folder: Path) -> list[Measured]:
    from eval.running.serial import decode

    kept: dict[str, list[Batches]] = {way: [] for way in WAYS}

    def keep(way: Way, turn: Turn, own: Path) -> None:
        if turn.failure is None:
            kept[way.name].append(decode(Batches, json.loads(turn.printed.splitlines()[-1])))

    tried = [way for way in WAYS if way != COMPILED or shape.device == "cuda"]
    taken = take_turns([Way(way, _command(way, shape), runs) for way in tried], folder, keep)
    failures = {way: taken[way].failure if way in taken else "not compiled on a CPU" for way in WAYS}
    return [Measured(name, way, shape, tuple(kept[way]), failures[way]) for way in WAYS]


def _command(way: str, shape: Shape) -> Callable[[Path], Sequence[str]]:
    return lambda own: ("-m", MEASURE, way, json.dumps(asdict(shape)))


def table(found: Sequence[Measured], device: str) -> Part:
    """The part of what was measured. MFU holds every way against the operations that ours makes of one image."""
    rehearsal = " SMALL MODELS ON A CPU: a rehearsal, whose figures say nothing of the real ones."
    kind = rehearsal if device == "cpu" else ""
    return Part(
        name="images",
        title="Images a second of Stable Diffusion 1.5 and SDXL",
        told=f"Random weights, Euler, {STEPS} steps, guidance 7.5 (sd15, 512 px) and 8 (sdxl, 1024 px), in turns."
        f"{kind} The medians are over all timed batches of all turns; *compiled* is `torch.compile` of the denoiser "
        "and the decoder, its compilation not timed. MFU is the operations of one picture, as torch counts them in "
        "ours, times images/s over the device's published peak.",
        label="model and way",
        columns=COLUMNS,
        rows=tuple(_row(each, found) for each in found),
        samples={
            f"seconds a batch: {e.model}, {e.way}": sum((b.seconds for b in e.batches), ()) for e in found
        },
    )


def _row(mine: Measured, found: Sequence[Measured]) -> Row:
    same = [each for each in found if each.model == mine.model]
    base = next((each.images_per_s for each in same if each.way == EAGER), None)
    flops = next((b.flops_per_image for e in same for b in e.batches if b.flops_per_image is not None), None)
    peak = next((b.peak_flops_per_s for b in mine.batches), None)
    done = None if flops is None or mine.images_per_s is None else flops * mine.images_per_s
    untold = next((b.reason for b in mine.batches if b.reason is not None), None)
    values = (
        float(mine.shape.batch),
        mine.images_per_s,
        ratio(mine.images_per_s, base),
        None if flops is None else flops / 1e12,
        ratio(done, peak),
    )
    return Row(f"{mine.model}, {mine.way}", values, mine.failure or untold)
