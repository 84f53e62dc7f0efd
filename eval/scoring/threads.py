"""Small matrices on one thread: on several, BLAS spends its time waiting for them, most of all on a busy machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SMALL_WIDTH = 256
"""Up to this width of features one thread is faster; 64 take 5 ms a cell instead of up to 60."""


@contextmanager
def threads_for(width: int) -> Iterator[None]:
    """Hold BLAS to one thread where matrices are (width, width) and small, and threadpoolctl is there to do so."""
    if width > SMALL_WIDTH:
        yield
        return
    _one.enter()
    try:
        yield
    finally:
        _one.leave()


class _One:
    """BLAS at one thread while anybody wants it so; the last one to leave puts back what was."""

    def __init__(self) -> None:
        self._lock, self._depth = threading.Lock(), 0
        self._limits: Any = None

    def enter(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth > 1:
                return
            try:
                from threadpoolctl import threadpool_limits
            except ImportError:  # scikit-learn brings it; without it the numbers are the same, and slower
                return
            self._limits = threadpool_limits(1, user_api="blas")

    def leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


_one = _One()
