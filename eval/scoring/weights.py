"""Where a CLIP's weights lie: the bundled folder, the user's own, or a tag that open_clip can download."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.hashing import file_sha256
from eval.scoring.activations import PLAIN, QUICK, require_activation, wrong_activation
from eval.scoring.weight_files import first_line, refuse_torchscript
from sdkit._errors import HubUnreachable, InvalidRequest, ModelNotFound

SHAPES = "shapes"
HUB = "hf-hub:"
_PREFERRED = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
_CONFIG = "open_clip_config.json"
_DECIDING = (
    _CONFIG,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
"""What of a folder decides features beside its weights: heads, activation, normalising, tokens."""


@dataclass(frozen=True)
class ClipSource:
    """Where an encoder's weights lie: open_clip's model name, its `pretrained`, and the weights file."""

    label: str
    model_name: str
    pretrained: str | None
    weights: Path
    settings: str | None = None
    """Of a folder: the hash of its config and tokenizer; open_clip's own come with its version."""


def locate(spec: str) -> ClipSource:
    """Find an encoder's weights, downloading them if open_clip or the hub knows them. Raises as `load_clip`."""
    if spec.startswith(HUB):
        return _in_folder(spec, _from_hub(spec))
    folder = bundled_scorer() if spec == SHAPES else Path(spec).expanduser()
    if spec == SHAPES or (folder / _CONFIG).is_file():
        return _in_folder(spec if spec == SHAPES else folder.name, folder)
    stated, _, weights = spec.partition("/")
    architecture = stated.removesuffix(PLAIN)
    if stated.endswith(QUICK + PLAIN):
        raise InvalidRequest(f"metrics.clip must name one activation, {QUICK} or {PLAIN}, got {spec!r}")
    require_architecture(f"{architecture}/{weights}" if weights else architecture)
    file = Path(weights).expanduser()
    if file.is_file():
        refuse_torchscript(f"scorer {architecture}/{file.name}", file)
        require_activation(architecture, file, plain=stated.endswith(PLAIN))
        return ClipSource(f"{architecture}/{file.name}", architecture, str(file), file)
    return ClipSource(f"{architecture}/{weights}", architecture, weights, _download(architecture, weights))


def require_architecture(spec: str) -> None:
    """Check that the spec's first half is an architecture of open_clip and its second is given.

    Raises:
        InvalidRequest: it is not, with the nearest that is.
    """
    import open_clip

    architecture, slash, weights = spec.partition("/")
    known = open_clip.list_models()
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, n=3, cutoff=0.4)
        raise InvalidRequest(
            f"metrics.clip must be shapes, a folder with {_CONFIG}, or ARCHITECTURE/TAG, got {spec!r}; "
            f"nearest architectures: {', '.join(near) or 'none'}"
        )
    if not slash or not weights:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture))
        raise InvalidRequest(
            f"metrics.clip must name weights after {architecture}/, got {spec!r}; tags: {tags}"
        )


def bundled_scorer() -> Path:
    """Folder of the scorer that ships with the project."""
    import sdkit.shapes

    return Path(sdkit.shapes.__file__).parent / "weights" / "scorer"


def _from_hub(spec: str) -> Path:
    """The config, tokenizer and safetensors of a hub repository, and nothing that would be unpickled or run."""
    import huggingface_hub

    repository, _, revision = spec.removeprefix(HUB).partition("@")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                repository, revision=revision or None, allow_patterns=["*.json", "*.txt", "*.safetensors"]
            )
        )
    except Exception as error:  # the hub's own errors, requests' and OSError
        raise HubUnreachable(
            f"scorer {spec} is not on this machine and cannot be downloaded: {first_line(error)}; connect, log in "
            "where it is gated, or give a local folder with metrics.clip=FOLDER"
        ) from error


def _in_folder(label: str, folder: Path) -> ClipSource:
    """A folder that `open_clip.push_to_hf_hub` would have written."""
    if not (folder / _CONFIG).is_file():
        raise ModelNotFound(f"scorer {label!r} must be a folder with {_CONFIG}, got {folder}; there is none")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelNotFound(f"scorer {label!r} has no .safetensors weights in {folder}")
    preferred = [folder / name for name in _PREFERRED if folder / name in weights]  # open_clip's own order
    return ClipSource(label, f"local-dir:{folder}", None, (preferred or weights)[0], _settings(folder))


def _settings(folder: Path) -> str:
    """Eight hex digits over the names and contents of the files in `_DECIDING` that are there."""
    found = {name: file_sha256(folder / name) for name in _DECIDING if (folder / name).is_file()}
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:8]


def _download(architecture: str, tag: str) -> Path:
    import open_clip

    config = open_clip.get_pretrained_cfg(architecture, tag)
    if not config:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture))
        raise InvalidRequest(
            f"metrics.clip must end in a weights file or one of {tags or 'no tag'}, got {tag!r}"
        )
    if bool(config.get("quick_gelu")) != bool(
        (open_clip.get_model_config(architecture) or {}).get("quick_gelu")
    ):
        raise wrong_activation(f"{architecture}/{tag}")
    fetch: Callable[[dict[str, Any]], str] = open_clip.download_pretrained
    try:
        return Path(fetch(config))
    except Exception as error:  # urllib, huggingface_hub and OSError all come through
        raise HubUnreachable(
            f"scorer {architecture}/{tag} is not on this machine and cannot be downloaded: "
            f"{first_line(error)}; connect, or give a local file with metrics.clip={architecture}/FILE"
        ) from error
