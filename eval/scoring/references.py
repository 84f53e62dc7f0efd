"""The pictures that FID and its relatives compare with: known by content, read in batches, encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from eval.identity import EncoderKey
from eval.records import ReferencePlan, digest
from eval.scoring.moments import Array, Moments, RunningMoments
from eval.scoring.reference_cache import FORMAT_VERSION, ReferenceCache
from eval.scoring.reference_files import KINDS as KINDS
from eval.scoring.reference_files import check_reference as check_reference
from eval.scoring.reference_files import check_words, reference_moments, refuse_any
from eval.scoring.reference_files import reference_files as reference_files
from eval.scoring.reference_pictures import Batch, drawing, drawn, hash_drawn, read
from sdkit._errors import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 64
"""Pictures handed to an encoder together, which may cut them smaller."""


class ImageEncoder(Protocol):
    """What is needed of an encoder."""

    @property
    def key(self) -> EncoderKey: ...
    @property
    def width(self) -> int: ...
    def images(self, pixels: Tensor, /) -> Array: ...


@dataclass(frozen=True)
class Reference:
    """A reference known by content, of which nothing is held but its files' names and hashes."""

    key: str
    """What it is, how many pictures, and the hash of contents and crop policy; for `ScoreKey.reference`."""
    count: int
    """Pictures that `batches` gives; 0 for moments, whose own number is `moments.n`."""
    plan: ReferencePlan
    files: tuple[Path, ...] = ()
    hashes: tuple[str, ...] = ()
    """SHA-256 of each file's contents."""
    moments: Moments | None = None
    """For the kind "moments" only."""

    def batches(self, size: int) -> Iterator[Tensor]:
        """The pictures (n, 3, H, W) uint8, n <= `size`, each once, in an order that `size` alone decides.

        Raises:
            InvalidRequest: after everything was read, naming the pictures that could not be.
        """
        return (batch.pixels for batch in self.numbered(size))

    def numbered(self, size: int) -> Iterator[Batch]:
        """As `batches`, with each picture's place in the reference."""
        if self.plan.kind == "shapes":
            return drawn(self.count, size, self.plan.crop)
        return read(self.files, self.hashes, size, self.plan.crop)


@dataclass(frozen=True)
class ReferenceFeatures:
    """One encoder's view of a reference."""

    moments: Moments
    features: Array | None
    """(N, D) float32 in the reference's order, mapped read-only; None for moments, or where not asked for."""
    key: str
    notes: tuple[str, ...] = ()
    """What the cache had and was of no use, each a sentence; it was computed again."""


def open_reference(
    plan: ReferencePlan, *, on_hashed: Callable[[int], object] | None = None
) -> Reference | None:
    """The reference that the plan names, known by its contents; None for the kind "none".

    Args:
        on_hashed: called with the number of pictures whose contents became known since the last call.

    Raises:
        InvalidRequest: as `check_reference`, or files that cannot be read.
    """
    check_words(plan)
    if plan.kind == "none":
        return None
    if plan.kind == "moments":
        return _of_moments(plan)
    cache = ReferenceCache.at(plan.cache)
    if plan.kind == "shapes":
        content = cache.text(drawing(plan.count), lambda: hash_drawn(plan.count, on_hashed))
        held = f"{plan.count} fresh renders of held-out scenes, one object and two in turn"
        return Reference(_key(held, plan, content), plan.count, plan)
    files = reference_files(plan)
    found = cache.hashes(files, on_hashed=on_hashed)
    hashes = tuple(each for each in found if each is not None)
    lost = [file for file, each in zip(files, found, strict=True) if each is None]
    refuse_any(lost, f"of {len(files)} cannot be read")
    return Reference(_key(f"{len(files)} pictures", plan, digest(hashes)), len(files), plan, files, hashes)


def reference_features(
    reference: Reference,
    encoder: ImageEncoder,
    *,
    features: bool,
    on_batch: Callable[[int], object] | None = None,
    cache: ReferenceCache | None = None,
) -> ReferenceFeatures:
    """The reference as the encoder sees it: kept from before, or by one pass in memory that N does not change.

    Args:
        features: also each picture's, not only their moments.
        on_batch: called with the number of pictures done since the last call.
        cache: where it is kept; None is the plan's, or the user's.

    Raises:
        InvalidRequest: pictures that cannot be used, moments of another width, or a cache that cannot be written.
    """
    if reference.moments is not None:
        return _given(reference, reference.moments, encoder)
    cache = cache or ReferenceCache.at(reference.plan.cache)
    key = digest([FORMAT_VERSION, reference.key, list(reference.hashes), asdict(encoder.key)])
    kept = cache.find(key, features=features)
    notes = (f"{kept.damaged}; computed again",) if kept.damaged else ()
    if kept.moments is not None:
        if on_batch is not None:
            on_batch(reference.count)
        return ReferenceFeatures(kept.moments, kept.features, reference.key)
    if not features:
        running = RunningMoments(encoder.width)
        for _, rows in _encoded(reference, encoder, on_batch):
            running.add(rows)
        found = running.finish()
        cache.keep(key, found)
        return ReferenceFeatures(found, None, reference.key, notes)
    found, content = _write_features(reference, encoder, cache, on_batch)
    cache.keep(key, found, content)
    return ReferenceFeatures(found, cache.features(content), reference.key, notes)


def _encoded(
    reference: Reference, encoder: ImageEncoder, on_batch: Callable[[int], object] | None
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Which pictures, and their features (n, D) float32."""
    for batch in reference.numbered(BATCH):
        yield batch.rows, np.ascontiguousarray(encoder.images(batch.pixels), np.float32)
        if on_batch is not None:
            on_batch(len(batch.rows))


def _write_features(
    reference: Reference,
    encoder: ImageEncoder,
    cache: ReferenceCache,
    on_batch: Callable[[int], object] | None,
) -> tuple[Moments, str]:
    """The moments, and the hash of the kept .npy. Rows are written, not mapped: mapped pages count as memory."""
    running = RunningMoments(encoder.width)
    header = {
        "descr": "<f4",
        "fortran_order": False,
        "shape": (reference.count, encoder.width),
    }
    temporary = cache.temporary("features")
    try:
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            start = file.tell()
            for rows, features in _encoded(reference, encoder, on_batch):
                running.add(features)
                for row, values in zip(rows, features, strict=True):
                    file.seek(start + 4 * row * encoder.width)
                    file.write(values.astype("<f4").tobytes())
        return running.finish(), cache.keep_features(temporary)
    except OSError as error:
        raise cache.refusal(error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _of_moments(plan: ReferencePlan) -> Reference:
    found = reference_moments(plan)
    held = f"moments of {'an unknown number of' if found.n is None else found.n} pictures"
    content = hashlib.sha256(found.mean.tobytes())
    content.update(found.covariance.tobytes())
    return Reference(_key(held, plan, content.hexdigest()), 0, plan, moments=found)


def _given(reference: Reference, moments: Moments, encoder: ImageEncoder) -> ReferenceFeatures:
    if moments.width != encoder.width:
        raise InvalidRequest(
            f"moments of {reference.plan.path} must have {encoder.width} features for {encoder.key.name}, "
            f"got {moments.width}; they are another encoder's"
        )
    return ReferenceFeatures(moments, None, reference.key)


def _key(held: str, plan: ReferencePlan, content: str) -> str:
    crop = "" if plan.crop == "none" else f", crop {plan.crop}"
    return f"{held}{crop}, sha256:{digest([content, plan.crop])[:16]}"
