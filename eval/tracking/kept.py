"""`tracking.json` in the run's folder: which runs of the trackers belong to it, and what they have heard."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from eval.running.atomic import write_atomic
from eval.running.serial import decode, encode

FILE = "tracking.json"


@dataclass(frozen=True)
class KeptRun:
    """One tracker's run."""

    place: str
    """As `Tracker.place`."""
    run: str
    """The run's id there."""
    logged: tuple[str, ...] = ()
    """Keys of the cells that it has heard of, in order; a cell that was computed again stands there twice."""

    def heard(self, key: str) -> KeptRun:
        """The same run, having heard of one more cell."""
        return replace(self, logged=(*self.logged, key))


@dataclass(frozen=True)
class Kept:
    """All trackers' runs of one folder."""

    runs: dict[str, KeptRun] = field(default_factory=dict)
    """Tracker's name -> its run."""


def read_kept(folder: Path) -> Kept:
    """What `folder` keeps; nothing where there is no file, or none that can be read."""
    try:
        return decode(Kept, json.loads((folder / FILE).read_bytes()))
    except (OSError, ValueError):
        return Kept()


def write_kept(folder: Path, kept: Kept) -> None:
    """Write the file. Raises RunFolderError when the system refuses."""
    write_atomic(folder / FILE, encode(kept))
