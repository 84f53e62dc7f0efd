"""Fidelity and diversity apart: precision, recall, density, coverage over nearest neighbours. Pure; in blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

NEAREST_K = 5
"""The default of the authors' own code for density and coverage."""
BLOCK = 2048
"""Rows a side of a block of distances: (2048, 2048) of float64 is 32 MiB."""


@dataclass(frozen=True)
class PRDC:
    """All higher is better; 0..1 but for density, which may pass 1."""

    precision: float
    """Share of pictures within the reference's manifold."""
    recall: float
    """Share of the reference within the pictures' manifold."""
    density: float
    """In how many of the reference's balls a picture lies, over k; less moved by outliers than precision."""
    coverage: float
    """Share of the reference's balls that hold a picture."""
    balls: Array = field(compare=False, repr=False)
    """(N,) int: in how many of the reference's balls each picture lies; precision and density are means over it."""


def prdc(
    features: Array,
    reference: Array,
    *,
    radii_of_reference: Array | None = None,
    nearest_k: int = NEAREST_K,
    block: int = BLOCK,
) -> PRDC:
    """All four for features (N, D) against reference features (M, D).

    A ball reaches from a row to its k-th nearest other row of its own set.

    Args:
        radii_of_reference: `radii` of the reference, where they are known already.

    Raises:
        ValueError: a side has no more than k rows, different widths, or values that are not finite.

    Source: Kynkäänniemi et al., Improved Precision and Recall Metric (2019); Naeem et al., Reliable Fidelity
    and Diversity Metrics for Generative Models (2020).
    """
    made, real = _checked(features, nearest_k), _checked(reference, nearest_k)
    if made.shape[1] != real.shape[1]:
        raise ValueError(f"features must have one width, got {features.shape} and {reference.shape}")
    real_radius = _radii(real, nearest_k, block) if radii_of_reference is None else radii_of_reference
    made_radius = _radii(made, nearest_k, block)
    balls = np.zeros(len(made), dtype=np.int64)
    nearest = np.full(len(real), np.inf)
    recalled = np.zeros(len(real), dtype=bool)
    for left in _slices(len(real), block):
        for top in _slices(len(made), block):
            distances = _distances(real[left], made[top])
            balls[top] += (distances < real_radius[left, None]).sum(axis=0)
            nearest[left] = np.minimum(nearest[left], distances.min(axis=1))
            recalled[left] |= (distances < made_radius[None, top]).any(axis=1)
    return PRDC(
        precision=float((balls > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls.mean() / nearest_k),
        coverage=float((nearest < real_radius).mean()),
        balls=balls,
    )


def radii(features: Array, *, nearest_k: int = NEAREST_K, block: int = BLOCK) -> Array:
    """(N,) how far the ball of each row of features (N, D) reaches. Raises ValueError as `prdc`."""
    return _radii(_checked(features, nearest_k), nearest_k, block)


def _checked(features: Array, nearest_k: int) -> Array:
    if features.ndim != 2 or len(features) <= nearest_k or not np.isfinite(features).all():
        raise ValueError(
            f"features must be finite (N, D) with N > k = {nearest_k}, got shape {features.shape}"
        )
    return features.astype(np.float64)


def _radii(rows: Array, nearest_k: int, block: int) -> Array:
    """Distance of each row to its k-th nearest other row, (N,)."""
    found = np.empty(len(rows))
    for left in _slices(len(rows), block):
        near = np.empty((len(rows[left]), 0))
        for top in _slices(len(rows), block):
            near = np.concatenate([near, _distances(rows[left], rows[top])], axis=1)
            near = np.partition(near, min(nearest_k, near.shape[1] - 1), axis=1)[:, : nearest_k + 1]
        found[left] = near.max(axis=1)  # of k + 1, since each row is nearest to itself
    return found


def _slices(n: int, block: int) -> list[slice]:
    return [slice(start, start + block) for start in range(0, n, block)]


def _distances(first: Array, second: Array) -> Array:
    """Euclidean, (N, M), from differences: the expanded square would give equal rows a distance."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(first, second))
