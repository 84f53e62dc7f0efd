"""The samplers that can be asked for by name: how each is built, and what it costs. No torch here.

A sampler is a solver and a schedule: the rule that takes a step, and the noise levels that it steps through.
On the default schedule timestep spacing is pinned for each, so that the model's own scheduler file never
decides it. On "leading", which those files prefer, the step count moves the timestep that sampling starts
from (951 at 20 steps, 901 at 10); "linspace" and "trailing" always start from the last one, where the first
noise belongs. DDIM, DDPM and PLMS step by a fixed stride, which only "trailing" agrees with. A flow-match
model keeps the shifts of its own scheduler file.
"""

from __future__ import annotations

import functools
import importlib.util
import operator
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex

from sdkit._errors import InvalidRequest

MAX_STEPS = 1000
"""Training timesteps of every Stable Diffusion model; no sampler can use more."""

SCHEDULE_TITLES = {
    "default": "Uniform",
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "beta": "Beta",
    "sgm_uniform": "SGM Uniform",
    "leading": "Leading",
    "simple": "Simple",
    "align_your_steps": "Align Your Steps",
}
"""Every schedule, and what the WebUI calls it."""

_Options = tuple[tuple[str, bool | int | str | None], ...]


@dataclass(frozen=True)
class Sampler:
    """One way to go from noise to a picture, and its price.

    Example:
        >>> from sdkit import samplers
        >>> heun = next(sampler for sampler in samplers() if sampler.name == "heun")
        >>> heun.title, heun.order, heun.formula, heun.evaluations(20)
        ('Heun', 2, '2N-1', 39)
        >>> heun.check_steps(2)
        Traceback (most recent call last):
        sdkit._errors.InvalidRequest: steps must be 3..1000 for heun, got 2
    """

    name: str
    """The public name: the solver, and the schedule where it is not the default one."""
    title: str
    """What the WebUI calls it."""
    solver: str
    schedule: str
    """One of `schedules`."""
    scheduler: str
    """Class name in diffusers."""
    order: int
    """Published order of convergence; 1 for the stochastic ones."""
    spacing: str
    """Of timesteps on the default schedule: "linspace" or "trailing"; "" leaves it to the model.

    The schedule "leading", which the schedulers of Stable Diffusion and SDXL were published with, sets it to that.
    """
    options: _Options = ()
    """What else is set on the scheduler, over the model's own scheduler file."""
    stochastic: bool = False
    """True when noise is drawn in every step, from each picture's own generator."""
    family: str = "diffusion"
    """ "diffusion" or "flow": which models it runs; "own": the model's own scheduler, whatever it is."""
    eta: float = 0.0
    """What a pipeline is given as `eta`, which only DDIM and TCD read."""
    evals_per_step: int = 1
    extra_evals: int = 0
    min_steps: int = 1
    """Fewer than this and the sampler blows up."""
    max_steps: int = MAX_STEPS
    """More than this and it repeats a timestep, and divides by zero."""
    aliases: tuple[str, ...] = ()
    """Other names of the solver."""
    schedules: tuple[str, ...] = ("default",)
    """All schedules that the solver accepts."""

    @property
    def formula(self) -> str:
        """Denoiser calls in terms of the steps N: "N", "2N-1", "N+1"."""
        extra = f"{self.extra_evals:+d}" if self.extra_evals else ""
        return f"{self.evals_per_step if self.evals_per_step > 1 else ''}N{extra}"

    def evaluations(self, steps: int) -> int:
        """Denoiser calls that `steps` steps make; guidance doubles the rows of a call, not the calls."""
        return self.evals_per_step * steps + self.extra_evals

    def steps_done(self, evaluations: int, total_evaluations: int) -> int:
        """Whole steps that are finished after so many denoiser calls.

        Args:
            evaluations: calls made, 0..total_evaluations.
            total_evaluations: calls of the whole run; fewer than `evaluations(steps)` where it starts from a
                picture. The last step of a solver of two calls has only one.
        """
        if self.evals_per_step == 1:
            return max(evaluations - self.extra_evals, 0)
        missing = self.evals_per_step - 1 if evaluations >= total_evaluations else 0
        return (evaluations + missing) // self.evals_per_step

    def check_steps(self, steps: object) -> int:
        """The steps as an int, when this sampler can run them.

        Raises:
            InvalidRequest: not a whole number that it can run.
        """
        whole = (
            None if isinstance(steps, bool) or not isinstance(steps, SupportsIndex) else operator.index(steps)
        )
        if whole is None or not self.min_steps <= whole <= self.max_steps:
            whose = "" if (self.min_steps, self.max_steps) == (1, MAX_STEPS) else f" for {self.name}"
            raise InvalidRequest(f"steps must be {self.min_steps}..{self.max_steps}{whose}, got {steps!r}")
        return whole


