"""Throughput by `measure_cell` against a plain script, and the stages against the whole.

    python -m eval.running.benchmarks.measure [--runs 5] [--batch 16] [--steps 10] [--write]

Each run is a process of its own. In it three ways take turns, round by round, so that a machine whose speed drifts
drifts for all: `measure_cell`; the same calls of the session timed by hand, from outside; and the plain script, which
is diffusers' own pipeline of the same folder, with the same prompts, sampler (DDIM), steps and guidance, channels
last, a call to warm up before the timed one, nothing of ours in it. A run's figures are medians over its rounds, and
its differences are medians of the rounds' own. `--write` puts the table beside this file.
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
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.hardware_plan import HardwarePlan
from eval.records import Cell
from eval.running.serial import decode

MODULE = "eval.running.benchmarks.measure"
ROUNDS = 7
GUIDANCE = 4.0
SIDE_PX = 64


@dataclass(frozen=True)
class Round:
    """One turn of all three: seconds a batch."""

    measured_s: float
    stages_s: tuple[float, ...]
    """Text, denoise, decode, rest, of the measured one."""
    by_hand_s: float
    plain_s: float

    @property
    def faster(self) -> float:
        """Throughput of `measure_cell` over the plain script's, less 1."""
        return self.plain_s / self.measured_s - 1

    @property
    def apart(self) -> float:
        """The measured stages' sum over the seconds by hand, less 1."""
        return sum(self.stages_s) / self.by_hand_s - 1


def main() -> None:
    """Make every run and print the table."""
    parser = argparse.ArgumentParser(description="throughput by measure_cell against a plain script")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--write", action="store_true", help="write the table beside this file")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps([asdict(each) for each in rounds(chosen.batch, chosen.steps)]))  # noqa: T201
        return
    runs = [_run(chosen.batch, chosen.steps) for _ in range(chosen.runs)]
    table = _table(runs, chosen.batch, chosen.steps)
    print(table)  # noqa: T201
    if chosen.write:
        Path(__file__).with_suffix(".md").write_text(table)


def rounds(batch: int, steps: int) -> list[Round]:
    """The three ways in turn, `ROUNDS` times, in this process."""
    from eval.running.measure import measure_cell
    from eval.running.stopwatch import Failure
    from sdkit import Session

    session, prompts = Session("shapes", device="cpu", dtype="float32"), _prompts(batch)
    session.load()
    cell = Cell(session.fingerprint, "ddim", steps, GUIDANCE, "", 0, 0, SIDE_PX, SIDE_PX, "float32", "cpu")
    hardware = HardwarePlan(batch=batch, latency_repeats=0, throughput_repeats=1)
    plain = _plain(prompts, batch, steps)

    def by_hand() -> None:
        session.sample(
            session.encode(prompts),
            sampler="ddim",
            steps=steps,
            guidance_scale=GUIDANCE,
            seeds=range(batch),
            width=SIDE_PX,
            height=SIDE_PX,
        )

    found = []
    for _ in range(ROUNDS):
        timing = measure_cell(session, prompts, cell, hardware, cold=Failure("not asked for")).timing
        stages = (timing.text_s, timing.denoise_s, timing.decode_s, timing.rest_s)
        known = tuple(each * batch for each in stages if each is not None)
        hand = _seconds(by_hand)
        plain()
        found.append(Round(timing.batch_samples_s[0], known, hand, _seconds(plain)))
    return found


def _plain(prompts: tuple[str, ...], batch: int, steps: int) -> Callable[[], object]:
    """A call of diffusers' own pipeline."""
    import diffusers
    import torch

    import sdkit

    folder = Path(sdkit.__file__).parent / "shapes" / "weights" / "pipeline"
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.to(memory_format=torch.channels_last)  # the denoiser as sdkit lays it out
    return lambda: pipeline(
        list(prompts),
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        height=SIDE_PX,
        width=SIDE_PX,
        generator=[torch.Generator().manual_seed(seed) for seed in range(batch)],
        output_type="np",
    )


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _prompts(count: int) -> tuple[str, ...]:
    from eval.scoring.prompts import shapes_prompts

    return shapes_prompts("timed", count).texts


def _run(batch: int, steps: int) -> list[Round]:
    command = [sys.executable, "-m", MODULE, "--one", "--batch", str(batch), "--steps", str(steps)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: tuple[Round, ...] = decode(tuple[Round, ...], json.loads(done.stdout.splitlines()[-1]))
    return list(found)


def _table(runs: list[list[Round]], batch: int, steps: int) -> str:
    import diffusers
    import torch

    from sdkit._cpu import cpu_name

    lines = [
        "# Measuring against a plain script\n",
        f"`python -m {MODULE} --batch {batch} --steps {steps} --write`\n",
        f"The bundled model, {SIDE_PX}x{SIDE_PX} px, DDIM, {steps} steps, guidance {GUIDANCE:g}, batches of {batch}, "
        f"{ROUNDS} rounds a run. torch {torch.__version__}, diffusers {diffusers.__version__}, "
        f"Python {platform.python_version()}, {cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} "
        "torch threads. What takes turns stands at the head of the script. Differences are medians of the rounds' own, "
        "with their range; the last line holds the medians of the runs.\n",
        "| run | measure_cell, images/s | plain script, images/s | difference | range | "
        "text + denoise + decode + rest, s a batch | by hand, s | difference |",
        "|---|--:|--:|--:|---|---|--:|--:|",
    ]
    lines += [_line(str(number), run, batch) for number, run in enumerate(runs, 1)]
    faster, apart = (
        statistics.median(statistics.median(getattr(each, name) for each in run) for run in runs)
        for name in ("faster", "apart")
    )
    lines.append(f"| **median** | | | **{faster:+.1%}** | | | | **{apart:+.1%}** |")
    return "\n".join(lines) + "\n"


def _line(name: str, run: list[Round], batch: int) -> str:
    def middle(of: Callable[[Round], float]) -> float:
        return statistics.median(of(each) for each in run)

    stages = [statistics.median(each.stages_s[i] for each in run) for i in range(4)]
    shown = " + ".join(f"{each:.3f}" for each in stages)
    ends = f"{min(each.faster for each in run):+.1%} to {max(each.faster for each in run):+.1%}"
    return (
        f"| {name} | {batch / middle(lambda r: r.measured_s):.2f} | {batch / middle(lambda r: r.plain_s):.2f} "
        f"| {middle(lambda r: r.faster):+.1%} | {ends} | {shown} | {middle(lambda r: r.by_hand_s):.3f} "
        f"| {middle(lambda r: r.apart):+.1%} |"
    )


if __name__ == "__main__":
    main()
