"""Reads colour, shape, size, place and relation back from pixels; nothing in here is learned.

The background is a plane of colour fitted to the frame. What differs from it falls into connected
pieces, and each piece is compared, moved to its centroid and scaled by its area, with drawings of
all shapes at every size and turn that the world allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdkit.shapes import world
from sdkit.shapes._forms import coverage

_FOREGROUND = 46.0
"""RGB distance from the background: half of the smallest distance between two colours of the palette."""
_LEAST_AREA_PX = 14
_LEAST_OVERLAP = 0.55
_GRID = 24
_AROUND = np.ones((3, 3))
_REACH = 1.25
"""Half the window that shapes are compared in, in square roots of their area."""
_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """One object as it was read. `shape` is None where nothing overlaps well enough."""

    shape: str | None
    colour: str
    centre: tuple[float, float]
    radius_px: float
    area_px: float

    @property
    def size(self) -> str:
        middle = (world.RADIUS_PX["small"] + world.RADIUS_PX["large"]) / 2
        return "small" if self.radius_px < middle else "large"

    @property
    def place(self) -> str:
        x, y = ((c - world.SIZE_PX / 2) / world.OFFSET_PX for c in self.centre)
        return min(world.PLACES, key=lambda p: math.dist((x, y), world.DIRECTION[p]))


@dataclass(frozen=True)
class Reading:
    """What a picture shows; objects from the largest to the smallest."""

    background: str
    objects: tuple[Seen, ...]


def read(images: Tensor) -> list[Reading]:
    """What each picture shows.

    Args:
        images: (N, 3, 64, 64) uint8, 0-255.
    """
    if images.dtype != torch.uint8 or images.shape[1:] != (3, world.SIZE_PX, world.SIZE_PX):
        raise ValueError(f"images must be (N, 3, 64, 64) uint8, got {tuple(images.shape)} {images.dtype}")
    planes = images.numpy().astype(np.float32)
    found = [_pieces(image, ground) for image, ground in zip(planes, _backgrounds(planes), strict=True)]
    seen = _see([piece for _, pieces in found for piece in pieces])
    return [Reading(background, tuple(islice(seen, len(pieces)))) for background, pieces in found]


def verdict(reading: Reading, scene: world.Scene) -> dict[str, bool]:
    """Attribute -> whether the picture shows what the caption says; the picture is right if all are.

    One object is judged by count, shape, colour, size, place and background; two by count, shapes,
    colours, relation and background, the assignment being the one that gets most of them right.
    """
    seen, wanted = reading.objects, len(scene.shapes)
    common = {"count": len(seen) == wanted, "background": reading.background == scene.background}
    if wanted == 1:
        one = seen[0] if seen else None
        return common | {
            "shape": one is not None and one.shape == scene.shapes[0],
            "colour": one is not None and one.colour == scene.colours[0],
            "size": one is not None and one.size == scene.size,
            "place": one is not None and one.place == scene.place,
        }
    if len(seen) < 2:
        return common | {"shape": False, "colour": False, "relation": False}
    first, second = seen[:2]
    candidates = [_pair_verdict(first, second, scene), _pair_verdict(second, first, scene)]
    return common | max(candidates, key=lambda v: sum(v.values()))


def _pair_verdict(a: Seen, b: Seen, scene: world.Scene) -> dict[str, bool]:
    dx, dy = a.centre[0] - b.centre[0], a.centre[1] - b.centre[1]
    relation = (
        ("left of" if dx < 0 else "right of") if abs(dx) > abs(dy) else ("above" if dy < 0 else "below")
    )
    return {
        "shape": (a.shape, b.shape) == scene.shapes,
        "colour": (a.colour, b.colour) == scene.colours,
        "relation": relation == scene.relation,
    }


@dataclass(frozen=True)
class _Piece:
    """What stands out from the background in one place."""

    colour: str
    coverage: _Floats
    """(64, 64): how much of each pixel it covers, 0..1."""


def _pieces(image: _Floats, ground: _Floats) -> tuple[str, list[_Piece]]:
    """The background's colour and the pieces of a picture (3, 64, 64), from the largest to the smallest."""
    from scipy import ndimage

    apart = image - ground
    difference = _length(apart)
    labels, count = ndimage.label(difference > _FOREGROUND, structure=_AROUND)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    wanted = [i for i in range(1, count + 1) if areas[i] >= _LEAST_AREA_PX]
    wanted.sort(key=lambda i: -areas[i])
    boxes = ndimage.find_objects(labels) if wanted else []
    pieces = []
    for i in wanted:
        box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in boxes[i - 1])
        here = (slice(None), *box)
        alpha, colour = _piece(image[here], ground[here], apart[here], difference[box], labels[box] == i)
        coverage = np.zeros_like(difference)
        coverage[box] = alpha
        pieces.append(_Piece(_nearest_colour(colour), coverage))
    return _nearest_colour(ground.mean(axis=(1, 2))), pieces


