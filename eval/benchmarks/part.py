"""What a benchmark is asked for and what it found, as frozen records. What is missing is None, with a reason."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

SECONDS = ".1f"


@dataclass(frozen=True)
class Asked:
    """The command line."""

    runs: int = 5
    """Turns of every way."""
    naive_runs: int = 5
    """Turns of the naive script, which takes longest; the page says of how many each figure is the median."""
    scale: float = 1.0
    """Share of the prompts, 0..1, for all ways alike: nothing is ever extrapolated."""
    overrides: tuple[str, ...] = ()
    """Over conf/sweep.yaml's defaults, as `python eval/sweep.py` takes them."""


@dataclass(frozen=True)
class Column:
    """One column of figures."""

    title: str
    """With its unit."""
    form: str
    """Format of its numbers, as `format` takes it."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    label: str
    values: tuple[float | None, ...]
    """One a column."""
    reason: str | None = None
    """Why values are None."""


@dataclass(frozen=True)
class Part:
    """One table with all that it was made from."""

    name: str
    """As the command line names it."""
    title: str
    told: str
    """What was run, and what the figures are."""
    label: str
    """Title of the column of labels."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    samples: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Raw figures by "what: way", in the order in which they were taken."""
    page: str = ""
    """Markdown of a benchmark that has a page of its own, taken over as it is."""


@dataclass(frozen=True)
class Kept:
    """A part as it is kept, with where and how it was made: parts may come from several machines."""

    part: Part
    date: str
    """UTC, ISO 8601."""
    command: str
    environment: dict[str, str]


Measure = Callable[[Asked], Part]


def median(values: Iterable[float | None]) -> float | None:
    """The median of those that are known; None where none is."""
    known = [each for each in values if each is not None]
    return statistics.median(known) if known else None


def ratio(figure: float | None, base: float | None) -> float | None:
    """`figure` over `base`; None where either is missing, or the base is 0."""
    return figure / base if figure is not None and base else None
