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
    return float(kid_values(features, reference, block=block).mean())


def cmmd(features: Array, reference: Array, *, block: int = BLOCK) -> float:
    """1000 · MMD² of features at unit length over all pairs, own ones too, as published; lower is better, 0 for equals.

    Kernel exp(-|x - y|² / (2 · 10²)). Published values are of CLIP ViT-L/14 at 336 px; on other features it is
    another number.

    Raises:
        ValueError: as `kid`, or a row of zeros.

    Source: Jayasumana et al., Rethinking FID: Towards a Better Evaluation Metric for Image Generation (2024).
    """
    return float(cmmd_values(features, reference, block=block).mean())


def kid_values(features: Array, reference: Array, *, own: float | None = None, block: int = BLOCK) -> Array:
    """The jackknife's pseudo-values of KID by rows of `features`, (N,): their mean is KID, their spread its error's.

    The reference is a given: only `features` are drawn. Raises ValueError as `kid`.

    Args:
        own: `kid_own` of the reference, where it is known already.

    Source: Arvesen, Jackknifing U-statistics (1969).
    """
    first, second = _checked(features, reference)
    own = kid_own(reference, block=block) if own is None else own
    return _pseudo_values(first, second, _cubic, block) + own


def kid_own(reference: Array, *, block: int = BLOCK) -> float:
    """KID's third term, of the reference (M, D) alone: its mean kernel over pairs of different rows."""
    rows, _ = _checked(reference, reference)
    own = _row_sums(rows, rows, _cubic, block) - _diagonal(rows, _cubic, block)
    return float(own.sum()) / (len(rows) * (len(rows) - 1))


def cmmd_values(features: Array, reference: Array, *, own: float | None = None, block: int = BLOCK) -> Array:
    """The same of CMMD. Pairs of a row with itself, which are all alike, are no part of the spread.

    Args:
        own: `cmmd_own` of the reference, where it is known already.
    """
    first, second = (unit(each) for each in _checked(features, reference))
    own = cmmd_own(reference, block=block) if own is None else own
    values = _pseudo_values(first, second, _gaussian, block, own_pairs=True)
    return np.asarray(CMMD_SCALE * (values + own))


def cmmd_own(reference: Array, *, block: int = BLOCK) -> float:
    """CMMD's third term, of the reference (M, D) alone, not scaled: its mean kernel over all pairs, less 1."""
    rows = unit(_checked(reference, reference)[1])
    return float(_row_sums(rows, rows, _gaussian, block).sum()) / len(rows) ** 2


def _cubic(x: Array, y: Array) -> Array:
    base = x @ y.T / x.shape[1] + 1
    return np.asarray(base * base * base)  # ten times as fast as a power


def _gaussian(x: Array, y: Array) -> Array:
    # exp(-d) - 1 with expm1: at unit length d is at most 0.02, and 1 - d would lose six digits.
    return np.asarray(np.expm1((x @ y.T - 1) / CMMD_SIGMA**2))


def _pseudo_values(
    first: Array, second: Array, kernel: Kernel, block: int, *, own_pairs: bool = False
) -> Array:
    """Those of the two terms of MMD² in which `first` stands, (N,).

    The mean kernel of all pairs, U, is (S_1 + … + S_N) / (N (N - 1)) with S the sums over other rows; without
    row i it is (S_1 + … + S_N - 2 S_i) / ((N - 1) (N - 2)).

    Args:
        own_pairs: pairs of a row with itself count as well, as (N - 1) / N of U and their mean over N.
    """
    n = len(first)
    diagonal = _diagonal(first, kernel, block)
    sums = _row_sums(first, first, kernel, block) - diagonal
    within = sums.mean() / (n - 1)
    if n > 2:
        within = within + 2 * (sums - sums.mean()) / (n - 2)
    if own_pairs:
        within = within * (n - 1) / n + diagonal.mean() / n
    return np.asarray(within - 2 * _row_sums(first, second, kernel, block) / len(second))


def _checked(features: Array, reference: Array) -> tuple[Array, Array]:
    for each in (features, reference):
        if each.ndim != 2 or len(each) < 2 or not np.isfinite(each).all():
            raise ValueError(f"features must be finite (N, D) with N >= 2, got shape {each.shape}")
    if features.shape[1] != reference.shape[1]:
        raise ValueError(f"features must have one width, got {features.shape} and {reference.shape}")
    return features.astype(np.float64), reference.astype(np.float64)


def _row_sums(first: Array, second: Array, kernel: Kernel, block: int) -> Array:
    """Sum of the kernel over `second` for each row of `first`, (N,)."""
    sums = np.zeros(len(first))
    for i in range(0, len(first), block):
        for j in range(0, len(second), block):
            sums[i : i + block] += kernel(first[i : i + block], second[j : j + block]).sum(axis=1)
    return sums


def _diagonal(rows: Array, kernel: Kernel, block: int) -> Array:
    """Kernel of each row with itself, (N,), rounded as in the sums that it is taken from."""
    parts = [rows[i : i + block] for i in range(0, len(rows), block)]
    return np.concatenate([np.diagonal(kernel(part, part)) for part in parts])
