"""Kill -9 at random moments of a small sweep of the bundled model, and take it up again, until it is whole.

python -m eval.running.benchmarks.kill --kills 100 --seed 0 --out eval/running/benchmarks/kill.md
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SWEEP = (
    "grid.sampler=[ddim,euler_a]", "grid.steps=[4]", "grid.guidance=[1,2]", "prompts.count=24", "hardware.batch=8",
    "hardware.timing_batch=1", "hardware.latency_repeats=1", "metrics.converged.steps=12",
    "metrics.converged.count=4", "reference.count=128",
)  # fmt: skip


@dataclass
class Found:
    """What the rounds showed, summed."""

    kills: int = 0
    rounds: int = 0
    batches: int = 0
    twice: int = 0
    """Whole batches that were made again."""
    differing: int = 0
    """Files that are not those of the undisturbed run."""
    left: int = 0
    """Files that the undisturbed run does not leave."""
    moments: Counter[str] = field(default_factory=Counter)
    """What the run was doing when it was killed."""


def main(arguments: list[str] | None = None) -> int:
    """Run, kill and compare; 1 where anything was made twice, differs or is left behind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="Markdown file; without it standard output")
    given = parser.parse_args(arguments)
    draws, found = random.Random(given.seed), Found()
    _read_modules()
    with tempfile.TemporaryDirectory(prefix="sdkit-kill-") as scratch:
        base = Path(scratch)
        begun = time.monotonic()
        if _end(_start(base / "whole" / "run")) != 0:
            sys.stderr.write("the undisturbed sweep failed\n")
            return 1
        took = time.monotonic() - begun
        expected = contents(base / "whole" / "run")
        while found.kills < given.kills:
            found.rounds += 1
            _round(base / f"round-{found.rounds}" / "run", expected, took, draws, found, given.kills)
            sys.stderr.write(f"{found}\n")
    text = report(found, took, given)
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    return int(bool(found.twice or found.differing or found.left))


def _round(
    root: Path, expected: dict[str, bytes], took: float, draws: random.Random, found: Found, most: int
) -> None:
    """Take one sweep to its end, killing it on the way, and compare what it leaves."""
    while True:
        child = _start(root)
        if found.kills < most:
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
    now = contents(root)
    found.differing += sum(now.get(name) != payload for name, payload in expected.items())
    found.left += len(now.keys() - expected.keys())


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a run that must be the same to the byte; of others, whose times and hashes differ, the name."""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_dir():
            continue
        if path.suffix == ".png" or path.name in ("images.json", "images.csv"):
            found[name] = path.read_bytes()
        elif "batches/" in name:  # the name holds a hash of, among others, how long the batch took
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


def _start(root: Path) -> int:
    """A sweep into `root`, as a child of its own."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        from eval import sweep

        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 2)
            code = sweep.main([*SWEEP, f"out={root}"])
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
        ("pictures, rows and images.csv that differ from the undisturbed run's", found.differing),
        ("files left that the undisturbed run does not leave", found.left),
    )
    moments = "\n".join(f"| {name} | {count} |" for name, count in found.moments.most_common())
    table = "\n".join(f"| {name} | {count} |" for name, count in rows)
    return f"""# Killed at random moments

`python -m eval.running.benchmarks.kill --kills {given.kills} --seed {given.seed} --out eval/running/benchmarks/kill.md`

A sweep of the bundled model (`{" ".join(SWEEP)}`), {took:.1f} s undisturbed,
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
