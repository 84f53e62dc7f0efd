"""A file of prompts as rows and columns, and which of them hold the prompts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sdkit._errors import InvalidRequest

_PROMPT_COLUMNS = ("prompt", "prompts", "caption", "text")
"""Of PartiPrompts; DrawBench; MLPerf and COCO; the hub's picture folders. Upper and lower case are one."""
_SHOWN = 120


@dataclass(frozen=True)
class PromptRow:
    """One entry of the file, empty ones too."""

    line: int
    """Where it begins, from 1; in a .json file the entry's number."""
    cells: Mapping[str, object]
    """Column -> what stands there; what is missing or null is left out."""

    def text(self, column: str) -> str:
        """The cell for people and filters, without blanks around it; "" for none, JSON for what is no string."""
        value = self.cells.get(column, "")
        return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).strip()


@dataclass(frozen=True)
class PromptFile:
    """A whole file of prompts, in its order."""

    path: str
    columns: tuple[str, ...]
    """() where a row is a prompt and nothing else; its one cell is then called ""."""
    rows: tuple[PromptRow, ...]

    def prompt_column(self, asked: str | None) -> str:
        """The column that holds the prompts: the one asked for, or the only one with a usual name.

        Raises:
            InvalidRequest: no such column; or none asked for, and no column or several have a usual name.
        """
        if not self.columns:
            if asked is not None:
                raise InvalidRequest(
                    f"prompts.column must be null for {self.path}, which has none, got {asked!r}"
                )
            return ""
        if asked is not None:
            self.require_column("prompts.column", asked)
            return asked
        usual = [name for name in self.columns if name.casefold() in _PROMPT_COLUMNS]
        if len(usual) != 1:
            problem = "several could hold the prompts" if usual else "none has a usual name for prompts"
            choices = listed(usual or self.columns)
            raise InvalidRequest(
                f"prompts.column must name a column of {self.path}: {problem}; it has {choices}"
            )
        return usual[0]

    def require_column(self, name: str, column: str) -> None:
        """Raises InvalidRequest when the file has no such column."""
        if column not in self.columns:
            raise InvalidRequest(f"{name} must be one of {listed(self.columns) or 'none'}, got {column!r}")


def listed(names: Iterable[str]) -> str:
    """Names for a message, cut where they run long."""
    text = ", ".join(name if name.isprintable() else repr(name) for name in names)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 4] + " ..."
