"""How far each cell may lie below the best one, whichever that is: Hsu's multiple comparisons with the best. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from eval.scoring.moments import Array
from eval.scoring.multiple import affordable, spread_of
from eval.scoring.uncertainty import LEVEL


@dataclass(frozen=True)
class Bounds:
    """Standard errors of all differences, and how many of them the best cell's lead may be off by."""

    errors: Array
    """Of the difference of every pair, (C, C)."""
    critical: Array
    """(C,): if cell j is the best, its lead over every other cell i is at most d_ji + critical[j] · errors[j, i]."""
    critical_pairs: float
    """Two-sided, of all pairs at once: which of two cells is better."""
    freedom: int
    """Units less one."""

    def uppers(self, values: Array, shrink: float = 1.0) -> Array:
        """Upper bound of how far each cell lies below the best of these, (C,), never below 0.

        Args:
            values: (C,), higher is better.
            shrink: what all errors are multiplied by, as more units would make them.
        """
        leads = values[:, None] - values[None, :] + shrink * self.critical[:, None] * self.errors
        np.fill_diagonal(leads, 0.0)
        found: Array = leads.max(axis=0)
        return found

    def lowers(self, values: Array) -> Array:
        """Lower bound of how far each cell lies below the best of these, (C,); 0 where none is surely better."""
        leads = values[:, None] - values[None, :] - self.critical_pairs * self.errors
        np.fill_diagonal(leads, 0.0)
        found: Array = leads.max(axis=0)
        return found

    def among(self, places: Array) -> Bounds:
        """The same of fewer cells. Critical values stay, so what was simultaneous for all is so for them."""
        return Bounds(
            self.errors[np.ix_(places, places)], self.critical[places], self.critical_pairs, self.freedom
        )


def bounds(scores: Array, *, seed: int, level: float = LEVEL) -> Bounds:
    """What is needed to compare cells with the best of them, which nobody knows.

    Of the cells one is truly the best, j say. Its leads over the others are bounded at once, one-sided, by the
    `level` quantile of the largest t of j against any other (Dunnett's problem) under random signs of the centred
    rows, one a unit for all cells. As j is not known each cell gets the value that it would need.

    Args:
        scores: (C, units), centred, as `unit_scores` has them; columns share prompt and seed.
        seed: of the signs.

    Raises:
        ValueError: not (C, units) with C >= 1 and units >= 2, or values that are not finite.

    Source: Hsu, Simultaneous confidence intervals for all distances from the "best" (1981); Dunnett, A multiple
    comparison procedure for comparing several treatments with a control (1955); signs as in `max_t`.
    """
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2 or not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite (cells, units >= 2), got shape {scores.shape}")
    from scipy.special import stdtrit

    cells, count = scores.shape
    spread = spread_of(scores)
    errors = spread / math.sqrt(count * (count - 1))
    one = float(stdtrit(count - 1, level))
    if not spread.any():
        return Bounds(errors, np.full(cells, one), float(stdtrit(count - 1, (1 + level) / 2)), count - 1)
    single, pairs = _largest(scores, spread, np.random.default_rng(seed), level)
    # Bonferroni bounds the value under any dependence, and that of one comparison from below.
    most = float(stdtrit(count - 1, 1 - (1 - level) / max(cells - 1, 1)))
    every = float(stdtrit(count - 1, 1 - (1 - level) / max(cells * (cells - 1), 2)))
    two_sided = float(stdtrit(count - 1, (1 + level) / 2))
    return Bounds(errors, np.clip(single, one, most), float(np.clip(pairs, two_sided, every)), count - 1)


def _largest(scores: Array, spread: Array, rng: np.random.Generator, level: float) -> tuple[Array, float]:
    """Quantiles of the largest t: of each cell against all others, one-sided, (C,); and of any pair, two-sided."""
    cells, count = scores.shape
    draws = affordable(cells)
    # Shares of a draw's spread, 0..1: float32 tells apart what 1,000 draws can.
    inverse = np.divide(1, spread * math.sqrt(count), out=np.zeros_like(spread), where=spread > 0)
    inverse = inverse.astype(np.float32)
    bits = np.frombuffer(rng.bytes((count * draws + 7) // 8), np.uint8)
    signs = np.unpackbits(bits, count=count * draws).reshape(count, draws) * np.float32(2) - np.float32(1)
    # Differences of sums are taken in float32, so what all cells have in common goes first.
    sums = ((scores - scores.mean(axis=0)) @ signs).astype(np.float32)
    single, largest = np.empty(cells), np.zeros(draws, np.float32)
    for j in range(cells):
        shares = (sums[j] - sums) * inverse[j][:, None]  # (C, draws)
        best = shares.max(axis=0)
        np.maximum(largest, best, out=largest)
        single[j] = np.quantile(best, level, method="higher")
    return _as_t(single, count), float(_as_t(float(np.quantile(largest, level, method="higher")), count))


def _as_t(share: Array | float, count: int) -> Array:
    """Student's t of a share of the spread: √(units - 1) · r / √(1 - r²), rising in r."""
    share = np.clip(share, 0, 1)
    found: Array = np.sqrt((count - 1) * share**2 / np.maximum(1 - share**2, np.finfo(float).eps))
    return found
