"""One run twice: by a sampler's plan, and by diffusers' own scheduler, step for step."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gaussian import step_options
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sdkit import Sampler
from sdkit._backend.noise import Noise
from sdkit._backend.scheduling import build_scheduler
from sdkit._plan import SamplerPlan

SEEDS = (3, 2**32)
SHAPE = (4, 4, 4)


def denoiser(shown: Tensor, timestep: float) -> Tensor:
    """A plain function, elementwise and not linear."""
    return shown / (1 + shown.abs()) + timestep / 5000


def planned(plan: SamplerPlan, dtype: torch.dtype, *, seeds: Sequence[int] = SEEDS) -> list[Tensor]:
    """What the denoiser is shown at each call of a plan, and the finished latents after them: (N, C, h, w)."""
    noise, seen = Noise(seeds, SHAPE, plan), []
    state = plan.start(noise.first().to(dtype))
    for call, timestep in enumerate(plan.timesteps):
        seen.append(plan.scales[call] * state[0])
        draws = [drawn.to(dtype) for drawn in noise.draw(call)]
        state = plan.advance(call, state, denoiser(seen[-1], timestep), draws)
    return [*seen, state[0]]


def stepped(
    sampler: Sampler, config: Mapping[str, Any], steps: int, dtype: torch.dtype, *, xl: bool = False
) -> list[Tensor]:
    """The same of diffusers' scheduler, driven as a pipeline drives it; in float64 all of it is computed so."""
    scheduler = build_scheduler(sampler, config, seeds=SEEDS, xl=xl)
    scheduler.set_timesteps(steps)
    options = step_options(sampler, scheduler, list(SEEDS))
    generators = options.get("generator") or [torch.Generator().manual_seed(seed) for seed in SEEDS]
    noise = torch.cat([torch.randn((1, *SHAPE), generator=generator) for generator in generators]).to(dtype)
    flow, seen = sampler.family == "flow", []
    latents = noise if flow else noise * scheduler.init_noise_sigma
    with _Float64() if dtype == torch.float64 else contextlib.nullcontext():
        for timestep in scheduler.timesteps:
            seen.append(latents if flow else scheduler.scale_model_input(latents, timestep))
            output = denoiser(seen[-1], float(timestep))
            latents = scheduler.step(output, timestep, latents, return_dict=False, **options)[0]
    return [*seen, latents]


def distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The largest difference at any call, in units of max(1, |latent|) there; infinite where one is NaN."""
    assert len(one) == len(other)
    far = [
        (a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1.0)
        for a, b in zip(one, other, strict=True)
    ]
    return float(torch.stack(far).nan_to_num(nan=torch.inf).max())


class _Float64(TorchFunctionMode):
    """Keeps a scheduler from going down to float32, and has it draw the float32 numbers all the same."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func is torch.randn and tuple(args[0]) == (1, *SHAPE):
            return func(*args, **{**options, "dtype": torch.float32}).double()
        if func is Tensor.to and args[0].ndim and args[1:] == (torch.float32,):
            return args[0]
        return func(*args, **options)
