"""What each idea of the engine brings: the same sweep with one of them switched off."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from eval.benchmarks.inputs import NO_SPEED, overrides_of, sweep_command
from eval.benchmarks.part import SECONDS, Asked, Column, Part, Row
from eval.benchmarks.turns import Taken, Way, take_turns

IDEAS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("shared", ()),
    ("one lane", ("engine.lanes=1",)),
    ("first calls not shared", ("engine.share_first_calls=false",)),
    ("modules not fused", ("hardware.compile=off",)),
    ("plain path", ("engine=percell", "hardware.compile=off")),
)
"""Name -> overrides. The first is the sweep as it is, which the others are held against; add one a switch."""


def ideas(asked: Asked) -> Part:
    """Seconds with each idea off, in turns. Raises InvalidRequest as `overrides_of`."""
    overrides = overrides_of(asked)
    ways = [Way(name, _command((*overrides, *NO_SPEED, *off)), asked.runs) for name, off in IDEAS]
    with tempfile.TemporaryDirectory(prefix="sdkit-benchmark-") as scratch:
        return table(take_turns(ways, Path(scratch)))


def table(taken: Mapping[str, Taken]) -> Part:
    """The part of what the turns took. Pure."""
    whole = IDEAS[0][0]
    switched = {name: " ".join(f"`{each}`" for each in off) for name, off in IDEAS}
    return Part(
        name="ideas",
        title="What each idea brings",
        told="Ours without its separate measurement of speed and without filmstrips, as it is and with single ideas "
        "switched off. Wall time of a process, in turns; *times* is the median of the rounds' own ratios.",
        label="sweep",
        columns=(Column("seconds, median", SECONDS), Column(f"times {whole}", ".2f")),
        rows=tuple(
            Row(f"{name} {switched[name]}".strip(), (each.median_s, each.over(taken[whole])), each.failure)
            for name, each in taken.items()
        ),
        samples={f"seconds: {name}": each.seconds for name, each in taken.items()},
    )


def _command(overrides: Sequence[str]) -> Callable[[Path], Sequence[str]]:
    return lambda own: sweep_command(own / "out", overrides)
