"""A normal distribution of pictures, whose denoiser and whose probability-flow path are known in closed form.

Levels are ratios of noise to signal, as diffusers' `sigmas` are; "large" latents are picture + level * noise, and
unit-scale ones the same over sqrt(1 + level^2). For flow-match models the level is the share of noise.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdkit import Sampler

STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
FLOW = {"shift": 3.0}


def config_for(sampler: Sampler) -> dict[str, Any]:
    return dict(FLOW if sampler.family == "flow" else STABLE_DIFFUSION)


@dataclass(frozen=True)
class Gaussian:
    mean: float = 0.3
    deviation: float = 0.5

    def noisy(self, level: float, shape: tuple[int, ...], seed: int) -> Tensor:
        """Unit-scale latents as they are met at a level."""
        generator = torch.Generator().manual_seed(seed)
        pictures = self.mean + self.deviation * torch.randn(shape, generator=generator, dtype=torch.float64)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (pictures + level * noise) / (1 + level**2) ** 0.5

    def noise_in(self, latents: Tensor, level: float) -> Tensor:
        """The exact prediction of the noise in unit-scale latents."""
        large = latents.double() * (1 + level**2) ** 0.5
        return level * (large - self.mean) / (self.deviation**2 + level**2)

    def noise_by_path(self, latents: Tensor, level: float) -> Tensor:
        """What a perfect consistency model says: the noise that leads to the end of the path."""
        large = latents.double() * (1 + level**2) ** 0.5
        return (large - self.moved(large, level, 0.0)) / level

    def moved(self, large: Tensor, level: float, to: float) -> Tensor:
        """Latents of noise `level`, not scaled, carried along the probability flow to another level."""
        spread = (self.deviation**2 + to**2) / (self.deviation**2 + level**2)
        return self.mean + (large - self.mean) * spread**0.5

    def flow_velocity(self, latents: Tensor, level: float) -> Tensor:
        """E[noise - picture], which flow-match models predict."""
        off = latents.double() - (1 - level) * self.mean
        variance = self.flow_deviation(level) ** 2
        return level / variance * off - self.mean - (1 - level) * self.deviation**2 / variance * off

    def flow_deviation(self, level: float) -> float:
        return float((((1 - level) * self.deviation) ** 2 + level**2) ** 0.5)


def level_shown(scheduler: Any, timestep: Any) -> float:
    """The level that a denoiser reads from a timestep, between whole ones by the logarithm."""
    alphas = scheduler.alphas_cumprod.double()
    table = ((1 - alphas) / alphas).sqrt()
    low = int(float(timestep))
    part, high = float(timestep) - low, min(low + 1, len(table) - 1)
    return float(table[low] ** (1 - part) * table[high] ** part)


def level_meant(scheduler: Any, call: int, timestep: Any) -> float:
    """The level that a scheduler computes with at a call, whatever timestep it shows to the denoiser."""
    if not hasattr(scheduler, "sigmas"):
        return level_shown(scheduler, timestep)
    between = call % 2 and hasattr(scheduler, "sigmas_interpol")
    return float((scheduler.sigmas_interpol if between else scheduler.sigmas)[call])


def keeps_large(scheduler: Any) -> bool:
    return float(scheduler.init_noise_sigma) > 1.5


def step_options(sampler: Sampler, scheduler: Any, seeds: list[int]) -> dict[str, Any]:
    """What a diffusers pipeline would pass to `step`."""
    takes = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {}
    if "generator" in takes:
        options["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
    if "eta" in takes:
        options["eta"] = sampler.eta
    return options


def walk(
    sampler: Sampler, scheduler: Any, latents: Tensor, world: Gaussian, *, timesteps: Tensor | None = None
) -> Tensor:
    """The end of a run of the exact denoiser, which reads timesteps as a network does.

    Args:
        latents: (N, C, h, w) as the scheduler keeps them at the first timestep; image i has seed i.
    """
    options = step_options(sampler, scheduler, list(range(len(latents))))
    latents = latents.float()
    for timestep in scheduler.timesteps if timesteps is None else timesteps:
        if sampler.family == "flow":
            output = world.flow_velocity(latents, float(timestep) / 1000)
        else:
            predict = world.noise_by_path if sampler.solver == "lcm" else world.noise_in
            shown = scheduler.scale_model_input(latents, timestep)
            output = predict(shown, level_shown(scheduler, timestep))
        latents = scheduler.step(output.float(), timestep, latents, return_dict=False, **options)[0]
    return latents


def first_latents(sampler: Sampler, scheduler: Any, world: Gaussian, shape: tuple[int, ...]) -> Tensor:
    """Latents at the first timestep, pictures in them and all, as the scheduler keeps them."""
    if sampler.family == "flow":
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))
    level = level_shown(scheduler, scheduler.timesteps[0])
    latents = world.noisy(level, shape, seed=0)
    return latents * (1 + level**2) ** 0.5 if keeps_large(scheduler) else latents
