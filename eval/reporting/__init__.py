"""What a run found, for people: tables, figures, the decision, and one HTML file that opens offline.

Everything here reads records and computes; only `tables`, `html` and `example` touch the disk. In a notebook:

    from eval.reporting import open_run

    run = open_run("reports/shapes-47da0f3b")     # two or more folders are merged
    run.decision                                  # shows itself, as do run, run.figures and the figures
    run.cells.sort_values("latency_p50_s")        # run.images, run.comparisons: pandas frames

`read_cells`, `read_images` and `read_comparisons` read one table, with its kinds, where only the file is at hand.
Importing this loads none of pandas, plotly and torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from eval.reporting.notebook import OpenRun

__all__ = ["open_run", "read_cells", "read_comparisons", "read_images"]


def open_run(*folders: str | Path, anew: Sequence[str] = ()) -> OpenRun:
    """The run in a folder, or those in several as one, to look at in a notebook.

    Args:
        folders: one at least.
        anew: "decide.max_latency_s=0.5" and the like, in place of the run's own.

    Raises:
        InvalidRequest: no folder is given, or one of `anew` cannot be used.
        RunFolderError: one is no run's folder.
    """
    from eval.reporting.notebook import opened

    return opened(folders, anew)


def read_cells(path: str | Path) -> pd.DataFrame:
    """The table of `cells.csv` or `cells.parquet`, or of a run's folder: missing is NA, text is to the letter.

    Raises:
        InvalidRequest: it is no such table.
        OSError: it cannot be read.
    """
    from eval.reporting.tables import read_table

    return read_table("cells", Path(path))


def read_images(path: str | Path) -> pd.DataFrame:
    """The table of `images.csv` or `images.parquet`; as `read_cells`."""
    from eval.reporting.tables import read_table

    return read_table("images", Path(path))


def read_comparisons(path: str | Path) -> pd.DataFrame:
    """The table of `comparisons.csv` or `comparisons.parquet`; as `read_cells`."""
    from eval.reporting.tables import read_table

    return read_table("comparisons", Path(path))
