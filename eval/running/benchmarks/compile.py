"""What each mode of `compile=` gains, what it costs before, and by how much it moves pixels.

    python -m eval.running.benchmarks.compile [--device cuda] [--model FOLDER] [--batch 16] [--steps 10] [--write]

The modes take turns, round by round, in one process, so that a machine whose speed drifts drifts for all. A ratio is
the median of the rounds' own: the denoiser's or decoder's seconds over those of "off" in the same round. The first
batch is when a mode compiles: what it took beyond a later one is the price, and the pictures after which it is earned
back follow from both. Pixels are held against "off", in levels of 255. What has been compiled before comes from
torch's cache on disk: for the price from nothing, set TORCHINDUCTOR_CACHE_DIR to an empty folder. `--write` puts the
table beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from sdkit._compile import MODES

if TYPE_CHECKING:
    from torch import Tensor

    from sdkit import Session
    from sdkit._run import Batch

MODULE = "eval.running.benchmarks.compile"
GUIDANCE = 4.0


@dataclass(frozen=True)
class Setting:
    """What is measured, and how often."""

    model: str
    device: str
    dtype: str | None
    """None is the device's own."""
    batch: int
    steps: int
    rounds: int


@dataclass(frozen=True)
class Way:
    """One mode, measured."""

    mode: str
    first_s: float
    """The denoiser's seconds for the first batch, in which it is compiled."""
    batch_s: tuple[float, ...]
    """Those of the later ones, one a round."""
    decode_s: tuple[float, ...]
    """The decoder's, likewise."""
    levels: int
    """The largest difference from "off" in any pixel, 0-255."""

    @property
    def price_s(self) -> float:
        """Seconds that compiling took."""
        return self.first_s - statistics.median(self.batch_s)

    def ratio(self, off: Way) -> float:
        """Seconds over those of "off", the median of the rounds' own; below 1 is faster."""
        return statistics.median(a / b for a, b in zip(self.batch_s, off.batch_s, strict=True))

    def decoder_ratio(self, off: Way) -> float:
        """The decoder's seconds over those of "off", likewise."""
        return statistics.median(a / b for a, b in zip(self.decode_s, off.decode_s, strict=True))

    def earned_after(self, off: Way, batch: int) -> int | None:
        """Pictures after which compiling is earned back; None where it never is."""
        gain_s = statistics.median(b - a for a, b in zip(self.batch_s, off.batch_s, strict=True)) / batch
        return round(self.price_s / gain_s) if gain_s > 0 else None


def main() -> None:
    """Measure every mode of the device and print the table."""
    parser = argparse.ArgumentParser(description="gain, price and pixels of each mode of compile=")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="write the table beside this file")
    given = vars(parser.parse_args())
    write = given.pop("write")
    setting, load = Setting(**given), psutil.getloadavg()[0]
    table = _table(setting, measure(setting), load)
    print(table)  # noqa: T201
    if write:
        Path(__file__).with_suffix(".md").write_text(table)


def measure(setting: Setting) -> list[Way]:
    """Every mode of the device, "off" first."""
    from sdkit import Session

    kind = setting.device.partition(":")[0]
    names = [mode.name for mode in MODES.values() if kind in mode.devices]
    sessions = {
        name: Session(setting.model, device=setting.device, dtype=setting.dtype, compile=name)
        for name in names
    }
    makers = {name: _maker(each, setting) for name, each in sessions.items()}
    firsts = {name: make() for name, make in makers.items()}
    rounds = [{name: make() for name, make in makers.items()} for _ in range(setting.rounds)]
    expected = firsts["off"].images
    return [
        Way(
            name,
            firsts[name].denoise_s,
            tuple(each[name].denoise_s for each in rounds),
            tuple(each[name].decode_s for each in rounds),
            _levels(firsts[name].images, expected),
        )
        for name in names
    ]


def _maker(session: Session, setting: Setting) -> Callable[[], Batch]:
    """The same batch, again at each call; the weights are read before the first."""
    text, seeds = session.encode(_prompts(setting.batch)), range(setting.batch)
    return lambda: session.sample(
        text, sampler="ddim", steps=setting.steps, guidance_scale=GUIDANCE, seeds=seeds
    )


def _levels(images: Tensor, expected: Tensor) -> int:
    return int((images.int() - expected.int()).abs().max())


def _prompts(count: int) -> tuple[str, ...]:
    from eval.scoring.prompts import shapes_prompts

    return shapes_prompts("timed", count).texts


def _table(setting: Setting, ways: list[Way], load: float) -> str:
    import diffusers
    import torch

    from sdkit._device import device_name, pick_device

    off = ways[0]
    lines = [
        f"# Compiling the denoiser, on {setting.device}\n",
        f"`python -m {MODULE} --device {setting.device} --batch {setting.batch} --steps {setting.steps} --write`\n",
        f"{Path(setting.model).name}, DDIM, {setting.steps} steps, guidance {GUIDANCE:g}, batches of {setting.batch}, "
        f"{setting.rounds} rounds. torch {torch.__version__}, diffusers {diffusers.__version__}, Python "
        f"{platform.python_version()}, {device_name(pick_device(setting.device))}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch threads, load average {load:.1f} before it "
        "began. What takes turns stands at the head of the script.\n",
        "| mode | denoiser, s a batch | over off | range | decoder over off | to compile, s "
        "| earned back after, pictures | largest difference, levels |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
        *(_line(way, off, setting.batch) for way in ways),
    ]
    return "\n".join(lines) + "\n"


def _line(way: Way, off: Way, batch: int) -> str:
    middle_s = statistics.median(way.batch_s)
    if way is off:
        return f"| {way.mode} | {middle_s:.3f} | 1 | | 1 | | | |"
    each = [a / b for a, b in zip(way.batch_s, off.batch_s, strict=True)]
    earned = way.earned_after(off, batch)
    price = ["", ""]
    if MODES[way.mode].compiles:
        price = [f"{way.price_s:.0f}", "never" if earned is None else f"{earned:,}"]
    return (
        f"| {way.mode} | {middle_s:.3f} | {way.ratio(off):.2f} | {min(each):.2f} to {max(each):.2f} "
        f"| {way.decoder_ratio(off):.2f} | {price[0]} | {price[1]} | {way.levels} |"
    )


if __name__ == "__main__":
    main()
