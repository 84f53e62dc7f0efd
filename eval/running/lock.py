"""One writer a run's folder: a lock that dies with its process."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from eval.running.atomic import RunFolderError, refusal

NAME = "run.lock"


@contextmanager
def sole_writer(root: Path) -> Iterator[None]:
    """Hold the folder for this process; the system lets go when it ends, however it ends.

    The file stays: to remove it would let two processes hold two files of one name. Where the file system
    or the platform knows no locks, nothing is held.

    Raises:
        RunFolderError: another process holds it, or the file cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = root / NAME
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise refusal(path, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
                raise RunFolderError(
                    f"run folder {root} is being written by {holder}; wait for it, or choose another with out=FOLDER"
                ) from None
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
                raise refusal(path, error) from error
        else:
            started = datetime.now().astimezone().isoformat(timespec="seconds")
            os.ftruncate(handle, 0)
            os.pwrite(
                handle, f"process {os.getpid()} on {socket.gethostname()} since {started}\n".encode(), 0
            )
        yield
    finally:
        os.close(handle)
