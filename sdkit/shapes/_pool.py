"""The training pictures, drawn once: what the two CLIPs and the denoiser learn from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sdkit.shapes import world

FIRST_SEED = 100_000_000
COUNT = 40_960
_CHUNK = 512


@dataclass(frozen=True)
class Pool:
    """`images` (N, 3, 64, 64) uint8; scene i belongs to image i; none of the captions is held out."""

    images: Tensor
    scenes: tuple[world.Scene, ...]

    def batch(self, step: int, size: int, seed: int) -> list[int]:
        """Indices of a step: every epoch is a permutation of its own."""
        per_epoch = len(self.scenes) // size
        epoch, place = divmod(step, per_epoch)
        order = torch.randperm(len(self.scenes), generator=torch.Generator().manual_seed(seed + epoch))
        return list(order[place * size : (place + 1) * size].tolist())


def load(folder: Path, count: int | None = None) -> Pool:
    """The pool of a training folder, drawn on the first call."""
    count = count or COUNT
    path = folder / f"pool-{count}.npy"
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    scenes = tuple(map(partial(world.draw_scene, split="train"), seeds))
    if not path.exists():
        partial_path = path.with_suffix(".partial.npy")
        chunks = range(0, count, _CHUNK)
        drawn = [
            world.render(scenes[i : i + _CHUNK], seeds[i : i + _CHUNK]) for i in tqdm(chunks, desc="pool")
        ]
        np.save(partial_path, torch.cat(drawn).numpy())
        partial_path.replace(path)
    return Pool(torch.from_numpy(np.load(path)), scenes)
