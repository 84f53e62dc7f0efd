"""Ways of doing one thing, each as a process of its own, in turns: a machine whose speed drifts drifts for all."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.benchmarks.part import median

ROOT = Path(__file__).resolve().parents[2]
CACHE = "SDKIT_EVAL_CACHE"
_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""As the Makefile has it: where a container forbids bytecode, each turn would compile its imports anew, for 8 s."""
Command = Callable[[Path], Sequence[str]]
"""The folder of one turn, which is empty -> the command's words after "python"."""


@dataclass(frozen=True)
class Way:
    """One way of doing it."""

    name: str
    command: Command
    runs: int


@dataclass(frozen=True)
class Turn:
    """One process, from its start to its exit."""

    seconds: float | None
    """Wall time; None where it failed."""
    failure: str | None = None
    """What it said last."""
    printed: str = ""
    """Its standard output."""


@dataclass(frozen=True)
class Taken:
    """All turns of one way, by round: the turns at one place were taken one after the other."""

    turns: tuple[Turn, ...]

    @property
    def seconds(self) -> tuple[float, ...]:
        """Of the turns that did not fail."""
        return tuple(turn.seconds for turn in self.turns if turn.seconds is not None)

    @property
    def failure(self) -> str | None:
        """Of the first turn that failed."""
        return next((turn.failure for turn in self.turns if turn.failure is not None), None)

    @property
    def median_s(self) -> float | None:
        return median(self.seconds)

    def over(self, base: Taken) -> float | None:
        """Median of the rounds' own ratios to another way's seconds; None where no round has both."""
        pairs = [(mine.seconds, other.seconds) for mine, other in zip(self.turns, base.turns, strict=False)]
        return median(
            mine / other if mine is not None and other is not None else None for mine, other in pairs
        )


def take_turns(
    ways: Sequence[Way], folder: Path, on_done: Callable[[Way, Turn, Path], object] | None = None
) -> dict[str, Taken]:
    """Run every way, round by round; a way with fewer runs than others leaves the later rounds out.

    Args:
        folder: below it each turn gets a folder of its own, and in that an empty cache of references.
        on_done: called after each turn with its folder, outside the clock.
    """
    turns: dict[str, list[Turn]] = {way.name: [] for way in ways}
    for number in range(max(way.runs for way in ways)):
        for place, way in enumerate(ways):
            if number >= way.runs:
                continue
            own = folder / f"{number}-{place}"
            own.mkdir(parents=True)
            turn = run_once(way.command(own), {CACHE: str(own / "cache")})
            turns[way.name].append(turn)
            said = turn.failure or f"{turn.seconds:.1f} s"
            sys.stderr.write(f"round {number + 1}, {way.name}: {said}\n")
            if on_done is not None:
                on_done(way, turn, own)
    return {name: Taken(tuple(each)) for name, each in turns.items()}


def run_once(command: Sequence[str], extra: Mapping[str, str] | None = None) -> Turn:
    """One process of this Python, timed from outside.

    Args:
        extra: environment variables beside this process's own.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **_BYTECODE, "PYTHONPATH": path, **(extra or {})}
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begun
    if done.returncode == 0:
        return Turn(seconds, printed=done.stdout)
    lines = (done.stderr or done.stdout).strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    for folder in (str(ROOT), tempfile.gettempdir(), sys.prefix):  # the page names no folder of this machine
        last = last.replace(f"{folder}{os.sep}", "")
    return Turn(None, f"exit code {done.returncode}: {last}")
