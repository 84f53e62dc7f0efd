"""The batch that makes most pictures a second, found by doubling. Pure but for the work that it is given."""

from __future__ import annotations

from collections.abc import Callable

from eval.measured import Curve, CurvePoint

GAIN = 1.03
"""A doubled batch is worth it where it makes this many times as many pictures a second."""


def find_batch(point: Callable[[int], CurvePoint], most: int) -> Curve:
    """Throughput and memory at 1, 2, 4 ... until it gains less than 3 %, memory runs out, or `most` is reached.

    Args:
        point: measures one batch; a point without images_per_s ends the search and is kept with its reason.
        most: largest batch that is tried.
    """
    points: list[CurvePoint] = []
    best: CurvePoint | None = None
    batch, stopped = 1, f"hardware.max_batch is {most}"
    while batch <= most:
        points.append(point(batch))
        speed = points[-1].images_per_s
        if speed is None:
            stopped = f"a batch of {batch} failed: {points[-1].reason}"
            break
        if best is not None and best.images_per_s is not None and speed < GAIN * best.images_per_s:
            stopped = f"a batch of {batch} gained less than {GAIN - 1:.0%} over {best.batch}".replace(
                "%", " %"
            )
            break
        best = points[-1]
        batch *= 2
    return Curve(tuple(points), None if best is None else best.batch, stopped)
