"""Which models can be named without a download: the bundled one, and those in the hub's local cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sdkit._errors import SdkitError
from sdkit._folders import read_json
from sdkit._models import resolve
from sdkit._spec import BUNDLED, ModelSpec


@dataclass(frozen=True)
class NamedModel:
    """A model that can be named without a download."""

    name: str
    """As `model=` takes it."""
    source: str
    """ "bundled" or "hub cache"."""
    pipeline: str
    """Class name in diffusers."""
    size_bytes: int
    """On disk; of all cached revisions together."""


def named_models() -> tuple[NamedModel, ...]:
    """The bundled model, and the diffusers models in the hub's local cache by name."""
    try:
        folder = resolve(ModelSpec()).base.folder
        size_bytes = sum(file.stat().st_size for file in folder.files)
        bundled = [NamedModel(BUNDLED, "bundled", folder.pipeline, size_bytes)]
    except SdkitError:
        bundled = []  # `sdkit doctor` says what is wrong with it
    return (*bundled, *cached_models())


def cached_models() -> tuple[NamedModel, ...]:
    """The hub's repositories in the local cache that hold a whole pipeline; none where there is no cache."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, OSError, ValueError):
        return ()
    found = [
        NamedModel(repository.repo_id, "hub cache", pipeline, repository.size_on_disk)
        for repository in repositories
        if repository.repo_type == "model"
        and (pipeline := _pipeline_in(r.snapshot_path for r in repository.revisions))
    ]
    return tuple(sorted(found, key=lambda model: model.name.lower()))


def _pipeline_in(snapshots: Iterable[Path]) -> str:
    """The pipeline's class in the first snapshot that has one; "" where there is none."""
    for snapshot in snapshots:
        try:
            name = read_json(snapshot / "model_index.json").get("_class_name")
        except SdkitError:
            continue
        if isinstance(name, str):
            return name
    return ""
