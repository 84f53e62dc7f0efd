"""Files that are whole or absent: temporary name, fsync, rename, fsync of the folder; refusals in one line."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from sdkit._errors import SdkitError

TEMPORARY = ".tmp"
"""How the name of a file ends that is being written."""


class RunFolderError(SdkitError):
    """The run's folder cannot be written or read: no permission, no space, or contents of another version."""


class RunFolderGaveOut(RunFolderError):
    """The folder could be written at first and no longer; what was whole by then is kept."""


def write_atomic(path: Path, payload: bytes, *, sync_folder: bool = True) -> None:
    """Put `payload` at `path`; a reader sees the old file or the new one, never a part, also after a power cut.

    Args:
        sync_folder: False leaves the name itself to a later `sync` of its folder, once for many files.

    Raises:
        RunFolderError: the system refused.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        _discard(temporary)
        raise refusal(path, error) from error
    if sync_folder:
        sync(path.parent)


def write_together(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Put each payload under its name in `folder`, as `write_atomic` does.

    All of them are on the disk before the first has its name.

    Raises:
        RunFolderError: the system refused; none or some of the names are there.
    """
    written: dict[Path, Path] = {}
    """Temporary path -> its own."""
    path = folder
    try:
        for name, payload in files:
            path = folder / name
            temporary = _temporary(path)
            written[temporary] = path
            temporary.write_bytes(payload)
        # An error tells of `path`.
        for temporary, path in written.items():  # noqa: B007
            _sync_file(temporary)
        for temporary, path in written.items():
            temporary.replace(path)
    except OSError as error:
        for temporary in written:
            _discard(temporary)
        raise refusal(path, error) from error
    sync(folder)


def _temporary(path: Path) -> Path:
    """Where this thread writes what will be at `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{TEMPORARY}")


def _sync_file(path: Path) -> None:
    """Make the file's contents survive a power cut."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync(folder: Path) -> None:
    """Make the names in `folder` survive a power cut. Raises RunFolderError where the system refuses."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folder, and needs no such call
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise refusal(folder, error) from error
    finally:
        os.close(handle)


def discard_temporaries(root: Path) -> int:
    """Remove what writes that were killed left below `root`; how many. Only for who alone writes there."""
    found = list(root.rglob(f".*{TEMPORARY}"))
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            _discard(path)
    return len(found)


def make_folder(path: Path) -> None:
    """Make `path` and its parents.

    Raises:
        RunFolderError: the system refused, or a file stands in the way.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(path, error) from error


def probe(folder: Path) -> None:
    """Make `folder` and write a file into it, so that a refusal comes before hours of work.

    Raises:
        RunFolderError: it cannot be made or written to.
    """
    make_folder(folder)
    target = folder / ".probe"
    write_atomic(target, b"x" * 4096)
    _discard(target)


def require_space(folder: Path, needed_bytes: int) -> None:
    """Check that about `needed_bytes` more fit on the disk of `folder`.

    Raises:
        RunFolderError: less is free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise RunFolderError(
            f"run folder {folder} needs about {needed_bytes / 1e9:.2f} GB, got {free / 1e9:.2f} GB free; "
            "free some space or choose another disk with out=FOLDER"
        )


def refusal(path: Path, error: OSError) -> RunFolderError:
    """The system's refusal to touch `path`, in one line with a remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunFolderError(
            f"no space left to write {path}; free some, or choose another disk with out=FOLDER"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RunFolderError(f"no permission to write {path}; choose another folder with out=FOLDER")
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return RunFolderError(f"run folder {path} is in the way of a file; choose another with out=FOLDER")
    return RunFolderError(
        f"cannot use {path}: {error.strerror or error}; choose another folder with out=FOLDER"
    )


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # pragma: no cover - what could not be written may not be removable either
        return