@cache
def _border() -> tuple[NDArray[np.bool_], _Floats, _Floats, _Floats]:
    """The frame, two pixels wide, as a mask; 1, row and column of its pixels; and rows and columns of all."""
    rows, columns = np.mgrid[: world.SIZE_PX, : world.SIZE_PX].astype(np.float32)
    frame = np.zeros((world.SIZE_PX, world.SIZE_PX), dtype=np.bool)
    frame[:2], frame[-2:], frame[:, :2], frame[:, -2:] = True, True, True, True
    design = np.stack([np.ones_like(rows), rows, columns], axis=-1)[frame]
    return frame, design, rows, columns


def _backgrounds(images: _Floats) -> _Floats:
    """(N, 3, 64, 64): the planes through the frames' pixels, fitted twice, the second time without outliers."""
    frame, design, rows, columns = _border()
    values = images[:, :, frame]
    apart = values - _median(values)[..., None]
    near = (_length(apart.swapaxes(0, 1)) < 2 * _FOREGROUND)[:, None]
    wide = design.astype(np.float64)
    # Normal equations: rows and columns are whole numbers below 64, so float64 holds their sums exactly.
    products = (near * wide.T) @ wide
    planes = np.linalg.pinv(products, rcond=1e-12, hermitian=True) @ (
        (near * wide.T) @ values.astype(np.float64).swapaxes(1, 2)
    )
    flat, down, right = planes.astype(np.float32).swapaxes(0, 1)[..., None, None]
    return np.asarray(flat + down * rows + right * columns)


def _length(vectors: _Floats) -> _Floats:
    """Of vectors whose three components come first."""
    return np.asarray(np.sqrt(_dot(vectors, vectors)))


def _dot(one: _Floats, other: _Floats) -> _Floats:
    """Products of vectors whose three components come first."""
    return np.asarray(one[0] * other[0] + one[1] * other[1] + one[2] * other[2])


def _piece(
    image: _Floats, ground: _Floats, apart: _Floats, difference: _Floats, mask: NDArray[np.bool_]
) -> tuple[_Floats, _Floats]:
    """How much of each pixel a piece covers, and its colour, in a box with a pixel's margin around it."""
    core = mask & (difference >= _median(difference[mask]))
    colour = _median(image[:, core])
    toward = colour[:, None, None] - ground
    alpha = _dot(apart, toward) / np.maximum(_dot(toward, toward), 1.0)
    return np.asarray(np.clip(alpha, 0, 1) * _dilated(mask), dtype=np.float32), colour


def _median(values: _Floats) -> _Floats:
    """Over the last axis; NumPy's own looks for NaN, which takes longer than the median of so few."""
    low, high = (values.shape[-1] - 1) // 2, values.shape[-1] // 2
    parted = np.partition(values, [low, high], axis=-1)
    return np.asarray((parted[..., low] + parted[..., high]) / 2)


