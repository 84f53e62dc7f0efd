"""Benchmarks of a whole sweep against what people write by hand, each part one table.

    python -m eval.benchmarks                                all parts, printed
    python -m eval.benchmarks sweep --runs 5 --naive-runs 2 --write      one part, kept in RESULTS.md and results.json
    python -m eval.benchmarks sweep --scale 0.25 --set grid.steps=[4]    a quick look

Exit code: 0, 2 for a command that cannot be met.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.benchmarks import page
from eval.benchmarks.first_image import first_image
from eval.benchmarks.ideas import ideas
from eval.benchmarks.images import images
from eval.benchmarks.overhead import overhead
from eval.benchmarks.part import Asked, Kept, Measure
from eval.benchmarks.race import race
from eval.benchmarks.scaling import scaling
from eval.benchmarks.whole_sweep import whole_sweep
from sdkit._errors import SdkitError

PARTS: dict[str, Measure] = {
    "sweep": whole_sweep,
    "ideas": ideas,
    "overhead": overhead,
    "scaling": scaling,
    "racing": race,
    "first": first_image,
    "images": images,
}
"""Name -> what measures it, in the page's order."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts, print them, and keep them where asked to."""
    chosen = _parse(sys.argv[1:] if arguments is None else arguments)
    asked = Asked(
        runs=chosen.runs,
        naive_runs=chosen.runs if chosen.naive_runs is None else chosen.naive_runs,
        scale=chosen.scale,
        overrides=tuple(chosen.set),
    )
    try:
        results = page.read(chosen.out)  # first, in case that fails
        for name in chosen.parts or PARTS:
            kept = _kept(name, asked)
            sys.stdout.write(f"{page.section(kept)}\n")
            results = results.with_parts([kept], tuple(PARTS))
            if chosen.write:  # part by part: an hour's work is not lost with the next one
                page.write(results, chosen.out)
    except (SdkitError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _kept(name: str, asked: Asked) -> Kept:
    from eval.running.environment import environment
    from sdkit._cpu import cpu_name

    begun = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    part = PARTS[name](asked)
    return Kept(part, begun, _command(name, asked), environment(cpu_name()))


def _command(name: str, asked: Asked) -> str:
    """The command line that measures this part alone in the same way."""
    words = ["python", "-m", "eval.benchmarks", name, "--runs", str(asked.runs)]
    words += ["--naive-runs", str(asked.naive_runs)] if asked.naive_runs != asked.runs else []
    words += ["--scale", f"{asked.scale:g}"] if asked.scale != 1 else []
    words += [word for each in asked.overrides for word in ("--set", each)]
    return shlex.join([*words, "--write"])


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all without one")
    parser.add_argument("--runs", type=int, default=5, help="turns of every way")
    parser.add_argument("--naive-runs", type=int, help="turns of the naive script; as many without it")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the prompts, for all ways alike")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="over the sweep's defaults"
    )
    parser.add_argument("--write", action="store_true", help="keep the parts in RESULTS.md and results.json")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of both files")
    chosen = parser.parse_args(arguments)
    for name in chosen.parts:
        if name not in PARTS:
            parser.error(f"part must be of {', '.join(PARTS)}, got {name}")
    for option in ("runs", "naive_runs"):
        if getattr(chosen, option) is not None and getattr(chosen, option) < 1:
            parser.error(f"--{option.replace('_', '-')} must be at least 1, got {getattr(chosen, option)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
