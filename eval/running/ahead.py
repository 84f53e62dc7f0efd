"""First calls that are asked while the scorer is still made ready, on cores that would wait."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from eval.running.engine import Engine
from eval.running.flight import Asked
from sdkit._errors import NotLinear

_SHARE = 2
"""Of the cores one part in so many. The caller has the others: on all of them its
own work took 2.8 times as long as alone, so 1.6 times."""


@contextmanager
def asking_ahead(engine: Engine, batches: Iterable[Asked]) -> Iterator[None]:
    """Make the batches' common calls, in their order, in a thread beside the caller until that leaves.

    The answers are what `engine` and its twins then know. Nothing else comes of it: what fails here fails again, and is
    told, when its batch is made.
    """
    import torch

    left = threading.Event()
    whole = torch.get_num_threads()
    share = max(1, whole // _SHARE)

    def ask() -> None:
        torch.set_num_threads(share)  # of this thread
        own = engine.twin()
        for each in batches:
            if left.is_set() or not _asked(own, each, left):
                return

    thread = threading.Thread(target=ask, name="ahead", daemon=True)
    torch.set_num_threads(max(1, whole - share))
    thread.start()
    try:
        yield
    finally:
        torch.set_num_threads(whole)
        left.set()
        thread.join()


def _asked(engine: Engine, batch: Asked, left: threading.Event) -> bool:
    """False where the denoiser failed, for whatever reason."""
    try:
        engine.learn(batch, left.is_set)
    except NotLinear:  # it goes the plain path, when its turn comes
        return True
    except Exception:
        return False
    return True
