"""Squared maximum mean discrepancy of two sets of features: KID and CMMD. Pure; in blocks, so memory is bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from eval.scoring.clip_score import unit

Array = np.ndarray[Any, np.dtype[Any]]
Kernel = Callable[[Array, Array], Array]

BLOCK = 2048
"""Rows of a kernel matrix at a time: (2048, 2048) of float64 is 32 MiB."""
CMMD_SIGMA = 10.0
CMMD_SCALE = 1000.0


def kid(features: Array, reference: Array, *, block: int = BLOCK) -> float:
    """Unbiased MMD² of features (N, D) and (M, D) over all pairs, lower is better; around 0, and below it, for equals.

    Kernel (x·y / D + 1)³. Published values are means over subsets of 1,000 drawn at random; all pairs have
    the same expectation and no seed.

    Raises:
        ValueError: fewer than two rows on a side, different widths, or values that are not finite.

    Source: Bińkowski et al., Demystifying MMD GANs (2018).
    """
    first, second = _checked(features, reference)
    n, m, width = len(first), len(second), first.shape[1]

    def cubic(x: Array, y: Array) -> Array:
        base = x @ y.T / width + 1
        return np.asarray(base * base * base)  # ten times as fast as a power

    within = _off_diagonal(first, cubic, block) / (n * (n - 1)) + _off_diagonal(second, cubic, block) / (
        m * (m - 1)
    )
    return within - 2 * _total(first, second, cubic, block) / (n * m)


def cmmd(features: Array, reference: Array, *, block: int = BLOCK) -> float:
    """1000 · MMD² of features at unit length over all pairs, own ones too, as published; lower is better, 0 for equals.

    Kernel exp(-|x - y|² / (2 · 10²)). Published values are of CLIP ViT-L/14 at 336 px; on other features it is
    another number.

    Raises:
        ValueError: as `kid`, or a row of zeros.

    Source: Jayasumana et al., Rethinking FID: Towards a Better Evaluation Metric for Image Generation (2024).
    """
    first, second = (unit(each) for each in _checked(features, reference))

    # exp(-d) - 1 with expm1: at unit length d is at most 0.02, and 1 - d would lose six digits.
    def gaussian(x: Array, y: Array) -> Array:
        return np.asarray(np.expm1((x @ y.T - 1) / CMMD_SIGMA**2))

    n, m = len(first), len(second)
    within = _total(first, first, gaussian, block) / n**2 + _total(second, second, gaussian, block) / m**2
    return CMMD_SCALE * (within - 2 * _total(first, second, gaussian, block) / (n * m))


def _checked(features: Array, reference: Array) -> tuple[Array, Array]:
    for each in (features, reference):
        if each.ndim != 2 or len(each) < 2 or not np.isfinite(each).all():
            raise ValueError(f"features must be finite (N, D) with N >= 2, got shape {each.shape}")
    if features.shape[1] != reference.shape[1]:
        raise ValueError(f"features must have one width, got {features.shape} and {reference.shape}")
    return features.astype(np.float64), reference.astype(np.float64)


def _total(first: Array, second: Array, kernel: Kernel, block: int) -> float:
    """Sum of the kernel over all pairs."""
    return float(
        sum(
            kernel(first[i : i + block], second[j : j + block]).sum()
            for i in range(0, len(first), block)
            for j in range(0, len(second), block)
        )
    )


def _off_diagonal(rows: Array, kernel: Kernel, block: int) -> float:
    """Sum of the kernel over all pairs of different rows."""
    own = sum(
        float(np.trace(kernel(rows[i : i + block], rows[i : i + block]))) for i in range(0, len(rows), block)
    )
    return _total(rows, rows, kernel, block) - own
