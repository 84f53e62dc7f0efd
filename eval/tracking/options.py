"""The group `tracking` of the configuration, checked, as a frozen plan."""

from __future__ import annotations

from urllib.parse import urlsplit

from eval.records import MlflowPlan, TrackingPlan, WandbPlan
from eval.schema import TrackingConfig
from sdkit._checks import MAX_BATCH, check_range
from sdkit._errors import InvalidRequest

TRACKERS = ("mlflow", "wandb", "tensorboard")
WANDB_MODES = ("offline", "online")


def to_tracking(tracking: TrackingConfig) -> TrackingPlan:
    """Which trackers hear of the run, and where they keep it.

    Raises:
        InvalidRequest: a name or a value is not known, or a secret stands where it would be written down.
    """
    for name in tracking.use:
        _one_of("tracking.use", name, TRACKERS)
    _one_of("tracking.wandb.mode", tracking.wandb.mode, WANDB_MODES)
    return TrackingPlan(
        use=tuple(dict.fromkeys(tracking.use)),
        images=check_range("tracking.images", tracking.images, 0, MAX_BATCH),
        mlflow=MlflowPlan(_mlflow_uri(tracking.mlflow.uri), tracking.mlflow.experiment),
        wandb=WandbPlan(tracking.wandb.project, tracking.wandb.entity, tracking.wandb.mode),
    )


def _mlflow_uri(uri: str | None) -> str | None:
    if uri is None or uri == "databricks":
        return uri
    parts = urlsplit(uri)
    if parts.password is not None:
        raise InvalidRequest(
            "tracking.mlflow.uri must hold no password, because the run's folder keeps it, got one; "
            "set MLFLOW_TRACKING_URI, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, instead"
        )
    if "://" not in uri or parts.scheme == "file":
        raise InvalidRequest(
            f"tracking.mlflow.uri must be http://SERVER, sqlite:///FILE or a database's URI, got {uri!r}; "
            "MLflow writes to plain folders no longer"
        )
    return uri


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidRequest(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
