"""Build the tables and the report again from run folders: `python eval/report.py run=FOLDER [run=FOLDER ...]`.

Of one run, into its own folder. Of several (other models, other hardware, the jobs of `sweep.py -m`) one report of
all, into `out`, by default reports/merged-<digest of the runs' names>. Nothing is generated or scored; `decide.…` and
`report.…` stand for the runs' own. `run=` may be left out. Exit code: 0, or 2 when a folder is no run's, when it cannot
be read or written, or when the command has a mistake.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not this script's folder, whose names would shadow others

if TYPE_CHECKING:
    from eval.records import ImageRow, Run
    from eval.reporting.findings import Findings

USAGE = (
    "usage: python eval/report.py run=FOLDER [run=FOLDER ...] [decide.name=value ...] [report.pictures=embedded] "
    "[out=FOLDER]"
)
_NAMED = re.compile(r"([a-z_]+)(\.[A-Za-z0-9_.\[\]-]+)?=")


@dataclass(frozen=True)
class Asked:
    """What a command line asks for."""

    runs: tuple[Path, ...]
    """As they were given, each place once."""
    out: Path | None
    """None is the run's own folder, or one that several runs' names decide."""
    anew: tuple[str, ...]
    """"decide.name=value" and "report.name=value" in place of the run's own."""


@dataclass(frozen=True)
class Rebuilt:
    """A report that was written, and what it says."""

    report: Path
    run: Run
    found: Findings


def main(arguments: list[str] | None = None) -> int:
    """Write the tables, the decision, summary.md and report.html of the named runs; the exit code.

    Args:
        arguments: as in the usage; None takes the command line's.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(f"{__doc__}\n{USAGE}\n")
        return 0
    from eval.reporting.evidence import sentence
    from sdkit._errors import SdkitError

    try:
        asked = parse(arguments)
        if len(asked.runs) == 1 and asked.out is None:
            done = rebuild(asked.runs[0], asked.anew)
        else:
            done = merge([each.resolve() for each in asked.runs], asked.out, asked.anew)
    except SdkitError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    sys.stdout.write(f"{sentence(done.found.decision)}\nreport: {done.report}\n")
    return 0


def parse(arguments: Sequence[str]) -> Asked:
    """The command line, read: `name=value`, or a run's folder alone.

    Raises:
        InvalidRequest: a name is not known, a value is missing, or no run is named.
    """
    from sdkit._errors import InvalidRequest

    runs: dict[Path, Path] = {}
    outs: list[Path] = []
    anew: list[str] = []
    for argument in arguments:
        named = None if Path(argument).is_dir() else _NAMED.match(argument)
        name, below = (named[1], named[2]) if named else ("run", None)
        value = argument[named.end() :] if named else argument
        if name in ("decide", "report") and below:
            anew.append(argument)
        elif name not in ("run", "out") or below:
            raise InvalidRequest(f"no argument is named {name}{below or ''}, got {argument!r}; {USAGE}")
        elif not value or (not named and value.startswith("-")):
            raise InvalidRequest(f"a run's folder is needed, got {argument!r}; {USAGE}")
        elif name == "out":
            outs.append(Path(value).expanduser())
        else:
            place = Path(value).expanduser()
            runs.setdefault(place.resolve(), place)
    if not runs or len(outs) > 1:
        got = f"{len(runs)} runs and {len(outs)} times out="
        raise InvalidRequest(f"a run's folder is needed, and out= at most once, got {got}; {USAGE}")
    return Asked(tuple(runs.values()), next(iter(outs), None), tuple(anew))


def rebuild(folder: Path, anew: Sequence[str] = ()) -> Rebuilt:
    """Write the tables, the decision, the summary and the report of the run in `folder`; what they say.

    Args:
        anew: "decide.name=value" and "report.name=value" in place of the run's own.

    Raises:
        InvalidRequest: one of `anew` cannot be used.
        RunFolderError: it is no run's folder, or it cannot be written.
    """
    from eval.deciding import asked_anew
    from eval.reporting.findings import findings
    from eval.running.loading import load_features, load_reference, load_run

    run = load_run(folder)
    run = replace(run, plan=asked_anew(run.plan, anew))
    found = findings(run, partial(load_features, folder), partial(load_reference, folder))
    return _written(run, found, folder, [row for rows in run.images.values() for row in rows])


def merge(folders: Sequence[Path], out: Path | None = None, anew: Sequence[str] = ()) -> Rebuilt:
    """Write the tables, the decision, a summary and one report of the runs in `folders` into `out`; what they say.

    Args:
        folders: absolute, each once.
        out: None is reports/merged-<digest of the runs' names>.
        anew: "decide.name=value" and "report.name=value" in place of the first run's own.

    Raises:
        InvalidRequest: one of `anew` cannot be used.
        RunFolderError: one is no run's folder, `out` is one, or it cannot be written.
    """
    from eval.deciding import asked_anew
    from eval.reporting.findings import findings
    from eval.reporting.merged import open_runs

    merged = open_runs(folders)
    target = merged.target(ROOT / "reports", out)
    run = replace(merged.run, plan=asked_anew(merged.run.plan, anew))
    found = findings(run, merged.features, merged.reference)
    return _written(run, found, target, merged.rows_from(target), merged.folders)


def _written(
    run: Run,
    found: Findings,
    folder: Path,
    rows: Iterable[ImageRow],
    folders: Mapping[str, Path] | None = None,
) -> Rebuilt:
    """What one run and merged ones have in common."""
    from eval.reporting.decision_json import decision_json, to_json
    from eval.reporting.html import write_report
    from eval.reporting.summary import summary
    from eval.reporting.tables import write_tables
    from eval.running.atomic import write_atomic

    write_tables(folder, run.results, rows, found.comparisons)
    write_atomic(folder / "decision.json", to_json(decision_json(run, found.decision, found.quality)))
    write_atomic(folder / "summary.md", summary(run, found).encode())
    return Rebuilt(write_report(run, found, folder, folders), run, found)


if __name__ == "__main__":
    sys.exit(main())
