"""Build the tables and the report again from run folders: `python eval/report.py RUN [RUN ...] [out=FOLDER]`.

Of one run, into its own folder. Of several (other models, other hardware, the jobs of `sweep.py -m`) one report of
all, into `out`, by default reports/merged-<digest of the runs' names>. Nothing is generated or scored.
Exit code: 0, or 2 when a folder is no run's or cannot be read or written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not this script's folder, whose names would shadow others

USAGE = "usage: python eval/report.py RUN [RUN ...] [out=FOLDER]"


def main(arguments: list[str] | None = None) -> int:
    """Write cells.csv, images.csv, comparisons.csv and report.html of the named runs; the exit code.

    Args:
        arguments: the runs' folders, and where several go; None takes the command line's.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(f"{__doc__}\n{USAGE}\n")
        return 0
    outs = [each.removeprefix("out=") for each in arguments if each.startswith("out=")]
    folders = [each for each in arguments if not each.startswith("out=")]
    if not folders or len(outs) > 1 or any(each.startswith("-") or not each for each in (*folders, *outs)):
        return _refuse(f"a run's folder is needed, got {len(folders)} of {len(arguments)} arguments; {USAGE}")
    from sdkit._errors import SdkitError

    places = tuple(dict.fromkeys(Path(each).expanduser().resolve() for each in folders))
    try:
        if len(places) == 1 and not outs:
            report = rebuild(Path(folders[0]))
        else:
            report = merge(places, Path(outs[0]).expanduser() if outs else None)
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


def merge(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the tables and one report of the runs in `folders` into `out`; the report's path.

    Args:
        folders: absolute, each once.
        out: None is reports/merged-<digest of the runs' names>.

    Raises:
        RunFolderError: one is no run's folder, `out` is one, or it cannot be written.
    """
    from eval.reporting.comparisons import compare
    from eval.reporting.html import write_merged_report
    from eval.reporting.merged import open_runs
    from eval.reporting.tables import write_cells_csv, write_comparisons_csv, write_images_csv

    merged = open_runs(folders)
    target = merged.target(ROOT / "reports", out)
    run = merged.run
    write_comparisons_csv(compare(run, merged.features, merged.reference), target / "comparisons.csv")
    write_cells_csv(run.results, target / "cells.csv")
    write_images_csv(merged.rows_from(target), target / "images.csv", run.results)
    return write_merged_report(run, target, merged.folders)


def _refuse(message: str) -> int:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