def _see(pieces: Sequence[_Piece]) -> Iterator[Seen]:
    """Each piece, by the drawing that it overlaps best, and how well."""
    if not pieces:
        return
    coverages = torch.from_numpy(np.stack([piece.coverage for piece in pieces]))
    frames = _frames(coverages)
    overlaps = _overlaps(_canonical(coverages, frames))
    known = _templates()
    for piece, (x, y, scale), overlap in zip(pieces, frames.tolist(), overlaps, strict=True):
        best = int(overlap.argmax())
        radius = scale / known.scale[best]
        offset = known.offset[best]
        yield Seen(
            shape=world.SHAPES[known.shape[best]] if overlap[best] >= _LEAST_OVERLAP else None,
            colour=piece.colour,
            centre=(x - radius * offset[0], y - radius * offset[1]),
            radius_px=radius,
            area_px=scale**2,
        )


def _dilated(piece: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With the eight neighbours of every pixel."""
    wide = piece.copy()
    wide[1:] |= piece[:-1]
    wide[:-1] |= piece[1:]
    found = wide.copy()
    found[:, 1:] |= wide[:, :-1]
    found[:, :-1] |= wide[:, 1:]
    return found


def _nearest_colour(rgb: _Floats) -> str:
    apart = _palette() - rgb
    return world.COLOURS[int((apart * apart).sum(axis=1).argmin())]


@cache
def _palette() -> NDArray[np.float64]:
    return np.array([world.PALETTE[name] for name in world.COLOURS], dtype=np.float64)


def _frames(coverages: Tensor) -> Tensor:
    """(M, 3): centroid x, y and square root of the area, in pixels, of coverages (M, 64, 64)."""
    areas = coverages.sum((1, 2)).clamp_min(1e-6)
    pixels = torch.arange(world.SIZE_PX) + 0.5
    across, down = (coverages.sum(axis) * pixels for axis in (1, 2))
    return torch.stack([across.sum(1) / areas, down.sum(1) / areas, areas.sqrt()], dim=1)


def _canonical(coverages: Tensor, frames: Tensor) -> Tensor:
    """(M, 576): each coverage seen through a window of 24 x 24 centred on its centroid, as wide as the area says."""
    x, y, scale = frames.T[:, :, None]
    steps = torch.linspace(-_REACH, _REACH, _GRID) * scale
    to_unit = 2 / world.SIZE_PX
    shape = (len(frames), _GRID, _GRID)
    gx = ((steps + x) * to_unit - 1)[:, None, :].expand(shape)
    gy = ((steps + y) * to_unit - 1)[:, :, None].expand(shape)
    grid = torch.stack([gx, gy], dim=-1)
    return torch.nn.functional.grid_sample(coverages[:, None], grid, align_corners=False).flatten(1)


@dataclass(frozen=True)
class _Templates:
    """M drawings: (M, 576) pixels, the shape's index, its scale and centroid for a radius of one."""

    pixels: Tensor
    areas: Tensor
    """(M,) sums of the pixels."""
    shape: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[tuple[float, float], ...]


@cache
def _templates() -> _Templates:
    middle = world.SIZE_PX / 2
    pixels, shapes, scales, offsets = [], [], [], []
    for index, shape in enumerate(world.SHAPES):
        for radius in world.RADIUS_PX.values():
            for degrees in (-12, -6, 0, 6, 12):
                turn = torch.tensor([math.radians(degrees)])
                drawn = coverage(shape, torch.tensor([[middle, middle]]), torch.tensor([radius]), turn)[0]
                frame = _frames(drawn[None])
                x, y, scale = frame[0].tolist()
                pixels.append(_canonical(drawn[None], frame)[0])
                shapes.append(index)
                scales.append(scale / radius)
                offsets.append(((x - middle) / radius, (y - middle) / radius))
    stacked = torch.stack(pixels)
    return _Templates(stacked, stacked.sum(1), tuple(shapes), tuple(scales), tuple(offsets))


def _overlaps(canonical: Tensor) -> Tensor:
    """(M, templates): intersection over union, soft, of canonical coverages (M, 576) with every template."""
    known = _templates()
    both = torch.stack([torch.minimum(each, known.pixels).sum(1) for each in canonical])
    return both / (canonical.sum(1, keepdim=True) + known.areas - both).clamp_min(1e-6)
