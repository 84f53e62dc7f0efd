"""SHA-256 of contents and files, and file names that hold the hash of what they name."""

from __future__ import annotations

import hashlib
from pathlib import Path

NAMED = 16
"""Hex digits of a hash that stand in a file's name."""


def sha256(payload: bytes) -> str:
    """In hex."""
    return hashlib.sha256(payload).hexdigest()


def file_sha256(path: Path) -> str:
    """Of a file's bytes, in hex, in constant memory. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def named(stem: str, payload: bytes, suffix: str) -> str:
    """`stem.<hash>suffix`: a name that tells whether the file is whole."""
    return f"{stem}.{sha256(payload)[:NAMED]}{suffix}"


def read_named(path: Path) -> bytes:
    """Contents of a file that `named` has named.

    Raises:
        ValueError: they are not those that were written.
        OSError: it cannot be read.
    """
    payload = path.read_bytes()
    stem, _, rest = path.name.rpartition(".")[0].rpartition(".")
    if path.name != named(stem, payload, path.suffix) or not rest:
        raise ValueError("its contents are not those that were written")
    return payload
