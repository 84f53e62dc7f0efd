"""The collector of cycles, kept from walking over and over what imports leave, which lives as long as the process."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no cycles before `settle` is called; once it is left, all is as it was.

    torch and diffusers come with 600,000 objects. To walk them takes half a second: several times while they are
    imported, and then whenever a measurement of memory begins.
    """
    gc.collect()  # of an earlier run in this process; in a new one there is little to walk
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
        else:
            gc.disable()


def settle() -> None:
    """Collect cycles again, of what is made from here on: what is there now stays."""
    gc.freeze()
    gc.enable()
