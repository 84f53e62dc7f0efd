"""What strong guidance does to pixels, and CLIP score does not see: saturation, contrast, clipping. Pure.

All take pictures (N, 3, H, W) uint8, 0-255, and give one float64 a picture, (N,).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

LUMA = (0.299, 0.587, 0.114)


def saturation(pixels: Tensor) -> Array:
    """Mean saturation, 0..1: (max - min) / max of the three channels, 0 where a pixel is black.

    Source: Smith, Color Gamut Transform Pairs (1978): the S of HSV.
    """
    levels = _checked(pixels)
    most = levels.max(axis=1)
    share = np.divide(most - levels.min(axis=1), most, out=np.zeros(most.shape), where=most > 0)
    return np.asarray(share.mean(axis=(1, 2)))


def contrast(pixels: Tensor) -> Array:
    """RMS contrast, 0..0.5: the standard deviation of luma over the picture.

    Source: Peli, Contrast in complex images (1990); luma by ITU-R BT.601.
    """
    red, green, blue = (share * _checked(pixels)[:, channel] for channel, share in enumerate(LUMA))
    return np.asarray((red + green + blue).std(axis=(1, 2)) / 255)


def clipped(pixels: Tensor) -> Array:
    """Share, 0..1, of channel values at either end, 0 or 255; lower is better: detail is lost there."""
    ends = (_checked(pixels) == 0) | (_checked(pixels) == 255)
    return np.asarray(ends.mean(axis=(1, 2, 3)))


def _checked(pixels: Tensor) -> Array:
    found = pixels.numpy()
    if found.ndim != 4 or found.shape[1] != 3 or found.dtype != np.uint8:
        raise ValueError(f"pictures must be (N, 3, H, W) uint8, got {found.shape} {found.dtype}")
    return found
