"""The clock, one timed batch stage by stage, and what a pass that fails leaves instead of a figure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from eval.records import Cell
from eval.running.generator import Generator
from sdkit._errors import SdkitError

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """Why there is no figure."""

    reason: str


@dataclass(frozen=True)
class Timed:
    """Seconds of one batch, from text to pixels."""

    text_s: float
    denoise_s: float
    decode_s: float
    whole_s: float

    @property
    def rest_s(self) -> float:
        """What is none of the three stages."""
        return self.whole_s - self.text_s - self.denoise_s - self.decode_s


def clock(device: str) -> float:
    """Seconds on a monotonic clock, read once all work queued on the device is done."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()


def time_batch(generator: Generator[Any], prompts: Sequence[str], cell: Cell, count: int) -> Timed:
    """Seconds of `count` pictures of the cell, made at once, with seeds that no scored picture has.

    Args:
        prompts: the cell's, one each; they are gone through again where `count` is larger.
    """
    chosen = [prompts[index % len(prompts)] for index in range(count)]
    first = cell.seed + cell.count
    begun = clock(generator.device)
    text = generator.encode(chosen, negative_prompt=cell.negative_prompt)
    encoded = clock(generator.device)
    made = generator.sample(
        text,
        sampler=cell.sampler,
        steps=cell.steps,
        guidance_scale=cell.guidance,
        guidance_interval=cell.guidance_interval,
        seeds=range(first, first + count),
        width=cell.width,
        height=cell.height,
    )
    ended = clock(generator.device)
    return Timed(encoded - begun, made.denoise_s, made.decode_s, ended - begun)


def middle(samples: Sequence[Timed]) -> Timed:
    """The sample whose whole is the median, stage by stage; of an even number the mean of the middle two.

    So the stages add up to the median, which the medians of the stages would not.
    """
    ordered = sorted(samples, key=lambda each: each.whole_s)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return Timed(
        (low.text_s + high.text_s) / 2,
        (low.denoise_s + high.denoise_s) / 2,
        (low.decode_s + high.decode_s) / 2,
        (low.whole_s + high.whole_s) / 2,
    )


def attempt(work: Callable[[], T]) -> T | Failure:
    """What `work` returns; a Failure where memory ran out or no picture came of it, which costs the figure alone."""
    try:
        return work()
    except (SdkitError, MemoryError) as error:
        return Failure(_first_line(error))
    except RuntimeError as error:
        if "out of memory" not in str(error).lower():
            raise
        return Failure(_first_line(error))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or "out of memory"
