"""The scorer made ready beside the model: who waits for whom, and what becomes of errors."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
import torch

from eval.running.beside import OnCount, ScorerThread
from eval.scoring.references import Reference
from eval.scoring.scorer import Scorer
from sdkit._errors import InvalidRequest

REFERENCE, SCORER = cast(Reference, object()), cast(Scorer, object())


def opened(on_hashed: OnCount) -> Reference:
    on_hashed(512)
    return REFERENCE


def made(reference: Reference | None, on_batch: OnCount) -> Scorer:
    assert reference is REFERENCE
    on_batch(64)
    return SCORER


def test_the_scorer_is_made_of_the_reference_that_was_opened() -> None:
    with ScorerThread(opened, made) as thread:
        assert thread.scorer() is SCORER


def test_the_caller_goes_on_once_the_first_pictures_are_encoded_and_not_before() -> None:
    seen: list[str] = []
    go_on = threading.Event()

    def slow(reference: Reference | None, on_batch: OnCount) -> Scorer:
        seen.append("imported")
        on_batch(64)
        go_on.wait(60)
        return made(reference, on_batch)

    with ScorerThread(opened, slow) as thread:
        assert seen == ["imported"]
        go_on.set()
        assert thread.scorer() is SCORER


@pytest.mark.parametrize("broken", ["reference", "scorer"])
def test_what_goes_wrong_in_the_thread_is_raised_where_the_scorer_is_asked_for(broken: str) -> None:
    def fails(*_: Any) -> Any:
        raise InvalidRequest("no such pictures")

    functions: Any = (fails, made) if broken == "reference" else (opened, fails)
    with ScorerThread(*functions) as thread, pytest.raises(InvalidRequest, match="no such pictures"):
        thread.scorer()


def test_a_caller_that_fails_ends_the_thread_at_its_next_batch() -> None:
    ended, failed = threading.Event(), threading.Event()

    def endless(reference: Reference | None, on_batch: OnCount) -> Scorer:
        try:
            on_batch(64)
            failed.wait(60)
            while True:
                on_batch(64)
        finally:
            ended.set()

    def read_model() -> None:
        failed.set()
        raise InvalidRequest("no such model")

    with pytest.raises(InvalidRequest, match="no such model"), ScorerThread(opened, endless):
        read_model()
    assert ended.wait(60)


def test_the_thread_leaves_a_core_until_it_is_waited_for_and_the_caller_keeps_its_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    counts: list[int] = []
    go_on = threading.Event()

    def counted(reference: Reference | None, on_batch: OnCount) -> Scorer:
        on_batch(64)
        counts.append(torch.get_num_threads())
        go_on.wait(60)
        on_batch(64)
        counts.append(torch.get_num_threads())
        return SCORER

    try:
        with ScorerThread(opened, counted) as thread:
            assert torch.get_num_threads() == 3
            monkeypatch.setattr(thread._alone, "set", _then(thread._alone.set, go_on.set))
            thread.scorer()
        assert counts == [2, 3]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def _then(*calls: Any) -> Any:
    return lambda: [call() for call in calls]
