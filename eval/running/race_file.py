"""`racing.json`: a race as far as it has come, in the run's folder."""

from __future__ import annotations

from pathlib import Path

from eval.running.atomic import RunFolderError, write_atomic
from eval.running.envelope import parse
from eval.running.serial import decode, encode
from eval.search_plan import RaceRecord, SearchPlan

NAME = "racing.json"


def write_race(folder: Path, race: RaceRecord) -> None:
    """Write the race. Raises RunFolderError where the system refuses."""
    write_atomic(folder / NAME, encode(race))


def read_race(folder: Path, search: SearchPlan) -> RaceRecord | None:
    """The run's race; None where its cells are not raced, or no step is done yet.

    Raises:
        RunFolderError: the file is torn, or another version wrote it.
    """
    path = folder / NAME
    if search.kind != "racing" or not path.is_file():
        return None
    try:
        return decode(RaceRecord, parse(path))
    except ValueError as error:
        raise RunFolderError(f"{path}: {error}; run the sweep again") from error
