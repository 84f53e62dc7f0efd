"""What is put right on diffusers' solvers: late starts, the third-order step, and whose noise is drawn."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from gaussian import (
    STABLE_DIFFUSION,
    Gaussian,
    config_for,
    keeps_large,
    level_shown,
    walk,
)

from sdkit import InvalidRequest, Sampler, samplers
from sdkit._backend.scheduling import build_scheduler
from sdkit._sampler_names import find_sampler

WORLD = Gaussian()
FULL_SIGMA = 14.6146  # of Stable Diffusion's last training timestep
each_sampler = pytest.mark.parametrize("sampler", samplers(), ids=lambda sampler: sampler.name)


@each_sampler
@pytest.mark.parametrize("skipped", [1, 2, 3, 12])
def test_a_run_that_starts_from_a_picture_ends_in_the_right_distribution(
    sampler: Sampler, skipped: int
) -> None:
    steps = 30
    scheduler = build_scheduler(sampler, config_for(sampler), seeds=range(4))
    scheduler.set_timesteps(steps)
    pictures = _from_pictures(sampler, scheduler, skipped * scheduler.order)
    assert abs(float(pictures.mean()) - WORLD.mean) < 0.05
    assert 0.8 < float(pictures.std()) / WORLD.deviation < 1.08


@pytest.mark.parametrize("begin", [50, 97])
@pytest.mark.parametrize("solver", ["lms", "pndm"])
def test_a_multistep_solver_keeps_its_accuracy_when_it_is_started_late(solver: str, begin: int) -> None:
    # Measured: 0.0000 to 0.0032; as diffusers has them, 0.0055 to 0.0112 for PLMS and 0.015 to 0.146 for LMS.
    sampler = find_sampler(solver)
    scheduler = build_scheduler(sampler, STABLE_DIFFUSION)
    scheduler.set_timesteps(100)
    timestep = scheduler.timesteps[begin]
    level = level_shown(scheduler, timestep)
    large = torch.linspace(-3, 3, 9, dtype=torch.float64).reshape(-1, 1, 1, 1) * (1 + level**2) ** 0.5
    exact = WORLD.moved(large, level, 0.0)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    latents = large if keeps_large(scheduler) else large / (1 + level**2) ** 0.5
    made = walk(sampler, scheduler, latents, WORLD, timesteps=scheduler.timesteps[begin:])
    assert float((made - exact).std() / exact.std()) < 0.004


@pytest.mark.parametrize("begin", range(0, 19))
def test_flow_heun_can_start_on_any_call_when_it_was_given_sigmas(begin: int) -> None:
    # So FLUX's image-to-image pipeline slices: it takes the 2N-1 timesteps for as many steps.
    sampler = find_sampler("flow_heun")
    scheduler = build_scheduler(sampler, {"shift": 1.0})
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.1, 10))
    assert scheduler.order == 1
    pictures = _from_pictures(sampler, scheduler, begin)
    whole = build_scheduler(find_sampler("flow_heun"), {"shift": 1.0})
    whole.set_timesteps(sigmas=np.linspace(1.0, 0.1, 10))
    usual = _from_pictures(sampler, whole, 0)
    assert abs(float(pictures.mean()) - WORLD.mean) < 0.05
    assert abs(float(pictures.std()) - WORLD.deviation) < abs(float(usual.std()) - WORLD.deviation) + 0.06


def test_dpmpp_sde_draws_what_diffusers_draws_from_a_list_of_seeds() -> None:
    from diffusers import DPMSolverSDEScheduler

    sampler, seeds = find_sampler("dpmpp_sde_karras"), [11, 12]
    latents = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * FULL_SIGMA
    own = DPMSolverSDEScheduler(
        **{**STABLE_DIFFUSION, "use_karras_sigmas": True, "noise_sampler_seed": seeds}
    )
    made = []
    for scheduler in (own, build_scheduler(sampler, STABLE_DIFFUSION, seeds=seeds)):
        scheduler.set_timesteps(8)
        x = latents
        for timestep in scheduler.timesteps[:4]:  # later diffusers' own leaves the range and warns
            scheduler.scale_model_input(x, timestep)
            x = scheduler.step(x * 0.05, timestep, x, return_dict=False)[0]
        made.append(x)
    torch.testing.assert_close(made[1], made[0], rtol=1e-5, atol=1e-5)


def test_dpmpp_sde_needs_a_seed_for_every_image() -> None:
    scheduler = build_scheduler(find_sampler("dpmpp_sde"), STABLE_DIFFUSION, seeds=[1])
    scheduler.set_timesteps(4)
    x = torch.zeros(2, 4, 2, 2)
    with pytest.raises(ValueError, match=r"^seeds must be one for each of 2 images, got 1$"):
        scheduler.step(x, scheduler.timesteps[0], x)


def test_a_missing_torchsde_is_answered_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchsde", None)
    with pytest.raises(InvalidRequest) as error:
        build_scheduler(find_sampler("dpmpp_sde_karras"), STABLE_DIFFUSION)
    assert str(error.value) == "dpmpp_sde_karras needs the package torchsde; pip install 'sdkit-t2i[sde]'"


def test_the_third_order_stochastic_step_is_k_diffusions() -> None:
    scheduler = build_scheduler(find_sampler("dpmpp_3m_sde_karras"), STABLE_DIFFUSION)
    scheduler.set_timesteps(20)
    x = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    seen: list[torch.Tensor] = []
    for call, timestep in enumerate(scheduler.timesteps[:6]):
        sigma, following = (float(s) for s in scheduler.sigmas[call : call + 2])
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(call))
        output = 0.3 * x.sin() + 0.1 * call
        large = x * (1 + sigma**2) ** 0.5
        seen.append(large - sigma * output)
        x = scheduler.step(
            output, timestep, x, generator=torch.Generator().manual_seed(call), return_dict=False
        )[0]
    levels = [float(s) for s in scheduler.sigmas[3:7]]
    expected = _k_diffusion_3m(large, noise, seen[-3:], levels)
    torch.testing.assert_close(x * (1 + following**2) ** 0.5, expected, rtol=1e-4, atol=1e-4)


def _from_pictures(sampler: Sampler, scheduler: Any, begin: int) -> torch.Tensor:
    """What an image-to-image pipeline does: slices timesteps, tells where it begins, adds noise, runs on."""
    timesteps = scheduler.timesteps[begin:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    generator = torch.Generator().manual_seed(0)
    pictures = WORLD.mean + WORLD.deviation * torch.randn(4, 1, 32, 32, generator=generator)
    noise = torch.randn(4, 1, 32, 32, generator=generator)
    if sampler.family == "flow":
        latents = scheduler.scale_noise(pictures, timesteps[:1], noise)
    else:
        latents = scheduler.add_noise(pictures, noise, timesteps[:1].repeat(4))
    return walk(sampler, scheduler, latents, WORLD, timesteps=timesteps)


def _k_diffusion_3m(
    x: torch.Tensor, noise: torch.Tensor, denoised: list[torch.Tensor], levels: list[float]
) -> torch.Tensor:
    """One third-order step at eta 1, from the formulas of k-diffusion's `sample_dpmpp_3m_sde`."""
    t = [-math.log(level) for level in levels]
    h_2, h_1, h = t[1] - t[0], t[2] - t[1], t[3] - t[2]
    doubled = 2 * h
    r0, r1 = h_1 / h, h_2 / h
    d1_0, d1_1 = (denoised[2] - denoised[1]) / r0, (denoised[1] - denoised[0]) / r1
    d1, d2 = d1_0 + (d1_0 - d1_1) * r0 / (r0 + r1), (d1_0 - d1_1) / (r0 + r1)
    phi_2 = math.expm1(-doubled) / doubled + 1
    phi_3 = phi_2 / doubled - 0.5
    moved = math.exp(-doubled) * x - math.expm1(-doubled) * denoised[2] + phi_2 * d1 - phi_3 * d2
    return moved + noise * levels[3] * (-math.expm1(-2 * h)) ** 0.5