_SIGMAS = ("default", "karras", "exponential", "beta", "sgm_uniform", "simple", "align_your_steps")
_MULTISTEP = ("default", "normal", *_SIGMAS[1:])
# With too few steps a solver of two calls overshoots on its way to the lowest noise: an exact denoiser's
# pictures come out more than five times too contrasty. These schedules stay well above it.
_GENTLE = ("sgm_uniform", "simple", "align_your_steps")
_MIN_STEPS = {("heun", "beta"): 4, ("dpm2", "beta"): 5, ("dpm2_a", "exponential"): 4, ("dpm2_a", "beta"): 6}
_STRIDE = ("default", "sgm_uniform")
_LEADING = "leading"
_FLOW = ("default", "karras", "exponential", "beta", "sgm_uniform", "simple")
_TO_ZERO = (("final_sigmas_type", "zero"), ("lower_order_final", True))
_DPMPP = (*_TO_ZERO, ("algorithm_type", "dpmsolver++"), ("solver_type", "midpoint"), ("solver_order", 2),
          ("euler_at_final", False), ("use_lu_lambdas", False))  # fmt: skip
_MULTI = "DPMSolverMultistepScheduler"
_SDE = ("algorithm_type", "sde-dpmsolver++")
_EULER = (("timestep_type", "discrete"), ("interpolation_type", "linear"), ("final_sigmas_type", "zero"))
# Latents are not pictures: clipping them to -1..1 is wrong, yet it is the default of some classes.
_NO_CLIP = (("clip_sample", False), ("thresholding", False))
# Solvers of two calls a step pay one for the last, which goes to zero noise by Euler's rule.
_TWO_CALLS: dict[str, Any] = {"evals_per_step": 2, "extra_evals": -1}


def _row(
    name: str, title: str, scheduler: str, order: int, spacing: str, options: _Options = (), **more: Any
) -> Sampler:
    more = {"schedules": _SIGMAS, **more}
    return Sampler(name, title, name, "default", scheduler, order, spacing, options, **more)


# Published orders: DDIM is Euler's rule in another variable (Song et al. 2021), Heun and DPM2 are of second
# order (Karras et al. 2022), so are DPM++ 2M (Lu et al. 2022b), DEIS with two points (Zhang and Chen 2023), PLMS
# (Liu et al. 2022) and UniPC's predictor of two points (Zhao et al. 2023), whose corrector adds one more. LMS is
# Adams-Bashforth of four points; it begins with fewer, where the path is all but straight, and 3.8 is measured.
_SOLVERS = (
    _row("ddim", "DDIM", "DDIMScheduler", 1, "trailing", _NO_CLIP, schedules=(*_STRIDE, _LEADING)),
    _row("ddpm", "DDPM", "DDPMScheduler", 1, "trailing", _NO_CLIP, stochastic=True,
         schedules=(*_STRIDE, "simple")),
    _row("pndm", "PLMS", "PNDMScheduler", 2, "trailing", (("skip_prk_steps", True),), extra_evals=1,
         min_steps=2, aliases=("plms",), schedules=(*_STRIDE, _LEADING)),
    _row("lms", "LMS", "LMSDiscreteScheduler", 4, "linspace"),
    _row("euler", "Euler", "EulerDiscreteScheduler", 1, "linspace", _EULER, schedules=(*_SIGMAS, _LEADING)),
    _row("euler_a", "Euler a", "EulerAncestralDiscreteScheduler", 1, "linspace", stochastic=True,
         aliases=("euler_ancestral",)),
    _row("heun", "Heun", "HeunDiscreteScheduler", 2, "linspace", (("clip_sample", False),), **_TWO_CALLS,
         min_steps=3),
    _row("dpm2", "DPM2", "KDPM2DiscreteScheduler", 2, "linspace", **_TWO_CALLS, min_steps=3),
    _row("dpm2_a", "DPM2 a", "KDPM2AncestralDiscreteScheduler", 1, "linspace", **_TWO_CALLS, min_steps=3,
         stochastic=True, aliases=("dpm_2_ancestral",)),
    _row("dpmpp_2m", "DPM++ 2M", _MULTI, 2, "linspace", _DPMPP, max_steps=MAX_STEPS - 1,
         aliases=("dpm_solver_multistep",), schedules=_MULTISTEP),
    _row("dpmpp_2m_sde", "DPM++ 2M SDE", _MULTI, 1, "linspace", (*_DPMPP, _SDE), max_steps=MAX_STEPS - 1,
         stochastic=True, schedules=_MULTISTEP),
    _row("dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun", _MULTI, 1, "linspace",
         (*_DPMPP, _SDE, ("solver_type", "heun")), max_steps=MAX_STEPS - 1, stochastic=True,
         schedules=_MULTISTEP),
    _row("dpmpp_3m_sde", "DPM++ 3M SDE", _MULTI, 1, "linspace",
         (*_DPMPP, _SDE, ("solver_order", 3)), max_steps=MAX_STEPS - 1, stochastic=True),
    _row("dpmpp_sde", "DPM++ SDE", "DPMSolverSDEScheduler", 1, "linspace", **_TWO_CALLS, stochastic=True),
    _row("unipc", "UniPC", "UniPCMultistepScheduler", 2, "linspace",
         (*_TO_ZERO, ("solver_order", 2), ("solver_type", "bh2"), ("predict_x0", True)),
         max_steps=MAX_STEPS - 1, aliases=("uni_pc_bh2",), schedules=_MULTISTEP),
    _row("deis", "DEIS", "DEISMultistepScheduler", 2, "linspace",
         (("lower_order_final", True), ("solver_order", 2), ("algorithm_type", "deis"),
          ("solver_type", "logrho")),
         max_steps=MAX_STEPS - 1),
    _row("sa_solver", "SA Solver", "SASolverScheduler", 1, "linspace",
         (("lower_order_final", True), ("predictor_order", 2), ("corrector_order", 2),
          ("algorithm_type", "data_prediction"), ("tau_func", None)),
         max_steps=MAX_STEPS - 1, stochastic=True),
    _row("lcm", "LCM", "LCMScheduler", 1, "trailing", (*_NO_CLIP, ("original_inference_steps", 50)),
         max_steps=50, stochastic=True, schedules=(*_STRIDE, "simple")),
    _row("tcd", "TCD", "TCDScheduler", 1, "trailing", (*_NO_CLIP, ("original_inference_steps", 50)),
         max_steps=50, stochastic=True, eta=0.3, schedules=(*_STRIDE, "simple")),
    _row("flow_euler", "Flow Euler", "FlowMatchEulerDiscreteScheduler", 1, "",
         (("stochastic_sampling", False),), family="flow", schedules=_FLOW),
    _row("flow_heun", "Flow Heun", "FlowMatchHeunDiscreteScheduler", 2, "", **_TWO_CALLS, family="flow",
         schedules=_FLOW),
)  # fmt: skip


