"""The small part of a run that is committed as an example: `python -m eval.reporting.example RUN [FOLDER]`.

FOLDER is reports/example unless it is given. Nothing in it names the machine that the run was made on. Exit code: 0, or
2 when RUN is no run's folder, when a file cannot be written, or when the machine's name would be published. Without a
browser the old report.png stays, and a line says so.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from eval.records import Run
from eval.reporting.csv_text import to_csv
from eval.reporting.decision_json import decision_json, to_json
from eval.reporting.findings import Findings, findings
from eval.reporting.frames import cells_frame, comparisons_frame
from eval.reporting.html import render
from eval.reporting.nameless import Names, nameless, traces
from eval.reporting.screenshot import screenshot
from eval.reporting.summary import summary
from eval.running.atomic import make_folder, write_atomic
from eval.running.loading import load_features, load_reference, load_run
from sdkit._errors import InvalidRequest, SdkitError

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("report.html", "decision.json", "cells.csv", "comparisons.csv")
USAGE = "usage: python -m eval.reporting.example RUN [FOLDER]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the example of a run; the exit code.

    Args:
        arguments: the run's folder, and where the example goes; None takes the command line's.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not 1 <= len(arguments) <= 2 or any(each.startswith("-") or not each for each in arguments):
        sys.stdout.write(f"{__doc__}\n")
        sys.stderr.write(f"error: one folder of a run is needed, got {len(arguments)} arguments; {USAGE}\n")
        return 2
    out = Path(arguments[1]) if len(arguments) == 2 else ROOT / "reports" / "example"
    try:
        sizes = write_example(Path(arguments[0]), out)
        missing = screenshot(out / "report.html", out / "report.png")
    except SdkitError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    sys.stdout.write("".join(f"{out / name}: {size / 1e3:.0f} kB\n" for name, size in sizes.items()))
    if missing:
        sys.stderr.write(f"NO PICTURE: {out / 'report.png'} is not made anew: {missing}\n")
    return 0


def write_example(folder: Path, out: Path, names: Names | None = None) -> dict[str, int]:
    """Write the page with its pictures inside, two tables, the decision and the summary; sizes in bytes by name.

    Args:
        folder: the run's.
        names: of the machine; None asks it.

    Raises:
        InvalidRequest: a name of the machine would be published; nothing is written then.
        RunFolderError: `folder` is no run's, or `out` cannot be written.
    """
    names = names or machine_names((folder, out, ROOT))
    run = nameless(load_run(folder), names)
    run = replace(run, plan=replace(run.plan, report=replace(run.plan.report, pictures="embedded")))
    found = findings(run, partial(load_features, folder), partial(load_reference, folder))
    files = _files(run, found, folder)
    for name, payload in files.items():
        if seen := traces(payload.decode(), names):
            raise InvalidRequest(
                f"{name} would name the machine: {', '.join(seen)}; is it in a prompt or a label?"
            )
    make_folder(out)
    for name, payload in files.items():
        write_atomic(out / name, payload)
    return {name: len(payload) for name, payload in files.items()}


def machine_names(folders: Iterable[Path]) -> Names:
    """What this machine is known by: its host name, these folders, the user's home and the folder of scratch files."""
    places = (*folders, Path.home(), Path(tempfile.gettempdir()), Path.cwd())
    paths = {
        str(each) for place in places for each in (place.absolute(), place.resolve()) if len(each.parts) > 1
    }
    host = platform.node()
    return Names(
        tuple(sorted(paths, key=len, reverse=True)), tuple(dict.fromkeys((host, host.partition(".")[0])))
    )


def _files(run: Run, found: Findings, folder: Path) -> dict[str, bytes]:
    return {
        "report.html": render(run, found, folder).encode(),
        "decision.json": to_json(decision_json(run, found.decision, found.quality)),
        "cells.csv": to_csv(cells_frame(run.results)),
        "comparisons.csv": to_csv(comparisons_frame(found.comparisons)),
        "summary.md": summary(run, found, LINKED).encode(),
    }


if __name__ == "__main__":
    sys.exit(main())
