"""Compare runs, before and after: `python eval/compare.py a=RUN b=RUN [c=RUN ...] [gate.clip_score=-0.3 ...]`.

Two or more runs (a library's upgrade, two devices, two models), setting by setting, paired by prompt and seed; `a` is
the baseline. Writes compare.csv, compare.json, compare.md and compare.html into `out`, by default
reports/compare-<digest of the runs' names>. A gate says how far a measure may get worse, in its unit or in % of the
baseline: a score's name (clip_score, fid, fid[inception], judge_all ...), or latency, latency_p95, throughput, memory,
joules, cost, evaluations. `gate.rule=sure`, the default, wants the change beyond doubt; `gate.rule=point` does not.
Exit code: 0, 1 when a gate is broken or cannot be told, or 2 when a folder is no run's or the command has a mistake.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not this script's folder, whose names would shadow others

if TYPE_CHECKING:
    from eval.reporting.before_after import BeforeAfter
    from eval.reporting.gates import Gate
    from eval.reporting.run_pairs import Side

USAGE = (
    "usage: python eval/compare.py a=RUN b=RUN [c=RUN ...] [gate.clip_score=-0.3 gate.latency=+10% ...] "
    "[gate.rule=sure|point] [out=FOLDER]"
)


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    folders: dict[str, Path]
    """Letter -> the run's folder, absolute; "a" first."""
    gates: tuple[Gate, ...]
    rule: str
    out: Path | None


def main(arguments: list[str] | None = None) -> int:
    """Compare the named runs and write what was found; the exit code.

    Args:
        arguments: as in the usage; None takes the command line's.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(f"{__doc__}\n{USAGE}\n")
        return 0
    from sdkit._errors import SdkitError

    try:
        asked = parse(arguments)
        compared, target = compare(asked)
    except SdkitError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    from eval.reporting.compare_text import compare_text

    sys.stdout.write(f"{compare_text(compared)}\n\ncomparison: {target / 'compare.html'}\n")
    return 0 if compared.passes else 1


def parse(arguments: list[str]) -> Asked:
    """The command line, read.

    Raises:
        InvalidRequest: an argument is not known, comes twice, or a run is missing.
    """
    from eval.reporting.gates import RULES, parse_gate, parse_rule
    from sdkit._errors import InvalidRequest

    given: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        known = (len(name) == 1 and "a" <= name <= "z") or name == "out" or name.startswith("gate.")
        if not known or not equals or not value:
            raise InvalidRequest(
                f"each argument must be NAME=VALUE of a known name, got {argument!r}; {USAGE}"
            )
        if name in given:
            raise InvalidRequest(f"{name} must be given once, got it twice")
        given[name] = value
    runs = {name: Path(given[name]).expanduser().resolve() for name in sorted(given) if len(name) == 1}
    if "a" not in runs or len(runs) < 2:
        raise InvalidRequest(
            f"a=RUN, the baseline, and another run are needed, got {len(runs)} runs; {USAGE}"
        )
    rule = parse_rule(given.pop("gate.rule", RULES[0]))
    gates = tuple(parse_gate(f"{name}={value}") for name, value in given.items() if name.startswith("gate."))
    return Asked(runs, gates, rule, Path(given["out"]).expanduser() if "out" in given else None)


def compare(asked: Asked) -> tuple[BeforeAfter, Path]:
    """Read the runs, compare them, and write the four files; the comparison, and the folder that they are in.

    Raises:
        RunFolderError: one is no run's folder, `out` is one, or it cannot be written.
        InvalidRequest: a run has no setting in common with the baseline.
    """
    from eval.reporting.before_after import compare_runs
    from eval.reporting.compare_page import render_comparison
    from eval.reporting.compare_tables import compare_frame, compare_json
    from eval.reporting.compare_text import compare_markdown
    from eval.reporting.csv_text import to_csv
    from eval.reporting.merging import run_names
    from eval.running.atomic import write_atomic

    names = run_names(tuple(dict.fromkeys(asked.folders.values())))
    named = dict(zip(dict.fromkeys(asked.folders.values()), names, strict=True))
    sides = [_side(letter, named[folder], folder) for letter, folder in asked.folders.items()]
    compared = compare_runs(sides, asked.gates, asked.rule)
    target = _target([side.name for side in sides], asked.out)
    write_atomic(target / "compare.csv", to_csv(compare_frame(compared)))
    write_atomic(target / "compare.json", compare_json(compared))
    write_atomic(target / "compare.md", compare_markdown(compared).encode())
    write_atomic(target / "compare.html", render_comparison(compared).encode())
    return compared, target


def _side(letter: str, name: str, folder: Path) -> Side:
    from eval.reporting.run_pairs import Side
    from eval.running.loading import load_features, load_reference, load_run

    run = load_run(folder)
    return Side(letter, name, run, folder, partial(load_features, folder), partial(load_reference, folder))


def _target(names: list[str], out: Path | None) -> Path:
    """The folder that the comparison goes to, made where it is not there."""
    from eval.records import digest
    from eval.running.atomic import RunFolderError, make_folder

    target = out or ROOT / "reports" / f"compare-{digest(names)[:8]}"
    if (target / "plan.json").exists():
        raise RunFolderError(f"{target} is a run's folder; choose another out=FOLDER")
    make_folder(target)
    return target


if __name__ == "__main__":
    sys.exit(main())
