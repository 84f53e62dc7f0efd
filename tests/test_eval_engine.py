"""The shared engine against a plain loop: the same pictures, in full calls, each first call made once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fake_bench import Text
from fake_flights import FakeDenoiser, FlyingGenerator

from eval.records import Cell
from eval.running.flight import Asked
from sdkit import OutOfMemory

CELL = Cell("f00d", "ddim", 3, 3.0, "p", 7, 0, 16, 12, "float32", "cpu")


def cells(
    *samplers: str, guidances: tuple[float, ...] = (1.0, 3.0), steps: tuple[int, ...] = (3,)
) -> list[Cell]:
    return [
        replace(CELL, sampler=sampler, steps=count, guidance=guidance)
        for sampler in samplers
        for count in steps
        for guidance in guidances
    ]


def asked(cell: Cell, start: int = 0, stop: int = 7) -> Asked:
    return Asked(cell, start, stop, tuple(range(start, stop)))


def plainly(generator: FlyingGenerator, each: Asked) -> torch.Tensor:
    cell = each.cell
    made = generator.sample(
        Text(each.texts),
        sampler=cell.sampler,
        steps=cell.steps,
        guidance_scale=cell.guidance,
        guidance_interval=cell.guidance_interval,
        seeds=cell.seeds(each.start, each.stop),
    )
    return made.latents


def hold(generator: FlyingGenerator, batches: list[Asked]) -> None:
    """Every batch by the engine, the next two told beforehand, equals the plain loop."""
    for place, each in enumerate(batches):
        flown = generator.engine.make(each, batches[place + 1 : place + 3])
        torch.testing.assert_close(flown.latents, plainly(generator, each), rtol=1e-5, atol=1e-5)
        assert torch.equal(flown.images, generator.decode(flown.latents))


@pytest.mark.parametrize("rows", [1, 5, 64])
@pytest.mark.parametrize("share", [True, False])
def test_every_batch_equals_a_plain_loop_whatever_shares_its_calls(rows: int, share: bool) -> None:
    generator = FlyingGenerator(rows=rows, share=share)
    grid = cells("ddim", "euler_a", "dpmpp_2m_karras", "heun", "unipc", "dpmpp_2m_sde", steps=(3, 4))
    hold(generator, [asked(cell, *span) for cell in grid for span in ((0, 4), (4, 7))])


def test_calls_are_full_until_the_last_batch_is_alone() -> None:
    generator = FlyingGenerator(rows=5, share=False)
    hold(generator, [asked(cell, 0, 3) for cell in cells("ddim", "euler", "heun")])
    calls = generator.denoiser_.calls
    assert sum(rows < 5 for rows in calls) <= 5  # heun's last batch: 5 calls of 6 rows each
    assert sum(calls) == (3 + 6) * (3 + 3 + 5)


def test_a_compiled_network_sees_one_shape_only() -> None:
    generator = FlyingGenerator(rows=5, one_shape=True)
    hold(generator, [asked(cell, 0, 3) for cell in cells("ddim", "euler")])
    assert set(generator.denoiser_.calls) == {5}


def test_what_starts_alike_is_asked_once() -> None:
    shared, alone = FlyingGenerator(rows=4), FlyingGenerator(rows=4, share=False)
    batches = [asked(cell) for cell in cells("ddim", "dpmpp_2m", guidances=(1.0, 2.0, 4.0))]
    for generator in (shared, alone):
        hold(generator, batches)
    first = len(batches) * 7 + 4 * 7  # a row a picture, and one more where guidance is on
    assert sum(alone.denoiser_.calls) - sum(shared.denoiser_.calls) == first - 2 * 7
    assert shared.engine.first_calls.answers.saved == first - 2 * 7


def calls_of(grid: list[Cell], *, expected: bool) -> int:
    """Rows that a grid's cells of 7 pictures ask, all of them equal to the plain loop."""
    generator = FlyingGenerator(rows=6)
    if expected:
        generator.engine.expect(grid)
    hold(generator, [asked(cell, *span) for cell in grid for span in ((0, 4), (4, 7))])
    return sum(generator.denoiser_.calls)


def test_what_goes_on_alike_is_asked_once_where_both_are_expected() -> None:
    # Both make a first-order step from 999 to 749; then dpmpp_2m looks back.
    grid = cells("ddim", "dpmpp_2m", guidances=(1.0, 2.0), steps=(4,))
    first = 2 * 7
    assert calls_of(grid, expected=False) == first + 2 * (3 + 6) * 7
    assert calls_of(grid, expected=True) == first + (1 + 2) * 7 + 2 * (2 + 4) * 7


def test_cells_that_part_after_their_first_calls_ask_for_themselves() -> None:
    for grid in (
        cells("ddim", guidances=(2.0, 4.0), steps=(4,)),  # their second inputs are guided otherwise
        cells("ddim", guidances=(2.0,), steps=(4, 5)),
        cells("euler_a", "euler", guidances=(2.0,), steps=(4,)),  # one of them draws noise in between
        [replace(CELL, guidance_interval=interval) for interval in ((0.1, 50.0), (0.1, 1.0))],
    ):
        assert calls_of(grid, expected=True) == calls_of(grid, expected=False)


