"""Where a CLIP's weights lie: the bundled folder, the user's own, or a tag that open_clip can download."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdkit._errors import HubUnreachable, InvalidRequest, ModelError, ModelNotFound

SHAPES = "shapes"
_PREFERRED = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
_CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class ClipSource:
    """Where an encoder's weights lie: open_clip's model name, its `pretrained`, and the weights file."""

    label: str
    model_name: str
    pretrained: str | None
    weights: Path


def locate(spec: str) -> ClipSource:
    """Find an encoder's weights, downloading them if open_clip knows their tag. Raises as `load_clip`."""
    folder = bundled_scorer() if spec == SHAPES else Path(spec).expanduser()
    if spec == SHAPES or (folder / _CONFIG).is_file():
        return _in_folder(spec if spec == SHAPES else folder.name, folder)
    architecture, _, weights = spec.partition("/")
    require_architecture(spec)
    file = Path(weights).expanduser()
    if file.is_file():
        _refuse_plain_gelu(architecture, file)
        return ClipSource(f"{architecture}/{file.name}", architecture, str(file), file)
    return ClipSource(spec, architecture, weights, _download(architecture, weights))


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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type's name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _in_folder(label: str, folder: Path) -> ClipSource:
    """A folder that `open_clip.push_to_hf_hub` would have written."""
    if not (folder / _CONFIG).is_file():
        raise ModelNotFound(f"scorer {label!r} must be a folder with {_CONFIG}, got {folder}; there is none")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelNotFound(f"scorer {label!r} has no .safetensors weights in {folder}")
    preferred = [folder / name for name in _PREFERRED if folder / name in weights]  # open_clip's own order
    return ClipSource(label, f"local-dir:{folder}", None, (preferred or weights)[0])


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


def _refuse_plain_gelu(architecture: str, file: Path) -> None:
    """open_clip says nothing when OpenAI's weights come as a file; their own name is the only sign."""
    if "openai" in str(file).lower() and "quickgelu" not in architecture:
        raise wrong_activation(f"{architecture}/{file.name}")


def wrong_activation(label: str) -> ModelError:
    """The refusal of weights under an architecture whose activation they were not trained with."""
    plain = label.partition("/")[0].removesuffix("-quickgelu")
    return ModelError(
        f"scorer {label!r} pairs weights with an activation they were not trained with; "
        f"use {plain}-quickgelu for OpenAI's weights, {plain} for others"
    )
