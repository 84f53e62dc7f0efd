"""How many pictures an encoder takes at once: halved until they fit the memory; never part of a result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sdkit._errors import InvalidRequest, OutOfMemory

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[np.float32]]

MOST = 64
"""Pictures at once where nobody says otherwise: what more gains is little, and what it takes is memory."""


@dataclass
class Batching:
    """The batch of one encoder on one device, remembered from call to call.

    Never by a clock: a batch that followed the machine's mood would give the last digits of a feature another
    value each time, and no run would be the same as another to the byte.

    Args:
        fixed: pictures at once; None begins with `MOST`. Either is halved when the device's memory runs out.
    """

    fixed: int | None = None
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = self.fixed or MOST

    def run(self, encode: Callable[[Tensor], Array], pixels: Tensor) -> Array:
        """`encode` of pictures (N, 3, H, W) uint8, batch by batch, as one (N, D) float32.

        Raises:
            InvalidRequest: as `check_pixels`.
            OutOfMemory: one picture alone does not fit.
        """
        check_pixels(pixels)
        return self.over(encode, pixels)

    def over(self, encode: Callable[[Any], Array], items: Any) -> Array:
        """`encode` of one item or more, pictures or captions, batch by batch, as one (N, D) float32.

        Raises:
            OutOfMemory: one item alone does not fit.
        """
        parts: list[Array] = []
        start = 0
        while start < len(items):
            chunk = items[start : start + self.size]
            try:
                parts.append(encode(chunk))
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                self._halve(error)
                continue
            start += len(chunk)
        return np.concatenate(parts)

    def _halve(self, error: BaseException) -> None:
        if self.size == 1:
            raise OutOfMemory(
                "the encoder does not fit the device with one picture or caption; use a smaller one"
            ) from error
        _free()
        self.size //= 2


class Batched(ABC):
    """An encoder of pictures that leaves their batches to `batching`."""

    batching: Batching

    def images(self, pixels: Tensor) -> Array:
        """Features (N, D) float32, unnormalised, of pictures (N, 3, H, W) uint8, whatever N.

        Raises:
            InvalidRequest: pictures of another shape or type.
            OutOfMemory: one picture alone does not fit.
        """
        return self.batching.run(self._encode, pixels)

    @abstractmethod
    def _encode(self, pixels: Tensor) -> Array:
        """Features of one batch."""


def check_pixels(pixels: Tensor) -> None:
    """Check that pictures are what every encoder reads.

    Raises:
        InvalidRequest: not (N, 3, H, W) uint8 with N >= 1; the message says what is likely meant.
    """
    import torch

    shape = tuple(pixels.shape)
    if pixels.dtype != torch.uint8:
        raise InvalidRequest(
            f"pictures must be uint8, 0-255, got {str(pixels.dtype).removeprefix('torch.')}; quantise them once: "
            "(x.clamp(0, 1) * 255).round()"
        )
    if pixels.ndim != 4 or shape[1] != 3 or 0 in shape:
        last = " (channels stand last: permute(0, 3, 1, 2))" if pixels.ndim == 4 and shape[-1] == 3 else ""
        raise InvalidRequest(f"pictures must be (N, 3, H, W) with N >= 1, got {shape}{last}")


def _out_of_memory(error: BaseException) -> bool:
    """CUDA's own error, and what the CPU's allocators say."""
    import torch

    said = str(error).lower()
    known = ("out of memory", "can't allocate memory", "not enough memory", "alloc_cpu")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(each in said for each in known)


def _free() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
