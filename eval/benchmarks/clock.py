"""Where the seconds of a process go: to the innermost of the labelled calls that each of its threads is in."""

from __future__ import annotations

import builtins
import functools
import importlib
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

REST = "the rest"
IMPORTS = "imports"
WAITING = "waiting"
"""For other threads, which are at work or are not."""


def find(place: str) -> tuple[Any, str] | None:
    """What holds a function or method, a module or a class, and its name there; None where there is none.

    Args:
        place: as `Clock.wrap` takes it.
    """
    module, _, path = place.partition(":")
    *holders, name = path.split(".")
    try:
        holder = functools.reduce(getattr, holders, importlib.import_module(module))
    except (ImportError, AttributeError):
        return None
    return (holder, name) if hasattr(holder, name) else None


class _Place(NamedTuple):
    """What is to be clocked."""

    label: str
    place: str
    on_device: bool

    @property
    def loaded(self) -> bool:
        """Whether its module is imported as far as that. Imports nothing, and waits for no import."""
        module, _, path = self.place.partition(":")
        try:
            functools.reduce(getattr, path.split("."), sys.modules[module])
        except (KeyError, AttributeError):
            return False
        return True


class Clock:
    """Charges every moment to the threads that are at work in it, in equal parts.

    The thread that makes the clock is at work but under `WAITING`; others are while they are in a labelled call.

    Args:
        models: the labels of models.

    Attributes:
        seconds: label -> seconds inside calls of that label, less those of labelled calls within them.
        quiet_s: seconds in which no thread was in a model.
        missing: places that were to be clocked and are not there.
    """

    def __init__(self, models: Collection[str] = ()) -> None:
        self.seconds: dict[str, float] = {}
        self.quiet_s = 0.0
        self.missing: list[str] = []
        self._models, self._lock = frozenset(models), threading.Lock()
        self._labels: dict[int, list[str]] = {threading.get_ident(): [REST]}
        """Thread -> the labelled calls that it is in."""
        self._since = time.perf_counter()
        self._gpu: list[tuple[str, Any, Any]] = []
        self._awaited: list[_Place] = []

    @contextmanager
    def under(self, label: str) -> Iterator[None]:
        """Charge what this thread does within to `label`."""
        thread = threading.get_ident()
        with self._lock:
            self._charge()
            self._labels.setdefault(thread, []).append(label)
        try:
            yield
        finally:
            with self._lock:
                self._charge()
                self._labels[thread].pop()

    def wrap(self, label: str, place: str, *, on_device: bool = False) -> None:
        """Clock every call of a function or method from now on.

        Args:
            place: "package.module:name" or "package.module:Class.name", the name as its callers look it up; one
                that is not there is noted in `missing`.
            on_device: on a GPU, also measure by events, for the call returns before its work is done.
        """
        found = find(place)
        if found is None:
            self.missing.append(place)
            return
        holder, name = found
        setattr(holder, name, self._clocked(label, getattr(holder, name), on_device))

    def await_import(self, label: str, place: str, *, on_device: bool = False) -> None:
        """As `wrap`, once the program imports the module by itself: so its imports stay where and when they are.

        Needs `watch_imports`. What was never imported is in `missing` when the clock is stopped.
        """
        self._awaited.append(_Place(label, place, on_device))

    def watch_imports(self) -> None:
        """Charge imports, also those in the middle of a function, to `IMPORTS`."""
        builtins.__import__ = self._watched(builtins.__import__)
        importlib.import_module = self._watched(importlib.import_module)

    def gpu_seconds(self) -> dict[str, float] | None:
        """Label -> seconds that the GPU took for the calls; None where none ran on one."""
        if not self._gpu:
            return None
        import torch

        torch.cuda.synchronize()
        found: dict[str, float] = {}
        for label, begun, ended in self._gpu:
            found[label] = found.get(label, 0.0) + begun.elapsed_time(ended) / 1000
        return found

    def stop(self) -> dict[str, float]:
        """Charge what is under way; the seconds by label, which add up to all since the clock was made."""
        with self._lock:
            self._charge()
        self.missing += [each.place for each in self._awaited]
        self._awaited.clear()
        return self.seconds

    def _charge(self) -> None:
        now = time.perf_counter()
        passed, self._since = now - self._since, now
        labels = [own[-1] for own in self._labels.values() if own and own[-1] != WAITING] or [WAITING]
        for label in labels:
            self.seconds[label] = self.seconds.get(label, 0.0) + passed / len(labels)
        if self._models.isdisjoint(labels):
            self.quiet_s += passed

    def _watched(self, load: Callable[..., Any]) -> Callable[..., Any]:
        clocked = self._clocked(IMPORTS, load, False)

        @functools.wraps(load)
        def watched(name: str, *arguments: Any, **options: Any) -> Any:
            if name in sys.modules:  # as mostly: inside functions that are called over and over
                return load(name, *arguments, **options)
            found = clocked(name, *arguments, **options)
            self._wrap_loaded()
            return found

        return watched

    def _wrap_loaded(self) -> None:
        with self._lock:  # held for no import: who waits for it may hold that import's own lock
            loaded = [each for each in self._awaited if each.loaded]
            self._awaited = [each for each in self._awaited if each not in loaded]
        for each in loaded:
            self.wrap(each.label, each.place, on_device=each.on_device)

    def _clocked(self, label: str, call: Callable[..., Any], on_device: bool) -> Callable[..., Any]:
        @functools.wraps(call)
        def clocked(*arguments: Any, **options: Any) -> Any:
            with self.under(label):
                if not on_device or not (events := self._events()):
                    return call(*arguments, **options)
                events[0].record()
                result = call(*arguments, **options)
                events[1].record()
                self._gpu.append((label, *events))
                return result

        return clocked

    @staticmethod
    def _events() -> tuple[Any, Any] | None:
        """Two events on the current stream; None without a GPU, and while a graph is captured."""
        import torch

        cuda: Any = torch.cuda
        if not cuda.is_initialized() or cuda.is_current_stream_capturing():
            return None
        return cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
