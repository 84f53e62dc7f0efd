"""When a measurement is one that must not be relied on, and why, in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from eval.measured import Conditions, Memory
from eval.running.nvml import SLOWDOWNS

OTHERS_SHARE = 0.1
"""Of the cores' time: what other processes may take before a CPU's figure is marked."""


def spread(samples: Sequence[float]) -> float | None:
    """Interquartile range over the median, which says how far the median may be trusted; None of fewer than two."""
    if len(samples) < 2:
        return None
    low, mid, high = np.percentile(samples, (25, 50, 75))
    return float((high - low) / mid) if mid > 0 else None


def percentile(samples: Sequence[float], percent: int) -> float | None:
    """A percentile of the samples; None where fewer than `needed(percent)` carry it."""
    return float(np.percentile(samples, percent)) if len(samples) >= needed(percent) else None


def needed(percent: int) -> int:
    """Samples that a percentile rests on: so many that one of them is expected at or above it."""
    return math.ceil(100 / (100 - percent))


def doubt(samples: Sequence[float], bound: float, seen: Conditions, device_type: str) -> str | None:
    """Why the samples must not be relied on; None where nothing speaks against them.

    A power cap and clocks that somebody set do not count: they are how the device runs.

    Args:
        bound: the largest `spread` that is let pass.
        seen: while the samples were taken.
    """
    found = []
    wide = spread(samples)
    if wide is not None and wide > bound:
        found.append(
            f"samples spread by {wide:.1%} of their median, more than {bound:.3g}".replace("%", " %")
        )
    if slowed := [word for word in seen.throttle or () if word in SLOWDOWNS.values()]:
        found.append(f"the GPU was slowed down ({', '.join(slowed)})")
    if seen.other_processes:
        found.append(f"{_others(seen.other_processes)} computed on the GPU")
    share = seen.other_cpu_share
    if device_type == "cpu" and share is not None and share > OTHERS_SHARE:
        found.append(f"other processes took {share:.0%} of the cores' time".replace("%", " %"))
    return "; ".join(found) or None


def memory_doubt(memory: Memory, other_processes: int | None) -> str | None:
    """Why the driver's figure of memory is not this process's."""
    if memory.gpu_driver_bytes is None or not other_processes:
        return None
    return f"{_others(other_processes)} held memory of the GPU"


def _others(count: int) -> str:
    return "another process" if count == 1 else f"{count} other processes"
