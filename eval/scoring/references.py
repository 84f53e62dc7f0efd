"""The pictures that FID compares with, in batches, and the hash of their contents, for FID's identity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.records import ReferencePlan, digest
from sdkit._errors import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("shapes", "folder", "none")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_WINDOW = 4  # batches' worth of pictures after which the commonest size is let go, full or not
FIRST_SEED = 1 << 40
"""Renders of the reference start here, far from every seed that training or the prompts use."""


@dataclass(frozen=True)
class Reference:
    """Reference pictures by content: `identity` holds their hash, `batches` yields (N, 3, H, W) uint8."""

    identity: str
    count: int
    plan: ReferencePlan
    files: tuple[Path, ...] = ()
    renders: Tensor | None = None
    """The world's pictures, which are small: drawn once, for the hash and for the features."""

    def batches(self, size: int) -> Iterator[Tensor]:
        """The pictures, `size` at most at a time; pictures of one batch have one size."""
        if self.renders is None:
            return _pictures(self.files, size)
        renders = self.renders
        return (renders[start : start + size] for start in range(0, self.count, size))


def open_reference(plan: ReferencePlan) -> Reference | None:
    """The reference that the plan names, its contents hashed; None for the kind "none".

    Raises:
        InvalidRequest: the folder is missing or empty, or a picture in it cannot be read.
    """
    if plan.kind == "none":
        return None
    if plan.kind == "shapes":
        renders = _renders(plan.count)
        content = hashlib.sha256(renders.numpy().tobytes()).hexdigest()
        held = f"{plan.count} fresh renders of held-out scenes, one object and two in turn"
        return Reference(f"{held}, sha256:{content[:16]}", plan.count, plan, renders=renders)
    files = reference_files(plan)
    hashes = [hashlib.sha256(_bytes(file)).hexdigest() for file in files]
    return Reference(
        f"{len(files)} pictures of a folder, sha256:{digest(hashes)[:16]}", len(files), plan, files
    )


def reference_files(plan: ReferencePlan) -> tuple[Path, ...]:
    """Pictures below the plan's folder, sorted by name; the first `count` of them unless it is 0.

    Raises:
        InvalidRequest: no path, no such folder, not readable, or fewer pictures than asked for.
    """
    if plan.path is None:
        raise InvalidRequest(
            "reference.path must be a folder of pictures, got nothing; give reference.path=FOLDER"
        )
    folder = Path(plan.path).expanduser()
    try:
        if not folder.is_dir():
            raise InvalidRequest(
                f"reference.path must be a folder of pictures, got {plan.path!r}; there is none"
            )
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        next(folder.iterdir(), None)  # rglob passes over a folder that may not be read
    except OSError as error:
        raise InvalidRequest(f"reference.path {plan.path} cannot be read: {error.strerror}") from error
    if len(files) == 1 or plan.count == 1:
        raise InvalidRequest(f"reference.path must hold at least 2 pictures, got 1 from {plan.path!r}")
    if not files:
        allowed = ", ".join(SUFFIXES)
        raise InvalidRequest(f"reference.path must hold pictures ({allowed}), got none below {plan.path!r}")
    if plan.count > len(files):
        raise InvalidRequest(
            f"reference.count must be 0 (all) to {len(files)} for {plan.path}, got {plan.count}"
        )
    return tuple(files[: plan.count or None])


def _renders(count: int) -> Tensor:
    import torch

    from sdkit.shapes import world

    batches = []
    for start in range(FIRST_SEED, FIRST_SEED + count, 512):
        seeds = range(start, min(start + 512, FIRST_SEED + count))
        scenes = [world.draw_scene(seed, objects=1 + seed % 2, split="held_out") for seed in seeds]
        batches.append(world.render(scenes, seeds))
    return torch.cat(batches)


def _pictures(files: tuple[Path, ...], size: int) -> Iterator[Tensor]:
    import torch

    waiting: dict[tuple[int, ...], list[Tensor]] = {}
    for held, file in enumerate(files, 1):
        picture = torch.from_numpy(_pixels(file)).permute(2, 0, 1)
        same = waiting.setdefault(tuple(picture.shape), [])
        same.append(picture)
        if len(same) == size or held % (_WINDOW * size) == 0:
            full = max(waiting, key=lambda shape: len(waiting[shape]))
            yield torch.stack(waiting.pop(full))
    for left in waiting.values():
        yield torch.stack(left)


def _pixels(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            return np.array(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise InvalidRequest(f"reference picture {file} cannot be read; mend it or take it out") from error


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"reference picture {file} cannot be read: {error.strerror}") from error
