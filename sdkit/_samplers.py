"""The samplers that can be asked for by name: how each is built, and what it costs. No torch here.

Timestep spacing is pinned for each, so that the model's own scheduler file never decides it. On
"leading", which those files prefer, the step count moves the timestep that sampling starts from (951
at 20 steps, 901 at 10); "linspace" and "trailing" always start from the last one, where the first
noise belongs. DDIM, DDPM and PLMS step by a fixed stride, which only "trailing" agrees with.
"""

from __future__ import annotations

import difflib
import operator
import re
from dataclasses import dataclass
from typing import SupportsIndex

from sdkit._errors import InvalidRequest, UnknownSampler

MAX_STEPS = 1000
"""Training timesteps of every Stable Diffusion model; no sampler can use more."""


@dataclass(frozen=True)
class Sampler:
    """One way to go from noise to a picture, and its price."""

    name: str
    """The public name."""
    title: str
    """What other tools call it."""
    scheduler: str
    """Class name in diffusers."""
    order: int
    """Order of the solver; 1 for the stochastic ones."""
    spacing: str
    """How timesteps are spread: "linspace" or "trailing"; always set on the scheduler."""
    options: tuple[tuple[str, bool | int | str], ...] = ()
    """What else is set on the scheduler, over the model's own scheduler file."""
    stochastic: bool = False
    """True when noise is drawn in every step, from each picture's own generator."""
    aliases: tuple[str, ...] = ()
    evals_per_step: int = 1
    extra_evals: int = 0
    min_steps: int = 1
    """Fewer than this and the sampler blows up."""
    max_steps: int = MAX_STEPS
    """More than this and it repeats a timestep, and divides by zero."""

    def evaluations(self, steps: int) -> int:
        """Denoiser calls that `steps` steps make; guidance doubles the rows of a call, not the calls."""
        return self.evals_per_step * steps + self.extra_evals

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


_PLAIN_SIGMAS = (("use_karras_sigmas", False), ("use_exponential_sigmas", False), ("use_beta_sigmas", False))
_KARRAS_SIGMAS = (("use_karras_sigmas", True), ("use_exponential_sigmas", False), ("use_beta_sigmas", False))
_TO_ZERO = (("final_sigmas_type", "zero"), ("lower_order_final", True), ("solver_order", 2))
_DPMPP = (*_TO_ZERO, ("algorithm_type", "dpmsolver++"), ("solver_type", "midpoint"))
# Latents are not pictures: clipping them to -1..1 is wrong, yet it is the default of these two classes.
_NO_CLIP = (("clip_sample", False), ("thresholding", False))

_TABLE = (
    Sampler("ddim", "DDIM", "DDIMScheduler", 1, "trailing", _NO_CLIP),
    Sampler("ddpm", "DDPM", "DDPMScheduler", 1, "trailing", _NO_CLIP, stochastic=True),
    Sampler("pndm", "PLMS", "PNDMScheduler", 4, "trailing", (("skip_prk_steps", True),), aliases=("plms",),
            extra_evals=1, min_steps=2),
    Sampler("lms", "LMS", "LMSDiscreteScheduler", 4, "linspace", _PLAIN_SIGMAS, aliases=("k_lms",)),
    Sampler("euler", "Euler", "EulerDiscreteScheduler", 1, "linspace",
            (*_PLAIN_SIGMAS, ("timestep_type", "discrete"), ("interpolation_type", "linear")),
            aliases=("k_euler",)),
    Sampler("euler_a", "Euler a", "EulerAncestralDiscreteScheduler", 1, "linspace", stochastic=True,
            aliases=("euler_ancestral", "k_euler_a", "k_euler_ancestral")),
    Sampler("heun", "Heun", "HeunDiscreteScheduler", 2, "linspace", (*_PLAIN_SIGMAS, ("clip_sample", False)),
            aliases=("k_heun",), evals_per_step=2, extra_evals=-1, min_steps=3),
    Sampler("dpmpp_2m", "DPM++ 2M", "DPMSolverMultistepScheduler", 2, "linspace", (*_PLAIN_SIGMAS, *_DPMPP),
            aliases=("dpm_solver_multistep", "k_dpmpp_2m"), max_steps=MAX_STEPS - 1),
    Sampler("dpmpp_2m_karras", "DPM++ 2M Karras", "DPMSolverMultistepScheduler", 2, "linspace",
            (*_KARRAS_SIGMAS, *_DPMPP), aliases=("k_dpmpp_2m_karras",)),
    Sampler("unipc", "UniPC", "UniPCMultistepScheduler", 2, "linspace", (*_PLAIN_SIGMAS, *_TO_ZERO),
            aliases=("uni_pc",), max_steps=MAX_STEPS - 1),
    Sampler("deis", "DEIS", "DEISMultistepScheduler", 2, "linspace",
            (*_PLAIN_SIGMAS, ("lower_order_final", True), ("solver_order", 2)), max_steps=MAX_STEPS - 1),
)  # fmt: skip

_BY_NAME = {name: sampler for sampler in _TABLE for name in (sampler.name, *sampler.aliases)}


def samplers() -> tuple[Sampler, ...]:
    """All samplers, each once."""
    return _TABLE


def find_sampler(name: str | Sampler) -> Sampler:
    """The sampler of a name or alias; case, spaces, hyphens and "++" as in "DPM++ 2M" do not matter.

    Raises:
        UnknownSampler: no sampler has this name; the message holds the nearest.
    """
    if isinstance(name, Sampler):
        return name
    if not isinstance(name, str):
        raise UnknownSampler(f"sampler must be a name, got {name!r}; see sdkit.samplers()")
    plain = re.sub(r"[\s\-]+", "_", name.strip().lower().replace("++", "pp"))
    if plain in _BY_NAME:
        return _BY_NAME[plain]
    near = difflib.get_close_matches(plain, _BY_NAME, n=6, cutoff=0.5)
    nearest = list(dict.fromkeys(_BY_NAME[match].name for match in near))[:3]
    hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
    raise UnknownSampler(f"sampler must be one of {', '.join(s.name for s in _TABLE)}, got {name!r}{hint}")
