"""Peak resident memory of this process over a stretch of work."""

from __future__ import annotations

import contextlib
import gc
import threading
from pathlib import Path
from types import TracebackType

from eval.running.heap import give_back

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_PEAK = "5"
"""What resets the peak, since Linux 4.0: proc(5)."""
_PAUSE_S = 0.002


class ResidentPeak:
    """Context: `peak_bytes` is, once it is left, the largest resident size within; None with a `reason`.

    Linux keeps the peak itself and starts it anew when asked to. Where it is not there or refuses, a thread looks every
    two milliseconds, and may miss what was held for less.
    """

    def __init__(self) -> None:
        self.peak_bytes: int | None = None
        self.reason: str | None = "the pass did not end"
        self._sampler: _Sampler | None = None

    def __enter__(self) -> ResidentPeak:
        gc.collect()
        give_back()
        if not _reset():
            self._sampler = _Sampler()
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.peak_bytes = _kept_peak() if self._sampler is None else self._sampler.stop()
        self.reason = "the system does not tell resident memory" if self.peak_bytes is None else None


class _Sampler(threading.Thread):
    """Looks at the resident size until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._done = threading.Event()
        self._peak: int | None = None

    def run(self) -> None:
        while True:
            now = _resident()
            if now is None:
                return
            self._peak = max(self._peak or 0, now)
            if self._done.wait(_PAUSE_S):
                return

    def stop(self) -> int | None:
        self._done.set()
        self.join()
        return self._peak


def _reset() -> bool:
    try:
        _CLEAR.write_text(_PEAK)
    except OSError:
        return False
    return _kept_peak() is not None


def _kept_peak() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _resident() -> int | None:
    import psutil

    try:
        return int(psutil.Process().memory_info().rss)
    except psutil.Error:
        return None
