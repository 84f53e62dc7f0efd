"""What samplers are called elsewhere: the WebUI, ComfyUI, k-diffusion, diffusers. No torch here.

Case, spaces, hyphens and underscores never matter, and "++" is "pp". A name may end with a schedule's, or the
schedule may be given apart. What other tools have and diffusers has not is known by name, so that it can be
refused with what comes nearest, instead of being taken for a slip of the pen.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from sdkit._errors import InvalidRequest, UnknownSampler
from sdkit._samplers import SCHEDULE_TITLES, Sampler, check_installed, samplers, with_schedule


@dataclass(frozen=True)
class _Absent:
    """A solver of other tools that diffusers has not."""

    title: str
    names: tuple[str, ...]
    nearest: tuple[str, ...]


_ABSENT = (
    _Absent("DPM++ 2S a", ("dpmpp_2s_a", "dpmpp_2s_ancestral"), ("dpmpp_sde", "dpm2_a")),
    _Absent("DPM++ 2S", ("dpmpp_2s", "DPMSolverSinglestepScheduler"), ("dpmpp_2m", "dpm2")),
    _Absent("DPM++ 3M", ("dpmpp_3m",), ("dpmpp_3m_sde", "dpmpp_2m")),
    _Absent("DPM fast", ("dpm_fast",), ("dpmpp_2m", "dpm2")),
    _Absent("DPM adaptive", ("dpm_adaptive", "dpm_ad"), ("dpmpp_2m_karras", "heun")),
    _Absent("Restart", ("restart",), ("heun", "dpmpp_sde")),
    _Absent("DDIM CFG++", ("ddim_cfgpp", "ddim_cfg_pp"), ("ddim",)),
    _Absent("Euler CFG++", ("euler_cfg_pp",), ("euler",)),
    _Absent("Euler a CFG++", ("euler_a_cfg_pp", "euler_ancestral_cfg_pp"), ("euler_a",)),
    _Absent("DPM++ 2M CFG++", ("dpmpp_2m_cfg_pp",), ("dpmpp_2m",)),
    _Absent("DPM++ 2S a CFG++", ("dpmpp_2s_ancestral_cfg_pp",), ("dpmpp_sde", "dpm2_a")),
    _Absent("Heun++ 2", ("heunpp2",), ("heun",)),
    _Absent("iPNDM", ("ipndm", "IPNDMScheduler"), ("pndm", "deis")),
    _Absent("iPNDM_v", ("ipndm_v",), ("pndm", "deis")),
    _Absent("RES multistep", ("res_multistep", "res_multistep_cfg_pp"), ("dpmpp_2m", "unipc")),
    _Absent("RES multistep a", ("res_multistep_ancestral", "res_multistep_ancestral_cfg_pp"),
            ("dpmpp_2m_sde",)),
    _Absent("Gradient estimation", ("gradient_estimation", "gradient_estimation_cfg_pp"), ("euler",)),
    _Absent("ER SDE", ("er_sde",), ("dpmpp_3m_sde", "dpmpp_2m_sde")),
    _Absent("SEEDS 2", ("seeds_2",), ("dpmpp_sde",)),
    _Absent("SEEDS 3", ("seeds_3",), ("dpmpp_3m_sde",)),
    _Absent("SA Solver PECE", ("sa_solver_pece",), ("sa_solver",)),
)  # fmt: skip

# Other names of the schedules that there are; then the ones that there are not, with what comes nearest.
_SCHEDULES = {"uniform": "default", "ays": "align_your_steps", "trailing": "sgm_uniform"}
_ABSENT_SCHEDULES = {
    "polyexponential": ("Polyexponential", "exponential"),
    "kl_optimal": ("KL Optimal", "align_your_steps"),
    "ddim": ("DDIM", "sgm_uniform"),
    "ddim_uniform": ("DDIM uniform", "sgm_uniform"),
    "turbo": ("Turbo", "sgm_uniform"),
    "linear_quadratic": ("Linear quadratic", "simple"),
    "align_your_steps_gits": ("Align Your Steps GITS", "align_your_steps"),
    "gits": ("GITS", "align_your_steps"),
    "align_your_steps_11": ("Align Your Steps 11", "align_your_steps"),
    "align_your_steps_32": ("Align Your Steps 32", "align_your_steps"),
}
# k-diffusion's functions are sample_..., the WebUI's names of old k_..., ComfyUI's ..._gpu draw on the GPU.
_WRAPPINGS = (r"^$", r"(?i)^(sample|k)[\s\-_]+|[\s\-_]+gpu$")
_NORMAL_BY_DEFAULT = (
    "lms",
    "euler",
    "euler_a",
    "heun",
    "dpm2",
    "dpm2_a",
    "dpmpp_sde",
    "deis",
    "flow_euler",
    "flow_heun",
)
_AUTOMATIC = "automatic"
# What the WebUI's "Automatic" stands for; with every other solver it is the solver's own default.
_AUTOMATIC_SCHEDULES = {
    "dpmpp_2m": "karras", "dpmpp_sde": "karras", "dpm2": "karras", "dpm2_a": "karras",
    "dpmpp_2m_sde": "exponential", "dpmpp_2m_sde_heun": "exponential", "dpmpp_3m_sde": "exponential",
}  # fmt: skip


def _plain(name: str) -> str:
    return re.sub(r"[\s\-_]+", "", name.lower().replace("++", "pp"))


_SOLVERS = {
    _plain(name): sampler.solver
    for sampler in reversed(samplers())
    if sampler.schedule == "default"
    for name in (sampler.scheduler, sampler.name, sampler.title, *sampler.aliases)
}
_ABSENT_SOLVERS = {_plain(name): absent for absent in _ABSENT for name in (absent.title, *absent.names)}
_SCHEDULE_NAMES = {
    **{_plain(name): name for name in (*SCHEDULE_TITLES, _AUTOMATIC)},
    **{_plain(name): schedule for name, schedule in _SCHEDULES.items()},
    **{_plain(name): name for name in _ABSENT_SCHEDULES},
}


def find_sampler(name: str | Sampler, schedule: str | None = None) -> Sampler:
    """The sampler of a name, by any of the names that it goes by.

    Args:
        name: ours, the WebUI's, ComfyUI's, k-diffusion's or diffusers' class; it may end with a schedule.
        schedule: ours, the WebUI's or ComfyUI's; None is what the name says, or the default.
    Raises:
        UnknownSampler: no sampler has this name, or diffusers has none such; the message holds the nearest.
        InvalidRequest: no such schedule, or the solver does not accept it, or two different ones are named.
    """
    if schedule is not None and not isinstance(schedule, str):
        raise InvalidRequest(f"schedule must be a name or None, got {schedule!r}")
    apart = None if schedule is None else _find_schedule(schedule)
    if isinstance(name, Sampler):
        if apart is None or apart == name.schedule or name.family == "own":
            return name
        solver, inside = name.solver, None if name.schedule == "default" else name.schedule
    elif isinstance(name, str):
        solver, inside = _split(name)
    else:
        raise UnknownSampler(f"sampler must be a name, got {name!r}; see sdkit.samplers()")
    return with_schedule(solver, _one_schedule(solver, inside, apart, name))


def fit_sampler(sampler: Sampler, family: str, model: str) -> Sampler:
    """The sampler itself, or the same solver and schedule for a flow-match model.

    Args:
        family: of the model: "diffusion", "flow" or "own".
        model: its name, for the message.
    Raises:
        InvalidRequest: it cannot run this model, nor can its namesake; or a package is missing.
    """
    check_installed(sampler)
    if sampler.family == family:
        return sampler
    if family == "own":
        raise InvalidRequest(
            f"sampler must be left out for {model}, which only its own scheduler can run, got {sampler.name}"
        )
    if family == "flow":
        if sampler.solver in ("euler", "heun"):
            return with_schedule(f"flow_{sampler.solver}", sampler.schedule)
        raise InvalidRequest(
            f"sampler must be flow_euler or flow_heun for {model}, a flow-match model, got {sampler.name}"
        )
    instead = f"; try {sampler.solver.removeprefix('flow_')}" if sampler.family == "flow" else ""
    raise InvalidRequest(f"sampler must be of a diffusion model for {model}, got {sampler.name}{instead}")


def _split(name: str) -> tuple[str, str | None]:
    """The solver and the schedule that a name holds, by our names."""
    for plain in dict.fromkeys(_plain(re.sub(pattern, "", name.strip())) for pattern in _WRAPPINGS):
        for end in ("", *sorted(_SCHEDULE_NAMES, key=len, reverse=True)):
            stem = plain.removesuffix(end)
            if not plain.endswith(end) or not (stem in _SOLVERS or stem in _ABSENT_SOLVERS):
                continue
            if stem in _SOLVERS:
                return _SOLVERS[stem], _known(_SCHEDULE_NAMES[end]) if end else None
            absent = _ABSENT_SOLVERS[stem]
            raise UnknownSampler(
                f"{absent.title} has no equivalent in diffusers; nearest: {', '.join(absent.nearest)}"
            )
    near = difflib.get_close_matches(_plain(name), [*_SOLVERS, *_ABSENT_SOLVERS], n=8, cutoff=0.5)
    nearest = list(dict.fromkeys(solver for match in near for solver in _near(match)))[:3]
    hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
    raise UnknownSampler(
        f"sampler must be one of {', '.join(s.name for s in samplers())}, got {name!r}{hint}"
    )


def _near(match: str) -> tuple[str, ...]:
    return (_SOLVERS[match],) if match in _SOLVERS else _ABSENT_SOLVERS[match].nearest


def _find_schedule(name: str) -> str:
    plain = _plain(name)
    if plain in _SCHEDULE_NAMES:
        return _known(_SCHEDULE_NAMES[plain])
    near = difflib.get_close_matches(plain, _SCHEDULE_NAMES, n=6, cutoff=0.5)
    nearest = [s for s in dict.fromkeys(_SCHEDULE_NAMES[match] for match in near) if s in SCHEDULE_TITLES][:3]
    hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
    raise InvalidRequest(f"schedule must be one of {', '.join(SCHEDULE_TITLES)}, got {name!r}{hint}")


def _known(schedule: str) -> str:
    if schedule in _ABSENT_SCHEDULES:
        title, nearest = _ABSENT_SCHEDULES[schedule]
        raise InvalidRequest(f"schedule {title} has no equivalent in diffusers; nearest: {nearest}")
    return schedule


def _one_schedule(solver: str, inside: str | None, apart: str | None, name: str | Sampler) -> str:
    """The schedule that was named, at whichever place, by our name."""
    if inside is not None and apart == _AUTOMATIC:
        apart = None
    inside, apart = (None if schedule is None else _meant(solver, schedule) for schedule in (inside, apart))
    if inside is not None and apart is not None and inside != apart:
        raise InvalidRequest(
            f"schedule must be named once, got {apart} beside {inside} in the sampler "
            f"{name.name if isinstance(name, Sampler) else name!r}"
        )
    return inside or apart or "default"


def _meant(solver: str, schedule: str) -> str:
    if schedule == _AUTOMATIC:
        return _AUTOMATIC_SCHEDULES.get(solver, "default")
    if schedule == "normal" and solver in _NORMAL_BY_DEFAULT:
        return "default"
    return schedule
