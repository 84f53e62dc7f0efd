"""Answers to denoiser calls at the start of a run, kept for the other cells that run alike so far."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from eval.running.flight import RowKey

if TYPE_CHECKING:
    from torch import Tensor

KEPT_BYTES = 2**30
"""What answers may take of the device's memory; the oldest go first, and are asked for again."""


class Answers:
    """What is known, for all engines of a process. Safe for threads."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.saved = 0
        """Rows that were not asked for again."""
        self._known: OrderedDict[RowKey, Tensor] = OrderedDict()
        self._bytes, self._most, self._lock = 0, kept_bytes, threading.Lock()

    def get(self, key: RowKey) -> Tensor | None:
        """(C, h, w), or None where nobody knows yet."""
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
                self.saved += 1
            return found

    def put(self, key: RowKey, answer: Tensor) -> None:
        with self._lock:
            if key in self._known:  # two engines asked at the same time
                return
            self._known[key] = answer
            self._bytes += answer.nbytes
            while self._bytes > self._most:
                self._bytes -= self._known.popitem(last=False)[1].nbytes


class FirstCalls:
    """Rows of one engine by what they depend on: known, or under way in some flight of it."""

    def __init__(self, answers: Answers | None = None) -> None:
        self.answers = Answers() if answers is None else answers
        self._under_way: set[RowKey] = set()

    def get(self, key: RowKey) -> Tensor | None:
        """(C, h, w), or None where nobody knows yet."""
        return self.answers.get(key)

    def claim(self, key: RowKey) -> bool:
        """True where the caller must ask; False where another flight already does."""
        if key in self._under_way:
            return False
        self._under_way.add(key)
        return True

    def put(self, key: RowKey, answer: Tensor) -> None:
        self._under_way.discard(key)
        self.answers.put(key, answer)

    def release(self, keys: Iterable[RowKey]) -> None:
        """Let others claim these: who asked has given up."""
        self._under_way.difference_update(keys)
