"""Ctrl-C and SIGTERM: the batch at hand is finished and written; a second one stops at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from sdkit._errors import SdkitError


class Stopped(SdkitError):
    """A signal asked the run to end; everything that was finished is on disk."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


@dataclass
class Stop:
    """Whether somebody asked to stop."""

    signum: int | None = field(default=None)

    def check(self) -> None:
        """Raises Stopped where somebody did."""
        if self.signum is not None:
            raise Stopped(self.signum)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a request; outside the main thread, where none arrive, do nothing."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.signum is not None:
            raise KeyboardInterrupt
        stop.signum = signum
        sys.stderr.write("\nfinishing the batch at hand; once more stops at once\n")

    before = {signum: signal.signal(signum, ask) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
