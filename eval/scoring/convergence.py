"""How far pictures are from what their sampler converges to: in latents, and in pixels. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


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
    """Structural similarity of each picture, (N,) float64, at most 1, higher is better, by torchmetrics.

    Args:
        pictures, converged: (N, 3, H, W) uint8, sides of 11 px at least: Gaussian window of
            deviation 1.5 around every pixel, borders reflected.

    Raises:
        ValueError: the shapes or types differ from that.

    Source: Wang et al., Image quality assessment: from error visibility to structural similarity (2004).
    """
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    if pictures.shape != converged.shape or pictures.ndim != 4 or min(pictures.shape[-2:]) < 11:
        shapes = f"{tuple(pictures.shape)} and {tuple(converged.shape)}"
        raise ValueError(f"pictures must be (N, 3, H, W) of one shape and 11 px at least, got {shapes}")
    if {pictures.dtype, converged.dtype} != {torch.uint8}:
        raise ValueError(f"pictures must be uint8, got {pictures.dtype} and {converged.dtype}")
    one, other = (
        each.to(torch.float64, copy=True, memory_format=torch.contiguous_format)
        for each in (pictures, converged)
    )
    found = structural_similarity_index_measure(one, other, data_range=255.0, reduction="none")
    return np.atleast_1d(np.asarray(found.numpy(), dtype=np.float64))
