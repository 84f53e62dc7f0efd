"""Mean and covariance of features, in float64: at once, batch by batch, or merged from shards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and unbiased covariance (D, D) of a set of features, in float64, and how many rows gave them."""

    n: int | None
    """None where a file gave them that does not say."""
    mean: Array
    covariance: Array

    @property
    def width(self) -> int:
        return int(self.mean.shape[0])

    @property
    def full_rank(self) -> bool | None:
        """False where the covariance cannot have full rank, which needs D + 1 rows; None where `n` is not known."""
        return None if self.n is None else self.n > self.width


@dataclass
class RunningMoments:
    """Sums from which `Moments` follow; holds (D, D) whatever the number of rows.

    Source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances (1979): sums of squares around each batch's own mean lose no digits.
    """

    width: int
    n: int = 0
    mean: Array = field(init=False)
    scatter: Array = field(init=False)
    """Sum of (x - mean)(x - mean)ᵀ, (D, D)."""

    def __post_init__(self) -> None:
        self.mean = np.zeros(self.width)
        self.scatter = np.zeros((self.width, self.width))

    def add(self, features: Array) -> None:
        """Take in features (N, D) of any float type.

        Raises:
            ValueError: another width, or values that are not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.width or not np.isfinite(features).all():
            raise ValueError(f"features must be finite (N, {self.width}), got shape {features.shape}")
        if len(features) == 0:
            return
        rows = features.astype(np.float64)
        mean = rows.mean(axis=0)
        centred = rows - mean
        self._take(len(rows), mean, centred.T @ centred)

    def merge(self, other: RunningMoments) -> None:
        """Take in what another shard has seen. Raises ValueError for another width."""
        if other.width != self.width:
            raise ValueError(f"shards must have one width, got {self.width} and {other.width}")
        if other.n:
            self._take(other.n, other.mean, other.scatter)

    def finish(self) -> Moments:
        """The moments of all rows so far. Raises ValueError for fewer than two."""
        if self.n < 2:
            raise ValueError(f"moments need 2 rows at least, got {self.n}")
        return Moments(self.n, self.mean.copy(), self.scatter / (self.n - 1))

    def _take(self, n: int, mean: Array, scatter: Array) -> None:
        total, shift = self.n + n, mean - self.mean
        self.scatter = self.scatter + scatter + np.outer(shift, shift) * (self.n * n / total)
        self.mean = self.mean + shift * (n / total)
        self.n = total


def moments(features: Array) -> Moments:
    """Moments of features (N, D), N >= 2. Raises ValueError as `RunningMoments`."""
    running = RunningMoments(features.shape[1] if features.ndim == 2 else 0)
    running.add(features)
    return running.finish()
