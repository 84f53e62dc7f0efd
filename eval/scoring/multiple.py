"""Many comparisons at once: max-T intervals of all differences between cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.scoring.moments import Array
from eval.scoring.threads import threads_for
from eval.scoring.uncertainty import LEVEL, Interval, student_critical, unit_scores, units

CHUNK = 1 << 22
"""Numbers in one block of multipliers or of differences: 32 MiB."""
MOST_DRAWS, LEAST_DRAWS = 4000, 1000
WORK = 1 << 30
"""Differences that may be drawn: 4,000 draws up to 512 cells, 1,000 draws at 1,000 cells and more."""
EXACT_CELLS = 128
"""With more cells draws are compared in float32, which tells apart what a thousand of them can."""
ROUNDING = 1e-10
"""A difference whose spread is below this share of the cells' own has none: it is float64's rounding of sums."""


@dataclass(frozen=True)
class MaxT:
    """Means of C cells, and intervals of all their differences which hold at once."""

    means: Array
    """(C,)"""
    errors: Array
    """Standard error of the difference of every pair, (C, C)."""
    critical: float | None
    """How many standard errors an interval reaches to either side; None from fewer than two units."""

    def difference(self, i: int, j: int) -> Interval:
        """Mean of cell i less that of cell j. Whichever pairs are looked at, all intervals hold together."""
        value = float(self.means[i] - self.means[j])
        if self.critical is None:
            return Interval(value, None, None)
        half = self.critical * float(self.errors[i, j])
        return Interval(value, value - half, value + half)


def max_t(
    values: Array,
    *,
    clusters: Sequence[object] | None = None,
    seed: int,
    draws: int = MOST_DRAWS,
    level: float = LEVEL,
) -> MaxT:
    """Simultaneous intervals of all C (C - 1) / 2 paired differences between cells.

    The critical value is the `level` quantile of the largest |t| of any pair when the centred rows get
    random signs, one a unit for all cells, so the cells' dependence is kept and a best cell which was
    chosen from the same rows is covered. Every draw is studentised by its own spread, as Student's t is.
    It lies between the t of one comparison and Bonferroni's t of all, which bounds it under any dependence.

    Args:
        values: (C, N), one row a cell; columns share prompt and seed.
        clusters: one label a column; signs are then drawn, and errors taken, over clusters.
        seed: of the signs.
        draws: at most; with many cells fewer, but never below 1,000 where as many are asked for. At 1,000 the level's
            own error is 0.7 points.

    Raises:
        ValueError: not (C, N) with C, N >= 1, values that are not finite, or not one label a column.

    Source: Westfall & Young, Resampling-Based Multiple Testing (1993); Chernozhukov, Chetverikov, Kato,
    Gaussian approximations and multiplier bootstrap for maxima of sums (2013).
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"values must be finite (cells, images), got shape {table.shape}")
    by = units(table.shape[1], clusters)
    means = table.mean(axis=1)
    scores = np.ascontiguousarray(unit_scores(table.T, by).T)  # (C, units)
    spread = spread_of(scores)
    if by.count < 2:
        return MaxT(means, np.zeros_like(spread), None)
    errors = spread / math.sqrt(by.count * (by.count - 1))
    pairs = len(means) * (len(means) - 1) // 2
    one = student_critical(by.count - 1, level)
    if not spread.any():
        return MaxT(means, errors, one)
    with threads_for(len(means)):
        largest = _largest_shares(scores, spread, np.random.default_rng(seed), affordable(len(means), draws))
    share = float(np.quantile(largest, level, method="higher"))
    found = math.sqrt((by.count - 1) * share**2 / max(1 - share**2, np.finfo(float).eps))
    all_pairs = student_critical(by.count - 1, 1 - (1 - level) / pairs)
    return MaxT(means, errors, min(max(found, one), all_pairs))


def affordable(cells: int, draws: int = MOST_DRAWS) -> int:
    """How many draws all pairs of so many cells may take."""
    return min(draws, max(LEAST_DRAWS, WORK // cells**2))


def spread_of(scores: Array) -> Array:
    """Root of the sum of squares of every pair's difference, (C, C); 0 where it is rounding alone."""
    cells = len(scores)
    spread = np.zeros((cells, cells))
    block = max(1, CHUNK // scores.shape[1])
    for i in range(cells):
        for start in range(i + 1, cells, block):
            gap = scores[start : start + block] - scores[i]
            spread[i, start : start + block] = np.sqrt(np.einsum("cn,cn->c", gap, gap))
    own = np.sqrt(np.einsum("cn,cn->c", scores, scores))
    spread[spread <= ROUNDING * (own[:, None] + own[None, :])] = 0
    return spread + spread.T


def _largest_shares(scores: Array, spread: Array, rng: np.random.Generator, draws: int) -> Array:
    """The largest |signed sum| / (spread · √units) over all pairs, 0..1, of each draw: (draws,).

    With r this share, a draw's t is √(units - 1) · r / √(1 - r²): one rising function for all pairs, so
    the largest share gives the largest t.
    """
    cells, count = scores.shape
    kind: type[np.floating[Any]] = np.float64 if cells <= EXACT_CELLS else np.float32
    inverse = np.divide(1, spread * math.sqrt(count), out=np.zeros_like(spread), where=spread > 0).astype(
        kind
    )
    if kind is np.float32:
        scores = scores - scores.mean(axis=0)  # what all have in common would cost digits
    largest = np.zeros(draws, kind)
    block = max(1, CHUNK // max(count, cells))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        bits = np.frombuffer(rng.bytes((count * size + 7) // 8), np.uint8)
        signs = np.unpackbits(bits, count=count * size).reshape(count, size) * 2.0 - 1.0
        sums = (scores @ signs).astype(kind, copy=False)  # (C, size)
        best = largest[start : start + size]
        for i in range(cells - 1):
            shares = sums[i + 1 :] - sums[i]
            np.abs(shares, out=shares)
            shares *= inverse[i, i + 1 :, None]
            np.maximum(best, shares.max(axis=0), out=best)
    found: Array = np.minimum(largest, 1.0).astype(np.float64)
    return found
