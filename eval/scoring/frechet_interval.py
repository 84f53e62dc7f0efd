"""FID of infinitely many pictures, and differences of it between cells, with intervals. Pure functions of features.

FID of N pictures is too high by about c/N, and c differs between cells. It is a smooth function of mean and
covariance, so it has an expansion in its rows: an influence of each, and a kernel of each pair. The kernel of a
row with itself is the bias, which is taken off; what is left of order 1/N² goes by extrapolation from halves. The
variance is the jackknife's, of the influences: on average it is not too small (V₁ + 2 V₂ + … where V₁ + V₂ + … is
true), and its excess makes up for what the extrapolation adds. All of this comes from one eigendecomposition of a
cell, and one of each half; a difference of two cells is then vector work.

The reference is a given here: its own sampling error is in no interval.

Sources: Chong & Forsyth, Effectively Unbiased FID and Inception Score (2020), for N = infinity;
von Mises, On the asymptotic distribution of differentiable statistical functions (1947), for the expansion;
Efron & Stein, The jackknife estimate of variance (1981), for its excess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.scoring.frechet import root
from eval.scoring.moments import Array, Moments, moments
from eval.scoring.uncertainty import LEVEL, Interval, Units, student_interval, units

BLOCK = 1 << 22
"""Numbers in one block of (D, D) matrices: 32 MiB."""


@dataclass(frozen=True)
class FidTarget:
    """A reference made ready, once for all cells: its mean (D,), and the root (D, D) and trace of its covariance."""

    mean: Array
    root: Array
    trace: float


@dataclass(frozen=True)
class FidSample:
    """One cell's FID with what its interval, and that of any difference from another cell, are made of."""

    value: float
    """FID of these N pictures, as others compute it."""
    infinity: float
    """Estimate of FID at N = infinity; may fall below 0 by its error."""
    settled: bool
    """Whether the bias of order 1/N² is off too, which takes halves of N > D; else `infinity` has no interval."""
    scores: Array
    """Jackknife influence of each unit, (units,); empty where N <= D and there is no interval."""
    by: Units
    seed: int


@dataclass(frozen=True)
class _Expansion:
    """FID around a sample, to second order in its units."""

    value: float
    scores: Array
    own: Array

    @property
    def unbiased(self) -> float:
        """FID less its bias of order 1/N."""
        return self.value - float(self.own.mean()) / (2 * len(self.own))


@dataclass(frozen=True)
class _Basis:
    """A sample's rows in the eigenbasis of √Σr Σ √Σr, whose eigenvalues are `roots`²."""

    rows: Array
    """(N, R), R the rank."""
    roots: Array

    @property
    def weights(self) -> Array:
        """Second derivative of -2 tr √A by entries of A, (R, R)."""
        s = self.roots
        weights: Array = 1 / (s[:, None] * s[None, :] * (s[:, None] + s[None, :]))
        return weights


def fid_target(reference: Moments) -> FidTarget:
    """The reference with the root of its covariance; costs one eigendecomposition."""
    return FidTarget(reference.mean, root(reference.covariance), float(np.trace(reference.covariance)))


def fid_sample(
    features: Array, target: FidTarget, *, seed: int, clusters: Sequence[object] | None = None
) -> FidSample:
    """A cell's FID, its N = infinity estimate and the influences of its rows.

    Cells that are to be compared take the same seed and clusters. Up to three eigendecompositions of (D, D).

    Args:
        features: (N, D), N >= 2.
        seed: decides the halves; the value and the influences do not depend on it.
        clusters: one label a row; rows of one label (seeds of one prompt) may depend on each other.

    Raises:
        ValueError: another width than the reference's, fewer than two rows, values that are not finite,
            or not one label a row.
    """
    width = len(target.mean)
    if features.ndim != 2 or features.shape[1] != width:
        raise ValueError(f"features must be (N, {width}) as the reference's, got shape {features.shape}")
    by = units(len(features), clusters)
    order = np.random.default_rng(seed).permutation(by.count)
    halves = [np.isin(by.codes, part) for part in np.array_split(order, 2)]
    if len(features) <= width:
        value = _plain(features, target)
        empty = np.empty(0)
        rough = _first_order(value, features, halves, target)
        return FidSample(value, rough, False, empty, by, seed)
    whole = _expand(features, target, by)
    settled = min(int(half.sum()) for half in halves) > width
    infinity = _extrapolated(whole.unbiased, features, halves, target, by) if settled else whole.unbiased
    scores = whole.scores - whole.own / (2 * by.count)  # deleting a unit takes its own pair along
    return FidSample(whole.value, infinity, settled, scores, by, seed)


def infinity_of(sample: FidSample, *, level: float = LEVEL) -> Interval:
    """FID at N = infinity with its interval; no ends where half the rows are not more than D."""
    if not sample.settled:
        return Interval(sample.infinity, None, None)
    return _interval(sample.infinity, sample.scores, level)


def difference_of(first: FidSample, second: FidSample, *, level: float = LEVEL) -> Interval:
    """FID(first) - FID(second), both at N = infinity, with the interval of the paired difference.

    No ends where N <= D. From N > D to N > 2 D it leans on the two biases of order 1/N² being alike.

    Raises:
        ValueError: the two were not sampled with the same rows, clusters and seed.
    """
    if first.seed != second.seed or not np.array_equal(first.by.codes, second.by.codes):
        raise ValueError("a paired difference of FID needs the same rows, clusters and seed on both sides")
    value = first.infinity - second.infinity
    if not (len(first.scores) and len(second.scores)):
        return Interval(value, None, None)
    return _interval(value, first.scores - second.scores, level)


