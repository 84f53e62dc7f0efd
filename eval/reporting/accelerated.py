"""Guidance intervals and precisions in tables and on the page: only where some setting has one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from eval.accelerations import interval_text
from eval.records import Cell

COLUMNS = {"guidance_interval_low": "Float64", "guidance_interval_high": "Float64", "precision": "str"}
"""Of a table, by name with pandas' kind; they stand behind `guidance`."""
_MARKS: dict[str, Callable[[Cell], str]] = {
    "Guided at": lambda cell: "every σ" if cell.guidance_interval is None else interval_text(cell.guidance_interval),
    "Precision": lambda cell: cell.precision or cell.dtype,
}  # fmt: skip
_HAS: dict[str, Callable[[Cell], bool]] = {
    "Guided at": lambda cell: cell.guidance_interval is not None,
    "Precision": lambda cell: cell.precision is not None,
}


def accelerated(cells: Iterable[Cell]) -> bool:
    """Whether any of the cells is."""
    return any(has(cell) for cell in cells for has in _HAS.values())


def fields(cell: Cell) -> dict[str, object]:
    """The cell's values in `COLUMNS`; what it has not is missing."""
    low, high = cell.guidance_interval or (None, None)
    return dict(zip(COLUMNS, (low, high, cell.precision), strict=True))


def marks(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """What tells the cells apart, heading -> value, the same headings for each: those that some cell needs."""
    headings = [heading for heading, has in _HAS.items() if any(map(has, cells))]
    return [{heading: _MARKS[heading](cell) for heading in headings} for cell in cells]
