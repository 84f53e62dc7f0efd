"""Intervals: of a mean, of a paired difference, of a share. Pure functions of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.scoring.moments import Array

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


@dataclass(frozen=True)
class Units:
    """What is drawn independently: rows, or clusters of rows (a prompt with several seeds)."""

    codes: Array
    """Unit of each row, (N,) int, 0..count-1, numbered in order of appearance."""
    count: int

    @property
    def rows(self) -> int:
        return int(self.codes.size)

    def sums(self, values: Array) -> Array:
        """Sums over each unit's rows along the first axis: (N, ...) -> (count, ...)."""
        if self.count == self.rows:  # codes are then 0..N-1 by construction
            return values
        order = np.argsort(self.codes, kind="stable")
        starts = np.searchsorted(self.codes[order], np.arange(self.count))
        sums: Array = np.add.reduceat(values[order], starts, axis=0)
        return sums

    def members(self) -> list[Array]:
        """Row numbers of each unit, in order."""
        order = np.argsort(self.codes, kind="stable")
        return np.split(order, np.searchsorted(self.codes[order], np.arange(1, self.count)))


def units(n: int, clusters: Sequence[object] | None = None) -> Units:
    """The units of n rows: each row its own, or rows that share a cluster's label together.

    Raises:
        ValueError: there is not one label a row.
    """
    if clusters is None:
        return Units(np.arange(n), n)
    if len(clusters) != n:
        raise ValueError(f"clusters must name one cluster a row, got {len(clusters)} for {n} rows")
    numbers: dict[object, int] = {}
    codes = np.fromiter((numbers.setdefault(each, len(numbers)) for each in clusters), np.int64, n)
    return Units(codes, len(numbers))


def unit_scores(values: Array, by: Units) -> Array:
    """Centred scores of each unit, (count, ...), whose mean has the sampling error of the mean of `values`.

    Of equal clusters these are the clusters' means less the mean; of unequal ones the linearised
    ratio estimator, sum over rows / number of rows.

    Source: Cochran, Sampling Techniques (1977), 9A.1 and 6.3.
    """
    return by.sums(values - values.mean(axis=0)) * (by.count / by.rows)


def mean_interval(
    values: Sequence[float] | Array, *, clusters: Sequence[object] | None = None, level: float = LEVEL
) -> Interval:
    """Mean over rows with Student's t interval over independent units, with one degree of freedom less than units.

    Args:
        values: (N,), one an image.
        clusters: one label a value; values of one label (seeds of one prompt) may depend on each other.

    Raises:
        ValueError: no values, one that is not finite, or not one label a value.
    """
    samples = np.asarray(values, dtype=np.float64)
    if samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"a mean needs finite values, got {samples.size} of which some are missing")
    by = units(samples.size, clusters)
    mean = float(samples.mean())
    if by.count < 2:
        return Interval(mean, None, None)
    scores = unit_scores(samples, by)
    error = math.sqrt(float((scores**2).sum()) / (by.count * (by.count - 1)))
    return student_interval(mean, error, by.count - 1, level)


def paired_difference(
    first: Sequence[float] | Array,
    second: Sequence[float] | Array,
    *,
    clusters: Sequence[object] | None = None,
    level: float = LEVEL,
) -> Interval:
    """Mean of `first - second` with its interval; values at one index share prompt and seed.

    Raises:
        ValueError: the lengths differ or there are no values.
    """
    if len(first) != len(second):
        raise ValueError(f"a paired difference needs equal lengths, got {len(first)} and {len(second)}")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return mean_interval(differences, clusters=clusters, level=level)


def student_interval(value: float, error: float, freedom: int, level: float = LEVEL) -> Interval:
    """value ± t · error, with t of `freedom` degrees."""
    half = student_critical(freedom, level) * error
    return Interval(value, value - half, value + half)


def student_critical(freedom: int, level: float = LEVEL) -> float:
    """Two-sided critical value of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


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
