"""Parts as they are kept, in JSON, and as a Markdown page. Pure but for `read` and `write`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.benchmarks.part import Kept, Row
from eval.running.atomic import write_atomic
from eval.running.serial import decode, encode

UNKNOWN = "–"
HEAD = """# Benchmarks of a whole sweep

`python -m eval.benchmarks [parts] --write` writes this page and results.json beside it, which holds the raw figures.
Ratios are within one run; figures of different machines are never divided by one another.
"""
TOLD = ("cpu", "memory", "torch threads", "gpu 0", "cuda", "python", "torch", "diffusers", "transformers")
"""What of an environment stands on the page; the rest is in the JSON."""


@dataclass(frozen=True)
class Results:
    """All parts that are kept, in the page's order."""

    parts: tuple[Kept, ...] = ()

    def with_parts(self, fresh: Sequence[Kept], order: Sequence[str]) -> Results:
        """These, with fresh parts in the place of older ones of the same name."""
        by_name = {kept.part.name: kept for kept in (*self.parts, *fresh)}
        return Results(tuple(by_name[name] for name in order if name in by_name))


def read(folder: Path) -> Results:
    """What was kept; nothing where there is no file. Raises ValueError for one of another form."""
    path = folder / "results.json"
    if not path.is_file():
        return Results()
    return decode(Results, json.loads(path.read_bytes()), where="results.json")


def write(results: Results, folder: Path) -> None:
    """Both files, each at once."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "results.json", encode(results))
    write_atomic(folder / "RESULTS.md", page(results).encode())


def page(results: Results) -> str:
    """The whole page."""
    return "\n".join([HEAD, *(section(kept) for kept in results.parts)])


def section(kept: Kept) -> str:
    """One part: what was run, where, the table, the reasons for what is empty."""
    part = kept.part
    where = "; ".join(f"{name} {kept.environment[name]}" for name in TOLD if name in kept.environment)
    lines = [
        f"## {part.title}\n",
        f"`{kept.command}`, {kept.date[:10]}, commit {kept.environment.get('commit', 'unknown')}\n",
        f"{part.told}\n",
        f"{where}.\n",
        _line([part.label, *(column.title for column in part.columns)]),
        _line(["---", *("--:" for _ in part.columns)]),
    ]
    forms = [column.form for column in part.columns]
    for row in part.rows:
        lines.append(_line([row.label, *(_shown(v, f) for v, f in zip(row.values, forms, strict=True))]))
    notes = [*part.notes, *(f"{row.label}: {row.reason}" for row in part.rows if _untold(row))]
    lines += ["", *(f"- {note}" for note in notes)]
    if part.page:
        lines += ["", part.page]
    return "\n".join(lines).rstrip() + "\n"


def _untold(row: Row) -> bool:
    return row.reason is not None and None in row.values


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)
