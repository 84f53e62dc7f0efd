"""Arithmetic of one picture, counted by torch as it runs, and the share of the device's peak that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.measured import Compute, because
from eval.records import Cell
from eval.running.device_peaks import device_peak, tf32_allowed
from eval.running.generator import Generator
from eval.running.stopwatch import Failure, attempt, time_batch


def compute_of(
    generator: Generator[Any], prompts: Sequence[str], cell: Cell, images_per_s: float | None
) -> Compute:
    """FLOPs of a picture and the model FLOPs utilisation at the measured throughput.

    One whole call with one picture is counted, from text to pixels, not one evaluation times their number: what
    the sampler, guidance and the decoder really make the model do is then in the figure.
    """
    flops = attempt(lambda: _count(generator, prompts, cell))
    if not isinstance(flops, Failure) and flops == 0:
        flops = Failure("torch counted no operation, as in a compiled model")
    on_gpu = cell.device_type == "cuda"
    peak = device_peak(generator.device_name, cell.dtype, tf32=on_gpu and tf32_allowed())
    reasons: dict[str, str | None] = {}
    if isinstance(flops, Failure):
        reasons["flops_per_image"] = reasons["mfu"] = flops.reason
    if isinstance(peak, Failure):
        reasons |= dict.fromkeys(("peak_flops_per_s", "peak_source", "mfu"), peak.reason)
    if images_per_s is None:
        reasons["mfu"] = "throughput is not known"
    mfu = None
    if not isinstance(flops, Failure) and not isinstance(peak, Failure) and images_per_s is not None:
        mfu = flops * images_per_s / peak.flops_per_s
    return Compute(
        flops_per_image=None if isinstance(flops, Failure) else flops,
        peak_flops_per_s=None if isinstance(peak, Failure) else peak.flops_per_s,
        mfu=mfu,
        peak_source=None if isinstance(peak, Failure) else peak.source,
        reason=because(reasons),
    )


def no_compute(reason: str) -> Compute:
    """Figures of work that was not done."""
    fields = ("flops_per_image", "peak_flops_per_s", "mfu", "peak_source")
    return Compute(None, None, None, None, because(dict.fromkeys(fields, reason)))


def _count(generator: Generator[Any], prompts: Sequence[str], cell: Cell) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        time_batch(generator, prompts, cell, 1)
    return int(counter.get_total_flops())
