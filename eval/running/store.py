"""A run's folder: what is written where, and what of it is whole. `loading.py` reads a run back.

    plan.json  config.yaml  environment.json  grid.json (the cells' keys, in order)  reference-<extractor>.npz
    run.log  run.lock  racing.json  quarantine/  converged/<digest>.npz
    cells/<key>/cell.json  images.json  batches/000000-000064.<hash>.npz  images/00000.png ...  film/ (films.py)

A batch is whole when its record is there, which is written after its pictures and holds their hashes. A cell is
whole when its `cell.json` is there, which is written last and holds the hashes of the other files and its own. So
whatever is torn, changed or of another cell is found; it goes to quarantine/, and only what it held is done again.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.hashing import file_sha256, sha256
from eval.records import Cell, CellResult, ImageRow, Plan
from eval.running.atomic import (
    TEMPORARY,
    RunFolderError,
    discard_temporaries,
    make_folder,
    probe,
    refusal,
    write_atomic,
    write_together,
)
from eval.running.batch_file import BatchRecord, pack, unpack
from eval.running.envelope import (
    Envelope,
    pack_envelope,
    parse,
    read_envelope,
    to_json,
)
from eval.running.lock import NAME as LOCK
from eval.running.serial import encode
from eval.scoring.moments import Moments
from eval.scoring.moments_file import write_moments
from sdkit._errors import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
Report = Callable[[str], None]

VERIFIED_PICTURES = 20_000
"""A whole cell's pictures are hashed again, before it is reused, while a run has at most so many."""


