"""`cell.json`: a cell's result with what it was computed under, the hashes of its other files and its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.records import SCHEMA_VERSION, Cell, CellResult, digest
from eval.running.atomic import RunFolderError
from eval.running.serial import decode, encode


@dataclass(frozen=True)
class Envelope:
    """One cell.json, checked."""

    setup: str
    """Digest of what decides scores and costs beside the pixels."""
    files: dict[str, str]
    """Name within the cell's folder -> SHA-256 of the file; the pictures' are in the batches' records."""
    result: CellResult

    def serves(self, cell: Cell, setup: str) -> bool:
        """Whether it is the cell's own, without error, computed under this setup."""
        return self.setup == setup and self.result.error is None and self.result.cell == cell


def pack_envelope(envelope: Envelope) -> bytes:
    """The file's contents."""
    stored = json.loads(encode(replace(envelope.result, reused=False)))
    body = {
        "schema_version": SCHEMA_VERSION, "setup": envelope.setup, "files": envelope.files, "result": stored,
    }  # fmt: skip
    return to_json(body | {"sha256": digest(body)})


def read_envelope(path: Path) -> Envelope:
    """The envelope in the file, of this schema or an earlier one that it can be made from.

    Raises:
        RunFolderError: it cannot be read, is torn or was changed, or another version wrote it.
    """
    body = parse(path)
    version = body.get("schema_version") if isinstance(body, dict) else None
    if isinstance(body, dict) and version in UPGRADES:
        body = UPGRADES[version](body)
    elif not isinstance(body, dict) or version != SCHEMA_VERSION:
        raise RunFolderError(
            f"{path} has schema {version}, this version reads {SCHEMA_VERSION}; run the sweep again"
        )
    elif body.pop("sha256", None) != digest(body):
        raise RunFolderError(f"{path} is not as it was written; run the sweep again")
    try:
        return Envelope(str(body["setup"]), dict(body["files"]), decode(CellResult, body["result"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path}: {error}; run the sweep again") from error


def _from_2(body: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 2 hashed nothing, and had fewer measurements; its features lie in a file that `load_features` reads."""
    result = dict(body.get("result") or {})
    timing, memory = result.pop("timing", None), result.pop("memory", None)
    result["measured"] = None if timing is None else {"timing": timing, "memory": memory}
    return {"setup": body.get("setup"), "files": {}, "result": result}


UPGRADES: dict[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {2: _from_2}
"""Schema version -> how its envelope becomes one of today's."""


def parse(path: Path) -> object:
    """The file's JSON. Raises RunFolderError where it cannot be read or is torn."""
    return parse_json(read_bytes(path), path)


def parse_json(payload: bytes, path: Path) -> object:
    """The contents of `path` as JSON. Raises RunFolderError where they are torn."""
    try:
        return json.loads(payload)
    except ValueError as error:
        raise RunFolderError(f"{path} is not whole JSON ({error}); run the sweep again") from error


def read_bytes(path: Path) -> bytes:
    """The file's contents. Raises RunFolderError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read ({error.strerror}); is this a run's folder?") from error


def to_json(value: object) -> bytes:
    """Indented UTF-8; NaN and infinity are refused."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
