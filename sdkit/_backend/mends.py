"""What single solvers of diffusers get wrong, put right on the instance.

Each function takes a fresh scheduler and wraps methods of it; each says what is wrong in diffusers 0.42.1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sdkit._backend.noise import brownian_noise, brownian_range

_LMS_POINTS = 4


def reading_numpy(scheduler_class: Any) -> Any:
    """A DPM2 class that looks levels up in numpy: one by one in torch, they cost a second when it is made."""

    def to_timestep(self: Any, sigma: Any, log_sigmas: Any) -> Any:
        return scheduler_class._sigma_to_t(self, np.asarray(sigma), np.asarray(log_sigmas))

    return type(scheduler_class.__name__, (scheduler_class,), {"_sigma_to_t": to_timestep})


def start_anywhere(plms: Any) -> None:
    """Lets PLMS start on any timestep: diffusers takes the second call to be the first step's."""
    step = plms.step
    waited = False

    @functools.wraps(step)
    def started(model_output: Tensor, timestep: Any, sample: Tensor, *arguments: Any, **options: Any) -> Any:
        nonlocal waited
        late = plms.counter == 0 and timestep != plms.timesteps[0]
        if late and timestep == plms.timesteps[1] and not waited:
            waited = True  # the second timestep stands there twice
            return (sample,)
        result = step(model_output, timestep, sample, *arguments, **options)
        plms.counter += late
        return result

    plms.step = started


def start_with_one_point(lms: Any) -> None:
    """Lets LMS start on any timestep: diffusers takes coefficients of points that it has not seen.

    It also integrates them numerically, to four digits, for 20 ms a step; they are integrals of cubic
    polynomials, for which Gauss's rule of two nodes is exact.
    """
    step = lms.step

    @functools.wraps(step)
    def started(model_output: Tensor, timestep: Any, sample: Tensor, **options: Any) -> Any:
        points = min(len(lms.derivatives) + 1, _LMS_POINTS)
        return step(model_output, timestep, sample, order=points, **options)

    def coefficient(order: int, t: int, current_order: int) -> float:
        start, end = float(lms.sigmas[t]), float(lms.sigmas[t + 1])
        own = float(lms.sigmas[t - current_order])
        others = [float(lms.sigmas[t - k]) for k in range(order) if k != current_order]
        nodes = [(start + end) / 2 + sign * (end - start) / 2 / 3**0.5 for sign in (-1, 1)]
        return sum(math.prod((node - o) / (own - o) for o in others) for node in nodes) * (end - start) / 2

    lms.step, lms.get_lms_coefficient = started, coefficient


def correct_third_order(scheduler: Any) -> None:
    """Corrects a sign: in the stochastic third-order update diffusers subtracts a half that must be added.

    Source: `sample_dpmpp_3m_sde` of k-diffusion; its factor of the second difference vanishes with the step,
        as it must, and diffusers' goes to -1: the more steps, the more noise is left.
    """
    update = scheduler.multistep_dpm_solver_third_order_update

    @functools.wraps(update)
    def corrected(outputs: Sequence[Tensor], *arguments: Any, **options: Any) -> Tensor:
        place = scheduler.step_index
        log_levels = scheduler.sigmas[place - 2 : place + 2].double().log()
        before, last, now = (log_levels[:-1] - log_levels[1:]).tolist()
        slope = (outputs[-1] - outputs[-2]) * (now / last)
        slope_before = (outputs[-2] - outputs[-3]) * (now / before)
        second_difference = (slope - slope_before) * (now / (last + before))
        alpha, _ = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[place + 1])
        moved: Tensor = update(outputs, *arguments, **options)
        moved += alpha * second_difference
        return moved

    scheduler.multistep_dpm_solver_third_order_update = corrected


def draw_from_seeds(scheduler: Any, seeds: Sequence[int]) -> None:
    """Gives DPM++ SDE one Brownian path for each image, on the CPU in float32; diffusers draws one for all."""
    step = scheduler.step

    @functools.wraps(step)
    def drawn(model_output: Tensor, timestep: Any, sample: Tensor, *arguments: Any, **options: Any) -> Any:
        if scheduler.noise_sampler is None:
            if len(seeds) != len(sample):
                raise ValueError(f"seeds must be one for each of {len(sample)} images, got {len(seeds)}")
            noise = brownian_noise(seeds, sample.shape[1:], *brownian_range(scheduler.sigmas))
            scheduler.noise_sampler = lambda sigma, sigma_next: noise(sigma, sigma_next).to(sample)
        return step(model_output, timestep, sample, *arguments, **options)

    scheduler.step = drawn


def compute_in_float32(scheduler: Any) -> None:
    """Makes `step` compute, and draw its noise, in float32: a draw in float16 is another draw altogether."""
    step = scheduler.step

    @functools.wraps(step)
    def wide(model_output: Tensor, timestep: Any, sample: Tensor, *arguments: Any, **options: Any) -> Any:
        result = step(model_output.float(), timestep, sample.float(), *arguments, **options)
        if isinstance(result, tuple):
            return tuple(each.to(sample.dtype) for each in result)
        result.prev_sample = result.prev_sample.to(sample.dtype)
        return result

    scheduler.step = wide
