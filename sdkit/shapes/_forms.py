"""The eight shapes, as signed distance functions on the unit circle, and how much of a pixel they cover."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SIZE_PX = 64


def coverage(shape: str, centre: Tensor, radius: Tensor, turn: Tensor) -> Tensor:
    """How much of each pixel a shape covers, (N, 64, 64) in 0..1, antialiased over one pixel.

    Args:
        shape: a key of `SHAPES`.
        centre: (N, 2) x, y in pixels.
        radius: (N,) in pixels, of the circle that the shape is drawn in.
        turn: (N,) in radians.
    """
    pixels = torch.arange(SIZE_PX, dtype=torch.float32) + 0.5
    dx = pixels[None, None, :] - centre[:, 0, None, None]
    dy = pixels[None, :, None] - centre[:, 1, None, None]
    cos, sin = torch.cos(turn)[:, None, None], torch.sin(turn)[:, None, None]
    scale = radius[:, None, None]
    distance = _DISTANCE[shape]((dx * cos + dy * sin) / scale, (dy * cos - dx * sin) / scale)
    return (0.5 - distance * scale).clamp(0, 1)


def _box(x: Tensor, y: Tensor, half_x: float, half_y: float) -> Tensor:
    qx, qy = x.abs() - half_x, y.abs() - half_y
    return torch.hypot(qx.clamp_min(0), qy.clamp_min(0)) + torch.maximum(qx, qy).clamp_max(0)


def _polygon(corners: Sequence[tuple[float, float]]) -> Callable[[Tensor, Tensor], Tensor]:
    """Signed distance to a closed polygon: nearest edge, negative where the winding parity is odd."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        nearest, inside = torch.full_like(x, math.inf), torch.zeros_like(x, dtype=torch.bool)
        for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
            ex, ey = bx - ax, by - ay
            along = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clamp(0, 1)
            nearest = torch.minimum(nearest, (x - ax - along * ex) ** 2 + (y - ay - along * ey) ** 2)
            if ey != 0:
                crosses = ((y >= min(ay, by)) & (y < max(ay, by))) & (x < ax + (y - ay) * ex / ey)
                inside ^= crosses
        return torch.where(inside, -nearest.sqrt(), nearest.sqrt())

    return distance


def _star_corners() -> list[tuple[float, float]]:
    turns = [(i * math.pi / 5, 1.0 if i % 2 == 0 else 0.42) for i in range(10)]
    return [(r * math.sin(a), -r * math.cos(a)) for a, r in turns]


def _heart_corners() -> list[tuple[float, float]]:
    """The classic sine-cubed heart, its box centred on the origin and fitted to the unit circle."""
    angles = [2 * math.pi * i / 28 for i in range(28)]
    curve = [
        (
            16 * math.sin(a) ** 3,
            -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)),
        )
        for a in angles
    ]
    return [(x / 17.0, (y - 2.5) / 17.0) for x, y in curve]


def _moon(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(x, y) - 0.98, 0.74 - torch.hypot(x - 0.52, y))


_DISTANCE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": lambda x, y: torch.hypot(x, y) - 0.92,
    "square": lambda x, y: _box(x, y, 0.78, 0.78),
    "triangle": _polygon([(0.0, -1.0), (0.95, 0.72), (-0.95, 0.72)]),
    "star": _polygon(_star_corners()),
    "ring": lambda x, y: (torch.hypot(x, y) - 0.72).abs() - 0.24,
    "cross": lambda x, y: torch.minimum(_box(x, y, 0.95, 0.3), _box(x, y, 0.3, 0.95)),
    "heart": _polygon(_heart_corners()),
    "moon": _moon,
}

SHAPES = tuple(_DISTANCE)
