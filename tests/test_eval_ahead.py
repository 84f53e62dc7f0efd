"""First calls asked while the scorer is made ready: the run finds them answered, and nobody sees them fail."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_bench import plan
from fake_flights import FakeDenoiser, FlyingGenerator
from test_eval_engine import CELL, asked, cells, hold

from eval.records import Cell, Plan
from eval.running import bench
from eval.running.ahead import asking_ahead
from eval.running.engine import Engine
from eval.running.flight import Asked
from eval.running.store import RunFolder
from sdkit import NotLinear
from sdkit._plan import SamplerPlan

GRID = cells("ddim", "dpmpp_2m", guidances=(1.0, 2.0), steps=(4,))
BATCHES = [asked(cell, *span) for cell in GRID for span in ((0, 4), (4, 7))]


def fully(engine: Engine, batches: Sequence[Asked]) -> None:
    """Ask all there is to ask ahead."""
    ended = threading.Event()

    def told() -> Iterator[Asked]:
        yield from batches
        ended.set()

    with asking_ahead(engine, told()):
        assert ended.wait(30)


def test_what_was_asked_ahead_is_not_asked_again_and_changes_nothing() -> None:
    alone, ahead = FlyingGenerator(rows=6), FlyingGenerator(rows=6)
    for generator in (alone, ahead):
        generator.engine.expect(GRID)
    fully(ahead.engine, BATCHES)
    # First calls of 7 pictures with and without prompt, and the second ones, which ddim and dpmpp_2m share.
    assert sum(ahead.denoiser_.calls) == 2 * 7 + (1 + 2) * 7
    for generator in (alone, ahead):
        hold(generator, BATCHES)
    assert sum(ahead.denoiser_.calls) == sum(alone.denoiser_.calls)


def test_without_common_calls_there_is_nothing_to_ask() -> None:
    generator = FlyingGenerator(share=False)
    fully(generator.engine, BATCHES)
    assert generator.denoiser_.calls == []


def test_it_ends_with_what_it_stands_beside() -> None:
    seeds = itertools.count(0, 7)
    endless = (asked(replace(CELL, seed=seed)) for seed in seeds)
    before = torch.get_num_threads()
    with asking_ahead(FlyingGenerator().engine, endless):
        assert torch.get_num_threads() == max(1, before - max(1, before // 2))
    assert torch.get_num_threads() == before
    assert "ahead" not in {thread.name for thread in threading.enumerate()}


def test_what_it_stands_beside_fails_as_it_would_alone() -> None:
    def failing() -> None:
        with asking_ahead(FlyingGenerator().engine, BATCHES):
            raise OSError("no such weights")

    with pytest.raises(OSError, match="no such weights"):
        failing()
    assert "ahead" not in {thread.name for thread in threading.enumerate()}


def test_a_denoiser_that_fails_ahead_fails_when_its_batch_is_made() -> None:
    def before(rows: int) -> None:
        tried.append(rows)
        raise RuntimeError("a kernel's bug")

    tried: list[int] = []
    generator = FlyingGenerator(denoiser_=FakeDenoiser(before))
    with asking_ahead(generator.engine, BATCHES):
        for thread in threading.enumerate():
            if thread.name == "ahead":
                thread.join(30)
    assert len(tried) == 1
    with pytest.raises(RuntimeError, match="a kernel's bug"):
        generator.engine.make(BATCHES[0])
    generator.denoiser_.before = lambda rows: None
    hold(generator, BATCHES)


def test_a_sampler_that_is_no_table_of_coefficients_is_passed_over() -> None:
    class Clipping(FlyingGenerator):
        def plan(self, sampler: str, steps: int) -> SamplerPlan:
            if sampler == "heun":
                raise NotLinear("heun clips")
            return super().plan(sampler, steps)

    generator = Clipping(rows=14)
    fully(generator.engine, [asked(replace(CELL, sampler="heun")), asked(CELL)])
    assert generator.denoiser_.calls == [14]


def _begins(made: Plan, engine: Engine | None) -> bool:
    """Whether a run of the plan asks ahead."""
    found = bench._ahead(made, RunFolder(Path(made.folder)), engine, (CELL,))
    return not isinstance(found, nullcontext)


def _untimed(root: Path) -> Plan:
    made = replace(plan(root), folder=str(root))
    quick = replace(made.hardware, latency_repeats=0, throughput_repeats=0)
    return replace(made, hardware=quick, model=replace(made.model, device="cpu"))


def test_a_new_run_on_a_cpu_asks_ahead_and_no_other(tmp_path: Path) -> None:
    made, engine = _untimed(tmp_path), FlyingGenerator().engine
    assert _begins(made, engine)
    without = replace(made.execution, engine=replace(made.execution.engine, ahead=False))
    assert not _begins(replace(made, execution=without), engine)
    assert not _begins(replace(made, hardware=replace(made.hardware, latency_repeats=1)), engine)
    assert not _begins(replace(made, model=replace(made.model, device="cuda:0")), engine)
    assert not _begins(replace(made, grid=replace(made.grid, precisions=("float32",))), engine)
    assert not _begins(made, FlyingGenerator(one_shape=True).engine)
    assert not _begins(made, None)
    (tmp_path / "cells").mkdir()
    assert not _begins(made, engine)


def test_what_is_asked_ahead_is_what_the_run_asks(tmp_path: Path) -> None:
    made = _untimed(tmp_path)
    grid: list[Cell] = [replace(CELL, guidance=1.0), CELL]
    size = made.hardware.batch
    spans = [(start, min(start + size, CELL.count)) for start in range(0, CELL.count, size)]
    told = [(each.cell, each.start, each.stop) for each in bench._batches(made, grid)]
    assert told == [(cell, *span) for cell in (grid[1], grid[0]) for span in spans]
