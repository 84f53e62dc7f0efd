"""Build the tables and the report of a run again, from its folder: `python eval/report.py <run folder>`.

Nothing is generated or scored. Exit code: 0, or 2 when the folder is no run's or cannot be written.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    # Not this script's folder, whose names would shadow others.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

USAGE = "usage: python eval/report.py <run folder>"


def main(arguments: list[str] | None = None) -> int:
    """Write cells.csv, images.csv, comparisons.csv and report.html into the named folder; the exit code.

    Args:
        arguments: the run's folder and nothing else; None takes the command line's.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(f"{__doc__}\n{USAGE}\n")
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        return _refuse(f"one run folder is needed, got {len(arguments)} arguments; {USAGE}")
    from sdkit._errors import SdkitError

    try:
        report = rebuild(Path(arguments[0]))
    except SdkitError as error:
        return _refuse(str(error))
    sys.stdout.write(f"report: {report}\n")
    return 0


def rebuild(folder: Path) -> Path:
    """Write the tables and the report of the run in `folder`; the report's path.

    Raises:
        RunFolderError: it is no run's folder, or it cannot be written.
    """
    from eval.reporting.comparisons import compare
    from eval.reporting.html import write_report
    from eval.reporting.tables import (
        cells_frame,
        images_frame,
        write_cells_csv,
        write_comparisons_csv,
        write_images_csv,
        write_parquet,
    )
    from eval.running.store import load_features, load_reference, load_run

    run = load_run(folder)
    compared = compare(run, partial(load_features, folder), partial(load_reference, folder))
    write_comparisons_csv(compared, folder / "comparisons.csv")
    rows = [row for found in run.images.values() for row in found]
    write_cells_csv(run.results, folder / "cells.csv")
    write_images_csv(rows, folder / "images.csv")
    write_parquet(cells_frame(run.results), folder / "cells.parquet")
    write_parquet(images_frame(rows), folder / "images.parquet")
    return write_report(folder)


def _refuse(message: str) -> int:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
