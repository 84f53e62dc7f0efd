"""Reads colour, shape, size, place and relation back from pixels; nothing in here is learned.

The background is a plane of colour fitted to the frame. What differs from it falls into connected
pieces, and each piece is compared, moved to its centroid and scaled by its area, with drawings of
all shapes at every size and turn that the world allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

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
    return [_read(image) for image in images.permute(0, 2, 3, 1).numpy().astype(np.float32)]


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


def _read(image: _Floats) -> Reading:
    from scipy import ndimage

    ground = _background(image)
    difference = np.linalg.norm(image - ground, axis=2)
    labels, count = ndimage.label(difference > _FOREGROUND, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    pieces = [i for i in range(1, count + 1) if areas[i] >= _LEAST_AREA_PX]
    pieces.sort(key=lambda i: -areas[i])
    objects = tuple(_see(image, ground, difference, labels == i) for i in pieces)
    return Reading(_nearest_colour(ground.mean(axis=(0, 1))), objects)


def _background(image: _Floats) -> _Floats:
    """(64, 64, 3): the plane through the frame's pixels, fitted twice, the second time without outliers."""
    rows, columns = np.mgrid[: world.SIZE_PX, : world.SIZE_PX]
    design = np.stack([np.ones_like(rows), rows, columns], axis=-1).astype(np.float32)
    frame = np.zeros((world.SIZE_PX, world.SIZE_PX), dtype=np.bool)
    frame[:2], frame[-2:], frame[:, :2], frame[:, -2:] = True, True, True, True
    distance = np.linalg.norm(image - np.median(image[frame], axis=0), axis=2)
    frame &= distance < 2 * _FOREGROUND
    plane, *_ = np.linalg.lstsq(design[frame], image[frame], rcond=None)
    return np.asarray(design @ plane, dtype=np.float32)


def _see(image: _Floats, ground: _Floats, difference: _Floats, piece: NDArray[np.bool_]) -> Seen:
    core = piece & (difference >= np.median(difference[piece]))
    colour = np.median(image[core], axis=0)
    toward = colour - ground
    alpha = ((image - ground) * toward).sum(axis=2) / np.maximum((toward**2).sum(axis=2), 1.0)
    near = _dilated(piece)
    coverage = torch.from_numpy((np.clip(alpha, 0, 1) * near).astype(np.float32))
    frame = _frame(coverage)
    overlap = _overlaps(_canonical(coverage, frame))
    best = int(overlap.argmax())
    known = _templates()
    x, y, scale = frame
    radius = scale / known.scale[best]
    offset = known.offset[best]
    return Seen(
        shape=world.SHAPES[known.shape[best]] if overlap[best] >= _LEAST_OVERLAP else None,
        colour=_nearest_colour(colour),
        centre=(x - radius * offset[0], y - radius * offset[1]),
        radius_px=radius,
        area_px=scale**2,
    )


def _dilated(piece: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage

    return np.asarray(ndimage.binary_dilation(piece, structure=np.ones((3, 3))))


def _nearest_colour(rgb: _Floats) -> str:
    return min(world.COLOURS, key=lambda name: math.dist(rgb, world.PALETTE[name]))


def _frame(coverage: Tensor) -> tuple[float, float, float]:
    """Centroid x, y and square root of the area, in pixels."""
    area = coverage.sum().clamp_min(1e-6)
    pixels = torch.arange(world.SIZE_PX) + 0.5
    return (
        float((coverage.sum(0) * pixels).sum() / area),
        float((coverage.sum(1) * pixels).sum() / area),
        float(area.sqrt()),
    )


def _canonical(coverage: Tensor, frame: tuple[float, float, float]) -> Tensor:
    """(24, 24): the coverage seen through a window centred on the centroid, as wide as the area says."""
    x, y, scale = frame
    steps = torch.linspace(-_REACH, _REACH, _GRID) * scale
    to_unit = 2 / world.SIZE_PX
    gx, gy = (steps + x) * to_unit - 1, (steps + y) * to_unit - 1
    grid = torch.stack(torch.meshgrid(gy, gx, indexing="ij")[::-1], dim=-1)
    return torch.nn.functional.grid_sample(coverage[None, None], grid[None], align_corners=False)[0, 0]


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
                x, y, scale = _frame(drawn)
                pixels.append(_canonical(drawn, (x, y, scale)).flatten())
                shapes.append(index)
                scales.append(scale / radius)
                offsets.append(((x - middle) / radius, (y - middle) / radius))
    stacked = torch.stack(pixels)
    return _Templates(stacked, stacked.sum(1), tuple(shapes), tuple(scales), tuple(offsets))


def _overlaps(canonical: Tensor) -> Tensor:
    """(M,): intersection over union, soft, with every template."""
    mine, known = canonical.flatten(), _templates()
    both = torch.minimum(mine, known.pixels).sum(1)
    return both / (mine.sum() + known.areas - both).clamp_min(1e-6)