def _silent(line: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes one run's folder; every write is atomic."""

    root: Path
    report: Report = field(default=_silent, compare=False)
    """Is told, in a sentence, what was found broken and what became of it."""

    def prepare(self) -> None:
        """Make the folder and try it. Raises RunFolderError before any work is done."""
        probe(self.root)

    def tidy(self) -> None:
        """Remove what killed writes left. Only for the folder's sole writer."""
        if left := discard_temporaries(self.root):
            self.report(f"removed {left} unfinished files of an interrupted run")

    def discard_if_empty(self) -> None:
        """Take back what `prepare` made, when nothing came of it."""
        with contextlib.suppress(OSError):  # it is not empty: an earlier run's cells stay
            if {path.name for path in self.root.iterdir()} <= {LOCK}:
                (self.root / LOCK).unlink(missing_ok=True)
            self.root.rmdir()

    def write_head(
        self, plan: Plan, config_yaml: str, environment: Mapping[str, str], cells: Sequence[Cell]
    ) -> None:
        """Write what is known before the first cell."""
        write_atomic(self.root / "plan.json", encode(plan))
        write_atomic(self.root / "config.yaml", config_yaml.encode())
        write_atomic(self.root / "environment.json", to_json(dict(environment)))
        write_atomic(self.root / "grid.json", to_json([cell.key for cell in cells]))

    def cell_folder(self, key: str) -> Path:
        return self.root / "cells" / key

    def image_path(self, key: str, index: int) -> str:
        """Where picture `index` lies, relative to the run's folder."""
        return f"cells/{key}/images/{_image_name(index)}"

    def open_cell(self, cell: Cell) -> None:
        """Make the cell's folders."""
        for name in ("images", "batches"):
            make_folder(self.cell_folder(cell.key) / name)

    def write_batch(self, cell: Cell, record: BatchRecord, pixels: Tensor) -> BatchRecord:
        """Write pictures (N, 3, H, W) uint8 as PNGs, then their record, which makes the batch whole.

        Returns:
            The record with the pictures' hashes.
        """
        hashes: list[str] = []

        def files() -> Iterator[tuple[str, bytes]]:
            for index, picture in enumerate(pixels.permute(0, 2, 3, 1).numpy(), record.start):
                payload = _png(picture)
                hashes.append(sha256(payload))
                yield _image_name(index), payload

        write_together(self.cell_folder(cell.key) / "images", files())
        return self.write_record(cell, replace(record, pictures=tuple(hashes)))

    def write_record(self, cell: Cell, record: BatchRecord) -> BatchRecord:
        """Write a batch's record, and remove others of the same pictures."""
        name, payload = pack(record)
        folder = self.cell_folder(cell.key) / "batches"
        write_atomic(folder / name, payload)
        for other in folder.glob(f"{record.start:06d}-*.npz"):
            if other.name != name:
                other.unlink(missing_ok=True)
        return record

    def read_batches(self, cell: Cell) -> tuple[BatchRecord, ...]:
        """The cell's whole batches, in order, none overlapping another; what is not whole is put away."""
        found: list[BatchRecord] = []
        for path in self._records(cell):
            record = self._whole(cell, path)
            if record is not None and found and record.start < found[-1].stop:
                path.unlink(missing_ok=True)
            elif record is not None:
                found.append(record)
        return tuple(found)

    def peek_batches(self, cell: Cell) -> tuple[BatchRecord, ...]:
        """As `read_batches`, and nothing is put away or removed."""
        found: list[BatchRecord] = []
        for path in self._records(cell):
            record = self._checked(cell, path)
            if isinstance(record, BatchRecord) and (not found or record.start >= found[-1].stop):
                found.append(record)
        return tuple(found)

    def read_batch(self, cell: Cell, start: int, stop: int) -> BatchRecord | None:
        """The record of these pictures, if it and they are whole."""
        paths = sorted((self.cell_folder(cell.key) / "batches").glob(f"{start:06d}-{stop:06d}.*.npz"))
        found = [self._whole(cell, path) for path in paths]
        return next((record for record in found if record is not None), None)

    def take_up_earlier(self, cell: Cell, batch: int) -> None:
        """Give whole pictures of schema 2, which wrote no records, records that say nobody has looked at them."""
        folder = self.cell_folder(cell.key)
        if any((folder / "batches").glob("*.npz")) or not _is_schema_2(folder / "cell.json"):
            return
        self.open_cell(cell)
        for start in range(0, cell.count, batch):
            stop = min(start + batch, cell.count)
            if self.read_images(cell, start, stop) is not None:
                paths = [self.root / self.image_path(cell.key, index) for index in range(start, stop)]
                hashes = tuple(file_sha256(path) for path in paths)
                self.write_record(cell, BatchRecord(start, stop, hashes, "", None, None))
        self.report(f"{cell.label}: pictures of an earlier version are kept, and looked at again")

    def read_images(self, cell: Cell, start: int, stop: int) -> Tensor | None:
        """Pictures start..stop - 1 as (N, 3, H, W) uint8; None unless all are there and whole."""
        import torch

        paths = [self.root / self.image_path(cell.key, index) for index in range(start, stop)]
        if not all(path.is_file() for path in paths):
            return None
        pictures = [_unpng(path) for path in paths]
        shape = (cell.height, cell.width, 3)
        if any(picture is None or picture.shape != shape for picture in pictures):
            return None
        return torch.from_numpy(np.stack([each for each in pictures if each is not None])).permute(0, 3, 1, 2)

    def write_cell(self, result: CellResult, rows: Sequence[ImageRow], setup: str) -> None:
        """Write a cell, `cell.json` last. `setup` is the digest of what decides more than the pixels."""
        folder = self.cell_folder(result.cell.key)
        payload = encode(tuple(rows))
        write_atomic(folder / "images.json", payload)
        files = {"images.json": sha256(payload)}
        for path in sorted((folder / "batches").glob("*.npz")):
            files[f"batches/{path.name}"] = file_sha256(path)
        write_atomic(folder / "cell.json", pack_envelope(Envelope(setup, files, result)))
        (folder / "features.npz").unlink(missing_ok=True)  # of schema 2: the batches hold them now

    def read_cell(self, cell: Cell, setup: str, *, pictures: bool = False) -> CellResult | None:
        """The cell's result if it is whole, without error and scored the same way; else None.

        Args:
            pictures: hash every picture and record as well, not only the result and its rows.
        """
        path = self.cell_folder(cell.key) / "cell.json"
        if not path.is_file():
            return None
        try:
            found = read_envelope(path)
        except RunFolderError as error:
            self._put_away(cell, path, str(error))
            return None
        if not found.serves(cell, setup):
            return None
        if not found.files:  # of schema 2, which hashed nothing
            return None
        for name, expected in found.files.items():
            if name.startswith("batches/") and not pictures:
                continue
            if not _holds(path.parent / name, expected):
                self._put_away(cell, path.parent / name, "it is missing or not as it was written")
                return None
        if pictures and sum(record.stop - record.start for record in self.read_batches(cell)) != cell.count:
            return None
        return replace(found.result, reused=True)

    def is_whole(self, cell: Cell, envelope: Envelope) -> bool:
        """Whether every file of the cell is as it was written. Changes nothing."""
        folder = self.cell_folder(cell.key)
        if not all(_holds(folder / name, expected) for name, expected in envelope.files.items()):
            return False
        return sum(record.stop - record.start for record in self.peek_batches(cell)) == cell.count

    def write_reference(self, extractor: str, moments: Moments) -> None:
        """Keep the reference's moments, as one extractor sees it, beside the run: differences of FID need them."""
        try:
            write_moments(self.root / f"reference-{extractor}.npz", moments, style="sdkit")
        except InvalidRequest as error:
            raise RunFolderError(str(error)) from error

    def _records(self, cell: Cell) -> list[Path]:
        """Files that should be the cell's records, in order."""
        found = sorted((self.cell_folder(cell.key) / "batches").glob("*"))
        return [path for path in found if not path.name.endswith(TEMPORARY)]

    def _checked(self, cell: Cell, path: Path) -> BatchRecord | tuple[Path, str]:
        """The record in the file; else which file is not as it was written, and why. Changes nothing."""
        try:
            record = unpack(path)
        except (OSError, ValueError) as error:
            return path, str(error)
        for offset, expected in enumerate(record.pictures):
            picture = self.root / self.image_path(cell.key, record.start + offset)
            if not _holds(picture, expected):
                return picture, "it is missing or not the picture that was written"
        return record

    def _whole(self, cell: Cell, path: Path) -> BatchRecord | None:
        """The record in the file; None, and it is out of the way, unless it and its pictures are as written."""
        found = self._checked(cell, path)
        if isinstance(found, BatchRecord):
            return found
        self._put_away(cell, *found)
        path.unlink(missing_ok=True)
        return None

    def _put_away(self, cell: Cell, path: Path, why: str) -> None:
        """Move a file that cannot be trusted out of the way, under a name that says whose it was."""
        folder = self.root / "quarantine"
        make_folder(folder)
        number = 1 + sum(1 for _ in folder.iterdir())
        try:
            if path.exists():
                path.replace(folder / f"{number:04d}-{cell.key}-{path.name}")
        except OSError as error:
            raise refusal(path, error) from error
        self.report(f"{cell.label}: {path.name} put into quarantine/, its part is done again: {why}")


def _holds(path: Path, expected: str) -> bool:
    """Whether the file is there with these contents."""
    try:
        return file_sha256(path) == expected
    except OSError:
        return False


def _is_schema_2(path: Path) -> bool:
    try:
        body = parse(path)
    except RunFolderError:
        return False
    return isinstance(body, dict) and body.get("schema_version") == 2


def _image_name(index: int) -> str:
    return f"{index:05d}.png"


def _png(picture: Array) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    # Runs alone: of a sweep's pictures 18 % fewer bytes than by matches at this level, in nine tenths of the time,
    # which is a third of that of Pillow's own level.
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def _unpng(path: Path) -> Array | None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError):  # Pillow says SyntaxError for some broken PNGs
        return None
