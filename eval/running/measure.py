"""Speed and memory of one cell, measured apart from the pictures that are scored.

Warm-up runs at the same step count; the device is synchronised before every reading of the clock;
raw samples are kept. Peak GPU memory has a pass of its own, since the peak of a timed pass would
hold whatever was cached before.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from typing import Any

import numpy as np

from eval.records import Cell, HardwarePlan, Memory, Timing
from eval.running.generator import Batch, Generator


def clock(device: str) -> float:
    """Seconds on a monotonic clock, read once all work queued on the device is done."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()


def time_cell(
    generator: Generator[Any], text: Any, cell: Cell, hardware: HardwarePlan, *, text_s: float, warm: bool
) -> Timing:
    """Throughput at the batch and latency of single pictures.

    Args:
        text: the encoded prompts; the first ones are used, with seeds that no scored picture has.
        text_s: seconds to encode the prompt set, over its number of prompts.
        warm: pictures were made at this step count a moment before, which warms a CPU; a GPU is warmed up
            again at the timed batch.
    """
    batch = min(hardware.timing_batch or hardware.batch, len(text))
    if hardware.throughput_repeats and not (warm and cell.device_type == "cpu"):
        _make(generator, text, cell, batch)
    batches = [_timed(generator, text, cell, batch) for _ in range(hardware.throughput_repeats)]
    if hardware.latency_repeats:
        _make(generator, text, cell, 1)
    latencies = tuple(_timed(generator, text, cell, 1)[0] for _ in range(hardware.latency_repeats))
    samples = tuple(seconds for seconds, _ in batches)
    skipped = [name for name, found in (("throughput", samples), ("latency", latencies)) if not found]
    return Timing(
        batch=batch,
        batch_samples_s=samples,
        latency_samples_s=latencies,
        images_per_s=batch / statistics.median(samples) if samples else None,
        latency_p50_s=float(np.percentile(latencies, 50)) if latencies else None,
        latency_p95_s=float(np.percentile(latencies, 95)) if latencies else None,
        denoise_s=statistics.median(made.denoise_s for _, made in batches) / batch if batches else None,
        decode_s=statistics.median(made.decode_s for _, made in batches) / batch if batches else None,
        text_s=text_s,
        reason=f"{' and '.join(skipped)} not measured: repeats are 0" if skipped else None,
    )


def peak_memory(
    generator: Generator[Any], text: Any, cell: Cell, hardware: HardwarePlan, *, scorer_bytes: int
) -> Memory:
    """Peaks of one batch on this GPU, or of the process on a CPU.

    Args:
        scorer_bytes: what the scorer's weights hold on the same GPU, which is taken off.
    """
    if cell.device_type != "cuda":
        reason = f"{cell.device_type} tells no peak of its own; the process's is over all cells so far"
        return Memory(None, None, process_peak_rss_bytes(), reason)
    import torch

    torch.cuda.synchronize(generator.device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(generator.device)
    _make(generator, text, cell, min(hardware.batch, len(text)))
    torch.cuda.synchronize(generator.device)
    return Memory(
        gpu_allocated_bytes=torch.cuda.max_memory_allocated(generator.device) - scorer_bytes,
        gpu_reserved_bytes=torch.cuda.max_memory_reserved(generator.device) - scorer_bytes,
        process_peak_rss_bytes=process_peak_rss_bytes(),
    )


def process_peak_rss_bytes() -> int:
    """Peak resident memory of this process since it started."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _timed(generator: Generator[Any], text: Any, cell: Cell, count: int) -> tuple[float, Batch]:
    start = clock(generator.device)
    made = _make(generator, text, cell, count)
    return clock(generator.device) - start, made


def _make(generator: Generator[Any], text: Any, cell: Cell, count: int) -> Batch:
    first = cell.seed + cell.count
    return generator.sample(
        text.take(range(count)),
        sampler=cell.sampler,
        steps=cell.steps,
        guidance_scale=cell.guidance,
        seeds=range(first, first + count),
        width=cell.width,
        height=cell.height,
    )
