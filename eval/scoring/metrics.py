"""Features to numbers: CLIP score, FID and the judge's share. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.records import Score
from eval.scoring.uncertainty import mean_interval, wilson

Array = np.ndarray[Any, np.dtype[Any]]

FID_NO_INTERVAL = "no interval: resampling biases FID upwards; compare equal N against one reference only"


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and covariance (D, D) of a set of features, in float64, and how many pictures gave them."""

    n: int
    mean: Array
    covariance: Array

    @property
    def width(self) -> int:
        return int(self.mean.shape[0])

    @property
    def full_rank(self) -> bool:
        """False where the covariance cannot have full rank, which needs D + 1 pictures."""
        return self.n > self.width


def moments(features: Array) -> Moments:
    """Moments of features (N, D), N >= 2, as torch-fidelity computes them, from float64.

    Raises:
        ValueError: fewer than two rows, or values that are not finite.
    """
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics

    if features.ndim != 2 or len(features) < 2 or not np.isfinite(features).all():
        raise ValueError(f"moments need finite features (N, D) with N >= 2, got shape {features.shape}")
    statistics = fid_features_to_statistics(torch.from_numpy(features.astype(np.float64)))
    return Moments(len(features), statistics["mu"], np.atleast_2d(statistics["sigma"]))


def frechet_distance(first: Moments, second: Moments) -> float:
    """Squared Fréchet distance between two Gaussians, by torch-fidelity; lower is better, 0 for equals.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule (2017).
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    pair = [{"mu": each.mean, "sigma": each.covariance} for each in (first, second)]
    return float(fid_statistics_to_metric(*pair, verbose=False)[KEY_METRIC_FID])


def fid(features: Array, reference: Moments, *, name: str, identity: str) -> Score:
    """FID of features (N, D) against the reference; None with its reason where the rank allows none."""
    n = len(features)
    needed = reference.width + 1
    for count, subject in ((n, "pictures"), (reference.n, "reference pictures")):
        if count < needed:
            reason = f"{name} needs at least {needed} {subject} for a covariance of full rank, got {count}"
            return Score(name, None, n, higher_is_better=False, identity=identity, reason=reason)
    value = frechet_distance(moments(features), reference)
    return Score(name, value, n, higher_is_better=False, identity=identity, reason=FID_NO_INTERVAL)


def no_fid(n: int, *, name: str) -> Score:
    """FID of pictures that there is nothing to compare with: None, with that as its reason."""
    reason = "no reference pictures were given (reference=none)"
    return Score(name, None, n, higher_is_better=False, identity="no reference", reason=reason)


def clip_scores(images: Array, texts: Array) -> Array:
    """100 · cosine of each picture with its own caption, (N,) in -100..100, higher is better, never clipped.

    Args:
        images: (N, D) float, of any length.
        texts: (N, D) float, row i belongs to picture i.
    """
    if images.shape != texts.shape:
        raise ValueError(f"each picture needs its caption, got features {images.shape} and {texts.shape}")
    pictures, captions = images.astype(np.float64), texts.astype(np.float64)
    norms = np.linalg.norm(pictures, axis=1) * np.linalg.norm(captions, axis=1)
    return np.asarray(100 * (pictures * captions).sum(axis=1) / norms)


def clip_score(scores: Sequence[float], *, identity: str) -> Score:
    """Mean of per-image CLIP scores with its 95 % interval."""
    mean = mean_interval(scores)
    reason = None if mean.low is not None else "no interval from one picture"
    return Score("clip_score", mean.value, len(scores), True, identity, mean.low, mean.high, reason)


def judge_all(verdicts: Sequence[Mapping[str, bool]], *, identity: str) -> Score:
    """Share, 0..1, of pictures in which every attribute of the caption is right, with Wilson's interval."""
    share = wilson(sum(all(each.values()) for each in verdicts), len(verdicts))
    return Score("judge_all", share.value, len(verdicts), True, identity, share.low, share.high)
