"""Fréchet distance between Gaussians: from moments, or from features where there are fewer than dimensions. Pure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eval.scoring.moments import Moments, moments

Array = np.ndarray[Any, np.dtype[Any]]


def frechet_distance(first: Moments, second: Moments, *, root_of_second: Array | None = None) -> float:
    """Squared Fréchet distance between two Gaussians; lower is better, 0 for equals, in the features' unit squared.

    The cross term is the sum of the singular values of √Σ₁ √Σ₂, which are the roots of the eigenvalues of
    √Σ₁ Σ₂ √Σ₁ without squaring anything on the way: half the digits would be lost where Σ has no full rank.

    Args:
        root_of_second: `root` of the second's covariance, where it is known already.

    Raises:
        ValueError: moments of different width.

    Source: Dowson & Landau, The Fréchet distance between multivariate normal distributions (1982); Heusel et
    al., GANs Trained by a Two Time-Scale Update Rule (2017).
    """
    if first.width != second.width:
        raise ValueError(f"moments must have one width, got {first.width} and {second.width}")
    other = root(second.covariance) if root_of_second is None else root_of_second
    cross = float(np.linalg.svd(root(first.covariance) @ other, compute_uv=False).sum())
    traces = float(np.trace(first.covariance) + np.trace(second.covariance))
    return _distance(first.mean, second.mean, traces, cross)


def frechet_distance_of_features(first: Array, second: Array) -> float:
    """The same from features (N1, D) and (N2, D), N >= 2 each, by the smaller of D and the two N.

    Tr √(Σ₁ Σ₂) is the nuclear norm of X₁ X₂ᵀ / √((N1 - 1)(N2 - 1)), X centred: no (D, D) matrix, and no
    square root of one that has no full rank.

    Raises:
        ValueError: different widths, fewer than two rows, or values that are not finite.
    """
    if min(len(first), len(second)) > first.shape[1]:
        return frechet_distance(moments(first), moments(second))
    rows = [_centred(each) for each in (first, second)]
    if rows[0][1].shape[1] != rows[1][1].shape[1]:
        raise ValueError(f"features must have one width, got {first.shape} and {second.shape}")
    (mean, left), (other, right) = rows
    cross = float(np.linalg.svd(left @ right.T, compute_uv=False).sum())
    return _distance(mean, other, float((left**2).sum() + (right**2).sum()), cross)


def root(covariance: Array) -> Array:
    """The symmetric root of a covariance (D, D).

    Eigenvalues that are no more than float64's rounding of the largest count as 0: a root would raise 1e-16 to 1e-8.
    """
    values, vectors = np.linalg.eigh(covariance)
    least = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return np.asarray((vectors * np.sqrt(np.where(values > least, values, 0.0))) @ vectors.T)


def _centred(features: Array) -> tuple[Array, Array]:
    """Mean (D,) and rows (N, D) around it, scaled so that their products are covariances."""
    if features.ndim != 2 or len(features) < 2 or not np.isfinite(features).all():
        raise ValueError(f"features must be finite (N, D) with N >= 2, got shape {features.shape}")
    rows = features.astype(np.float64)
    mean = rows.mean(axis=0)
    return mean, (rows - mean) / math.sqrt(len(rows) - 1)


def _distance(first: Array, second: Array, traces: float, cross: float) -> float:
    """Clipped at 0: what lies below is the rounding of numbers as large as the traces."""
    return max(0.0, float(((first - second) ** 2).sum()) + traces - 2 * cross)
