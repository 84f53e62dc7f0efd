"""Small folders of reference pictures, a cheap encoder, and a record of which files are opened."""

from __future__ import annotations

import encodings.cp437  # noqa: F401  # zipfile loads it when it first reads, which is no file of a reference
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from eval.identity import EncoderKey
from eval.records import ReferencePlan

Array = np.ndarray[Any, np.dtype[Any]]
_opened: list[str] = []
_watching: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "open":
        _opened.append(str(arguments[0]))


sys.addaudithook(_hook)  # can never be taken away: quiet unless `opened_files` watches


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Paths of all files that are opened in the meantime, by whatever code."""
    _opened.clear()
    _watching.append(True)
    try:
        yield _opened
    finally:
        _watching.clear()


@dataclass
class MeanEncoder:
    """Four features: each channel's mean, and the mean of the first column's reds. Counts what it is given."""

    weights: str = "sha256:0"
    width: int = 4
    seen: list[int] = field(default_factory=list)

    @property
    def key(self) -> EncoderKey:
        return EncoderKey("mean", self.weights, "none", "none", "means 4", ())

    def images(self, pixels: torch.Tensor) -> Array:
        assert pixels.dtype == torch.uint8
        self.seen.append(len(pixels))
        values = pixels.float()
        return torch.cat([values.mean(dim=(2, 3)), values[:, :1, :, 0].mean(dim=2)], dim=1).numpy()


def fill(folder: Path, count: int, *, seed: int = 0) -> Path:
    """Noise pictures 0.png, 1.png ... of two sizes in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = rng.integers(0, 256, (8, 10 if index % 2 else 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def plan_of(folder: Path, cache: Path, **options: Any) -> ReferencePlan:
    """All pictures of the folder, kept in `cache`."""
    return ReferencePlan("folder", 0, str(folder), cache=str(cache), **options)
