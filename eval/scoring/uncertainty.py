"""Intervals: of a mean, of a paired difference, of a share. Pure functions of per-image values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval, in the value's unit; no interval from fewer than two samples."""

    value: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_interval(values: Sequence[float], *, level: float = LEVEL) -> Interval:
    """Mean with Student's t interval, which assumes independent values, one an image.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    samples = np.asarray(values, dtype=np.float64)
    if samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"a mean needs finite values, got {samples.size} of which some are missing")
    mean = float(samples.mean())
    if samples.size < 2:
        return Interval(mean, None, None)
    from scipy.special import stdtrit

    error = float(samples.std(ddof=1)) / math.sqrt(samples.size)
    half = float(stdtrit(samples.size - 1, (1 + level) / 2)) * error
    return Interval(mean, mean - half, mean + half)


def paired_difference(first: Sequence[float], second: Sequence[float], *, level: float = LEVEL) -> Interval:
    """Mean of `first - second` with its interval; values at one index share prompt and seed.

    Raises:
        ValueError: the lengths differ or there are no values.
    """
    if len(first) != len(second):
        raise ValueError(f"a paired difference needs equal lengths, got {len(first)} and {len(second)}")
    return mean_interval([a - b for a, b in zip(first, second, strict=True)], level=level)


def wilson(successes: int, n: int, *, level: float = LEVEL) -> Interval:
    """Share of successes, 0..1, with Wilson's score interval, which stays in 0..1 at either end.

    Raises:
        ValueError: n < 1, or successes outside 0..n.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes must be 0..n with n >= 1, got {successes} of {n}")
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))
