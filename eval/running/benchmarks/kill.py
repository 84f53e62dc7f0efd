"""Kill -9 at random moments of a small sweep of the bundled model, and take it up again, until it is whole.

python -m eval.running.benchmarks.kill --kills 100 --seed 0 --out eval/running/benchmarks/kill.md

What is left is held against the same sweep undisturbed. The plain path (`--engine percell`) ends with the same bytes.
The shared engine's calls hold other rows after a kill than they would have, so it ends with the same to rounding: no
value of a pixel further than a level of 255, no figure further than 1e-3 of itself. KID is left out: a picture's part
in it is a large sum, most of which goes away in the difference from others'.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eval.scoring.pictures import decode_picture

SWEEP = (
    "grid.sampler=[ddim,euler_a]", "grid.steps=[4]", "grid.guidance=[1,2]", "prompts.count=24", "hardware.batch=8",
    "hardware.timing_batch=1", "hardware.latency_repeats=1", "metrics.converged.steps=12",
    "metrics.converged.count=4", "reference.count=128",
)  # fmt: skip


NEAR = 1e-3
"""Figures this near, or this near to each other as a share, differ by rounding."""

HASHED = ("batches", "converged")
"""Folders whose files are named by their contents, which are not the same."""


@dataclass
class Found:
    """What the rounds showed, summed."""

    kills: int = 0
    rounds: int = 0
    batches: int = 0
    twice: int = 0
    """Whole batches that were made again."""
    lost: int = 0
    """Files of the undisturbed run that are not there."""
    other: int = 0
    """Files that have other bytes than the undisturbed run's."""
    differing: int = 0
    """Files that are not the undisturbed run's, to rounding."""
    values: int = 0
    """Of pixels, 0-255, that were held against the undisturbed run's."""
    moved: int = 0
    """Those that are another level."""
    left: int = 0
    """Files that the undisturbed run does not leave."""
    moments: Counter[str] = field(default_factory=Counter)
    """What the run was doing when it was killed."""


def main(arguments: list[str] | None = None) -> int:
    """Run, kill and compare; 1 where anything was lost, made twice, left behind or is otherwise than it may be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("shared", "percell"), default="shared")
    parser.add_argument("--out", type=Path, help="Markdown file; without it standard output")
    given = parser.parse_args(arguments)
    draws, found, sweep = random.Random(given.seed), Found(), (*SWEEP, f"engine={given.engine}")
    _read_modules()
    with tempfile.TemporaryDirectory(prefix="sdkit-kill-") as scratch:
        base = Path(scratch)
        begun = time.monotonic()
        if _end(_start(base / "whole" / "run", sweep)) != 0:
            sys.stderr.write("the undisturbed sweep failed\n")
            return 1
        took = time.monotonic() - begun
        expected = contents(base / "whole" / "run")
        while found.kills < given.kills:
            found.rounds += 1
            rest = given.kills - found.kills
            _round(base / f"round-{found.rounds}" / "run", sweep, took, draws, found, rest)
            hold(expected, contents(base / f"round-{found.rounds}" / "run"), found)
            sys.stderr.write(f"{found}\n")
    text = report(found, took, given)
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    wrong = found.other if given.engine == "percell" else found.differing
    return int(bool(found.lost or found.twice or found.left or wrong))


def _round(
    root: Path, sweep: Sequence[str], took: float, draws: random.Random, found: Found, most: int
) -> None:
    """Take one sweep to its end, killing it on the way, `most` times at most."""
    before = found.kills
    while True:
        child = _start(root, sweep)
        if found.kills - before < most:
            time.sleep(draws.uniform(0, took))
            os.kill(child, signal.SIGKILL)
        code = _end(child)
        if code == 0:
            break
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the sweep failed with {code}; see {root}")
        found.kills += 1
        found.moments[moment(root)] += 1
    made = [line.split(": made in")[0][30:] for line in _log(root) if ": made in" in line]
    found.batches += len(set(made))
    found.twice += len(made) - len(set(made))


def hold(expected: Mapping[str, bytes], now: Mapping[str, bytes], found: Found) -> None:
    """Add up what a run that was killed lacks, or has otherwise, or has beside, against the undisturbed one. Pure.

    Args:
        expected: what `contents` says of the undisturbed one.
    """
    found.lost += len(expected.keys() - now.keys())
    found.left += len(now.keys() - expected.keys())
    for name in expected.keys() & now.keys():
        ours, theirs = now[name], expected[name]
        found.other += ours != theirs
        if name.endswith(".png"):
            one, other = (decode_picture(each, name).numpy().astype(np.int16) for each in (ours, theirs))
            alike = one.shape == other.shape
            levels = np.abs(one - other) if alike else np.zeros(0, np.int16)
            found.values += levels.size
            found.moved += int(np.count_nonzero(levels))
            found.differing += not alike or int(levels.max()) > 1
        elif ours != theirs:
            read = _csv if name.endswith(".csv") else json.loads
            found.differing += not _near(read(ours), read(theirs))


def _csv(payload: bytes) -> list[dict[str, object]]:
    """Rows of a table by column, numbers as such."""
    return [
        {name: _number(cell) for name, cell in row.items()}
        for row in csv.DictReader(io.StringIO(payload.decode()))
    ]


def _number(cell: str) -> object:
    try:
        return float(cell)
    except ValueError:
        return cell


def _near(one: object, other: object) -> bool:
    """Whether two values from JSON are the same but for numbers that differ by rounding, and for KID's."""
    if isinstance(one, dict) and isinstance(other, dict):
        held = (name for name in one if not name.startswith("kid["))
        return one.keys() == other.keys() and all(_near(one[name], other[name]) for name in held)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_near, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=NEAR, abs_tol=NEAR)
    return one == other


