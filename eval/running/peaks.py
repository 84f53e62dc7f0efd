"""Peak memory of one batch, in a pass of its own: a timed pass's would hold whatever was cached before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eval.measured import Memory, because
from eval.records import Cell
from eval.running.generator import Generator
from eval.running.noise import memory_doubt
from eval.running.nvml import Driver
from eval.running.resident import ResidentPeak
from eval.running.stopwatch import Failure, attempt, time_batch

_GPU = ("gpu_allocated_bytes", "gpu_reserved_bytes", "gpu_driver_bytes")


def peak_memory(
    generator: Generator[Any],
    prompts: Sequence[str],
    cell: Cell,
    batch: int,
    driver: Driver | Failure,
    *,
    beside_bytes: int = 0,
) -> Memory:
    """Peaks of `batch` pictures made at once; it also warms the device up for what is timed next.

    Args:
        beside_bytes: what the scorer and other precisions of the model hold on the same GPU, which is taken off the
            allocator's figures.
    """
    if cell.device_type == "cuda":
        return _gpu(generator, prompts, cell, batch, driver, beside_bytes)
    with ResidentPeak() as resident:
        failed = attempt(lambda: time_batch(generator, prompts, cell, batch))
    if isinstance(failed, Failure):
        return no_memory(failed.reason, batch)
    reasons: dict[str, str | None] = dict.fromkeys(
        _GPU, f"a {cell.device_type} has no such memory of its own"
    )
    reasons["process_peak_rss_bytes"] = resident.reason
    return Memory(None, None, resident.peak_bytes, because(reasons), batch=batch)


def _gpu(
    generator: Generator[Any],
    prompts: Sequence[str],
    cell: Cell,
    batch: int,
    driver: Driver | Failure,
    beside_bytes: int,
) -> Memory:
    import torch

    torch.cuda.synchronize(generator.device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(generator.device)
    with ResidentPeak() as resident:
        failed = attempt(lambda: time_batch(generator, prompts, cell, batch))
    if isinstance(failed, Failure):
        return no_memory(failed.reason, batch)
    # torch gives nothing back to the driver before it is asked to: what is in use now is the pass's peak.
    reading = None if isinstance(driver, Failure) else driver.read()
    used = None if reading is None else reading.used_bytes
    untold = driver.reason if isinstance(driver, Failure) else None
    if reading is not None and used is None:
        untold = reading.untold.get("used_bytes", "the driver does not tell")
    memory = Memory(
        gpu_allocated_bytes=torch.cuda.max_memory_allocated(generator.device) - beside_bytes,
        gpu_reserved_bytes=torch.cuda.max_memory_reserved(generator.device) - beside_bytes,
        process_peak_rss_bytes=resident.peak_bytes,
        reason=because({"gpu_driver_bytes": untold, "process_peak_rss_bytes": resident.reason}),
        gpu_driver_bytes=used,
        batch=batch,
    )
    others = None if reading is None else reading.other_processes
    return replace(memory, unreliable=memory_doubt(memory, others))


def no_memory(reason: str, batch: int | None = None) -> Memory:
    """Peaks that are not known."""
    fields = [*_GPU, "process_peak_rss_bytes"] + ([] if batch else ["batch"])
    return Memory(None, None, None, because(dict.fromkeys(fields, reason)), batch=batch)
