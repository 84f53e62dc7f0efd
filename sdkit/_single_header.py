"""Names, shapes and metadata of one file, read so that no code in it can run. No torch here.

Only a pickle that is allowed by name needs torch, and then its weights-only reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdkit._errors import ModelCorrupt, ModelNotFound, first_line
from sdkit._pickles import PICKLES, other_than_weights, read_pickle


@dataclass(frozen=True)
class Header:
    """Names and shapes of all tensors of a file, and the notes beside them."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def read_header(file: Path, *, allow_pickle: bool = False) -> Header:
    """Names and shapes of the file's tensors, and its metadata; raises as `detect` does."""
    if not file.is_file():
        raise ModelNotFound(f"model file {file} {'is a folder' if file.exists() else 'does not exist'}")
    if file.suffix.lower() in PICKLES:
        tensors = read_pickled(file, device="meta", allow_pickle=allow_pickle)
        return Header({name: tuple(value.shape) for name, value in tensors.items()}, {})
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
            return Header(shapes, dict(opened.metadata() or {}))
    except (SafetensorError, OSError) as error:
        why = other_than_weights(file) or f"not whole ({first_line(error)}); copy or download it anew"
        raise ModelCorrupt(f"model file {file} is {why}") from error


def read_pickled(file: Path, *, device: str, allow_pickle: bool) -> dict[str, Any]:
    """Name -> tensor of a checkpoint that is a pickle; raises as `read_pickle` does."""
    return _flat(read_pickle(file, f"model file {file}", device=device, allow_pickle=allow_pickle))


def _flat(content: object, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """The tensors of nested dicts, names joined by dots; the level `state_dict` is left out."""
    flat: dict[str, Any] = {}
    if isinstance(content, Mapping) and depth < 4:
        for key, value in content.items():
            name = f"{prefix}{key}"
            if hasattr(value, "shape"):
                flat[name] = value
            else:
                flat |= _flat(value, "" if name == "state_dict" else f"{name}.", depth + 1)
    return flat