@functools.cache
def with_schedule(solver: str, schedule: str) -> Sampler:
    """The sampler of a solver's and a schedule's own names.

    Raises:
        InvalidRequest: the solver does not accept the schedule; the message says which it does.
    """
    plain = next(sampler for sampler in _SOLVERS if sampler.solver == solver)
    if schedule == "default":
        return plain
    if schedule not in plain.schedules:
        raise InvalidRequest(
            f"schedule must be one of {', '.join(plain.schedules)} for {solver}, got {schedule!r}"
        )
    fewest = 1 if plain.evals_per_step == 2 and schedule in _GENTLE else plain.min_steps
    return replace(
        plain,
        name=f"{solver}_{schedule}",
        title=f"{plain.title} {SCHEDULE_TITLES[schedule]}",
        schedule=schedule,
        spacing=_LEADING if schedule == _LEADING else plain.spacing,
        # Its timesteps are whole strides, one on: with 1000 the last would lie beyond the table.
        max_steps=min(plain.max_steps, MAX_STEPS - 1) if schedule == _LEADING else plain.max_steps,
        min_steps=_MIN_STEPS.get((solver, schedule), fewest),
    )


def samplers() -> tuple[Sampler, ...]:
    """Every solver once, on its default schedule, and DPM++ 2M Karras, which is the default sampler.

    Example:
        >>> import sdkit
        >>> [sampler.name for sampler in sdkit.samplers() if sampler.evals_per_step == 2]
        ['heun', 'dpm2', 'dpm2_a', 'dpmpp_sde', 'flow_heun']
    """
    before = next(index for index, sampler in enumerate(_SOLVERS) if sampler.solver == "dpmpp_2m") + 1
    return (*_SOLVERS[:before], with_schedule("dpmpp_2m", "karras"), *_SOLVERS[before:])


def check_installed(sampler: Sampler) -> None:
    """Raises InvalidRequest when the sampler needs a package that is not installed."""
    if sampler.solver == "dpmpp_sde" and importlib.util.find_spec("torchsde") is None:
        raise InvalidRequest(f"{sampler.name} needs the package torchsde; pip install 'sdkit-t2i[sde]'")


def own_sampler(scheduler: str, order: int = 1) -> Sampler:
    """A model's own scheduler, run untouched: for models that are of neither family.

    Args:
        scheduler: class name in diffusers.
        order: denoiser calls of a step; the last has one.
    """
    return Sampler(
        "own", scheduler, "own", "default", scheduler, order, "",
        family="own", evals_per_step=order, extra_evals=1 - order,
    )  # fmt: skip
