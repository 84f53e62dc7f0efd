"""Inception score: how sure a classifier is of each picture, and how varied it finds them all. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

SPLITS = 10


@dataclass(frozen=True)
class InceptionScore:
    """Mean over splits, 1..number of classes, higher is better; and their spread."""

    value: float
    spread: float
    """Standard deviation over the splits, which is no interval of the mean: it holds the splits' own bias."""


def inception_score(logits: Array, *, splits: int = SPLITS, seed: int) -> InceptionScore:
    """exp of the mean divergence of class probabilities from their mean, over splits of the shuffled pictures.

    Args:
        logits: (N, C) class logits, N >= splits.
        seed: of the shuffle.

    Raises:
        ValueError: fewer pictures than splits, or values that are not finite.

    Source: Salimans et al., Improved Techniques for Training GANs (2016).
    """
    from scipy.special import log_softmax

    if logits.ndim != 2 or len(logits) < splits or not np.isfinite(logits).all():
        raise ValueError(f"logits must be finite (N, C) with N >= {splits}, got shape {logits.shape}")
    order = np.random.RandomState(seed).permutation(len(logits))  # torch-fidelity's own generator
    log_p = log_softmax(logits[order].astype(np.float64), axis=1)
    ends = [part * len(logits) // splits for part in range(splits + 1)]
    scores = [_score(log_p[start:stop]) for start, stop in pairwise(ends)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(log_p: Array) -> float:
    from scipy.special import logsumexp

    # The mean's logarithm from logarithms: a class that no picture can be of would give log 0.
    log_mean = logsumexp(log_p, axis=0) - np.log(len(log_p))
    return float(np.exp((np.exp(log_p) * (log_p - log_mean)).sum(axis=1).mean()))
