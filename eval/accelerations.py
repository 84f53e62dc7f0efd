"""The lossy accelerations of a setting, which its name never hides: guidance in an interval, and a precision. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

Interval = tuple[float, float]
"""Noise levels, as sigmas: guidance is applied above the first and up to the second. Source: see `sdkit._guidance`."""
PRECISIONS = ("float32", "float16", "bfloat16", "fp8")
"""Of weights and arithmetic, the finest first."""

_FIELDS = ("guidance_interval", "precision", "guidance_intervals", "precisions")
"""Of `Cell` and of `GridPlan`."""


@dataclass(frozen=True)
class Point:
    """One place of the grid."""

    sampler: str
    steps: int
    guidance: float
    guidance_interval: Interval | None
    precision: str | None

    @property
    def series(self) -> str:
        return series_text(self.sampler, self.guidance_interval, self.precision)


def grid_points(
    samplers: Sequence[str],
    steps: Sequence[int],
    guidances: Sequence[float],
    intervals: Sequence[Interval | None],
    precisions: Sequence[str],
) -> tuple[Point, ...]:
    """Every combination, each once; an empty axis is none, and adds nothing to any name.

    Without guidance there is nothing to limit: such points have no interval, whatever the axis holds, so that one
    picture has one name.
    """
    axes = product(precisions or (None,), samplers, steps, guidances, intervals or (None,))
    return tuple(
        dict.fromkeys(Point(s, n, g, interval if g > 1 else None, p) for p, s, n, g, interval in axes)
    )


def interval_text(interval: Interval) -> str:
    """ "σ 0.3–5", as labels have it."""
    return "σ {:g}–{:g}".format(*interval)


def series_text(sampler: str, interval: Interval | None, precision: str | None) -> str:
    """ "euler · guided at σ 0.3–5 · bfloat16", as far as there is something to say."""
    limited = None if interval is None else f"guided at {interval_text(interval)}"
    return " · ".join(part for part in (sampler, limited, precision) if part)


def accelerated(interval: Interval | None, precision: str | None) -> str:
    """ " at σ 0.3–5 · bfloat16", to stand behind a guidance scale; empty where nothing is accelerated."""
    limited = "" if interval is None else f" at {interval_text(interval)}"
    return limited if precision is None else f"{limited} · {precision}"


def in_words(interval: Interval | None, precision: str | None) -> str:
    """ " between σ 0.3 and 5, in bfloat16", to stand behind "at guidance 4" in a sentence."""
    limited = "" if interval is None else " between σ {:g} and {:g}".format(*interval)
    return limited if precision is None else f"{limited}, in {precision}"


def setting(interval: Interval | None, precision: str | None) -> dict[str, object]:
    """By the names of a cell's fields; empty where nothing is accelerated."""
    found = {"guidance_interval": interval, "precision": precision}
    return {name: value for name, value in found.items() if value is not None}


def counted(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields of a cell or grid that a hash is taken of: an acceleration only where there is one.

    So whatever was made before there were any keeps its name.
    """
    return {name: value for name, value in fields.items() if value or name not in _FIELDS}


def finest(precisions: Sequence[str]) -> str:
    """The one that loses least, to which the others are compared."""
    return min(precisions, key=PRECISIONS.index)
