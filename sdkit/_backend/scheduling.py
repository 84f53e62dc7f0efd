"""A diffusers scheduler for one run: pinned, mended, and computing in float32.

What comes out is diffusers' own object, with methods wrapped on the instance, so that every pipeline
takes it. Each wrapper says what it mends; all was found in diffusers 0.42.1.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdkit._backend.mends import (
    compute_in_float32,
    correct_third_order,
    draw_from_seeds,
    reading_numpy,
    start_anywhere,
    start_with_one_point,
)
from sdkit._errors import ModelError
from sdkit._samplers import Sampler, check_installed, with_schedule

_FLAGS = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas"}
# They end at the lowest noise of training, not at zero, where their formulas divide by zero.
_END_ABOVE_ZERO = ("DEISMultistepScheduler", "SASolverScheduler")
_WHOLE_TIMESTEPS = (*_END_ABOVE_ZERO, "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
# Their step reads nothing but the list of timesteps.
_BY_TIMESTEPS = ("DDPMScheduler", "LCMScheduler", "TCDScheduler")
_OWN_LEVELS = ("normal", "sgm_uniform", "simple", "align_your_steps")


def spaced_timesteps(schedule: str, steps: int, train_steps: int) -> NDArray[np.float64]:
    """Training timesteps (steps,) of a schedule that is defined by them, the noisiest first.

    Source: "simple" and "normal" as in ComfyUI; "sgm_uniform" is diffusers' "trailing" spacing.
    """
    places = np.arange(steps)
    if schedule == "simple":
        return (train_steps - 1 - places * train_steps // steps).astype(np.float64)
    if schedule == "normal":
        return np.linspace(train_steps - 1, 0, steps)
    return np.round(train_steps - places * (train_steps / steps)) - 1


def noise_levels(alphas_cumprod: Tensor, schedule: str, steps: int, *, xl: bool) -> NDArray[np.float64]:
    """Sigmas (steps,) of a schedule that diffusers' classes do not know, the noisiest first.

    Args:
        alphas_cumprod: (training timesteps,), of the model.
    Source: Sabour et al. 2024, "Align Your Steps": ten published timesteps; for other step counts the authors
        recommend log-linear interpolation of their sigmas. The step to zero noise is from the lowest one.
    """
    table = _sigma_table(alphas_cumprod)
    if schedule != "align_your_steps":
        timesteps = spaced_timesteps(schedule, steps, len(table))
        return np.interp(timesteps, np.arange(len(table)), table)
    from diffusers.schedulers import AysSchedules

    published = AysSchedules["StableDiffusionXLTimesteps" if xl else "StableDiffusionTimesteps"]
    knots = np.log(table[[*published, 0]])
    places = np.linspace(0, len(knots) - 1, steps + 1)[:-1]
    return np.exp(np.interp(places, np.arange(len(knots)), knots))


def _sigma_table(alphas_cumprod: Tensor) -> NDArray[np.float64]:
    alphas: NDArray[np.float64] = alphas_cumprod.double().numpy()
    return ((1 - alphas) / alphas) ** 0.5


def build_scheduler(
    sampler: Sampler,
    config: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
    seeds: Sequence[int] = (),
    xl: bool = False,
) -> Any:
    """A fresh diffusers scheduler, from the model's own scheduler settings and the sampler's over them.

    Args:
        config: the scheduler config as the model was loaded with: `from_config` chains leak options from
            one scheduler to the next.
        dtype: of the latents; below float32, the scheduler computes and draws noise in float32 all the same.
        seeds: one for each image of the batch; only DPM++ SDE needs them, as it draws from no generator.
        xl: "align_your_steps" takes SDXL's timesteps instead of Stable Diffusion 1.5's.
    Raises:
        InvalidRequest: the sampler needs a package that is not installed.
        ModelError: diffusers has no scheduler of that name.
    """
    check_installed(sampler)
    if sampler.family == "own":
        return _from_config(sampler.scheduler, config, {})
    scheduler = _flow(sampler, config) if sampler.family == "flow" else _diffusion(sampler, config, xl=xl)
    if sampler.solver == "pndm":
        start_anywhere(scheduler)
    if sampler.solver == "lms":
        start_with_one_point(scheduler)
    if sampler.solver == "dpmpp_3m_sde":
        correct_third_order(scheduler)
    if sampler.solver == "dpmpp_sde":
        draw_from_seeds(scheduler, seeds)
    if dtype != torch.float32:
        compute_in_float32(scheduler)
    return scheduler


def _from_config(name: str, config: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    import diffusers

    scheduler_class = getattr(diffusers, name, None)
    if scheduler_class is None:
        raise ModelError(f"scheduler must be one of diffusers {diffusers.__version__}, got {name!r}")
    if name.startswith("KDPM2"):
        scheduler_class = reading_numpy(scheduler_class)
    known = inspect.signature(scheduler_class).parameters
    return scheduler_class.from_config(dict(config), **{k: v for k, v in options.items() if k in known})


def _flags(schedule: str) -> dict[str, bool]:
    return {flag: schedule == name for name, flag in _FLAGS.items()}


def _diffusion(sampler: Sampler, config: Mapping[str, Any], *, xl: bool) -> Any:
    flags = _flags("exponential" if sampler.schedule in _OWN_LEVELS else sampler.schedule)
    pinned = {"thresholding": False, "use_flow_sigmas": False, "timestep_spacing": sampler.spacing}
    scheduler = _from_config(sampler.scheduler, config, {**pinned, **flags, **dict(sampler.options)})
    if sampler.solver == "euler_a" and sampler.schedule != "default":
        _follow(scheduler, _diffusion(with_schedule("euler", sampler.schedule), config, xl=xl))
    _set_noise_levels(scheduler, sampler, xl=xl)
    _mend_timesteps(scheduler, sampler)
    return scheduler


def _set_noise_levels(scheduler: Any, sampler: Sampler, *, xl: bool) -> None:
    """Puts our rule, or diffusers' own rule mended, in the place of one of the scheduler's converters."""
    name = "_convert_to_" + ("exponential" if sampler.schedule in _OWN_LEVELS else sampler.schedule)
    convert = getattr(scheduler, name, None)
    if convert is not None and sampler.schedule in _OWN_LEVELS:
        setattr(scheduler, name, lambda in_sigmas, num_inference_steps: noise_levels(
            scheduler.alphas_cumprod, sampler.schedule, num_inference_steps, xl=xl
        ))  # fmt: skip
    elif convert is not None and sampler.scheduler in _END_ABOVE_ZERO:
        # These two would repeat the last level, and spend a denoiser call on a step of no length.
        setattr(scheduler, name, lambda in_sigmas, num_inference_steps: convert(
            in_sigmas=in_sigmas, num_inference_steps=num_inference_steps + 1
        )[:-1])  # fmt: skip
    if sampler.scheduler in _WHOLE_TIMESTEPS:
        # Left to themselves they cut the fraction off, except on the Karras schedule, where they round.
        to_timestep = scheduler._sigma_to_t
        scheduler._sigma_to_t = lambda sigma, log_sigmas: np.round(to_timestep(sigma, log_sigmas))


def _mend_timesteps(scheduler: Any, sampler: Sampler) -> None:
    """Makes `set_timesteps` give exactly the timesteps that were asked for, walked through by position."""
    set_timesteps = scheduler.set_timesteps

    @functools.wraps(set_timesteps)
    def mended(num_inference_steps: int, device: Any = None, **options: Any) -> None:
        # The one point of a "linspace" of one is its last, where there is no noise.
        spacing = "trailing" if num_inference_steps == 1 else sampler.spacing
        scheduler.register_to_config(timestep_spacing=spacing)
        set_timesteps(num_inference_steps, **options)
        if sampler.scheduler in _BY_TIMESTEPS and sampler.schedule != "default":
            # A latent consistency pipeline passes how far from the end it starts.
            train_steps = int(len(scheduler.alphas_cumprod) * options.get("strength", 1.0))
            spaced = spaced_timesteps(sampler.schedule, num_inference_steps, train_steps)
            scheduler.timesteps = torch.from_numpy(spaced.astype(np.int64))
        if sampler.scheduler in _END_ABOVE_ZERO:
            scheduler.sigmas[-1] = _sigma_table(scheduler.alphas_cumprod)[0]
        # "trailing" counts down in floating point: at 61 steps, 103, 121 ... it adds a timestep of -1,
        # which then reads the noisiest entry of every table.
        timesteps = scheduler.timesteps[scheduler.timesteps >= 0]
        # Not every device has float64, in which some classes leave them.
        scheduler.timesteps = (timesteps.float() if timesteps.is_floating_point() else timesteps).to(device)

    scheduler.set_timesteps = mended
    if not hasattr(scheduler, "index_for_timestep"):
        return
    index_for_timestep = scheduler.index_for_timestep

    @functools.wraps(index_for_timestep)
    def index(timestep: Any, schedule_timesteps: Tensor | None = None) -> int:
        # From 50 steps on, beta steps share the first whole timestep; diffusers would start from the second.
        known = scheduler.timesteps if schedule_timesteps is None else schedule_timesteps
        return 0 if timestep == known[0] else index_for_timestep(timestep, schedule_timesteps)

    scheduler.index_for_timestep = index


def _follow(scheduler: Any, leader: Any) -> None:
    """Makes a scheduler go through the levels of another class, which knows more schedules."""

    def set_timesteps(num_inference_steps: int, device: Any = None) -> None:
        leader.set_timesteps(num_inference_steps, device)
        scheduler.num_inference_steps, scheduler.timesteps = num_inference_steps, leader.timesteps
        scheduler.sigmas, scheduler._step_index, scheduler._begin_index = leader.sigmas, None, None

    scheduler.set_timesteps = set_timesteps


def _flow(sampler: Sampler, config: Mapping[str, Any]) -> Any:
    flags = {} if sampler.schedule == "default" else _flags(sampler.schedule)
    euler = _from_config("FlowMatchEulerDiscreteScheduler", config, {**flags, "stochastic_sampling": False})
    if sampler.schedule in _OWN_LEVELS:
        _space_evenly(euler)
    if sampler.solver == "flow_euler":
        return euler
    heun = _from_config(sampler.scheduler, config, {})
    _follow_in_two_calls(heun, euler)
    return heun


def _space_evenly(scheduler: Any) -> None:
    """Sigmas 1, 1 - 1/N ... 1/N before the model's own shift, as FLUX's pipeline has them."""
    set_timesteps = scheduler.set_timesteps

    @functools.wraps(set_timesteps)
    def evenly(
        num_inference_steps: int | None = None, device: Any = None, sigmas: Any = None, **options: Any
    ) -> None:
        steps = len(sigmas) if num_inference_steps is None else num_inference_steps
        set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps), device=device, **options)

    scheduler.set_timesteps = evenly


def _follow_in_two_calls(heun: Any, euler: Any) -> None:
    """Makes flow-match Heun take what flow-match Euler's `set_timesteps` takes, and go through its sigmas."""

    @functools.wraps(euler.set_timesteps)
    def set_timesteps(*arguments: Any, **options: Any) -> None:
        euler.set_timesteps(*arguments, **options)
        sigmas, timesteps = euler.sigmas, euler.timesteps
        heun.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
        heun.timesteps = torch.cat([timesteps[:1], timesteps[1:].repeat_interleave(2)])
        heun.num_inference_steps = euler.num_inference_steps
        heun.prev_derivative = heun.dt = heun.sample = heun._step_index = heun._begin_index = None
        # Given sigmas, a pipeline takes timesteps for steps, and from a picture would skip two for each.
        heun.order = 1 if options.get("sigmas") is not None else 2

    step = heun.step

    @functools.wraps(step)
    def whole(model_output: Tensor, timestep: Any, sample: Tensor, *arguments: Any, **options: Any) -> Any:
        if heun.step_index is None:
            heun._init_step_index(timestep)
        if heun.state_in_first_order and heun.step_index % 2:
            # Started on the second call of a step: that step has nothing left to do.
            heun._step_index += 1
            return (sample,)
        return step(model_output, timestep, sample, *arguments, **options)

    heun.set_timesteps, heun.step = set_timesteps, whole
