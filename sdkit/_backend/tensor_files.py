"""Tensors of an adapter's file (a LoRA, an embedding), read so that no code in it can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdkit._errors import ModelCorrupt, ModelNotFound, first_line
from sdkit._pickles import read_pickle

SAFE_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class TensorFile:
    """What an adapter's file holds."""

    name: str
    """What it is called in messages: `LoRA style.safetensors`."""
    tensors: Mapping[str, Tensor]
    """On the CPU; the keys of nested pickles are joined by dots."""
    notes: Mapping[str, str]
    """The header's metadata, or a pickle's strings."""


def read_tensors(path: Path, name: str, *, allow_pickle: bool) -> TensorFile:
    """The file's tensors.

    Args:
        name: what the file is called in messages.
        allow_pickle: also read pickles, by torch's restricted reader, which builds tensors and nothing else.

    Raises:
        ModelNotFound: no such file.
        UnsafeModel: a pickle, and those are not allowed; or one that would run code.
        ModelCorrupt: cut short, or something else altogether.
    """
    if not path.is_file():
        raise ModelNotFound(
            f"{name} must be a file, and {path} is {'a folder' if path.is_dir() else 'missing'}"
        )
    if path.suffix.lower() == SAFE_SUFFIX:
        return _read_safetensors(path, name)
    return _read_pickle(path, name, allow_pickle=allow_pickle)


def _read_safetensors(path: Path, name: str) -> TensorFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            # Cloned, for they are views of the mapped file, which may be replaced while the model lives.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            return TensorFile(name, tensors, dict(file.metadata() or {}))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelCorrupt(f"{name} cannot be read ({first_line(error)}); copy {path} anew") from error


def _read_pickle(path: Path, name: str, *, allow_pickle: bool) -> TensorFile:
    content = read_pickle(path, name, allow_pickle=allow_pickle)
    leaves = dict(_leaves({"": content} if isinstance(content, Tensor) else content))
    return TensorFile(
        name,
        {key: leaf.detach() for key, leaf in leaves.items() if isinstance(leaf, Tensor)},
        {key: leaf for key, leaf in leaves.items() if isinstance(leaf, str)},
    )


def _leaves(content: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors and strings of nested dicts; trainers' `state_dict` level is left out of the keys."""
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        joined = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from _leaves(value, "" if joined == "state_dict" else joined)
        elif isinstance(value, (Tensor, str)):
            yield joined, value
        elif isinstance(value, float | int):  # some trainers' alpha
            yield joined, torch.tensor(value)
