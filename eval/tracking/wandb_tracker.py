"""Weights & Biases: one run a sweep, one row of its history a cell.

Offline, as by default, it writes into the run's folder, below `wandb/`; `wandb sync` sends that later.
"""

from __future__ import annotations

import csv
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.records import CellResult, ImageRow, Plan, TrackingPlan
from eval.tracking.kept import KeptRun
from eval.tracking.readings import accelerated, figures, named, pictures, plain, remarks, settings, short_name
from eval.tracking.tracker import FILES, client
from sdkit._errors import InvalidRequest

_KEPT = "A-Za-z0-9_"
"""Characters of a name that its charts can sort by."""
_START_S = 30.0
"""Seconds that the beginning waits for the server."""
_FINISH_S = 600.0
"""Seconds that the end waits for what is not sent yet."""


class WandbTracker:
    """Logs to Weights & Biases, offline or online as the plan says."""

    name = "wandb"

    def __init__(self, plan: TrackingPlan, folder: Path) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would report crashes to its makers
        self._wandb = client("wandb", self.name)
        self._plan = plan.wandb
        self._images = plan.images
        self._folder = folder
        if self._plan.mode == "online":
            self._require_key()
        self._run: Any = None
        self._rows = 0
        self._seen: set[str] = set()

    @property
    def place(self) -> str:
        return f"{self._plan.mode}:{self._plan.entity or 'default'}/{self._plan.project}"

    def started(
        self, plan: Plan, config_yaml: str, environment: Mapping[str, str], earlier: KeptRun | None
    ) -> KeptRun:
        name = Path(plan.folder).name
        # Two people with equal plans have folders of one name, and must not write to one run.
        identity = (
            earlier.run if earlier else f"{re.sub('[^A-Za-z0-9_-]+', '-', name)}-{secrets.token_hex(4)}"
        )
        self._run = self._wandb.init(
            project=self._plan.project,
            entity=self._plan.entity,
            mode=self._plan.mode,
            id=identity,
            name=name,
            resume="allow",
            reinit="create_new",
            dir=str(self._folder),
            config={"settings": settings(config_yaml), "environment": dict(environment)},
            allow_val_change=True,
            settings=self._wandb.Settings(
                # Arguments, user, host and the address of the git remote may hold what is nobody's business.
                console="off",
                disable_code=True,
                disable_git=True,
                save_code=False,
                silent=True,
                init_timeout=_START_S,
                finish_timeout=_FINISH_S,
                finish_timeout_raises=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        self._run.define_metric("cell")
        for group in ("scores", "timing", "memory", "cost"):
            self._run.define_metric(f"{group}/*", step_metric="cell")
        if earlier is None or (self._plan.mode == "online" and not self._run.resumed):
            earlier = KeptRun(self.place, identity)
        self._rows, self._seen = len(earlier.logged), set(earlier.logged)
        return earlier

    def cell_done(self, result: CellResult, rows: Sequence[ImageRow], folder: Path, step: int) -> None:
        cell = result.cell
        row: dict[str, object] = {"cell": step, "sampler": cell.sampler, "steps": cell.steps}
        row |= accelerated(cell)
        row |= {"guidance": cell.guidance, **named(figures(result), _KEPT)}
        said = remarks(result)
        if said:
            row["remarks"] = "; ".join(f"{name}: {text}" for name, text in said.items())
        shown = pictures(rows, folder, self._images)
        if shown:
            row["pictures"] = [self._wandb.Image(str(each.path), caption=each.caption) for each in shown]
        for score in result.scores:
            if score.value is not None:
                best = {True: "max", False: "min", None: "last"}[score.higher_is_better]
                name = plain(f"scores/{score.name}", _KEPT)
                self._run.define_metric(name, step_metric="cell", summary=best)
        # Rows are numbered on from the earlier ones, which the client itself forgets offline.
        self._rows = max(self._rows, self._run.step)
        self._run.log(row, step=self._rows, commit=True)
        self._rows += 1
        if result.error is not None or cell.key in self._seen:
            self._run.summary[f"status/{short_name(cell)}"] = said.get("failed", "whole")
        self._seen.add(cell.key)

    def finished(self, folder: Path, exit_code: int) -> str | None:
        if (folder / "cells.csv").is_file():
            self._run.log({"cells": self._table(folder / "cells.csv")}, step=max(self._rows, self._run.step))
        with _staged_in(folder.resolve() / "wandb"):
            artifact = self._wandb.Artifact(f"sweep-{self._run.id}", type="sweep")
            for name in FILES:
                if (folder / name).is_file():
                    artifact.add_file(str(folder / name), name=name)
            self._run.log_artifact(artifact)
        try:
            self._run.finish(exit_code=exit_code)
        except TimeoutError:
            return f"not all was sent within {_FINISH_S:.0f} s; send the rest with `wandb sync {self._run.dir}/..`"
        return None

    def _table(self, path: Path) -> Any:
        """cells.csv, numbers as numbers: charts of one column over another want it."""
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        return self._wandb.Table(
            columns=head, data=[[_cell(text) for text in row] for row in rows], allow_mixed_types=True
        )

    def _require_key(self) -> None:
        """Without a key the client would ask for one and wait."""
        try:
            found = self._wandb.login(prompt=False, verify=False)  # whether it fits, the server says later
        except self._wandb.Error as error:
            raise InvalidRequest(f"tracking.wandb.mode=online needs a key that fits, got {error}") from error
        if not found:
            raise InvalidRequest(
                "tracking.wandb.mode=online needs a key, got none; run `wandb login`, set WANDB_API_KEY, "
                "or stay offline and send the run later with `wandb sync`"
            )


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Let copies of artefacts wait in `folder` to be sent, unless the user has named a place."""
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def _cell(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text
