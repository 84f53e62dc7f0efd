"""The plan's cells, and the time that is left."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import pytest

from eval.records import (
    Cell,
    CellResult,
    GridPlan,
    HardwarePlan,
    MetricsPlan,
    ModelPlan,
    Plan,
    PromptSet,
    ReferencePlan,
)
from eval.running.grid import Spent, denoiser_rows, grid_cells, seconds_left
from eval.running.progress import Progress, duration

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


def test_away_from_a_terminal_each_cell_is_one_line() -> None:
    stream = io.StringIO()
    cells = _cells()
    progress = Progress([8, 16], 2, stream)
    for index in (0, 1):
        progress.start(index, cells[index].label)
        progress.pictures(1)
        error = "out of memory" if index else None
        progress.finish(CellResult(cells[index], "cpu", 4, error=error))
    progress.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[1/2] ddim · 4 steps · g 1:")
    assert "failed: out of memory" in lines[1]


def test_a_cell_that_was_reused_tells_nothing_about_time() -> None:
    progress = Progress([8, 16], 2, io.StringIO())
    progress.start(0, "x")
    progress.finish(CellResult(_cells()[0], "cpu", 4, reused=True))
    assert progress.left(0.0, 1) is None
    progress.close()


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59, "59 s"), (370, "6 min 10 s"), (7500, "2 h 05 min")]
)
def test_durations_read_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
