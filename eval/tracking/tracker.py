"""What a tracker is, and how its client is found."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from eval.records import CellResult, ImageRow, Plan
from eval.tracking.kept import KeptRun
from sdkit._errors import InvalidRequest

FILES = ("cells.csv", "images.csv", "comparisons.csv", "report.html", "config.yaml")
"""What is logged of the run's folder at the end."""


class Tracker(Protocol):
    """Hears of one run. Any call may fail with any error of the client: `Trackers` answers for that."""

    @property
    def name(self) -> str:
        """As `tracking.use` names it."""

    @property
    def place(self) -> str:
        """Where it keeps the run, without secrets; another place means another run there."""

    def started(
        self, plan: Plan, config_yaml: str, environment: Mapping[str, str], earlier: KeptRun | None
    ) -> KeptRun:
        """Begin, before the first cell.

        Args:
            config_yaml: the resolved configuration.
            earlier: what an earlier start on the same folder left in the same place.

        Returns:
            `earlier` where it goes on with that run, else a new one with nothing logged.
        """

    def cell_done(self, result: CellResult, rows: Sequence[ImageRow], folder: Path, step: int) -> None:
        """Log one cell.

        Args:
            rows: its pictures; none where it failed.
            folder: the run's folder, which the paths of `rows` begin at.
            step: the cell's place in the grid, from 0.
        """

    def finished(self, folder: Path, exit_code: int) -> str | None:
        """Log the files of the run's folder and end; what could not be done, or None."""


def client(module: str, extra: str) -> Any:
    """The client's module, imported now.

    Raises:
        InvalidRequest: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InvalidRequest(
            f"tracking.use={extra} needs {module.partition('.')[0]}, which cannot be imported; "
            f"pip install 'sdkit-t2i[{extra}]', or leave {extra} out"
        ) from error


def without_secrets(text: str) -> str:
    """The text without the user and password that a URI in it may hold."""
    return re.sub(r"://[^/@\s]*@", "://", text)
