"""The table of samplers: what is in it, what each costs, and that a pipeline calls as often as it says."""

from __future__ import annotations

import doctest
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

import sdkit._samplers
from sdkit import InvalidRequest, Sampler, samplers
from sdkit._backend.scheduling import build_scheduler
from sdkit._sampler_names import find_sampler
from sdkit._samplers import SCHEDULE_TITLES, own_sampler, with_schedule

NAMES = [
    "ddim", "ddpm", "pndm", "lms", "euler", "euler_a", "heun", "dpm2", "dpm2_a", "dpmpp_2m",
    "dpmpp_2m_karras", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "dpmpp_sde", "unipc", "deis",
    "sa_solver", "lcm", "tcd", "flow_euler", "flow_heun",
]  # fmt: skip
TWO_CALLS = ("heun", "dpm2", "dpm2_a", "dpmpp_sde", "flow_heun")
each_solver = pytest.mark.parametrize(
    "sampler", [s for s in samplers() if s.schedule == "default"], ids=lambda sampler: sampler.name
)


def test_the_samplers_are_these() -> None:
    assert [sampler.name for sampler in samplers()] == NAMES


def test_names_are_made_of_solver_and_schedule() -> None:
    for sampler in samplers():
        for schedule in sampler.schedules:
            made = with_schedule(sampler.solver, schedule)
            ending = "" if schedule == "default" else f"_{schedule}"
            assert made.name == sampler.solver + ending
            assert (made.solver, made.schedule) == (sampler.solver, schedule)
            assert made.title.endswith("" if schedule == "default" else f" {SCHEDULE_TITLES[schedule]}")
            assert made.schedules == sampler.schedules


def test_every_schedule_has_a_solver_and_a_title() -> None:
    assert {schedule for sampler in samplers() for schedule in sampler.schedules} == set(SCHEDULE_TITLES)


def test_a_pairing_that_cannot_be_is_refused_with_what_can() -> None:
    with pytest.raises(InvalidRequest) as error:
        with_schedule("ddim", "karras")
    assert str(error.value) == "schedule must be one of default, sgm_uniform, leading for ddim, got 'karras'"


@pytest.mark.parametrize(
    ("name", "formula", "evaluations"),
    [
        ("euler", "N", 20),
        ("dpmpp_3m_sde_karras", "N", 20),
        ("pndm", "N+1", 21),
        *((n, "2N-1", 39) for n in TWO_CALLS),
    ],
)
def test_the_price_of_twenty_steps(name: str, formula: str, evaluations: int) -> None:
    sampler = find_sampler(name)
    assert (sampler.formula, sampler.evaluations(20)) == (formula, evaluations)


def test_only_the_solvers_of_two_calls_are_priced_as_such() -> None:
    assert {s.solver for s in samplers() if s.formula == "2N-1"} == set(TWO_CALLS)
    assert {s.solver for s in samplers() if s.formula == "N+1"} == {"pndm"}


@each_solver
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_steps_are_counted_off_one_by_one(sampler: Sampler, steps: int) -> None:
    total = sampler.evaluations(steps)
    done = [sampler.steps_done(call, total) for call in range(total + 1)]
    assert done[0] == 0
    assert done[-1] == steps
    assert all(after - before in (0, 1) for before, after in itertools.pairwise(done))
    assert done.index(1) == max(1, min(total, sampler.evals_per_step + max(sampler.extra_evals, 0)))


def test_steps_of_a_run_from_a_picture_are_whole_ones_too() -> None:
    heun = find_sampler("heun")
    assert [heun.steps_done(call, 5) for call in range(6)] == [0, 0, 1, 1, 2, 3]
    assert [find_sampler("euler").steps_done(call, 3) for call in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "steps", "message"),
    [
        ("heun", 2, "steps must be 3..1000 for heun, got 2"),
        ("lcm", 51, "steps must be 1..50 for lcm, got 51"),
        ("dpmpp_2m_karras", 1000, "steps must be 1..999 for dpmpp_2m_karras, got 1000"),
        ("dpm2_a_beta", 5, "steps must be 6..1000 for dpm2_a_beta, got 5"),
        ("euler", 0, "steps must be 1..1000, got 0"),
        ("euler", 2.5, "steps must be 1..1000, got 2.5"),
        ("euler", True, "steps must be 1..1000, got True"),
    ],
)
def test_steps_outside_the_samplers_range_are_refused(name: str, steps: object, message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        find_sampler(name).check_steps(steps)
    assert str(error.value) == message


def test_steps_may_be_any_kind_of_whole_number() -> None:
    import numpy as np

    assert find_sampler("euler_sgm_uniform").check_steps(np.int64(1)) == 1


def test_only_tcd_has_an_eta() -> None:
    assert {sampler.solver: sampler.eta for sampler in samplers() if sampler.eta} == {"tcd": 0.3}


def test_a_models_own_scheduler_is_a_sampler_too() -> None:
    own = own_sampler("EDMEulerScheduler")
    assert (own.name, own.family, own.formula, own.schedule) == ("own", "own", "N", "default")
    assert own_sampler("SomeHeunScheduler", order=2).formula == "2N-1"


def test_the_examples_in_the_docstrings_run() -> None:
    tried = doctest.testmod(sdkit._samplers)
    assert tried.failed == 0
    assert tried.attempted >= 5


@pytest.fixture(scope="module")
def pipeline(tiny_sd: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    loaded = StableDiffusionPipeline.from_pretrained(
        tiny_sd, safety_checker=None, requires_safety_checker=False
    )
    loaded.set_progress_bar_config(disable=True)
    return loaded


@each_solver
def test_a_pipeline_calls_its_denoiser_as_often_as_the_table_says(sampler: Sampler, pipeline: Any) -> None:
    if sampler.family == "flow":
        pytest.skip("Stable Diffusion is no flow-match model")
    config = dict(pipeline.scheduler.config)
    schedules = [s for s in ("default", "karras", "simple") if s in sampler.schedules]
    for schedule in schedules:
        made = with_schedule(sampler.solver, schedule)
        for steps in (made.min_steps, 7):
            calls = _calls(pipeline, made, config, steps)
            assert calls == made.evaluations(steps)


def _calls(pipeline: Any, sampler: Sampler, config: dict[str, Any], steps: int) -> int:
    calls: list[int] = []
    own = pipeline.scheduler
    hook = pipeline.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    pipeline.scheduler = build_scheduler(sampler, config, seeds=[5])
    try:
        latents = pipeline(
            "a star", num_inference_steps=steps, guidance_scale=3.0, eta=sampler.eta, height=64, width=64,
            generator=[torch.Generator().manual_seed(5)], output_type="latent", return_dict=False,
        )[0]  # fmt: skip
    finally:
        hook.remove()
        pipeline.scheduler = own
    assert torch.isfinite(latents).all()
    return len(calls)
