"""A cell's speed and cost: figures that add up, marks on what is noisy, a reason for whatever is missing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from measuring import CELL, PROMPTS, Clock, Fake, FakeDriver

from eval.hardware_plan import HardwarePlan
from eval.measured import Measured
from eval.running import stopwatch, watch
from eval.running.cold import ColdCalls
from eval.running.measure import measure_cell
from eval.running.nvml import Reading
from eval.running.stopwatch import Failure
from eval.running.watch import CoreTime
from sdkit import OutOfMemory

HARDWARE = HardwarePlan(batch=2, latency_repeats=2, throughput_repeats=3)

MARKS = ("reason", "unreliable", "throughput_unreliable", "latency_unreliable")
Make = Callable[..., Fake]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Make:
    def make(**how: Any) -> Fake:
        clock = Clock()
        monkeypatch.setattr(stopwatch, "time", clock)
        monkeypatch.setattr(watch, "read_core_time", lambda: None)
        return Fake(clock, **how)

    return make


def measure(generator: Any, hardware: HardwarePlan = HARDWARE, **more: Any) -> Measured:
    more = {"cold": 1.5, "driver": Failure("no GPU"), **more}
    return measure_cell(generator, PROMPTS, CELL, hardware, **more)


def unexplained(measured: Measured) -> list[str]:
    """Fields that are None without their name in the record's reason."""
    parts = [getattr(measured, field.name) for field in fields(measured) if field.name != "curve"]
    return [
        f"{type(part).__name__}.{field.name}"
        for part in parts
        for field in fields(part)
        if field.name not in MARKS
        and getattr(part, field.name) is None
        and field.name not in str(part.reason)
    ]


def test_the_stages_add_up_to_the_median_batch_exactly(fake: Make) -> None:
    times = itertools.cycle((0.5, 4.0, 1.0, 2.0, 0.75))
    timing = measure(
        fake(seconds=lambda call, count: next(times)), replace(HARDWARE, throughput_repeats=5)
    ).timing
    parts = (timing.text_s, timing.denoise_s, timing.decode_s, timing.rest_s)
    assert parts == (0.125 / 2, 1.0 / 2, 0.25 / 2, 0.0625 / 2)
    assert sum(parts) == 1 / timing.images_per_s == np.median(timing.batch_samples_s) / 2


def test_an_even_number_of_batches_adds_up_too(fake: Make) -> None:
    times = itertools.cycle((0.5, 4.0, 1.0, 2.0))
    timing = measure(
        fake(seconds=lambda call, count: next(times)), replace(HARDWARE, throughput_repeats=4)
    ).timing
    parts = (timing.text_s, timing.denoise_s, timing.decode_s, timing.rest_s)
    assert sum(parts) == pytest.approx(1 / timing.images_per_s, rel=1e-12)
    assert sum(parts) == pytest.approx(np.median(timing.batch_samples_s) / 2, rel=1e-12)


def test_evaluations_a_second_are_the_pictures_own_and_of_denoising_alone(fake: Make) -> None:
    timing = measure(fake()).timing
    assert timing.evals_per_s == 2 * 7 / 1.0


def test_timed_pictures_have_the_prompts_in_turn_and_seeds_that_no_scored_one_has(fake: Make) -> None:
    generator = fake()
    measure(generator, replace(HARDWARE, batch=5))
    assert (("a", "b", "c", "a", "b"), (8, 9, 10, 11, 12)) in generator.made
    assert {min(seeds) for _, seeds in generator.made} == {CELL.seed + CELL.count}


def test_the_pass_for_memory_is_not_among_the_timed_ones(fake: Make) -> None:
    generator = fake(seconds=lambda call, count: 100.0 if call == 1 else 1.0)
    assert max(measure(generator).timing.batch_samples_s) < 2


@pytest.mark.parametrize(
    ("repeats", "known"), [(1, ()), (2, (50,)), (19, (50,)), (20, (50, 95)), (100, (50, 95, 99))]
)
def test_a_percentile_needs_samples_that_carry_it(fake: Make, repeats: int, known: tuple[int, ...]) -> None:
    timing = measure(fake(), replace(HARDWARE, latency_repeats=repeats)).timing
    found = {percent: getattr(timing, f"latency_p{percent}_s") for percent in (50, 95, 99)}
    assert tuple(percent for percent, value in found.items() if value is not None) == known
    for percent in set(found) - set(known):
        assert f"{repeats} timed pictures, of {100 // (100 - percent)} needed" in timing.reason


