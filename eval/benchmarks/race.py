"""The hook for racing, whose benchmark has a room and a page of its own: it is run, and its page taken over."""

from __future__ import annotations

import importlib.util

from eval.benchmarks.part import SECONDS, Asked, Column, Part, Row
from eval.benchmarks.turns import run_once

RACING = "eval.running.benchmarks.racing"
"""Run without arguments it prints its table as Markdown."""


def race(asked: Asked) -> Part:
    """What `RACING` prints; without that module a row that says so. Nothing of what is asked reaches it."""
    if importlib.util.find_spec(RACING) is None:
        return table(Row(RACING, (None,), f"there is no {RACING}"), "")
    turn = run_once(("-m", RACING))
    return table(Row(RACING, (turn.seconds,), turn.failure), turn.printed)


def table(row: Row, printed: str) -> Part:
    """The part of the benchmark's own page. Pure."""
    lines = [f"##{line}" if line.startswith("#") else line for line in printed.splitlines()]
    return Part(
        name="racing",
        title="Racing",
        told=f"Whether a race chooses what the grid does, and at what share of its pictures: `python -m {RACING}`.",
        label="benchmark",
        columns=(Column("seconds of the benchmark itself", SECONDS),),
        rows=(row,),
        page="\n".join(lines),
    )
