"""Reference pictures in batches of one size each, read or drawn when they are asked for and then let go."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from eval.scoring.pictures import UnreadablePicture, centre_square, decode_picture, read_bytes
from eval.scoring.reference_files import refuse_any
from sdkit._errors import first_line

if TYPE_CHECKING:
    from torch import Tensor

FIRST_SEED = 1 << 40
"""Renders of the reference start here, far from every seed that training or the prompts use."""
_WINDOW = 4  # batches' worth of pictures held at most, while sizes differ
_DRAWN = 512
"""Renders drawn together."""
_HELD = 4
"""So many of these are held, 25 MB, for their hash is taken before they are encoded: what the defaults ask for is drawn
once."""


@dataclass(frozen=True)
class Batch:
    """Pictures (n, 3, H, W) uint8 of one size, and which of the reference's they are."""

    rows: tuple[int, ...]
    pixels: Tensor


def drawn(count: int, size: int, crop: str) -> Iterator[Batch]:
    """The first `count` reference renders of the world, `size` at a time."""
    for first in range(0, count, _DRAWN):
        held = _renders(first, min(first + _DRAWN, count))
        for start in range(0, len(held), size):
            pixels = held[start : start + size]
            rows = range(first + start, first + start + len(pixels))
            yield Batch(tuple(rows), _cropped(pixels, crop))


@lru_cache(maxsize=_HELD)
def _renders(start: int, stop: int) -> Tensor:
    """(stop - start, 3, H, W) uint8; not to be written to."""
    from sdkit.shapes import world

    seeds = [FIRST_SEED + row for row in range(start, stop)]
    scenes = [world.draw_scene(seed, objects=1 + seed % 2, split="held_out") for seed in seeds]
    return world.render(scenes, seeds)


def read(files: tuple[Path, ...], hashes: tuple[str, ...], size: int, crop: str) -> Iterator[Batch]:
    """The files' pictures, `size` at most at a time, those of one size together.

    Args:
        hashes: SHA-256 of each file, as it must still be.

    Raises:
        InvalidRequest: after all were read, naming those that could not be.
    """
    import torch

    waiting: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
    for held, (row, whole) in enumerate(_pictures(files, hashes), 1):
        picture = _cropped(whole, crop)
        same = waiting.setdefault(tuple(picture.shape[-2:]), [])
        same.append((row, picture))
        if len(same) == size or held % (_WINDOW * size) == 0:
            fullest = max(waiting, key=lambda shape: len(waiting[shape]))
            yield _batch(waiting.pop(fullest), torch.stack)
    for left in waiting.values():
        yield _batch(left, torch.stack)


def hash_drawn(count: int, on_hashed: Callable[[int], object] | None = None) -> str:
    """SHA-256, in hex, over the pixels of the first `count` renders."""
    seen = hashlib.sha256()
    for batch in drawn(count, _DRAWN, "none"):
        seen.update(batch.pixels.numpy().tobytes())
        if on_hashed is not None:
            on_hashed(len(batch.rows))
    return seen.hexdigest()


def drawing(count: int) -> str:
    """Everything that decides the renders' pixels, as text: the world's code and the library that runs it."""
    import platform

    import numpy
    import torch

    from sdkit.shapes import _forms, world

    code = hashlib.sha256()
    for module in (world, _forms):
        code.update(Path(str(module.__file__)).read_bytes())
    versions = f"torch {torch.__version__}, numpy {numpy.__version__}, {platform.machine()}"
    return f"{count} renders from seed {FIRST_SEED}, code {code.hexdigest()}, {versions}"


def _pictures(files: tuple[Path, ...], hashes: tuple[str, ...]) -> Iterator[tuple[int, Tensor]]:
    """Row and picture. From the first bad one on, files are only tried: the error at the end knows them all."""
    bad: list[tuple[Path, UnreadablePicture]] = []
    for row, (file, known) in enumerate(zip(files, hashes, strict=True)):
        try:
            contents = read_bytes(file)
            if hashlib.sha256(contents).hexdigest() != known:
                raise UnreadablePicture(f"picture {file} changed while it was used; start again")
            picture = decode_picture(contents, str(file))
        except UnreadablePicture as error:
            bad.append((file, error))
        else:
            if not bad:
                yield row, picture
    if len(bad) == 1:
        raise bad[0][1]
    if bad:
        refuse_any(
            [file for file, _ in bad], f"of {len(files)} cannot be used (the first: {first_line(bad[0][1])})"
        )


def _batch(pictures: list[tuple[int, Tensor]], stack: Callable[[list[Tensor]], Tensor]) -> Batch:
    return Batch(tuple(row for row, _ in pictures), stack([picture for _, picture in pictures]))


def _cropped(pictures: Tensor, crop: str) -> Tensor:
    return centre_square(pictures) if crop == "centre" else pictures
