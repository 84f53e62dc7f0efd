"""Pickles that are allowed by name, read by torch's weights-only reader, which runs no code in them."""

from __future__ import annotations

import re
from pathlib import Path

from sdkit._errors import ModelCorrupt, UnsafeModel, first_line

PICKLES = (".ckpt", ".pt", ".pth", ".bin")


def read_pickle(file: Path, name: str, *, device: str = "cpu", allow_pickle: bool) -> object:
    """What the file holds: the reader builds tensors and plain values, and calls nothing else.

    Args:
        name: what the file is called in messages, such as "model file a.ckpt".
        device: "meta" for names and shapes alone, "cpu" for the weights.
    Raises:
        UnsafeModel: pickles are not allowed, or this one would run code.
        ModelCorrupt: cut short, or something else altogether.
    """
    if not allow_pickle:
        raise UnsafeModel(
            f"{name} is a pickle, which can run code when it is read; use a .safetensors file, or"
            " allow_pickle=True to read its tensors and run nothing"
        )
    import pickle

    import torch

    if why := other_than_weights(file, pickled=True):
        raise ModelCorrupt(f"{name} is {why}")
    # Only torch's zip files can be mapped instead of read.
    zipped = _first_bytes(file).startswith(b"PK")
    try:
        content: object = torch.load(file, map_location=device, weights_only=True, mmap=zipped)
        return content
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        raise UnsafeModel(
            f"{name} asks for {asked[1] if asked else 'more than tensors'}, which could run code,"
            " and is refused; use a .safetensors file"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise ModelCorrupt(f"{name} is not whole ({first_line(error)}); download it anew") from error


def _first_bytes(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(64)


def other_than_weights(file: Path, *, pickled: bool = False) -> str:
    """What the first bytes show the file to be, with a remedy; "" when they look as they should."""
    start = _first_bytes(file)
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer; run git lfs pull"
    if start.lstrip().startswith(b"<"):
        return "a web page and no weights; download it anew, perhaps with a login or a token"
    if start.startswith((b"PK", b"\x80")):
        return "" if pickled else "a pickle by another name; rename it to .ckpt and see allow_pickle="
    return "no file of torch; download it anew" if pickled else ""
