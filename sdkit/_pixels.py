"""From the decoder's numbers to bytes, once: what is shown, saved and scored is exactly these."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from sdkit._errors import InvalidPixels


def quantise(pixels: Tensor, *, made_by: str, black: bool = False) -> Tensor:
    """Levels (N, 3, H, W) uint8, 0-255, on the CPU, by rounding: cutting off would darken by half a level.

    Args:
        pixels: (N, 3, H, W) float, -1..1 and a little beyond.
        made_by: model and dtype, for the message.
        black: a wholly black picture is let through, as a stage on the way to one may be.
    Raises:
        InvalidPixels: NaN or infinity, or a picture that is wholly black.
    """
    _refuse(~pixels.isfinite().flatten(1).all(dim=1), "be finite", "with NaN or infinity", made_by)
    levels = (pixels.float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
    if not black:
        _refuse(levels.flatten(1).amax(dim=1) == 0, "show something", "wholly black", made_by)
    return levels


def to_pil(images: Tensor) -> list[Image.Image]:
    """(N, 3, H, W) uint8 as PIL images."""
    return [Image.fromarray(levels) for levels in images.permute(0, 2, 3, 1).contiguous().numpy()]


def _refuse(bad: Tensor, duty: str, fault: str, made_by: str) -> None:
    """Raises InvalidPixels when any of (N,) bool is true."""
    count = int(bad.sum())
    if count:
        remedy = "try dtype='float32', more steps or less guidance"
        raise InvalidPixels(
            f"pixels must {duty}, got {count} of {len(bad)} images {fault} ({made_by}); {remedy}"
        )
