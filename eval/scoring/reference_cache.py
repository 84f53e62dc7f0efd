"""What is kept of a reference between runs: its files' hashes, its moments and its features, by content.

A folder holds `hashes/` (which file had which contents), `moments/` (.npz) and `features/` (.npy). Everything in it
may be deleted at any time, and is whole or absent: written under another name, then renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from eval.hashing import file_sha256
from eval.records import digest
from eval.scoring.moments import Array, Moments
from sdkit._errors import InvalidRequest

FORMAT_VERSION = 1
"""Of every file in the cache; one of another version is made anew."""
RACY_NS = 2_000_000_000
"""A file changed this shortly before it was hashed may change again within the same time stamp, whose step is 2 s at
most (FAT); its hash is not kept. Source: git's "racy" index entries."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Kept:
    """What the cache has of one reference and encoder. Both None: nothing."""

    moments: Moments | None = None
    features: Array | None = None
    """(N, D) float32, mapped read-only."""
    damaged: str | None = None
    """Why something that lies there is of no use."""


@dataclass(frozen=True)
class ReferenceCache:
    """A folder of kept things, which is made when the first is kept."""

    folder: Path

    @classmethod
    def at(cls, folder: str | Path | None = None) -> ReferenceCache:
        """The cache in `folder`.

        None is $SDKIT_EVAL_CACHE, else $XDG_CACHE_HOME/sdkit-eval, else ~/.cache/sdkit-eval.
        """
        if folder is None:
            base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
            folder = os.environ.get("SDKIT_EVAL_CACHE") or f"{base}/sdkit-eval"
        return cls(Path(folder).expanduser().absolute())

    def hashes(
        self, files: Sequence[Path], *, on_hashed: Callable[[int], object] | None = None
    ) -> tuple[str | None, ...]:
        """SHA-256 of each file's contents, None for one that cannot be read; files unchanged are not opened.

        A file is unchanged when path, size, both times, and inode are as they were when it was hashed.
        """
        places = [str(file.absolute()) for file in files]
        index = self.folder / "hashes" / f"{digest(places)}.json"
        known, found, changed = _read_index(index), [], False
        for place in places:
            entry = _unchanged(place, known.get(place))
            if entry is None:
                entry, lasting = _hash_file(place)
                changed |= known.pop(place, None) is not None or lasting
                if lasting and entry is not None:
                    known[place] = entry
            found.append(None if entry is None else str(entry[-1]))
            if on_hashed is not None:
                on_hashed(1)
        if changed:
            body = {"version": FORMAT_VERSION, "files": known}
            with self.writing(index) as file:
                file.write(json.dumps({**body, "sha256": digest(body)}).encode())
        return tuple(found)

    def text(self, name: str, compute: Callable[[], str]) -> str:
        """What `compute` gave when it was first asked under this name."""
        path = self.folder / "hashes" / f"{digest(name)}.json"
        known = _read_index(path)
        if name not in known:
            body = {"version": FORMAT_VERSION, "files": {name: [compute()]}}
            with self.writing(path) as file:
                file.write(json.dumps({**body, "sha256": digest(body)}).encode())
            known = body["files"]  # type: ignore[assignment]
        return str(known[name][-1])

    def find(self, key: str, *, features: bool) -> Kept:
        """What is kept under `key`, checked by its checksums; with `features`, moments come only along with them."""
        path = self._moments_path(key)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                found = {name: held[name] for name in held.files}
        except FileNotFoundError:
            return Kept()
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            return Kept(damaged=f"{path} was damaged ({type(error).__name__})")
        if int(found.get("version", np.array(0))) != FORMAT_VERSION:
            return Kept(damaged=f"{path} was of another format version")
        try:
            if str(found["sha256"]) != _checksum(found) or str(found["key"]) != key:
                return Kept(damaged=f"{path} was damaged (its checksum does not fit)")
            kept = Moments(int(found["n"]), found["mean"], found["covariance"])
            held_features = str(found["features_sha256"])
        except KeyError as error:
            return Kept(damaged=f"{path} was damaged (it has no {error})")
        if not features:
            return Kept(kept)
        return self._with_features(kept, held_features)

    def keep(self, key: str, moments: Moments, features_sha256: str = "") -> None:
        """Keep moments, and that the features of this hash belong to them."""
        assert moments.n is not None  # they come from rows, which were counted
        arrays: dict[str, Array] = {
            "version": np.array(FORMAT_VERSION),
            "n": np.array(moments.n),
            "mean": moments.mean,
            "covariance": moments.covariance,
            "key": np.array(key),
            "features_sha256": np.array(features_sha256),
        }
        arrays["sha256"] = np.array(_checksum(arrays))
        with self.writing(self._moments_path(key)) as file:
            np.savez(file, allow_pickle=False, **arrays)

    def keep_features(self, temporary: Path) -> str:
        """Take over a whole .npy, and return its hash."""
        content = file_sha256(temporary)
        temporary.replace(self._features_path(content))
        return content

    def features(self, content: str) -> Array:
        """Features (N, D) float32 of the hash that `keep_features` gave, mapped read-only."""
        mapped: Array = np.load(self._features_path(content), mmap_mode="r", allow_pickle=False)
        return mapped

    def temporary(self, room: str) -> Path:
        """A path that nobody else uses, in a room of the cache, which is made. Raises InvalidRequest."""
        try:
            (self.folder / room).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.refusal(error) from error
        return self.folder / room / f".{uuid.uuid4().hex}.tmp"

    @contextmanager
    def writing(self, path: Path) -> Iterator[IO[bytes]]:
        """A file that appears at `path` when it is whole. Raises InvalidRequest where the system refuses."""
        temporary = self.temporary(path.parent.name)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise self.refusal(error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def refusal(self, error: OSError) -> InvalidRequest:
        """The system's refusal in one line with a remedy."""
        return InvalidRequest(
            f"reference.cache must be a folder that can be written to, got {self.folder} "
            f"({error.strerror or error}); give reference.cache=FOLDER or set SDKIT_EVAL_CACHE"
        )

    def _with_features(self, kept: Moments, content: str) -> Kept:
        if not content:
            return Kept()
        path = self._features_path(content)
        try:
            whole = file_sha256(path) == content
        except FileNotFoundError:
            return Kept()
        except OSError as error:
            return Kept(damaged=f"{path} cannot be read ({error.strerror})")
        if not whole:
            return Kept(damaged=f"{path} was damaged (its checksum does not fit)")
        return Kept(kept, self.features(content))

    def _moments_path(self, key: str) -> Path:
        return self.folder / "moments" / f"{digest(key)}.npz"

    def _features_path(self, content: str) -> Path:
        return self.folder / "features" / f"{content}.npy"


def _read_index(path: Path) -> dict[str, list[Any]]:
    """Place -> size, mtime, ctime, inode, hash; empty where the file is absent, damaged or of another version."""
    try:
        held = json.loads(path.read_bytes())
        checksum = held.pop("sha256")
        if held["version"] == FORMAT_VERSION and digest(held) == checksum:
            return dict(held["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # the index saves reading only: without it every file is hashed again
    return {}


def _unchanged(place: str, entry: list[Any] | None) -> list[Any] | None:
    if entry is None:
        return None
    try:
        return entry if _stamp(os.stat(place)) == entry[:-1] else None  # noqa: PTH116
    except OSError:
        return None


def _hash_file(place: str) -> tuple[list[Any] | None, bool]:
    """The file's entry, and whether its time stamps are old enough to tell the next change."""
    began = time.time_ns()
    try:
        with Path(place).open("rb") as file:
            before = os.fstat(file.fileno())
            content = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
    except OSError:
        return None, False
    settled = max(after.st_ctime_ns, after.st_mtime_ns) < began - RACY_NS
    return [*_stamp(after), content], settled and _stamp(before) == _stamp(after)


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _checksum(arrays: dict[str, Array]) -> str:
    """Over every array but the checksum itself, with its name, type and shape."""
    seen = hashlib.sha256()
    for name in sorted(arrays.keys() - {"sha256"}):
        array = np.ascontiguousarray(arrays[name])
        seen.update(f"{name} {array.dtype.str} {arrays[name].shape}".encode())
        seen.update(array.tobytes())
    return seen.hexdigest()
