"""Whole cells of other runs, taken over: hashed, linked or copied, and there all at once or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from eval.records import Cell
from eval.running.atomic import TEMPORARY, RunFolderError, make_folder, refusal, sync
from eval.running.envelope import read_envelope
from eval.running.store import RunFolder


def other_runs(root: Path, place: str | None) -> tuple[Path, ...]:
    """Runs whose cells may be taken over: the folders below `place`, by default beside `root`; newest first.

    Args:
        place: a folder, or a URL, which has no part in this.
    """
    parent = root.parent if place is None or "://" in place else Path(place).expanduser()
    try:
        found = [path for path in parent.iterdir() if (path / "cells").is_dir()]
    except OSError:
        return ()
    own = root.resolve()
    others = [path for path in found if path.resolve() != own]
    return tuple(sorted(others, key=lambda path: (path / "cells").stat().st_mtime, reverse=True))


def adopt(folder: RunFolder, cell: Cell, setup: str, runs: Sequence[Path]) -> Path | None:
    """Take the cell over from the first run that has it whole, of the same setup; that run, or None.

    Files are linked where the disk can, since none is ever changed in place, and copied elsewhere.

    Raises:
        RunFolderError: this run's folder cannot be written.
    """
    run = find(cell, setup, runs)
    if run is not None:
        _take(folder, cell, run)
    return run


def find(cell: Cell, setup: str, runs: Sequence[Path]) -> Path | None:
    """The first of the runs that has the cell whole, of the same setup; None where none has."""
    return next((run for run in runs if offers(run, cell, setup)), None)


def offers(run: Path, cell: Cell, setup: str) -> bool:
    """Whether the run has the cell whole. Changes nothing: what is broken in another's run is left there."""
    path = run / "cells" / cell.key / "cell.json"
    if not path.is_file():
        return False
    try:
        found = read_envelope(path)
    except RunFolderError:
        return False
    return found.serves(cell, setup) and RunFolder(run).is_whole(cell, found)


def _take(folder: RunFolder, cell: Cell, run: Path) -> None:
    source, target = run / "cells" / cell.key, folder.cell_folder(cell.key)
    waiting = target.with_name(f".{cell.key}.{os.getpid()}{TEMPORARY}")
    try:
        shutil.rmtree(waiting, ignore_errors=True)
        for path in _files(source):
            copy = waiting / path.relative_to(source)
            make_folder(copy.parent)
            _link(path, copy)
        if target.exists():
            shutil.rmtree(target)
        waiting.replace(target)
        sync(target.parent)
    except OSError as error:
        shutil.rmtree(waiting, ignore_errors=True)
        raise refusal(target, error) from error


def _files(source: Path) -> Iterator[Path]:
    yield from (
        path for path in sorted(source.rglob("*")) if path.is_file() and not path.name.startswith(".")
    )


def _link(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:
        shutil.copy2(path, copy)
