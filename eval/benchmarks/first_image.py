"""`import sdkit`, the first picture of a process, and one more: what somebody waits for at a prompt."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from eval.benchmarks.part import Asked, Column, Part, Row, median
from eval.benchmarks.turns import Turn, Way, take_turns

NOTHING, IMPORT, COLD, WARM = "python alone", "import sdkit", "import, first picture", "one more picture"
STEPS = 20
_PICTURE = f"sdkit.generate('a red star', device='cpu', steps={STEPS}, seed=0)"
_WARM = f"""
import sys, time
from pathlib import Path
import sdkit
{_PICTURE}
begun = time.perf_counter()
{_PICTURE}
Path(sys.argv[1]).write_text(str(time.perf_counter() - begun))
"""
CODES = {NOTHING: "pass", IMPORT: "import sdkit", COLD: f"import sdkit; {_PICTURE}", WARM: _WARM}


def first_image(asked: Asked) -> Part:
    """Medians over processes, which take turns."""
    warm: list[float] = []

    def keep(way: Way, turn: Turn, own: Path) -> None:
        if way.name == WARM and turn.seconds is not None:
            warm.append(float((own / "warm.txt").read_text()))

    with tempfile.TemporaryDirectory(prefix="sdkit-benchmark-") as scratch:
        ways = [Way(name, _command(code), asked.runs) for name, code in CODES.items()]
        taken = take_turns(ways, Path(scratch), keep)
    samples = {name: each.seconds for name, each in taken.items()} | {WARM: tuple(warm)}
    return table(samples, {name: each.failure for name, each in taken.items()})


def table(samples: dict[str, tuple[float, ...]], failures: dict[str, str | None]) -> Part:
    """The part of the seconds by what was done. Pure."""
    rows = [
        Row(name, (median(known), *((min(known), max(known)) if known else (None, None))), failures.get(name))
        for name, known in samples.items()
    ]
    return Part(
        name="first",
        title="The first picture",
        told=f"The bundled model on the CPU, one picture of {STEPS} steps by `sdkit.generate`. The first three are "
        "wall time of a process; the last is the second call within one, by its own clock.",
        label="what",
        columns=(Column("seconds, median", ".3f"), Column("shortest", ".3f"), Column("longest", ".3f")),
        rows=tuple(rows),
        samples={f"seconds: {name}": each for name, each in samples.items()},
    )


def _command(code: str) -> Callable[[Path], Sequence[str]]:
    return lambda own: ("-c", code, str(own / "warm.txt"))
