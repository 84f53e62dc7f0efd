"""Simulated cells whose true scores are known exactly: skewed CLIP scores, and features of known moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.scoring.moments import Array, Moments

WIDTH = 64
"""D of the bundled scorer."""
CLASSES = 10
SEEDS_A_PROMPT = 4
PROMPT, SEED, OWN = 0.3, 0.4, 0.3
"""Shares of a feature's variance: from the prompt's class, from the seed, from the cell alone."""


@dataclass(frozen=True)
class Population:
    """Features `mean + mixing · z`, z a mixture of classes plus skewed noise, and their exact moments."""

    mixing: Array
    moments: Moments


@dataclass(frozen=True)
class World:
    """A reference and cells of one family; `centres` are the prompts' classes, (CLASSES, D)."""

    axes: Array
    """Of every population's spectrum, (D, D)."""
    centres: Array
    reference: Population
    near: Population
    far: Population

    def population(self, distortion: float, shift: float) -> Population:
        """Features whose spectrum is distorted, and whose mean is shifted, against the reference's."""
        return _population(self.axes, self.centres, distortion, shift)


def world() -> World:
    """The features' world: spectrum 1, 1/2, …, 1/64; two cells that distort it to a different degree."""
    rng = np.random.default_rng(5)
    axes, _ = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
    centres = rng.standard_normal((CLASSES, WIDTH))
    centres = (centres - centres.mean(axis=0)) / centres.std(axis=0)  # mean 0, variance 1, correlated
    near, far = (_population(axes, centres, *each) for each in ((0.5, 0.3), (0.8, 0.4)))
    return World(axes, centres, _population(axes, centres, 0.0, 0.0), near, far)


def _population(axes: Array, centres: Array, distortion: float, shift: float) -> Population:
    shared = PROMPT * (centres.T @ centres) / CLASSES + (SEED + OWN) * np.eye(WIDTH)
    spectrum = np.exp(distortion * np.linspace(-1, 1, WIDTH)) / np.arange(1, WIDTH + 1)
    mixing = axes * np.sqrt(spectrum)
    exact = Moments(np.iinfo(np.int64).max, shift * axes[:, 0], mixing @ shared @ mixing.T)
    return Population(mixing, exact)


def true_fid(cell: Population, reference: Population) -> float:
    """FID between the two populations, from their exact moments."""
    one, other = cell.moments, reference.moments
    values, vectors = np.linalg.eigh(other.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ one.covariance @ root), 0, None)).sum()
    shift = one.mean - other.mean
    return float(shift @ shift + np.trace(one.covariance) + np.trace(other.covariance) - 2 * cross)


def features(
    rng: np.random.Generator,
    n: int,
    cells: tuple[Population, ...],
    centres: Array,
    seeds: int = 1,
    own: Sequence[float] | Array | None = None,
) -> list[Array]:
    """Features (n, D) of each cell; rows at one index share prompt and seed, `seeds` rows a prompt in turn.

    Args:
        own: share of the variance from each cell alone, 0 to SEED + OWN; None is OWN for all.
    """
    classes = np.repeat(rng.integers(CLASSES, size=-(-n // seeds)), seeds)[:n]
    prompt, seed = np.sqrt(PROMPT) * centres[classes], skewed(rng, (n, WIDTH))
    return [
        cell.moments.mean
        + (prompt + np.sqrt(SEED + OWN - alone) * seed + np.sqrt(alone) * skewed(rng, (n, WIDTH)))
        @ cell.mixing.T
        for cell, alone in zip(cells, [OWN] * len(cells) if own is None else own, strict=True)
    ]


def clip_scores(rng: np.random.Generator, n: int, means: Array, seeds: int = 1) -> Array:
    """Scores (cells, n) of the given true means: hard prompts make a tail to the left, noise grows with it."""
    prompts = -skewed(rng, (-(-n // seeds),))
    rows = np.repeat(prompts, seeds)[:n]
    noise = 1.5 * -skewed(rng, (n,)) + skewed(rng, (len(means), n)) * np.exp(-0.2 * rows)
    scores: Array = means[:, None] + 2.5 * rows + noise
    return scores


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Gamma noise of mean 0, variance 1, skewness √2 and excess kurtosis 3."""
    return np.asarray((rng.standard_gamma(2.0, shape) - 2) / np.sqrt(2))
