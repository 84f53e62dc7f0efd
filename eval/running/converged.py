"""The picture that a cell's own is on its way to: the same seed and guidance, many steps, made once a guidance.

It is made without any acceleration, so that what a precision or an interval changes is in the distance.
"""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.hashing import named, read_named
from eval.records import Cell, ConvergedPlan, digest
from eval.running.atomic import make_folder, write_atomic
from eval.running.generator import Batch, Generator
from eval.scoring.cell_scores import Converged
from eval.scoring.convergence import latent_rmse, ssim
from sdkit._sampler_names import find_sampler

if TYPE_CHECKING:
    from torch import Tensor

Pair = tuple["Tensor", "Tensor"]
"""Latents (K, C, h, w) float32 and pictures (K, 3, H, W) uint8."""
Fly = Callable[[Cell, int], Pair | None]
"""The first K pictures of a cell by the shared engine; None where it cannot make them."""


@dataclass
class ConvergedRuns:
    """Measures the first pictures of cells against converged ones, which are kept for the next cell and process."""

    plan: ConvergedPlan
    generator: Generator[Any]
    text: Callable[[int, int], Any]
    """The encoded prompts of the pictures start..stop - 1."""
    folder: Path
    """Where converged pictures are kept."""
    precise: Mapping[str, tuple[Generator[Any], Callable[[int, int], Any]]] = field(default_factory=dict)
    """Generator and prompts by precision, where the grid has such an axis; `generator` is then the finest."""
    _kept: dict[str, Pair | None] = field(default_factory=dict, init=False)
    _making: dict[str, threading.Lock] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def count(self, cell: Cell) -> int:
        """How many of the cell's first pictures are measured."""
        return 0 if find_sampler(cell.sampler).stochastic else min(self.plan.count, cell.count)

    def measure(self, cell: Cell, made: Pair | None, fly: Fly = lambda *_: None) -> Converged:
        """How far the cell's first pictures are from their converged ones.

        Args:
            made: the latents and pictures of the cell's first `count`; None where the latents are not at hand:
                they are then made again.
            fly: makes converged pictures; what it cannot make goes the plain path.
        """
        first = min(self.plan.count, cell.count)
        target = (
            f"{self.plan.sampler} {self.plan.steps} steps, same guidance and seeds, first {first} pictures"
        )
        if first < 1:
            return Converged({}, target, "metrics.converged.count is 0")
        count = self.count(cell)
        if count < 1:
            return Converged(
                {}, target, f"{cell.sampler} draws noise at every step: it converges to no one picture"
            )
        made = made or _pair(self._sample(cell, count), count)
        wanted = self._converged(cell, count, fly)
        if made is None or wanted is None:
            return Converged({}, target, "this pipeline hands out no latents")
        values = {
            "latent_rmse": latent_rmse(made[0].numpy(), wanted[0].numpy()),
            "ssim": ssim(made[1], wanted[1]),
        }
        return Converged(values, target)

    def _converged(self, cell: Cell, count: int, fly: Fly) -> Pair | None:
        far = replace(cell, sampler=self.plan.sampler, steps=self.plan.steps, guidance_interval=None)
        if far.precision is not None:
            far = replace(far, precision=None, dtype=self.generator.dtype)
        key = digest([far.asked, count])[:16]
        with self._lock:
            alone = self._making.setdefault(key, threading.Lock())
        with alone:  # or two threads would make the same
            if key not in self._kept:
                self._kept[key] = self._read(key) or self._made(far, count, key, fly)
            return self._kept[key]

    def _made(self, far: Cell, count: int, key: str, fly: Fly) -> Pair | None:
        found = fly(far, count) or _pair(self._sample(far, count), count)
        if found is not None:
            buffer = io.BytesIO()
            np.savez(buffer, latents=found[0].numpy(), images=found[1].numpy())
            payload = buffer.getvalue()
            make_folder(self.folder)
            write_atomic(self.folder / named(key, payload, ".npz"), payload)
        return found

    def _read(self, key: str) -> Pair | None:
        """What an earlier process made; None where there is nothing whole."""
        import torch

        for path in sorted(self.folder.glob(f"{key}.*.npz")):
            try:
                with np.load(io.BytesIO(read_named(path)), allow_pickle=False) as stored:
                    return torch.from_numpy(stored["latents"]), torch.from_numpy(stored["images"])
            except (OSError, KeyError, ValueError, zipfile.BadZipFile):
                continue
        return None

    def _sample(self, cell: Cell, count: int) -> Batch:
        generator, text = self.generator, self.text
        if cell.precision is not None:
            generator, text = self.precise[cell.precision]
        made: Batch = generator.sample(
            text(0, count),
            sampler=cell.sampler,
            steps=cell.steps,
            guidance_scale=cell.guidance,
            guidance_interval=cell.guidance_interval,
            seeds=cell.seeds(0, count),
            width=cell.width,
            height=cell.height,
        )
        return made


def _pair(batch: Batch, count: int) -> Pair | None:
    return None if batch.latents is None else (batch.latents[:count], batch.images[:count])
