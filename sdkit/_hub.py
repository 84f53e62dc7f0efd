"""Hub ids: which files of a repository are fetched, and what each failure of the hub means."""

from __future__ import annotations

import re
from pathlib import Path

from sdkit._errors import HubUnreachable, ModelError, ModelNotFound, first_line

HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
_VARIANT = re.compile(r"\.(fp16|bf16|fp32|ema|non_ema)\b")
_TIMEOUT_S = 10.0


def is_variant(name: str) -> bool:
    """True for a file such as `model.fp16.safetensors`, which stands beside the plain one."""
    return _VARIANT.search(name) is not None


def fetch_snapshot(hub_id: str, left_out: tuple[str, ...], *, local_files_only: bool) -> Path:
    """The local folder of a hub model, downloaded if need be: settings, tokenizers and safetensors only.

    Args:
        left_out: folders of the repository that are not wanted.
        local_files_only: never ask the hub.
    Raises:
        ModelNotFound: the hub has no such model, or not for this user.
        HubUnreachable: no answer, and not in the local cache.
    """
    from huggingface_hub import constants, snapshot_download

    offline, why, wanted = local_files_only or constants.HF_HUB_OFFLINE, "the hub may not be asked", None
    if not offline:
        try:
            wanted = _wanted(hub_id, left_out)
        except ModelError:
            raise
        except (
            Exception
        ) as error:  # the transport, whose exceptions differ between the hub library's versions
            # What was downloaded before still serves: a hub that is down is no reason to stop.
            offline, why = True, f"the hub does not answer ({type(error).__name__})"
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, local_files_only=offline))
    except Exception as error:  # likewise
        if not offline:
            why = f"the download failed ({first_line(error)})"
        where = f"model {hub_id} is no folder here and not in the local cache"
        raise HubUnreachable(f"{where}, and {why}; go online, or name a folder") from error


def _wanted(hub_id: str, left_out: tuple[str, ...]) -> list[str]:
    """Paths to fetch: every folder's plain safetensors, or its fp16 ones where there are no plain ones."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        repository = HfApi().model_info(hub_id, timeout=_TIMEOUT_S)
    except GatedRepoError as error:
        remedy = "accept its terms on the hub and log in with `hf auth login`"
        raise ModelNotFound(f"model {hub_id} is gated; {remedy}") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(f"model {hub_id} is no folder here, and the hub has none of this name") from error
    paths = [Path(sibling.rfilename) for sibling in repository.siblings or []]
    if Path("model_index.json") not in paths:
        raise ModelError(f"model {hub_id} must be a diffusers model, its repository has no model_index.json")
    parts = [path for path in paths if len(path.parts) == 2 and path.parts[0] not in left_out]
    weights = [path for path in parts if path.suffix == ".safetensors"]
    plain = {path.parts[0] for path in weights if not is_variant(path.name)}
    chosen = [p for p in weights if (not is_variant(p.name) if p.parts[0] in plain else ".fp16." in p.name)]
    settings = [path for path in parts if path.suffix in (".json", ".txt")]
    return ["model_index.json", "sdkit.json", *(path.as_posix() for path in [*settings, *chosen])]
