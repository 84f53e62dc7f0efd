"""A diffusers scheduler for one run: pinned, mended, and computing in float32. An annex of `_backend`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sdkit._samplers import Sampler


def build_scheduler(
    sampler: Sampler, config: Mapping[str, Any], *, dtype: torch.dtype = torch.float32
) -> Any:
    """A fresh diffusers scheduler, from the model's own scheduler settings and the sampler's over them.

    Args:
        config: the scheduler config as the model was loaded with: `from_config` chains leak options from
            one scheduler to the next.
        dtype: of the latents; below float32, the scheduler computes and draws noise in float32 all the same.
    """
    import diffusers

    scheduler_class = getattr(diffusers, sampler.scheduler)
    options = {**dict(sampler.options), "timestep_spacing": sampler.spacing}
    scheduler = scheduler_class.from_config(dict(config), **options)
    _mend_timesteps(scheduler)
    if dtype != torch.float32:
        _compute_in_float32(scheduler)
    return scheduler


def _mend_timesteps(scheduler: Any) -> None:
    """Makes `set_timesteps` give exactly the timesteps that were asked for, walked through by position."""
    set_timesteps = scheduler.set_timesteps

    @functools.wraps(set_timesteps)
    def mended(*args: Any, **options: Any) -> None:
        set_timesteps(*args, **options)
        # "trailing" counts down in floating point: at 61 steps, 103, 121 ... it adds a timestep of -1,
        # which then reads the noisiest entry of every table.
        scheduler.timesteps = scheduler.timesteps[scheduler.timesteps >= 0]
        # Many Karras steps share one integer timestep; looked up by value, the first is taken for the second.
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)

    scheduler.set_timesteps = mended


def _compute_in_float32(scheduler: Any) -> None:
    """Makes `step` compute, and draw its noise, in float32: a draw in float16 is another draw altogether."""
    step = scheduler.step

    @functools.wraps(step)
    def wide(model_output: Tensor, timestep: Any, sample: Tensor, **options: Any) -> tuple[Tensor]:
        previous = step(model_output.float(), timestep, sample.float(), **options)
        return (previous[0].to(sample.dtype),)

    scheduler.step = wide
