"""The plan's cells, and the time that is left."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.hardware_plan import HardwarePlan
from eval.records import (
    Cell,
    CellResult,
    GridPlan,
    MetricsPlan,
    ModelPlan,
    Plan,
    PromptSet,
    ReferencePlan,
)
from eval.running.batch_file import BatchRecord
from eval.running.grid import Spent, denoiser_rows, grid_cells, seconds_left, spans_missing
from eval.running.progress import Progress, duration
from eval.running.tasks import Make

PLAN = Plan(
    model=ModelPlan("m", "m", "cpu", "float32"),
    prompts=PromptSet("p", ("a", "b")),
    reference=ReferencePlan("none", 0),
    metrics=MetricsPlan("shapes", ("shapes-clip",), ("clip_score", "fid")),
    grid=GridPlan(("ddim", "euler"), (4, 8), (1.0, 3.0), 7),
    hardware=HardwarePlan(2, 1, 1),
    folder="x",
)


@dataclass(frozen=True)
class _Model:
    fingerprint: str = "abc"
    default_size: tuple[int, int] = (64, 32)
    device: str = "cuda:1"
    dtype: str = "float16"


def _cells(plan: Plan = PLAN, model: _Model | None = None) -> tuple[Cell, ...]:
    return grid_cells(plan, model or _Model())  # type: ignore[arg-type]


def test_a_cell_for_each_combination_in_order() -> None:
    cells = _cells()
    assert [(c.sampler, c.steps, c.guidance) for c in cells][:3] == [
        ("ddim", 4, 1.0),
        ("ddim", 4, 3.0),
        ("ddim", 8, 1.0),
    ]
    assert len({c.key for c in cells}) == 8


def test_each_picture_has_a_seed_of_its_own_or_all_share_one() -> None:
    cell = _cells()[0]
    assert cell.seeds(0, 2) == (7, 8)
    assert cell.seeds(1, 2) == (8,)
    shared = _cells(replace(PLAN, grid=replace(PLAN.grid, shared_seed=True)))[0]
    assert shared.seeds(0, 2) == (7, 7)
    assert shared.key != cell.key


def test_seeds_a_prompt_multiply_the_pictures_of_a_cell() -> None:
    prompts = replace(PLAN.prompts, seeds_per_prompt=3)
    cell = _cells(replace(PLAN, prompts=prompts))[0]
    assert cell.count == 6
    assert prompts.rows == ("a", "a", "a", "b", "b", "b")
    assert cell.prompts_digest != _cells()[0].prompts_digest


def test_a_cell_takes_the_models_own_size_and_what_really_runs() -> None:
    cell = _cells()[0]
    assert (cell.width, cell.height, cell.device_type, cell.dtype) == (64, 32, "cuda", "float16")
    wide = _cells(replace(PLAN, model=replace(PLAN.model, width=96)))[0]
    assert (wide.width, wide.height) == (96, 32)


def test_the_key_follows_the_pixels_and_nothing_else() -> None:
    first = _cells()[0]
    assert first.key == _cells(replace(PLAN, hardware=HardwarePlan(9, 9, 9), folder="y"))[0].key
    assert first.key != _cells(model=_Model(fingerprint="other"))[0].key
    assert first.key != _cells(replace(PLAN, grid=replace(PLAN.grid, seed=8)))[0].key
    assert first.key != _cells(replace(PLAN, prompts=PromptSet("p", ("a", "c"))))[0].key


def test_guidance_doubles_the_rows() -> None:
    cells = _cells()
    assert (denoiser_rows(cells[0], 4), denoiser_rows(cells[1], 4)) == (8, 16)


def test_time_left_is_unknown_before_the_first_cell_and_zero_after_the_last() -> None:
    assert seconds_left([], [10]) is None
    assert seconds_left([Spent(10, 1)], []) == 0


def test_time_left_follows_the_work_not_the_number_of_cells() -> None:
    spent = [Spent(100, 2.0), Spent(200, 3.0)]  # 1 s a cell and 1 s a hundred rows
    assert seconds_left(spent, [400, 800]) == pytest.approx(5 + 9)
    assert seconds_left(spent[:1], [400]) == pytest.approx(8)


def test_time_left_is_never_negative() -> None:
    assert seconds_left([Spent(100, 5.0), Spent(200, 4.0)], [1000]) == pytest.approx(4.5)
    left = seconds_left([Spent(100, 0.1), Spent(200, 9.0)], [1])
    assert left is not None
    assert left >= 0


def _progress(workers: int = 1, finishers: int = 1, stream: io.StringIO | None = None) -> Progress:
    """Two cells of four pictures, whose denoiser rows are 8 and 16."""
    return Progress(["a", "b"], [8, 16], [2, 4], [4, 4], workers, finishers, stream or io.StringIO())


def test_away_from_a_terminal_each_cell_is_one_line() -> None:
    stream = io.StringIO()
    cells, progress = _cells(), _progress(stream=stream)
    for index in (0, 1):
        progress.expect(index, [(0, 4)])
        progress.start(Make(index, 0, 4))
        progress.part(Make(index, 0, 4), 0.5)
        progress.made(Make(index, 0, 4), 1.0)
        error = "out of memory" if index else None
        line = progress.finish(index, CellResult(cells[index], "cpu", 4, error=error), 1.0)
        assert stream.getvalue().endswith(f"{line}\n")
    progress.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[1/2] ddim · 4 steps · g 1:")
    assert "failed: out of memory" in lines[1]
    assert progress.failures == 1


def test_a_cell_that_was_reused_tells_nothing_about_time() -> None:
    progress = _progress()
    progress.finish(0, CellResult(_cells()[0], "cpu", 4, reused=True), 0.0)
    progress.expect(1, [(0, 4)])
    assert progress.left() is None
    progress.close()


def test_time_left_counts_batches_and_finishes_and_each_is_shared_by_who_does_it() -> None:
    for workers, finishers in ((1, 1), (2, 2), (2, 1)):
        progress = _progress(workers, finishers)
        progress.expect(0, [(0, 2), (2, 4)])
        progress.expect(1, [(0, 4)])
        progress.made(Make(0, 0, 2), 4.0)  # 4 rows: 1 s a row
        assert progress.left() == pytest.approx((4 + 16) / workers)
        progress.made(Make(0, 2, 4), 4.0)
        progress.finish(0, CellResult(_cells()[0], "cpu", 2), 3.0)  # 2 calls: 1.5 s a call
        assert progress.left() == pytest.approx(16 / workers + 6 / finishers)
        progress.start(Make(1, 0, 4))
        progress.part(Make(1, 0, 4), 0.25)
        assert progress.left() == pytest.approx(12 / workers + 6 / finishers)
        progress.close()


def test_a_batch_of_a_cell_that_failed_meanwhile_is_counted_and_no_error() -> None:
    progress = _progress(workers=2)
    progress.expect(0, [(0, 2), (2, 4)])
    progress.expect(1, [(0, 4)])
    progress.start(Make(0, 0, 2))
    progress.start(Make(0, 2, 4))
    progress.finish(0, CellResult(_cells()[0], "cpu", 2, error="NaN"), 1.0)
    progress.made(Make(0, 2, 4), 1.0)
    assert "1 of 2 cells, 2 pictures made, 4 to make" in progress.standing
    assert "1 failed" in progress.standing
    progress.close()


def test_a_batch_whose_worker_died_waits_again() -> None:
    progress = _progress()
    progress.expect(0, [(0, 2), (2, 4)])
    progress.made(Make(0, 0, 2), 4.0)
    progress.start(Make(0, 2, 4))
    progress.part(Make(0, 2, 4), 0.5)
    progress.again(Make(0, 2, 4))
    assert progress.left() == pytest.approx(4.0)
    progress.close()


def _record(start: int, stop: int, look: str = "now") -> BatchRecord:
    return BatchRecord(start, stop, (), look, None, None)


def test_what_is_missing_of_a_cell_is_its_gaps_in_batches_and_what_another_looked_at() -> None:
    assert spans_missing(10, 4, [], "now") == [(0, 4), (4, 8), (8, 10)]
    assert spans_missing(10, 4, [_record(0, 4), _record(4, 8), _record(8, 10)], "now") == []
    assert spans_missing(10, 4, [_record(0, 4), _record(8, 10)], "now") == [(4, 8)]
    assert spans_missing(10, 3, [_record(0, 4), _record(8, 10)], "now") == [(4, 7), (7, 8)]
    assert spans_missing(10, 4, [_record(4, 8, "before")], "now") == [(0, 4), (4, 8), (8, 10)]


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 40), batch=st.integers(1, 50), cuts=st.sets(st.integers(0, 40)), data=st.data())
def test_what_is_missing_and_what_is_there_are_every_picture_once(
    count: int, batch: int, cuts: set[int], data: st.DataObject
) -> None:
    edges = sorted({0, count} | {cut for cut in cuts if cut < count})
    kept = [_record(a, b) for a, b in pairwise(edges) if data.draw(st.booleans())]
    spans = spans_missing(count, batch, kept, "now") + [each.span for each in kept]
    assert sorted(index for start, stop in spans for index in range(start, stop)) == list(range(count))
    assert all(stop - start > 0 for start, stop in spans)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59, "59 s"), (370, "6 min 10 s"), (7500, "2 h 05 min")]
)
def test_durations_read_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
