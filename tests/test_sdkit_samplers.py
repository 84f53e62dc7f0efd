"""Samplers: their names, their prices, and what is set right on diffusers' schedulers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from sdkit import InvalidRequest, Sampler, Session, UnknownSampler, samplers
from sdkit._samplers import find_sampler
from sdkit._scheduling import build_scheduler

NAMES = [
    "ddim",
    "ddpm",
    "pndm",
    "lms",
    "euler",
    "euler_a",
    "heun",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "unipc",
    "deis",
]
STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
each_sampler = pytest.mark.parametrize("sampler", samplers(), ids=lambda sampler: sampler.name)


def test_the_samplers_are_these() -> None:
    assert [sampler.name for sampler in samplers()] == NAMES


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("DPM++ 2M Karras", "dpmpp_2m_karras"),
        ("dpm++_2m", "dpmpp_2m"),
        ("Euler a", "euler_a"),
        (" plms ", "pndm"),
        ("uni-pc", "unipc"),
        ("k_lms", "lms"),
    ],
)
def test_other_tools_names_are_understood(written: str, name: str) -> None:
    assert find_sampler(written).name == name


def test_every_title_and_alias_leads_to_its_sampler() -> None:
    for sampler in samplers():
        assert all(find_sampler(name) is sampler for name in (sampler.name, sampler.title, *sampler.aliases))


@pytest.mark.parametrize(
    ("written", "nearest"), [("dpmpp_2s_a", "dpmpp_2m"), ("hein", "heun"), ("dim", "ddim")]
)
def test_an_unknown_name_is_answered_with_the_nearest(written: str, nearest: str) -> None:
    with pytest.raises(UnknownSampler, match=f"nearest: .*{nearest}"):
        find_sampler(written)


@each_sampler
def test_the_price_in_the_table_is_what_the_denoiser_is_called(sampler: Sampler, tiny_sd: Path) -> None:
    session = Session(tiny_sd, device="cpu")
    session.load()
    calls = []
    unet = session._loaded()._pipeline.unet
    unet.register_forward_pre_hook(lambda *_: calls.append(1))
    for steps in (sampler.min_steps, 6):
        calls.clear()
        made = session.generate("a star", sampler=sampler, steps=steps, guidance_scale=3.0, seed=0)
        assert len(calls) == made.model_evals == session.model_evals(sampler.name, steps)


@each_sampler
def test_every_step_count_makes_as_many_calls_as_the_table_says(sampler: Sampler) -> None:
    # 61 and 103 are where "trailing" gains a timestep; 700 is where Karras steps share the first one.
    for steps in (3, 7, 20, 61, 103, 250, 700, sampler.max_steps):
        scheduler = build_scheduler(sampler, STABLE_DIFFUSION)
        scheduler.set_timesteps(steps)
        assert len(scheduler.timesteps) == sampler.evaluations(steps)
        assert scheduler.timesteps.min() >= 0
        assert scheduler.timesteps.max() == 999


@each_sampler
@pytest.mark.parametrize("steps", [20, 61, 103])
def test_from_pure_noise_an_exact_denoiser_is_led_to_its_own_pictures(sampler: Sampler, steps: int) -> None:
    scheduler = build_scheduler(sampler, STABLE_DIFFUSION)
    pictures = _sample_gaussian(scheduler, steps, mean=0.3, deviation=0.5)
    assert abs(float(pictures.mean()) - 0.3) < 0.03
    assert 0.8 < float(pictures.std()) / 0.5 < 1.06


def test_the_models_own_scheduler_options_do_not_leak() -> None:
    odd = {**STABLE_DIFFUSION, "use_karras_sigmas": True, "timestep_spacing": "leading", "clip_sample": True}
    for sampler in samplers():
        scheduler = build_scheduler(sampler, odd)
        config = scheduler.config
        if "use_karras_sigmas" in inspect.signature(type(scheduler)).parameters:
            assert config.use_karras_sigmas == (sampler.name == "dpmpp_2m_karras")
        assert config.timestep_spacing == sampler.spacing
        assert not (sampler.scheduler in ("DDIMScheduler", "DDPMScheduler") and config.clip_sample)


def test_the_models_own_prediction_type_is_kept() -> None:
    for sampler in samplers():
        config = build_scheduler(sampler, {**STABLE_DIFFUSION, "prediction_type": "v_prediction"}).config
        assert config.prediction_type == "v_prediction"


@pytest.mark.parametrize("name", [s.name for s in samplers() if s.stochastic])
def test_below_float32_the_noise_is_the_same_draw(name: str) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    steps = []
    for dtype in (torch.float32, torch.float16):
        scheduler = build_scheduler(find_sampler(name), STABLE_DIFFUSION, dtype=dtype)
        scheduler.set_timesteps(10)
        timestep = scheduler.timesteps[0]
        scheduler.scale_model_input(latents, timestep)
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        noisy = latents.to(dtype)
        steps.append(scheduler.step(noisy * 0.1, timestep, noisy, generator=generators, return_dict=False)[0])
    assert steps[1].dtype == torch.float16
    torch.testing.assert_close(steps[1].float(), steps[0], atol=0.01, rtol=0.01)


def test_steps_outside_the_samplers_range_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"steps must be 3\.\.1000 for heun, got 2"):
        find_sampler("heun").check_steps(2)


def _sample_gaussian(scheduler: Any, steps: int, *, mean: float, deviation: float) -> torch.Tensor:
    """Samples (4096, 1, 1, 1) by the exact noise prediction of a normal distribution."""
    alphas = scheduler.alphas_cumprod.double()
    log_ratio = torch.log((1 - alphas) / alphas)
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    options = {"generator": torch.Generator().manual_seed(1)} if takes_generator else {}
    scheduler.set_timesteps(steps)
    x = torch.randn(4096, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        low = int(timestep)
        part = float(timestep) - low
        ratio = (1 - part) * log_ratio[low] + part * log_ratio[min(low + 1, 999)]
        alpha = 1 / (1 + torch.exp(ratio))
        shown = scheduler.scale_model_input(x, timestep).double()
        noise = (1 - alpha).sqrt() * (shown - alpha.sqrt() * mean) / (alpha * deviation**2 + 1 - alpha)
        x = scheduler.step(noise.to(x.dtype), timestep, x, return_dict=False, **options)[0]
    return x
