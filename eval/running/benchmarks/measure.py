"""Throughput by `measure_cell` against a plain script, and the stages against the whole.

    python -m eval.running.benchmarks.measure [--runs 5] [--batch 16] [--steps 20] [--write]

Each run is two processes, one after the other, whose order changes from run to run. One measures the bundled model by
`measure_cell`, and then times its calls once more by hand, from outside. The other is the plain script: diffusers' own
pipeline of the same folder, the same prompts, sampler (DDIM), steps and guidance, channels last, a call to warm up and
the median of as many timed calls, nothing of ours in it. `--write` puts the table beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.records import Cell, HardwarePlan
from eval.running.serial import decode

MODULE = "eval.running.benchmarks.measure"
REPEATS = 5
GUIDANCE = 4.0
SIDE_PX = 64


@dataclass(frozen=True)
class Ours:
    """What one process measured by `measure_cell`."""

    images_per_s: float
    stages_s: tuple[float, ...]
    """Text, denoise, decode, rest: seconds a batch."""
    by_hand_s: float
    """Median seconds of the same calls, timed from outside."""
    mark: str | None


def main() -> None:
    """Run every pair and print the table."""
    parser = argparse.ArgumentParser(description="throughput by measure_cell against a plain script")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="write the table beside this file")
    parser.add_argument("--one", choices=("ours", "plain"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one == "ours":
        print(json.dumps(asdict(ours(chosen.batch, chosen.steps))))  # noqa: T201
    elif chosen.one == "plain":
        print(json.dumps(plain(chosen.batch, chosen.steps)))  # noqa: T201
    else:
        table = _table(_pairs(chosen.runs, chosen.batch, chosen.steps), chosen.batch, chosen.steps)
        print(table)  # noqa: T201
        if chosen.write:
            Path(__file__).with_suffix(".md").write_text(table)


def ours(batch: int, steps: int) -> Ours:
    """The bundled model by `measure_cell`, then its calls by hand."""
    from eval.running.measure import measure_cell
    from eval.running.stopwatch import Failure
    from sdkit import Session

    session, prompts = Session("shapes", device="cpu", dtype="float32"), _prompts(batch)
    session.load()
    cell = Cell(session.fingerprint, "ddim", steps, GUIDANCE, "", 0, 0, SIDE_PX, SIDE_PX, "float32", "cpu")
    hardware = HardwarePlan(batch=batch, latency_repeats=0, throughput_repeats=REPEATS)
    timing = measure_cell(session, prompts, cell, hardware, cold=Failure("not asked for")).timing
    stages = (timing.text_s, timing.denoise_s, timing.decode_s, timing.rest_s)
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        session.sample(
            session.encode(prompts),
            sampler="ddim",
            steps=steps,
            guidance_scale=GUIDANCE,
            seeds=range(batch),
            width=SIDE_PX,
            height=SIDE_PX,
        )
        seconds.append(time.perf_counter() - begun)
    assert timing.images_per_s is not None
    known = tuple(each * batch for each in stages if each is not None)
    return Ours(timing.images_per_s, known, statistics.median(seconds), timing.throughput_unreliable)


def plain(batch: int, steps: int) -> float:
    """Pictures a second of diffusers' own pipeline."""
    import diffusers
    import torch

    import sdkit

    folder = Path(sdkit.__file__).parent / "shapes" / "weights" / "pipeline"
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    # The denoiser as sdkit lays it out; the decoder likewise, which sdkit leaves as it is.
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)
    seconds = []
    for _ in range(1 + REPEATS):
        begun = time.perf_counter()
        pipeline(
            list(_prompts(batch)),
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            height=SIDE_PX,
            width=SIDE_PX,
            generator=[torch.Generator().manual_seed(seed) for seed in range(batch)],
            output_type="np",
        )
        seconds.append(time.perf_counter() - begun)
    return batch / statistics.median(seconds[1:])


def _prompts(count: int) -> tuple[str, ...]:
    from eval.scoring.prompts import shapes_prompts

    return shapes_prompts("timed", count).texts


def _pairs(runs: int, batch: int, steps: int) -> list[tuple[Ours, float]]:
    pairs = []
    for run in range(runs):
        order = ("ours", "plain") if run % 2 == 0 else ("plain", "ours")
        found = {kind: _run(kind, batch, steps) for kind in order}
        pairs.append((decode(Ours, found["ours"]), decode(float, found["plain"])))
    return pairs


def _run(kind: str, batch: int, steps: int) -> object:
    command = [sys.executable, "-m", MODULE, "--one", kind, "--batch", str(batch), "--steps", str(steps)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _table(pairs: list[tuple[Ours, float]], batch: int, steps: int) -> str:
    import diffusers
    import torch

    from eval.running.environment import cpu_name

    head = (
        "| run | measure_cell, images/s | plain script, images/s | difference | "
        "text + denoise + decode + rest, s a batch | of it the rest | the same calls by hand, s | difference | marked |"
    )
    lines = [
        "# Measuring against a plain script\n",
        f"`python -m {MODULE} --batch {batch} --steps {steps} --write`\n",
        f"The bundled model, {SIDE_PX}x{SIDE_PX} px, DDIM, {steps} steps, guidance {GUIDANCE:g}, batches of {batch}, "
        f"medians of {REPEATS}. torch {torch.__version__}, diffusers {diffusers.__version__}, "
        f"Python {platform.python_version()}, {cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} "
        "torch threads. What is measured stands at the head of the script; the last line is the medians' own.\n",
        head,
        "|---|" + "---|" * 8,
    ]
    lines += [_line(str(run), mine, other) for run, (mine, other) in enumerate(pairs, 1)]
    middle = Ours(
        statistics.median(mine.images_per_s for mine, _ in pairs),
        tuple(statistics.median(mine.stages_s[i] for mine, _ in pairs) for i in range(4)),
        statistics.median(mine.by_hand_s for mine, _ in pairs),
        f"{sum(mine.mark is not None for mine, _ in pairs)} of {len(pairs)} runs",
    )
    lines.append(_line("median", middle, statistics.median(other for _, other in pairs)))
    return "\n".join(lines) + "\n"


def _line(name: str, mine: Ours, other: float) -> str:
    whole = sum(mine.stages_s)
    return (
        f"| {name} | {mine.images_per_s:.2f} | {other:.2f} | {mine.images_per_s / other - 1:+.1%} "
        f"| {' + '.join(f'{each:.3f}' for each in mine.stages_s)} = {whole:.3f} | {mine.stages_s[3] / whole:.2%} "
        f"| {mine.by_hand_s:.3f} | {whole / mine.by_hand_s - 1:+.1%} | {mine.mark or 'no'} |"
    )


if __name__ == "__main__":
    main()