def contents(root: Path) -> dict[str, bytes]:
    """Pictures and rows of a run, by name; of other files, whose times and hashes differ, the name alone."""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_dir():
            continue
        if path.suffix == ".png" or path.name in ("images.json", "images.csv"):
            found[name] = path.read_bytes()
        elif path.parent.name in HASHED:
            found[name.rsplit(".", 2)[0]] = b""
        else:
            found[name] = b""
    return found


def moment(root: Path) -> str:
    """What the last line of the log says that the run was doing."""
    lines = _log(root)
    if not lines or ": ended" in lines[-1]:
        return "before its first line" if not lines else "after its last line"
    last = lines[-1]
    if "begun:" in last:
        return "taking stock, or making a cell's first batch"
    if ": made in" in last:
        return "making a batch, or scoring and measuring a cell"
    return "between cells"


def _log(root: Path) -> list[str]:
    path = root / "run.log"
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _read_modules() -> None:
    """Import what a sweep needs once; children are forked, and none waits for it."""
    import diffusers
    import open_clip
    import torchmetrics

    import eval.running.pool
    import eval.sweep

    del diffusers, open_clip, torchmetrics, eval


def _start(root: Path, sweep: Sequence[str]) -> int:
    """A sweep into `root`, as a child of its own."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        from eval.sweep import main as run

        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 2)
            code = run([*sweep, f"out={root}"])
    finally:
        os._exit(code)


def _end(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def report(found: Found, took: float, given: argparse.Namespace) -> str:
    """The table as Markdown."""
    from sdkit._cpu import cpu_name

    rows: Sequence[tuple[str, object]] = (
        ("kills", found.kills),
        ("sweeps that were taken to their end", found.rounds),
        ("whole batches in them", found.batches),
        ("whole batches that were made twice", found.twice),
        ("files of the undisturbed run that are missing", found.lost),
        ("pictures, rows and images.csv that have other bytes", found.other),
        (
            "pictures further from it than a level of 255, rows and images.csv (but KID's) than 1e-3",
            found.differing,
        ),
        ("values of pixels", f"{found.values:,}"),
        ("of these a level from the undisturbed run's", f"{found.moved:,}"),
        ("files left that the undisturbed run does not leave", found.left),
    )
    options = f"--kills {given.kills} --seed {given.seed} --engine {given.engine}"
    page = "kill.md" if given.engine == "shared" else f"kill_{given.engine}.md"
    command = f"python -m eval.running.benchmarks.kill {options} --out eval/running/benchmarks/{page}"
    moments = "\n".join(f"| {name} | {count} |" for name, count in found.moments.most_common())
    table = "\n".join(f"| {name} | {count} |" for name, count in rows)
    return f"""# Killed at random moments

`{command}`

A sweep of the bundled model (`{" ".join(SWEEP)} engine={given.engine}`), {took:.1f} s undisturbed,
gets SIGKILL after a time drawn evenly from 0 to that, and is taken up again by the same command, until it is
whole; then the next one. On {cpu_name()}, {os.cpu_count()} cores.

| what | count |
|---|--:|
{table}

| last heard of the run before it was killed | kills |
|---|--:|
{moments}
"""


if __name__ == "__main__":
    sys.exit(main())
