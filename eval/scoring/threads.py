"""Small matrices on one thread: on several, BLAS spends its time waiting for them, most of all on a busy machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SMALL_WIDTH = 256
"""Up to this width of features one thread is faster; 64 take 5 ms a cell instead of up to 60."""


@contextmanager
def threads_for(width: int) -> Iterator[None]:
    """Hold BLAS to one thread where matrices are (width, width) and small, and threadpoolctl is there to do so."""
    if width > SMALL_WIDTH:
        yield
        return
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # scikit-learn brings it; without it the numbers are the same, and slower
        yield
        return
    with threadpool_limits(1, user_api="blas"):
        yield
