"""Pictures made small for the page: as bytes inside it, or as files beside the report."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from eval.records import digest
from eval.reporting.picture_files import CellFiles, Film
from eval.running.atomic import make_folder, write_atomic

SMALL_PX = 128
"""Pictures up to this side are embedded byte for byte, and shown with hard pixels."""
SMALL_BYTES = 16_384
"""Larger files are reduced, so that the page stays below 8 MB whatever the model draws."""
ORIGINAL_PX = 256
"""Pictures up to this side are shown from their own file; larger ones have thumbnails."""
THUMBNAIL_PX = 192


def embedded(file: Path, side: int = THUMBNAIL_PX) -> str | None:
    """The picture as a `data:` address: its own bytes where it is small, else reduced; None where it is none."""
    from PIL import Image

    try:
        payload = file.read_bytes()
        with Image.open(io.BytesIO(payload)) as picture:
            if picture.format == "PNG" and max(picture.size) <= SMALL_PX and len(payload) <= SMALL_BYTES:
                picture.verify()
                return _uri(payload, "png")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small = reduced(payload, (side, side))
    return None if small is None else _uri(small, "jpeg")


def embedded_below(folder: Path, path: str) -> str | None:
    """`embedded` of the picture at `path` below `folder`; None where the path leads out of it."""
    file = (folder / path).resolve()
    return embedded(file) if file.is_relative_to(folder.resolve()) else None


def embedded_strip(file: Path, film: Film) -> str | None:
    """A filmstrip as a `data:` address, its frames at most a thumbnail high; None where it is no picture."""
    high = min(film.height_px, SMALL_PX)
    try:
        payload = file.read_bytes()
    except OSError:
        return None
    small = reduced(payload, (high * 4 * len(film.steps), high))
    return None if small is None else _uri(small, "jpeg")


def reduced(payload: bytes, box: tuple[int, int]) -> bytes | None:
    """The picture as a JPEG that fits into `box` (width, height); None where it is no picture."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(payload)) as picture:
            small = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail(box, Image.Resampling.LANCZOS, reducing_gap=3)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=82)
    return buffer.getvalue()


def thumbnail(files: CellFiles, index: int, folder: Path) -> str | None:
    """Address of a small copy of a picture, below `folder`, written where it is not there yet.

    None where the picture cannot be read. Raises RunFolderError where the copy cannot be written.
    """
    place = f"thumbnails/{digest([str(files.home), files.own_key])[:16]}"
    target, source = folder / place / f"{index:05d}.jpg", files.picture(index)
    if not target.resolve().is_relative_to(folder.resolve()):
        return None
    try:
        if not (target.exists() and target.stat().st_mtime >= source.stat().st_mtime):
            small = reduced(source.read_bytes(), (THUMBNAIL_PX, THUMBNAIL_PX))
            if small is None:
                return None
            make_folder(target.parent)
            write_atomic(target, small, sync_folder=False)
    except OSError:
        return None
    return f"{place}/{index:05d}.jpg"


def _uri(payload: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(payload).decode('ascii')}"
