"""What is known of models by what they are: family, defaults of distilled models. No torch here.

Distilled models draw in one to eight steps and must not be guided; asked for 20 steps at guidance 7.5
they give burnt pictures. Their files do not say so, but their schedulers and names do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

DEFAULT_SAMPLER = "dpmpp_2m_karras"
DEFAULT_FLOW_SAMPLER = "flow_euler"
DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 7.5

_DIFFUSION_SCHEDULERS = frozenset(
    f"{name}Scheduler"
    for name in (
        "PNDM", "DDIM", "DDPM", "LMSDiscrete", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete",
        "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverSDE",
        "UniPCMultistep", "DEISMultistep", "SASolver", "LCM", "TCD", "DDPMParallel", "DDIMParallel",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Defaults:
    """What is taken where a request says nothing; None leaves it to the pipeline's own default."""

    sampler: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None


# Source: the models' own cards. Order matters: the first that fits is taken.
_BY_NAME = (
    (re.compile(r"lcm", re.I), Defaults("lcm", 4, 1.0)),
    (re.compile(r"lightning", re.I), Defaults("euler_sgm_uniform", 4, 1.0)),
    (re.compile(r"hyper[-_]?sd", re.I), Defaults("ddim", 8, 1.0)),
    (re.compile(r"sdxl[-_]?turbo|sd[-_]?turbo", re.I), Defaults("euler_a_sgm_uniform", 1, 1.0)),
    (re.compile(r"turbo|schnell", re.I), Defaults(None, 4, 1.0)),
)
_STEPS_IN_NAME = re.compile(r"(\d{1,2})[-_ ]?steps?(?![a-z])", re.I)
_LIKE_SD = ("StableDiffusionPipeline", "StableDiffusionImg2Img", "StableDiffusionInpaint",
            "StableDiffusionInstructPix2Pix", "StableDiffusionControlNet")  # fmt: skip


def family(scheduler: dict[str, object]) -> str:
    """ "diffusion", "flow", or "own": which samplers can stand in for this scheduler.

    Args:
        scheduler: the contents of the model's scheduler_config.json.
    """
    name = str(scheduler.get("_class_name", ""))
    if name.startswith("FlowMatch"):
        return "flow"
    flows = scheduler.get("prediction_type") == "flow_prediction" or scheduler.get("use_flow_sigmas")
    return "diffusion" if name in _DIFFUSION_SCHEDULERS and not flows else "own"


def defaults(pipeline: str, scheduler: dict[str, object], names: Sequence[str]) -> Defaults:
    """The defaults of a model, from its pipeline, its scheduler file, and its name and its LoRAs' names.

    Args:
        pipeline: class name in diffusers.
        names: of the model, then of its LoRAs; the last one that is known counts.
    """
    kind = family(scheduler)
    found = Defaults({"diffusion": DEFAULT_SAMPLER, "flow": DEFAULT_FLOW_SAMPLER}.get(kind))
    if pipeline.startswith(_LIKE_SD):
        found = replace(found, steps=DEFAULT_STEPS, guidance_scale=DEFAULT_GUIDANCE)
    elif kind == "diffusion":
        found = replace(found, steps=DEFAULT_STEPS)
    if pipeline.startswith("LatentConsistencyModel"):
        return Defaults("lcm", 4, 8.5)
    if scheduler.get("_class_name") in ("LCMScheduler", "TCDScheduler"):
        sampler = "lcm" if scheduler["_class_name"] == "LCMScheduler" else "tcd"
        found = Defaults(sampler, 4, 1.0)
    for name in names:
        found = _named(name, kind, found)
    return found


def _named(name: str, kind: str, before: Defaults) -> Defaults:
    # Only the last part of a path speaks of the model; a folder above it may be called anything.
    short = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    for pattern, known in _BY_NAME:
        if pattern.search(short):
            steps = _STEPS_IN_NAME.search(short)
            sampler = known.sampler if kind == "diffusion" and known.sampler else before.sampler
            return Defaults(sampler, int(steps[1]) if steps else known.steps, known.guidance_scale)
    return before
