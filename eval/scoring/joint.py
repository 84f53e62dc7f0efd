"""Means of several rows over the same pictures, with intervals that hold for all rows at once. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.scoring.moments import Array
from eval.scoring.multiple import CHUNK
from eval.scoring.uncertainty import LEVEL, Interval, student_critical, unit_scores, units

ROUNDING = 1e-12
"""A row whose spread is below this share of its largest value has none: it is float64's rounding."""


@dataclass(frozen=True)
class JointMeans:
    """Means of R rows, and how far their intervals reach."""

    means: Array
    """(R,)"""
    errors: Array
    """Standard error of each mean, (R,)."""
    critical: float | None
    """How many standard errors an interval reaches to either side; None from fewer than two units."""
    freedom: int
    """Units less one."""

    def interval(self, row: int) -> Interval:
        """Mean of a row with its interval, which holds together with those of the others."""
        value = float(self.means[row])
        if self.critical is None:
            return Interval(value, None, None)
        half = self.critical * float(self.errors[row])
        return Interval(value, value - half, value + half)

    @property
    def level(self) -> float | None:
        """The level of a single Student interval that reaches as far; None where there is no interval."""
        if self.critical is None:
            return None
        from scipy.special import stdtr

        return float(2 * stdtr(self.freedom, self.critical) - 1)


def joint_means(
    values: Array,
    *,
    clusters: Sequence[object] | None = None,
    seed: int,
    draws: int = 4000,
    level: float = LEVEL,
) -> JointMeans:
    """Simultaneous intervals of the means of R rows: max-T with random signs, one a unit for all rows.

    Of differences between two runs, one row a setting, whatever the rows have in common is kept. The critical
    value lies between the t of one row and Bonferroni's t of all.

    Args:
        values: (R, N), finite; columns share prompt and seed.
        clusters: one label a column; signs are then drawn, and errors taken, over clusters.
        seed: of the signs.

    Raises:
        ValueError: not (R, N) with R, N >= 1, values that are not finite, or not one label a column.

    Source: Westfall & Young, Resampling-Based Multiple Testing (1993), as `eval.scoring.multiple.max_t`.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"values must be finite (rows, images), got shape {table.shape}")
    by = units(table.shape[1], clusters)
    means = table.mean(axis=1)
    scores = np.ascontiguousarray(unit_scores(table.T, by).T)  # (R, units)
    spread = np.sqrt(np.einsum("rn,rn->r", scores, scores))
    spread[spread <= ROUNDING * np.abs(table).max(axis=1) * math.sqrt(by.count)] = 0
    if by.count < 2:
        return JointMeans(means, np.zeros_like(spread), None, 0)
    errors = spread / math.sqrt(by.count * (by.count - 1))
    one = student_critical(by.count - 1, level)
    all_rows = student_critical(by.count - 1, 1 - (1 - level) / len(means))
    moving = spread > 0
    if not moving.any():
        return JointMeans(means, errors, one, by.count - 1)
    largest = _largest_shares(scores[moving] / spread[moving, None], np.random.default_rng(seed), draws)
    share = float(np.quantile(largest, level, method="higher"))
    found = math.sqrt((by.count - 1) * share**2 / max(1 - share**2, np.finfo(float).tiny))
    return JointMeans(means, errors, min(max(found, one), all_rows), by.count - 1)


def _largest_shares(unit_rows: Array, rng: np.random.Generator, draws: int) -> Array:
    """The largest |signed sum| / √units of any row of length 1, 0..1, of each draw: (draws,)."""
    rows, count = unit_rows.shape
    largest = np.zeros(draws)
    block = max(1, CHUNK // max(count, rows))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        bits = np.frombuffer(rng.bytes((count * size + 7) // 8), np.uint8)
        signs = np.unpackbits(bits, count=count * size).reshape(count, size) * 2.0 - 1.0
        largest[start : start + size] = np.abs(unit_rows @ signs).max(axis=0) / math.sqrt(count)
    return np.minimum(largest, 1.0)
