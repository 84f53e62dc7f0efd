"""How far pictures are from what their sampler converges to: in latents, and in pixels. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

_DEVIATION_PX, _REACH_PX = 1.5, 5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def latent_rmse(latents: Array, converged: Array) -> Array:
    """Root mean square difference of each picture's latents, (N,) float64, in the latents' unit; lower is better.

    Args:
        latents, converged: (N, C, h, w) float.

    Raises:
        ValueError: the shapes differ, or values are not finite.
    """
    if latents.shape != converged.shape:
        raise ValueError(f"latents must have one shape, got {latents.shape} and {converged.shape}")
    # In one layout: sums follow the order of memory, and the last digit must not tell where pictures came from.
    apart = latents.astype(np.float64, order="C") - converged.astype(np.float64, order="C")
    if not np.isfinite(apart).all():
        raise ValueError("latents must be finite, got NaN or infinity")
    return np.asarray(np.sqrt((apart**2).mean(axis=tuple(range(1, apart.ndim)))))


def ssim(pictures: Tensor, converged: Tensor) -> Array:
    """Structural similarity of each picture, (N,) float64, at most 1, higher is better, as torchmetrics has it.

    Args:
        pictures, converged: (N, 3, H, W) uint8, sides of 11 px at least: Gaussian window of
            deviation 1.5 around every pixel, borders reflected.

    Raises:
        ValueError: the shapes or types differ from that.

    Source: Wang et al., Image quality assessment: from error visibility to structural similarity (2004).
    """
    import torch

    if pictures.shape != converged.shape or pictures.ndim != 4 or min(pictures.shape[-2:]) < 11:
        shapes = f"{tuple(pictures.shape)} and {tuple(converged.shape)}"
        raise ValueError(f"pictures must be (N, 3, H, W) of one shape and 11 px at least, got {shapes}")
    if {pictures.dtype, converged.dtype} != {torch.uint8}:
        raise ValueError(f"pictures must be uint8, got {pictures.dtype} and {converged.dtype}")
    pairs = zip(pictures.numpy(), converged.numpy(), strict=True)
    return np.array([_similarity(*(each.astype(np.float64, order="C") for each in pair)) for pair in pairs])


def _similarity(one: Array, other: Array) -> float:
    """Of one picture (3, H, W) float64, 0-255, with another."""
    mean_one, mean_other, squares, product = _blurred(np.stack([one, other, one**2 + other**2, one * other]))
    means, crossed = mean_one**2 + mean_other**2, mean_one * mean_other
    spread = np.maximum(squares - means, 0.0)  # the sum of the two variances
    alike = (2 * crossed + _C1) * (2 * (product - crossed) + _C2)
    return float((alike / ((means + _C1) * (spread + _C2))).mean())


def _blurred(planes: Array) -> Array:
    """Means of planes (..., H, W) under the window around every pixel: its rows and columns one after the other."""
    from scipy.ndimage import correlate1d

    line = np.exp(-(np.arange(-_REACH_PX, _REACH_PX + 1) ** 2) / (2 * _DEVIATION_PX**2))
    line /= line.sum()
    for axis in (-1, -2):
        planes = correlate1d(planes, line, axis=axis, mode="mirror")
    return planes
