"""A plan's run against diffusers' own scheduler, from the same noise, for every sampler on every schedule.

Two claims are held apart. In float64 both are the same run, to 1e-12: the table is the scheduler. In float32 a plan
stays within 1e-6 of that run, or half an ulp for each term of each call where that is more: roundings add up from
call to call, in diffusers' own float32 as well. Measured: a plan at most 1.6e-6 off (DPM++ 3M SDE Beta, 7 steps),
diffusers 5.4e-6 (LMS Exponential, 46 steps).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from gaussian import STABLE_DIFFUSION, config_for
from plan_runs import distance, planned, stepped

from sdkit import Sampler, samplers
from sdkit._backend.probing import probe
from sdkit._errors import NotLinear
from sdkit._samplers import own_sampler, with_schedule

SOLVERS = [sampler for sampler in samplers() if sampler.schedule == "default"]
EVERY = [with_schedule(solver.solver, schedule) for solver in SOLVERS for schedule in solver.schedules]
DIFFUSION = [sampler for sampler in SOLVERS if sampler.family == "diffusion"]
HALF_ULP = 2.0**-24  # of float32 at 1
ALL_STEPS, MANY_STEPS, SOME_STEPS = range(1, 51), (*range(1, 11), 13, 20, 29, 37, 50), (1, 2, 3, 4, 7, 11, 30)
SDXL = {
    **STABLE_DIFFUSION,
    "timestep_spacing": "leading",
    "set_alpha_to_one": False,
    "interpolation_type": "linear",
}
# Diffusers has no step of theirs for a model that predicts the picture.
NEVER_PICTURES = ("pndm", "euler_a", "dpm2", "dpm2_a", "dpmpp_sde")
LINEAR_OWN = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "PNDMScheduler", "DPMSolverSinglestepScheduler",
              "IPNDMScheduler", "UniPCMultistepScheduler")  # fmt: skip
each_pairing = pytest.mark.parametrize("sampler", EVERY, ids=lambda sampler: sampler.name)
each_solver = pytest.mark.parametrize("sampler", DIFFUSION, ids=lambda sampler: sampler.name)


@each_pairing
def test_a_plan_is_the_run_of_diffusers_scheduler(sampler: Sampler) -> None:
    _assert_same(sampler, config_for(sampler), MANY_STEPS if sampler.schedule == "default" else SOME_STEPS)


@pytest.mark.slow
@each_pairing
def test_a_plan_is_the_run_of_diffusers_scheduler_at_every_step_count(sampler: Sampler) -> None:
    wide, narrow = _assert_same(sampler, config_for(sampler), ALL_STEPS)
    print(f"{sampler.name}: at most {wide:.1e} off in float64, {narrow:.1e} in float32")


@each_solver
@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_so_it_is_whatever_the_model_predicts(sampler: Sampler, prediction: str) -> None:
    config = {**STABLE_DIFFUSION, "prediction_type": prediction}
    if prediction == "sample" and sampler.solver in NEVER_PICTURES:
        with pytest.raises(NotLinear, match=r"prediction_type .*sample.*; let its pipeline run it$"):
            probe(sampler, config, 5)
        return
    _assert_same(sampler, config, (3, 7, 20))


@each_pairing
def test_so_it_is_for_sdxl(sampler: Sampler) -> None:
    if sampler.family == "diffusion":
        _assert_same(sampler, SDXL, (4, 11), xl=True)


def test_sdxl_has_timesteps_of_its_own_where_they_were_published() -> None:
    sampler = with_schedule("euler", "align_your_steps")
    given = [probe(sampler, STABLE_DIFFUSION, 10, xl=xl).timesteps[1] for xl in (False, True)]
    assert given == pytest.approx([850, 845], abs=0.01)


@pytest.mark.parametrize("name", ["ddim", "euler", "lcm", "tcd", "ddpm"])
def test_so_it_is_for_a_model_that_starts_from_noise_without_any_signal(name: str) -> None:
    sampler = with_schedule(name, "default")
    config = {**STABLE_DIFFUSION, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    _assert_same(sampler, config, (3, 7, 20))


@pytest.mark.parametrize("scheduler", LINEAR_OWN)
def test_so_it_is_for_a_models_own_scheduler_that_is_linear(scheduler: str) -> None:
    _assert_same(own_sampler(scheduler), {"solver_order": 3}, (5, 12))


@each_pairing
def test_a_plan_makes_as_many_calls_as_the_table_says_and_draws_where_it_says_so(sampler: Sampler) -> None:
    plan = probe(sampler, config_for(sampler), 9)
    assert plan.calls == sampler.evaluations(9)
    assert any(plan.noises) == sampler.stochastic


def _assert_same(
    sampler: Sampler, config: dict[str, Any], steps: Iterable[int], *, xl: bool = False
) -> tuple[float, float]:
    """The largest differences from the scheduler's run in float64, of the plan's in float64 and in float32."""
    tried = [count for count in steps if sampler.min_steps <= count <= sampler.max_steps]
    farthest, off = (0.0, 0.0), {}
    for count in tried:
        plan = probe(sampler, config, count, xl=xl)
        exact = stepped(sampler, config, count, torch.float64, xl=xl)
        wide, narrow = (distance(planned(plan, dtype), exact) for dtype in (torch.float64, torch.float32))
        roundings = sum(update.shape[1] for update in plan.updates)
        if not (wide <= 1e-12 and narrow <= max(1e-6, roundings * HALF_ULP)):
            off[count] = wide, narrow
        farthest = max(farthest[0], wide), max(farthest[1], narrow)
    assert tried
    assert not off, f"steps: largest difference in float64, in float32: {off}"
    return farthest
