"""Runs' folders read as one run: where each cell's pictures, features and reference lie."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval.identity import Incomparable
from eval.records import ImageRow, Run, digest
from eval.reporting.merging import PlacedCell, merge_runs, run_names
from eval.running.atomic import RunFolderError, make_folder
from eval.running.loading import Array, load_features, load_reference, load_run
from eval.scoring.moments import Moments


@dataclass(frozen=True)
class MergedRuns:
    """The runs as one, and the folders that they came from."""

    run: Run
    folders: dict[str, Path]
    """Run's name -> its folder."""
    homes: dict[str, tuple[Path, str]]
    """Key of a merged cell -> its run's folder, and its key there."""

    @property
    def name(self) -> str:
        """What their report's folder is called; the same for equal sets of runs."""
        return f"merged-{digest(sorted(self.folders))[:8]}"

    def features(self, key: str) -> dict[str, Array]:
        """As `load_features`, by the merged cell's key."""
        return load_features(*self.homes[key])

    def reference(self, extractor: str) -> Moments | None:
        """The reference's moments that every run was scored against, by one encoder; None where none has any.

        Raises:
            Incomparable: the runs' references differ, so there is none that all share.
            RunFolderError: they cannot be read.
        """
        seen = {
            (score.key.encoder, score.key.reference)
            for result in self.run.results
            for score in result.scores
            if score.name.startswith("fid")
            and score.name.endswith(f"[{extractor}]")
            and score.value is not None
        }
        if len(seen) > 1:
            raise Incomparable(
                f"the merged runs have {len(seen)} references, or encoders, for {extractor}; the runs' own "
                "comparisons.csv have the differences"
            )
        found = (load_reference(folder, extractor) for folder in self.folders.values())
        return next((moments for moments in found if moments is not None), None)

    def rows_from(self, target: Path) -> Iterator[ImageRow]:
        """The pictures' rows, with their paths as they lead there from the folder `target`."""
        start = target.resolve()
        for key, rows in self.run.images.items():
            home = self.homes[key][0]
            for row in rows:
                yield replace(row, path=os.path.relpath(home / row.path, start))

    def target(self, reports: Path, out: Path | None) -> Path:
        """The folder that the report goes to, made where it is not there.

        Args:
            reports: where it lies unless `out` says otherwise.

        Raises:
            RunFolderError: `out` is a run's folder itself, or it cannot be made.
        """
        target = out or reports / self.name
        if (target / "plan.json").exists():
            raise RunFolderError(
                f"{target} is a run's folder, whose report would be lost; choose another out=FOLDER"
            )
        make_folder(target)
        return target


def open_runs(folders: Sequence[Path]) -> MergedRuns:
    """The runs in `folders`, which are absolute and each once, as one.

    Raises:
        RunFolderError: one is no run's folder, or was written by another version; the message names it.
    """
    named = dict(zip(run_names(folders), folders, strict=True))
    run = merge_runs({name: load_run(folder) for name, folder in named.items()})
    cells = (result.cell for result in run.results)
    homes = {cell.key: (named[cell.run], cell.own_key) for cell in cells if isinstance(cell, PlacedCell)}
    return MergedRuns(run, named, homes)