@pytest.mark.parametrize(
    "hardware",
    [
        HARDWARE,
        replace(HARDWARE, throughput_repeats=0),
        replace(HARDWARE, latency_repeats=0),
        replace(HARDWARE, latency_repeats=0, throughput_repeats=0),
        replace(HARDWARE, latency_repeats=1, throughput_repeats=1, price_per_hour=2.0),
        replace(HARDWARE, search_batch=True, max_batch=4),
    ],
)
@pytest.mark.parametrize("memory_for", [0, 1, 99])
@pytest.mark.parametrize("driver", [Failure("no GPU"), FakeDriver([Reading()])])
def test_whatever_is_missing_has_its_reason(
    fake: Make, hardware: HardwarePlan, memory_for: int, driver: Any
) -> None:
    generator = fake(error=lambda count: OutOfMemory("too large") if count > memory_for else None)
    measured = measure(generator, hardware, driver=driver, cold=Failure("told by another"))
    assert unexplained(measured) == []


def test_nothing_runs_where_both_repeats_are_0(fake: Make) -> None:
    generator = fake()
    off = replace(HARDWARE, latency_repeats=0, throughput_repeats=0)
    cold = ColdCalls().first(generator, PROMPTS, CELL, off)
    assert isinstance(cold, Failure)
    measure(generator, off, cold=cold)
    assert generator.made == []


@pytest.mark.parametrize("error", [OutOfMemory("cuda has too little memory"), MemoryError()])
def test_memory_that_runs_out_costs_the_figure_and_not_the_cell(fake: Make, error: BaseException) -> None:
    measured = measure(fake(error=lambda count: error if count > 1 else None))
    assert measured.timing.images_per_s is None
    assert str(error) in str(measured.timing.reason)
    assert measured.memory.process_peak_rss_bytes is None
    assert measured.timing.latency_p50_s is not None


def test_any_other_error_is_not_hidden(fake: Make) -> None:
    with pytest.raises(IndexError):
        measure(fake(error=lambda count: IndexError("a bug")))


def test_auto_measures_at_the_best_batch_and_keeps_the_curve(fake: Make) -> None:
    searched = replace(HARDWARE, search_batch=True, max_batch=64)
    generator = fake(
        seconds=lambda call, count: 1.0 + 0.25 * count,
        error=lambda count: OutOfMemory("too large") if count > 8 else None,
    )
    measured = measure(generator, searched)
    assert [point.batch for point in measured.curve.points] == [1, 2, 4, 8, 16]
    assert (measured.curve.best_batch, measured.timing.batch, measured.memory.batch) == (8, 8, 8)
    last = measured.curve.points[-1]
    assert (last.images_per_s, last.peak_bytes, last.reason) == (None, None, "too large")
    assert measured.timing.images_per_s == measured.curve.points[3].images_per_s
    assert all(point.peak_bytes for point in measured.curve.points[:4])


def test_the_first_picture_is_told_once_a_model_size_and_device(fake: Make) -> None:
    generator, cold = fake(), ColdCalls()
    first = cold.first(generator, PROMPTS, CELL, HARDWARE)
    assert first == 0.5 + generator.text_s + generator.decode_s + generator.rest_s
    again = cold.first(generator, PROMPTS, replace(CELL, sampler="ddim"), HARDWARE)
    assert isinstance(again, Failure)
    assert CELL.label in again.reason
    assert not isinstance(cold.first(generator, PROMPTS, replace(CELL, width=16), HARDWARE), Failure)


def test_the_price_is_that_of_the_hours_that_1000_pictures_take(fake: Make) -> None:
    measured = measure(fake(), replace(HARDWARE, price_per_hour=3.6, currency="EUR"))
    assert measured.price.per_1000_images == pytest.approx(1.0 / measured.timing.images_per_s)
    assert measured.price.currency == "EUR"
    assert measure(fake()).price.per_1000_images is None


def test_samples_that_spread_are_marked_and_shown(fake: Make) -> None:
    times = itertools.cycle((1.0, 2.0, 3.0))
    noisy = measure(fake(seconds=lambda call, count: next(times))).timing
    assert noisy.images_per_s is not None
    assert "more than 0.1" in noisy.throughput_unreliable
    calm = measure(fake()).timing
    assert (calm.throughput_unreliable, calm.throughput_spread) == (None, 0.0)


def loaded(monkeypatch: pytest.MonkeyPatch, others_s: float) -> None:
    """Every look at the cores, this process and others have used a second and `others_s` more of them."""
    looks = itertools.count(1)
    monkeypatch.setattr(
        watch, "read_core_time", lambda: CoreTime((1 + others_s) * (n := next(looks)), float(n))
    )


