"""MLflow: one run a sweep, and below it one run a cell, so that its views compare cells.

Without a server it keeps a database and the artefacts in the run's folder, below `mlflow/`.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.records import Cell, CellResult, ImageRow, Plan, TrackingPlan
from eval.tracking.kept import KeptRun
from eval.tracking.readings import figures, named, pictures, plain, remarks, settings, short_name, valid_text
from eval.tracking.tracker import FILES, client, without_secrets

FOLDER = "mlflow"
_VALUE_LENGTH = 5000
_AT_ONCE = 100
"""Parameters or tags that a server takes in one call."""
_ENVIRONMENT = {
    # The client would report its use to its makers.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Its own patience, minutes a call, would hold the sweep up; what is missed is sent later.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class MlflowTracker:
    """Logs to the store that the plan names, else to MLFLOW_TRACKING_URI, else into the run's folder."""

    name = "mlflow"

    def __init__(self, plan: TrackingPlan, folder: Path) -> None:
        for variable, value in _ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        self._tracking = client("mlflow.tracking", self.name)
        self._entities = client("mlflow.entities", self.name)
        self._own = folder.resolve() / FOLDER / "mlflow.db"
        own = f"sqlite:///{self._own}"
        self._uri = plan.mlflow.uri or os.environ.get("MLFLOW_TRACKING_URI") or own
        self._is_own = self._uri == own
        if self._uri.startswith("sqlite:"):
            client("sqlalchemy", self.name)
            client("alembic", self.name)
        self._experiment_name = plan.mlflow.experiment
        self._images = plan.images
        self._client: Any = None
        self._experiment = self._run = ""

    @property
    def place(self) -> str:
        return without_secrets(self._uri)

    def started(
        self, plan: Plan, config_yaml: str, environment: Mapping[str, str], earlier: KeptRun | None
    ) -> KeptRun:
        if self._is_own:
            self._make_room(earlier)
        with _quiet():
            self._client = self._tracking.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
            self._experiment = self._find_experiment()
            found = self._find_run(earlier.run if earlier else self._run)
            if found is None:
                found = self._client.create_run(self._experiment, run_name=Path(plan.folder).name)
                earlier = None
            self._run = found.info.run_id
            self._client.update_run(self._run, status="RUNNING")
            self._settings(self._run, settings(config_yaml), found.data.params)
            self._tags(self._run, {f"environment.{name}": text for name, text in environment.items()})
        return earlier or KeptRun(self.place, self._run)

    def cell_done(self, result: CellResult, rows: Sequence[ImageRow], folder: Path, step: int) -> None:
        with _quiet():
            run = self._cell_run(result.cell)
            asked = {name: str(value) for name, value in result.cell.asked.items()}
            self._settings(run.info.run_id, asked, run.data.params)
            self._metrics(run.info.run_id, named(figures(result)), step)
            said = remarks(result)
            if result.error is None and "failed" in run.data.tags:
                self._client.delete_tag(run.info.run_id, "failed")
            self._tags(run.info.run_id, {**said, "device": result.device})
            shown = pictures(rows, folder, self._images)
            for picture in shown:
                self._client.log_artifact(run.info.run_id, str(picture.path), "pictures")
            if shown:
                captions = {picture.path.name: picture.caption for picture in shown}
                self._client.log_dict(run.info.run_id, captions, "pictures/captions.json")
            status = "FINISHED" if result.error is None else "FAILED"
            self._client.set_terminated(run.info.run_id, status=status)

    def finished(self, folder: Path, exit_code: int) -> str | None:
        with _quiet():
            for name in FILES:
                if (folder / name).is_file():
                    self._client.log_artifact(self._run, str(folder / name))
            stopped = exit_code > 128
            status = "KILLED" if stopped else "FINISHED" if exit_code == 0 else "FAILED"
            self._client.set_terminated(self._run, status=status)
        return None

    def _make_room(self, earlier: KeptRun | None) -> None:
        """The database names its artefacts by their whole path, so one of another place is put aside."""
        self._own.parent.mkdir(exist_ok=True)
        if earlier is None and not self._run and self._own.exists():
            self._own.replace(self._own.with_name(f"mlflow-until-{time.time_ns()}.db"))

    def _find_experiment(self) -> str:
        experiment = self._client.get_experiment_by_name(self._experiment_name)
        if experiment is not None:
            return str(experiment.experiment_id)
        beside = None  # a server knows where its artefacts go
        if self._uri.startswith("sqlite:///"):
            beside = Path(self._uri.removeprefix("sqlite:///")).resolve().with_name("artifacts").as_uri()
        return str(self._client.create_experiment(self._experiment_name, artifact_location=beside))

    def _find_run(self, run_id: str) -> Any:
        """The run that an earlier start has left; None where there is none, or somebody has deleted it."""
        if not run_id:
            return None
        try:
            run = self._client.get_run(run_id)
        except client("mlflow.exceptions", self.name).MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def _cell_run(self, cell: Cell) -> Any:
        """The cell's run below the sweep's: the one that is there, so that nothing is logged to two."""
        wanted = f"tags.`mlflow.parentRunId` = '{self._run}' and tags.cell = '{cell.key}'"
        found = self._client.search_runs([self._experiment], wanted, max_results=1)
        if found:
            return found[0]
        tags = {"mlflow.parentRunId": self._run, "cell": cell.key}
        return self._client.create_run(self._experiment, tags=tags, run_name=short_name(cell))

    def _settings(self, run: str, values: Mapping[str, str], known: Mapping[str, str]) -> None:
        """As parameters, which cannot be changed: one that is another now becomes a tag beside."""
        wanted = {plain(name): valid_text(text)[:_VALUE_LENGTH] for name, text in values.items()}
        changed = {name: text for name, text in wanted.items() if known.get(name, text) != text}
        fresh = [self._entities.Param(name, text) for name, text in wanted.items() if name not in known]
        for start in range(0, len(fresh), _AT_ONCE):
            self._client.log_batch(run, params=fresh[start : start + _AT_ONCE])
        self._tags(run, {f"changed.{name}": text for name, text in changed.items()})

    def _metrics(self, run: str, values: Mapping[str, float], step: int) -> None:
        now_ms = int(time.time() * 1000)
        metrics = [self._entities.Metric(name, value, now_ms, step) for name, value in values.items()]
        self._client.log_batch(run, metrics=metrics)

    def _tags(self, run: str, values: Mapping[str, str]) -> None:
        tags = [
            self._entities.RunTag(plain(name), valid_text(text)[:_VALUE_LENGTH])
            for name, text in values.items()
        ]
        for start in range(0, len(tags), _AT_ONCE):
            self._client.log_batch(run, tags=tags[start : start + _AT_ONCE])


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow's own mapping of its tables uses what SQLAlchemy 2.1 will take away."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="The ``noload`` loader strategy", category=DeprecationWarning
        )
        yield
