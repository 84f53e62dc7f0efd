"""One batch of a cell on disk: what was seen in its pictures, with their hashes; its name holds its own.

    000000-000064.0123456789abcdef.npz

An .npz that numpy reads: `meta`, which is JSON, and arrays by what they are of: `feature/<extractor>`,
`value/<metric>`, `clip_image`, `latents`.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.hashing import named, read_named
from eval.scoring.cell_scores import Seen

Array = np.ndarray[Any, np.dtype[Any]]

_NAME = re.compile(r"(\d{6,})-(\d{6,})\.[0-9a-f]{16}\.npz")


@dataclass(frozen=True)
class BatchRecord:
    """Pictures `start`..`stop - 1` of a cell: whole on disk, and looked at."""

    start: int
    stop: int
    pictures: tuple[str, ...]
    """SHA-256 of each PNG file."""
    look: str
    """`Scorer.digest` of who looked; what another saw counts for nothing."""
    generate_s: float | None
    """Wall seconds of making them; None where that was not measured."""
    seen: Seen | None
    """None where nobody has looked yet."""
    latents: Array | None = None
    """(K, C, h, w) float32 of the first K pictures, where they are measured against a converged run."""

    @property
    def span(self) -> tuple[int, int]:
        return self.start, self.stop


def pack(record: BatchRecord) -> tuple[str, bytes]:
    """The record's file name and contents."""
    arrays: dict[str, Array] = {}
    meta: dict[str, object] = {
        "pictures": record.pictures, "look": record.look, "generate_s": record.generate_s,
        "seen": record.seen is not None,
    }  # fmt: skip
    if record.latents is not None:
        arrays["latents"] = record.latents
    if record.seen is not None:
        meta |= _pack_seen(record.seen, arrays)
    arrays["meta"] = np.frombuffer(json.dumps(meta, allow_nan=False).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's own `allow_pickle` shares the keywords
    payload = buffer.getvalue()
    return named(f"{record.start:06d}-{record.stop:06d}", payload, ".npz"), payload


def unpack(path: Path) -> BatchRecord:
    """The record in the file.

    Raises:
        ValueError: the contents are not those that the name promises, or are no record.
        OSError: it cannot be read.
    """
    span = _NAME.fullmatch(path.name)
    if span is None:
        raise ValueError("its name is no batch's")
    payload = read_named(path)
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
            arrays = dict(stored)
        meta = json.loads(arrays.pop("meta").tobytes())
        latents = arrays.pop("latents", None)
        return BatchRecord(
            int(span[1]),
            int(span[2]),
            tuple(meta["pictures"]),
            meta["look"],
            meta["generate_s"],
            _unpack_seen(meta, arrays) if meta["seen"] else None,
            latents,
        )
    except (KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"it is no batch's record ({error})") from error


def _pack_seen(seen: Seen, arrays: dict[str, Array]) -> dict[str, object]:
    """Fill `arrays`; features that are the scorer's own picture embedding are named, not written twice."""
    arrays["clip_image"] = seen.clip_image
    same = [name for name, rows in seen.features.items() if rows is seen.clip_image]
    arrays |= {f"feature/{name}": rows for name, rows in seen.features.items() if name not in same}
    arrays |= {f"value/{name}": values for name, values in seen.values.items()}
    # The order of names is that of columns, which an archive does not promise to keep.
    names = {"features": list(seen.features), "same": same, "values": list(seen.values)}
    return {**names, "verdicts": seen.verdicts}


def _unpack_seen(meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> Seen:
    clip_image = arrays["clip_image"]
    features = {
        name: clip_image if name in meta["same"] else arrays[f"feature/{name}"] for name in meta["features"]
    }
    verdicts = None if meta["verdicts"] is None else tuple(meta["verdicts"])
    return Seen(features, {name: arrays[f"value/{name}"] for name in meta["values"]}, verdicts, clip_image)
