"""Small matrices on one thread: on several, BLAS spends its time waiting for them, most of all on a busy machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

SMALL_WIDTH = 256
"""Up to this width of features one thread is faster; 64 take 5 ms a cell instead of up to 60. On several, every product
keeps the other cores busy for milliseconds after it, waiting for the next."""


@contextmanager
def threads_for(width: int) -> Iterator[None]:
    """Hold BLAS to one thread where matrices are (width, width) and small."""
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
            if self._depth == 0:
                self._limits = _libraries().limit(limits=1)
                _let_go()
            self._depth += 1

    def leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._limits.restore_original_limits()
                self._limits = None
                _let_go()


@cache
def _libraries() -> Any:
    """Numpy's BLAS and scipy's; looked for once, which takes longer than a cell's products."""
    import scipy.linalg  # noqa: F401  # or its BLAS is not there yet
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _let_go() -> None:
    """Let another thread set OpenBLAS next: threadpoolctl, from 3.8 on, heeds the first that did while it lives."""
    from threadpoolctl import OpenBLASController

    let_go = getattr(OpenBLASController, "clear_controlling_thread", None)
    if let_go is not None:
        let_go()


_one = _One()