def fid_infinity(
    features: Array,
    reference: Moments,
    *,
    seed: int,
    clusters: Sequence[object] | None = None,
    level: float = LEVEL,
) -> Interval:
    """`infinity_of` one cell's features (N, D). Raises ValueError as `fid_sample`."""
    return infinity_of(fid_sample(features, fid_target(reference), seed=seed, clusters=clusters), level=level)


def paired_fid_difference(
    first: Array,
    second: Array,
    reference: Moments,
    *,
    seed: int,
    clusters: Sequence[object] | None = None,
    level: float = LEVEL,
) -> Interval:
    """`difference_of` two cells' features (N, D); rows at one index share prompt and seed.

    Raises:
        ValueError: as `fid_sample` and `difference_of`.
    """
    target = fid_target(reference)
    one, other = (fid_sample(each, target, seed=seed, clusters=clusters) for each in (first, second))
    return difference_of(one, other, level=level)


def _interval(value: float, scores: Array, level: float) -> Interval:
    count = len(scores)
    if count < 2:
        return Interval(value, None, None)
    return student_interval(value, math.sqrt(float(scores.var(ddof=1)) / count), count - 1, level)


def _plain(features: Array, target: FidTarget) -> float:
    """FID where N <= D: tr √(Σ Σr) is the sum of the singular values of an (N, D) matrix."""
    mean = features.mean(axis=0, dtype=np.float64)
    rows = (features - mean) / math.sqrt(len(features) - 1)
    cross = float(np.linalg.svd(rows @ target.root, compute_uv=False).sum())
    return float(((mean - target.mean) ** 2).sum() + (rows**2).sum()) + target.trace - 2 * cross


def _first_order(whole: float, features: Array, halves: list[Array], target: FidTarget) -> float:
    """Two-point extrapolation over 1/N, all that rank-deficient samples allow."""
    if min(int(half.sum()) for half in halves) < 2:
        return whole
    return 2 * whole - float(np.mean([_plain(features[half], target) for half in halves]))


def _extrapolated(whole: float, features: Array, halves: list[Array], target: FidTarget, by: Units) -> float:
    """Takes off what is left, of order 1/N², by FID of the halves; needs halves of N > D."""
    sizes = np.array([half.sum() for half in halves])
    parts = []
    for half in halves:
        inner = units(int(half.sum()), None if by.count == by.rows else by.codes[half].tolist())
        parts.append(_expand(features[half], target, inner).unbiased)
    steepness = float(((len(features) / sizes) ** 2).mean())  # 4 for equal halves
    return (steepness * whole - float(np.mean(parts))) / (steepness - 1)


def _expand(features: Array, target: FidTarget, by: Units) -> _Expansion:
    """FID's expansion around the sample; needs N > D. Scaled so that units are like independent rows."""
    from scipy.linalg import eigh

    found = moments(features)
    values, vectors = eigh(target.root @ found.covariance @ target.root)
    kept = values > len(values) * np.finfo(float).eps * values[-1]  # directions that both sides lack drop out
    centred = features - found.mean
    basis = _Basis(centred @ (target.root @ vectors[:, kept]), np.sqrt(values[kept]))
    shift = found.mean - target.mean
    total = float(np.trace(found.covariance))
    value = float(shift @ shift) + total + target.trace - 2 * float(basis.roots.sum())
    curved = (centred**2).sum(axis=1) - (basis.rows**2 / basis.roots).sum(axis=1)  # xᵀ (I - T) x
    influence = 2 * centred @ shift + curved
    scale = by.count / by.rows
    own = _own_kernel(curved, basis, by)
    return _Expansion(value, by.sums(influence) * scale, own * scale**2)


def _own_kernel(curved: Array, basis: _Basis, by: Units) -> Array:
    """Kernel of each unit with itself, (units,).

    The kernel of x and y is 2 xᵀ T y + Σ_ij w_ij (x_i x_j - A_ij)(y_i y_j - A_ij) in the eigenbasis. With
    itself a unit also pays for the covariance's own mean, less what the factor N / (N - 1) gives back.
    """
    turned = by.sums(basis.rows)
    bent = (turned**2 / basis.roots).sum(axis=1)  # sᵀ T s
    kernel = _row_kernel(basis) if by.count == by.rows else _cluster_kernel(basis, by)
    return np.asarray(kernel + 2 * bent + 2 * by.sums(curved))


def _row_kernel(basis: _Basis) -> Array:
    """The covariance's kernel for single rows, with x_i² as one vector: no (D, D) matrix a row."""
    weights, squares = basis.weights, basis.rows**2
    crossed = squares @ (weights.diagonal() * basis.roots**2)
    constant = float((weights.diagonal() * basis.roots**4).sum())
    quadratic = ((squares @ weights) * squares).sum(axis=1)
    return np.asarray(quadratic - 2 * crossed + constant)


def _cluster_kernel(basis: _Basis, by: Units) -> Array:
    """The covariance's kernel for clusters of rows, from each cluster's scatter, block by block."""
    members, weights = by.members(), basis.weights
    own = np.empty(by.count)
    block = max(1, BLOCK // weights.size)
    for start in range(0, by.count, block):
        here = range(start, min(start + block, by.count))
        rows = [basis.rows[members[k]] for k in here]
        scatter = np.stack([each.T @ each - len(each) * np.diag(basis.roots**2) for each in rows])
        own[here.start : here.stop] = np.einsum("gij,gij->g", scatter * weights, scatter)
    return own