def test_a_call_outside_of_its_guidance_interval_is_that_of_guidance_1() -> None:
    grid = [replace(CELL, guidance=1.0), replace(CELL, guidance_interval=(0.0, 0.1))]
    assert calls_of(grid, expected=True) == 3 * 7


def test_a_batch_given_up_in_a_common_call_keeps_nobody_waiting() -> None:
    grid = cells("ddim", "dpmpp_2m", guidances=(2.0,), steps=(4,))
    generator = FlyingGenerator(rows=3)
    generator.engine.expect(grid)
    one, other = (asked(cell) for cell in grid)

    def before(rows: int) -> None:
        if len(generator.denoiser_.calls) == 6:  # the first 14 rows took 5, so this is of the second calls
            raise RuntimeError("a kernel's bug")

    generator.denoiser_.before = before
    with pytest.raises(RuntimeError, match="a kernel's bug"):
        generator.engine.make(one, [other])
    generator.denoiser_.before = lambda rows: None
    hold(generator, [other, one])


def test_batches_under_way_go_on_beside_one_that_comes_in_between() -> None:
    generator = FlyingGenerator(rows=12)
    first, second, between = (asked(replace(CELL, sampler=name)) for name in ("ddim", "euler", "heun"))
    generator.engine.make(first, [second])
    assert generator.engine.flying == (second,)
    flown = generator.engine.make(between, generator.engine.flying)
    torch.testing.assert_close(flown.latents, plainly(generator, between), rtol=1e-5, atol=1e-5)
    assert generator.engine.flying == (second,)
    hold(generator, [second])
    assert (
        sum(generator.denoiser_.calls) == (3 + 3 + 5) * 2 * 7 - 2 * 7
    )  # first calls of euler and heun are one


def test_what_is_known_to_the_end_is_asked_nothing() -> None:
    generator = FlyingGenerator(rows=4)
    hold(generator, [asked(cell) for cell in cells("ddim", "dpmpp_2m", steps=(1,))])
    assert sum(generator.denoiser_.calls) == 2 * 7


def test_other_levels_and_other_seeds_are_asked_for_themselves() -> None:
    generator = FlyingGenerator(rows=4)
    hold(generator, [asked(CELL), asked(replace(CELL, sampler="euler")), asked(replace(CELL, seed=100))])
    assert generator.engine.first_calls.answers.saved == 0


def test_one_noise_for_all_pictures_asks_the_negative_prompt_once() -> None:
    generator = FlyingGenerator(rows=4)
    hold(generator, [asked(replace(CELL, shared_seed=True))])
    assert sum(generator.denoiser_.calls) == 3 * 14 - 6


def test_first_calls_that_memory_has_no_room_for_are_asked_again() -> None:
    generator = FlyingGenerator(rows=4, kept_bytes=3 * 3 * 12 * 16 * 4)
    hold(generator, [asked(cell) for cell in cells("ddim", "dpmpp_2m", guidances=(1.0, 2.0, 4.0))])
    assert 0 < generator.engine.first_calls.answers.saved < 56


def test_out_of_memory_halves_the_rows_and_says_so() -> None:
    generator = FlyingGenerator(rows=14, denoiser_=FakeDenoiser(most_rows=4))
    hold(generator, [asked(CELL)])
    assert max(generator.denoiser_.calls) == 3
    assert generator.engine.notes == [
        "out of memory with 14 rows at once; 7 from here on",
        "out of memory with 7 rows at once; 3 from here on",
    ]


def test_one_row_that_does_not_fit_is_an_error_and_the_next_batch_starts_afresh() -> None:
    generator = FlyingGenerator(rows=2, denoiser_=FakeDenoiser(most_rows=0))
    with pytest.raises(OutOfMemory):
        generator.engine.make(asked(CELL), [asked(replace(CELL, guidance=4.0))])
    generator.denoiser_.most_rows = 8
    hold(generator, [asked(replace(CELL, guidance=4.0)), asked(CELL)])


@pytest.mark.parametrize("fails_at", range(0, 12, 3))
def test_a_call_that_fails_leaves_nothing_that_others_wait_for(fails_at: int) -> None:
    def before(rows: int) -> None:
        if len(generator.denoiser_.calls) == fails_at and not failed:
            failed.append(rows)
            raise RuntimeError("a kernel's bug")

    failed: list[int] = []
    generator = FlyingGenerator(rows=4, denoiser_=FakeDenoiser(before))
    batches = [asked(cell) for cell in cells("ddim", "dpmpp_2m")]
    with pytest.raises(RuntimeError, match="a kernel's bug"):
        hold(generator, batches)
    hold(generator, batches[::-1])


def test_a_batch_that_is_never_asked_for_holds_nobody_up() -> None:
    generator = FlyingGenerator(rows=64)
    first, second, third = (asked(cell) for cell in cells("ddim", guidances=(1.0, 2.0, 4.0)))
    generator.engine.make(first, [second, third])
    hold(generator, [third])


def test_calls_of_the_batch_itself_are_told_as_they_are_made() -> None:
    told: list[int] = []
    generator = FlyingGenerator(rows=64)
    generator.engine.make(asked(replace(CELL, sampler="heun")), on_call=told.append)
    assert told == [1, 2, 3, 4, 5]
