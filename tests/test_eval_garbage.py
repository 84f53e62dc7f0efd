"""The collector of cycles over a run."""

from __future__ import annotations

import gc

import pytest

from eval.running.garbage import settle, uncollected


@pytest.mark.parametrize("enabled", [True, False])
def test_a_run_leaves_the_collector_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    if not enabled:
        gc.disable()
    try:
        with uncollected():
            assert not gc.isenabled()
            settle()
            assert gc.isenabled()
            assert gc.get_freeze_count() > 0
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() == 0
    finally:
        if before:
            gc.enable()


def test_what_is_made_after_settling_is_collected() -> None:
    with uncollected():
        settle()
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1
