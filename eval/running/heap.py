"""What a batch's tensors give back the next batch takes; glibc would hand it back, and fault each page anew."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

# mallopt(3), malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_NEVER_BYTES = 2**31 - 4096
_PAD_BYTES = 2**26
_MAPPED_BYTES = (2**30, 2**25)
"""Above this a block is the system's own; older glibc takes 32 MiB at most."""


def keep_freed() -> bool:
    """Have this process's allocator keep what is freed, for all threads in one heap; False where it is not glibc's.

    Numbers do not change. A process's resident memory stays near its peak, until `give_back`.
    """
    libc = _glibc()
    if libc is None:
        return False
    asked = ((_TRIM_THRESHOLD, _NEVER_BYTES), (_TOP_PAD, _PAD_BYTES), (_ARENA_MAX, 1))
    kept = [libc.mallopt(name, value) == 1 for name, value in asked]
    return all(kept) and any(libc.mallopt(_MMAP_THRESHOLD, value) == 1 for value in _MAPPED_BYTES)


def give_back() -> None:
    """Hand what is free to the system, so that the resident size tells what is in use."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """The C library, where it is one that has these."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "malloc_trim") else None