def test_other_processes_on_the_cores_are_marked_on_a_cpu(
    fake: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = fake()
    monkeypatch.setattr(watch, "_own_cores", lambda: {0, 1})
    loaded(monkeypatch, 2.0)
    measured = measure(generator)
    assert measured.conditions.other_cpu_share == pytest.approx(2 / (measured.conditions.watched_s * 2))
    assert "of the cores' time" in measured.timing.throughput_unreliable
    loaded(monkeypatch, 0.1)
    assert measure(generator).timing.throughput_unreliable is None


def seen(**more: Any) -> Reading:
    calm = Reading(10**9, 100.0, 0.9, 1980.0, 2619.0, 60.0, (), 0)
    return replace(calm, **more)


def test_a_gpu_tells_its_state_and_its_energy(fake: Make) -> None:
    driver = FakeDriver([seen(sm_clock_mhz=300.0, gpu_utilisation=0.0), seen(energy_j=160.0)])
    measured = measure(fake(), driver=driver)
    energy, conditions = measured.energy, measured.conditions
    assert (energy.joules, energy.images, energy.joules_per_image) == (60.0, 6, 10.0)
    assert energy.mean_power_w == pytest.approx(60 / sum(measured.timing.batch_samples_s))
    assert (conditions.gpu_utilisation, conditions.sm_clock_mhz, conditions.throttle) == (0.9, 1980.0, ())
    assert measured.timing.throughput_unreliable is None


def test_a_pass_too_short_for_the_counter_has_no_energy(fake: Make) -> None:
    generator = fake(seconds=lambda call, count: 0.01, text_s=0.0, decode_s=0.0, rest_s=0.0)
    energy = measure(generator, driver=FakeDriver([seen(), seen(energy_j=101.0)])).energy
    assert energy.joules_per_image is None
    assert "the counter needs 1 s" in energy.reason


@pytest.mark.parametrize(
    ("reading", "mark"),
    [
        (seen(throttle=("thermal slowdown by hardware",)), "slowed down (thermal slowdown by hardware)"),
        (seen(throttle=("power cap",)), None),
        (seen(other_processes=1), "another process computed on the GPU"),
        (seen(other_processes=2), "2 other processes computed on the GPU"),
    ],
)
def test_a_gpu_in_trouble_is_marked_and_one_at_its_power_cap_is_not(
    fake: Make, reading: Reading, mark: str | None
) -> None:
    measured = measure(fake(), driver=FakeDriver([reading]))
    for found in (measured.timing.throughput_unreliable, measured.timing.latency_unreliable):
        assert (found is None) if mark is None else (mark in found)


def test_operations_are_counted_over_one_whole_call(fake: Make) -> None:
    square = torch.ones(16, 16)
    generator = fake(work=lambda count: [square @ square for _ in range(3 * count)])
    measured = measure(generator)
    assert measured.compute.flops_per_image == 3 * 2 * 16**3
    assert (measured.compute.peak_flops_per_s, measured.compute.mfu) == (None, None)
    assert "no published peak is listed for a CPU" in measured.compute.reason


def test_mfu_is_the_share_of_the_published_peak(fake: Make) -> None:
    square = torch.ones(16, 16)
    generator = fake(work=lambda count: square @ square, device_name="NVIDIA H200")
    cell = replace(CELL, dtype="bfloat16")
    measured = measure_cell(generator, PROMPTS, cell, HARDWARE, cold=1.0, driver=Failure("none"))
    rate = 2 * 16**3 * measured.timing.images_per_s
    assert measured.compute.mfu == pytest.approx(rate / 989.4e12)
    assert "bfloat16, dense" in measured.compute.peak_source


def test_measuring_changes_no_pixel_and_no_random_state(tiny_sd: Path) -> None:
    import random

    from sdkit import Session

    session = Session(str(tiny_sd), device="cpu")
    cell = replace(CELL, sampler="euler_a", width=64, height=64, steps=3)

    def pixels() -> torch.Tensor:
        text = session.encode(PROMPTS)
        asked = {"sampler": "euler_a", "steps": 3, "guidance_scale": 3.0, "width": 64, "height": 64}
        return session.sample(text, seeds=cell.seeds(0, 3), **asked).images

    def states() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before, state = pixels(), states()
    measured = measure_cell(
        session, PROMPTS, cell, replace(HARDWARE, search_batch=True, max_batch=2), cold=1.0
    )
    assert measured.timing.images_per_s
    assert measured.compute.flops_per_image
    assert states() == state
    torch.testing.assert_close(pixels(), before, rtol=0, atol=0)


def test_guidance_doubles_the_denoisers_operations(tiny_sd: Path) -> None:
    from eval.running.flops import compute_of
    from sdkit import Session

    session = Session(str(tiny_sd), device="cpu")
    once, twice, more = (
        compute_of(
            session, PROMPTS, replace(CELL, width=64, height=64, guidance=g, steps=n), 1.0
        ).flops_per_image
        for g, n in ((1.0, 4), (3.0, 4), (1.0, 5))
    )
    # heun: 7 evaluations, then 9; what is left is text and decoding, once a call
    evaluation = (more - once) / 2
    assert twice - once == pytest.approx(7 * evaluation, rel=0.05)
