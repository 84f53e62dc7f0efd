"""Hub ids: which files of a repository are fetched, and what each failure of the hub means."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdkit._errors import HubUnreachable, ModelError, ModelNotFound, UnsafeModel, first_line

HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
_VARIANT = re.compile(r"\.(fp16|bf16|fp32|ema|non_ema)\b")
_TIMEOUT_S = 10.0
# Named in model_index.json, never fetched or loaded: they judge or read pictures, they do not make them.
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")
_SETTINGS = (".json", ".txt", ".model")


def is_variant(name: str) -> bool:
    """True for a file such as `model.fp16.safetensors`, which stands beside the plain one."""
    return _VARIANT.search(name) is not None


def fetch_snapshot(hub_id: str, *, revision: str | None = None, local_files_only: bool) -> Path:
    """The local folder of a hub model, downloaded if need be: settings, tokenizers and safetensors only.

    Args:
        revision: a branch, tag or commit; None is the main branch.
        local_files_only: never ask the hub.
    Raises:
        ModelNotFound: the hub has no such model, or not for this user.
        HubUnreachable: no answer, and not in the local cache.
    """
    return _fetch(hub_id, _wanted_of_model, revision, local_files_only=local_files_only)


def fetch_part(hub_id: str, *, local_files_only: bool) -> Path:
    """The local folder of a repository that holds one part: a VAE, a ControlNet, a LoRA."""
    return _fetch(hub_id, _wanted_of_part, None, local_files_only=local_files_only)


def fetch_file(hub_id: str, file: str, *, local_files_only: bool) -> Path:
    """One file of a repository, such as one of many LoRAs."""
    if not file.endswith(".safetensors"):
        raise UnsafeModel(
            f"file {file} of {hub_id} must be .safetensors to be downloaded; pickles can run code"
        )

    def only(_paths: list[Path], _hub_id: str) -> list[str]:
        if Path(file) not in _paths:
            raise ModelNotFound(f"model {hub_id} has no file {file}")
        return [file]

    folder = _fetch(hub_id, only, None, local_files_only=local_files_only)
    if not (folder / file).is_file():
        raise HubUnreachable(f"file {file} of {hub_id} is not in the local cache; go online, or name a file")
    return folder / file


def _fetch(
    hub_id: str,
    choose: Callable[[list[Path], str], list[str]],
    revision: str | None,
    *,
    local_files_only: bool,
) -> Path:
    from huggingface_hub import constants, snapshot_download

    offline, why, wanted = local_files_only or constants.HF_HUB_OFFLINE, "the hub may not be asked", None
    if not offline:
        try:
            wanted = choose(_listing(hub_id, revision), hub_id)
        except ModelError:
            raise
        # The transport's exceptions differ between the hub library's versions. What was downloaded before
        # still serves: a hub that is down is no reason to stop.
        except Exception as error:
            offline, why = True, f"the hub does not answer ({type(error).__name__})"
    try:
        options: dict[str, Any] = {
            "allow_patterns": wanted,
            "local_files_only": offline,
            "revision": revision,
        }
        return Path(snapshot_download(hub_id, **options))
    except Exception as error:  # likewise
        if not offline:
            why = f"the download failed ({first_line(error)})"
        where = f"model {hub_id} is no folder here and not in the local cache"
        raise HubUnreachable(f"{where}, and {why}; go online, or name a folder") from error


def _listing(hub_id: str, revision: str | None) -> list[Path]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        repository = HfApi().model_info(hub_id, revision=revision, timeout=_TIMEOUT_S)
    except GatedRepoError as error:
        remedy = "accept its terms on the hub and log in with `hf auth login`"
        raise ModelNotFound(f"model {hub_id} is gated; {remedy}") from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(f"model {hub_id} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(f"model {hub_id} is no folder here, and the hub has none of this name") from error
    return [Path(sibling.rfilename) for sibling in repository.siblings or []]


def _wanted_of_model(paths: list[Path], hub_id: str) -> list[str]:
    """Paths to fetch: every folder's plain safetensors, or its fp16 ones where there are no plain ones."""
    if Path("model_index.json") not in paths:
        raise ModelError(
            f"model {hub_id} must be a diffusers model, its repository has no model_index.json; for one of its"
            f" files, name it: {hub_id}/FILE.safetensors"
        )
    parts = [path for path in paths if len(path.parts) == 2 and path.parts[0] not in LEFT_OUT]
    settings = [path for path in parts if path.suffix in _SETTINGS]
    return ["model_index.json", "sdkit.json", *(path.as_posix() for path in [*settings, *_plain(parts)])]


def _wanted_of_part(paths: list[Path], _hub_id: str) -> list[str]:
    top = [path for path in paths if len(path.parts) == 1]
    return [path.as_posix() for path in [*(p for p in top if p.suffix in _SETTINGS), *_plain(top)]]


def _plain(paths: list[Path]) -> list[Path]:
    weights = [path for path in paths if path.suffix == ".safetensors"]
    plain = {path.parent for path in weights if not is_variant(path.name)}
    return [p for p in weights if (not is_variant(p.name) if p.parent in plain else ".fp16." in p.name)]
