"""The scorer made ready in a thread, while the calling one reads the model: on a CPU, which has cores for both.

Two threads must not import from the same packages at once: each might be given a module that the other has half run.
So the caller imports open_clip while the reference is opened, which imports nothing, and is then held until the
first pictures of the reference are encoded: from there on the thread has all modules that it needs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType

from eval.scoring.references import Reference
from eval.scoring.scorer import Scorer

OnCount = Callable[[int], object]
"""Is told how many pictures were done since the last call."""
_ENDS_S = 5.0
"""How long a thread that nobody waits for is given to notice."""


class _Abandoned(BaseException):
    """The caller has failed; nobody wants the scorer."""


class ScorerThread:
    """Context: the scorer is under way within, and the caller is free to import and to read the model.

    Of torch's threads one is left to the caller, until `scorer` is asked for. What goes wrong is raised there.

    Args:
        open_reference: imports nothing beyond torch.
        make_scorer: is given the reference; calls back after each batch of its pictures.
    """

    def __init__(
        self,
        open_reference: Callable[[OnCount], Reference | None],
        make_scorer: Callable[[Reference | None, OnCount], Scorer],
    ) -> None:
        self._open_reference, self._make_scorer = open_reference, make_scorer
        self._imported, self._begun = threading.Event(), threading.Event()
        self._alone, self._abandoned = threading.Event(), threading.Event()
        self._found: Future[Scorer] = Future()
        self._thread = threading.Thread(target=self._work, name="scorer", daemon=True)
        self._threads = 1

    def __enter__(self) -> ScorerThread:
        import torch

        self._threads = torch.get_num_threads()
        self._thread.start()
        try:
            import open_clip  # noqa: F401

            self._imported.set()
            self._begun.wait()
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon()

    def scorer(self) -> Scorer:
        """The scorer, which may take all cores from now on. Raises as both functions do."""
        self._alone.set()
        return self._found.result()

    def _abandon(self) -> None:
        self._abandoned.set()
        self._imported.set()
        self._thread.join(_ENDS_S)

    def _work(self) -> None:
        import torch

        torch.set_num_threads(max(1, self._threads - 1))  # of this thread; the caller keeps its own
        try:
            reference = self._open_reference(self._counted)
            self._imported.wait()
            self._counted(0)
            self._found.set_result(self._make_scorer(reference, self._encoded))
        except BaseException as error:
            self._found.set_exception(error)
        finally:
            torch.set_num_threads(self._threads)  # what later threads start with
            self._begun.set()

    def _counted(self, count: int) -> None:
        del count
        if self._abandoned.is_set():
            raise _Abandoned

    def _encoded(self, count: int) -> None:
        import torch

        self._counted(count)
        self._begun.set()
        if self._alone.is_set():
            torch.set_num_threads(self._threads)
