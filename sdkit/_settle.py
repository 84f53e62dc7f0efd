"""What a request means for one model: every None replaced by the model's own value, all that cannot be refused.

Needs diffusers' classes, for what their calls take, and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdkit._backend.tasks import Task, find_task, refuse_untaken
from sdkit._checks import SIDE_MULTIPLE_PX
from sdkit._errors import InvalidRequest
from sdkit._guidance import Interval, refuse_interval
from sdkit._request import Request
from sdkit._sampler_names import find_sampler, fit_sampler
from sdkit._samplers import Sampler, own_sampler

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdkit._models import Resolved
    from sdkit._session import Session

_IMAGE_STRENGTH, _INPAINT_STRENGTH = 0.8, 1.0
_IMAGE_GUIDANCE = 1.5


@dataclass(frozen=True)
class Settled:
    """A request as one model will run it."""

    task: Task
    sampler: Sampler
    steps: int
    guidance_scale: float | None
    """None where the pipeline takes none."""
    size: tuple[int, int] | None
    """Width and height, pixels; None where only the pipeline knows."""
    strength: float | None
    image_guidance_scale: float | None
    control_scales: tuple[float, ...]
    warnings: tuple[str, ...]
    guidance_interval: Interval | None = None
    """None where nothing is guided, too."""

    @property
    def evaluations(self) -> int:
        """Denoiser calls that are to be expected, for a progress bar: what ran is counted."""
        steps = self.steps if self.strength is None else max(1, int(self.steps * self.strength))
        return self.sampler.evaluations(steps)


def settle(session: Session, files: Resolved, request: Request) -> Settled:
    """The request as this session's model will run it.

    Raises:
        InvalidRequest: the model, or its pipeline in diffusers, cannot do it.
    """
    name = session.name
    task = task_of(files, request.task, controlnet=bool(files.controlnets))
    refuse_untaken(task, request, name)
    if request.guidance_interval is not None:
        refuse_interval(task.pipeline, name)
    _check_controls(files, request)
    _check_refiner(files, request, name)
    sampler = _sampler(session, files, request)
    steps = request.steps or files.defaults.steps or int(task.defaults.get("num_inference_steps", 20))
    if sampler.family != "own":
        steps = sampler.check_steps(steps)
    guidance = _guidance(files, request, task)
    strength = _strength(request, task, steps)
    settled = Settled(
        task=task,
        sampler=sampler,
        steps=steps,
        guidance_scale=guidance,
        size=_size(session, files, request),
        strength=strength,
        image_guidance_scale=_image_guidance(request, task),
        control_scales=_scales(files, request),
        warnings=_warnings(request, guidance),
        guidance_interval=None if _is_off(guidance) else request.guidance_interval,
    )
    if request.trajectory is not None and request.trajectory > settled.evaluations + 1:
        raise InvalidRequest(
            f"trajectory must be 2..{settled.evaluations + 1} for {settled.evaluations} denoiser calls,"
            f" got {request.trajectory}"
        )
    return settled


def task_of(files: Resolved, kind: str, *, controlnet: bool) -> Task:
    """What a model does with a request of this kind: "text", "image" or "inpaint"; raises as `find_task`."""
    base = files.base
    return find_task(
        base.pipeline,
        kind,
        controlnet=controlnet,
        needs_image=base.folder.needs_aesthetics,
        model=base.name,
    )


def _sampler(session: Session, files: Resolved, request: Request) -> Sampler:
    default = files.defaults.sampler
    if request.sampler is not None:
        return fit_sampler(request.sampler, session.family, session.name)
    if default is not None:
        return fit_sampler(find_sampler(default), session.family, session.name)
    return own_sampler(str(files.base.folder.scheduler.get("_class_name", "")))


def _guidance(files: Resolved, request: Request, task: Task) -> float | None:
    if "guidance_scale" not in task.takes:
        return None
    if request.guidance_scale is not None:
        return request.guidance_scale
    known = files.defaults.guidance_scale
    return float(task.defaults["guidance_scale"]) if known is None else known


def _strength(request: Request, task: Task, steps: int) -> float | None:
    if "strength" not in task.takes:
        return None
    default = _INPAINT_STRENGTH if task.kind == "inpaint" else _IMAGE_STRENGTH
    strength = default if request.strength is None else request.strength
    if int(steps * strength) < 1:
        raise InvalidRequest(
            f"strength must leave at least one of {steps} steps, got {strength:g}; raise it to {1 / steps:.2g} or more"
        )
    return strength


def _image_guidance(request: Request, task: Task) -> float | None:
    if "image_guidance_scale" not in task.takes:
        return None
    return _IMAGE_GUIDANCE if request.image_guidance_scale is None else request.image_guidance_scale


def _size(session: Session, files: Resolved, request: Request) -> tuple[int, int] | None:
    """The size asked for, or else the starting picture's, cut to what the model can draw."""
    width, height = request.width, request.height
    for name, pictures in (("image", request.images), ("mask", request.masks)):
        _check_same_size(name, pictures, given=width is not None and height is not None)
    if request.images:
        grain = max(files.base.folder.sizes.multiple_px, SIDE_MULTIPLE_PX)
        own = [max(side - side % grain, grain) for side in request.images[0].size]
        width, height = own[0] if width is None else width, own[1] if height is None else height
    return session.check_size(width, height)


def _check_same_size(name: str, pictures: Sequence[Image], *, given: bool) -> None:
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1 and not given:
        several = ", ".join(f"{w}x{h}" for w, h in sorted(sizes))
        raise InvalidRequest(f"{name} must be of one size, or come with width and height, got {several}")


def _check_controls(files: Resolved, request: Request) -> None:
    nets, pictures, scales = len(files.controlnets), len(request.control_images), len(request.control_scales)
    if pictures and not nets:
        raise InvalidRequest(
            "control_image must come with the ControlNet that reads it; give controlnet= too"
        )
    if nets and not pictures:
        raise InvalidRequest("controlnet must come with the picture that it reads; give control_image= too")
    if pictures != nets:
        raise InvalidRequest(
            f"control_image must be one picture for each of {nets} ControlNets, got {pictures}"
        )
    if request.control_scales != (1.0,) and not nets:
        raise InvalidRequest("control_scale must come with a ControlNet; give controlnet= too")
    if nets and scales not in (1, nets):
        raise InvalidRequest(
            f"control_scale must be one number, or one for each of {nets} ControlNets, got {scales}"
        )


def _check_refiner(files: Resolved, request: Request, name: str) -> None:
    if files.refiner is None:
        return
    if files.base.pipeline != "StableDiffusionXLPipeline" or request.task != "text" or files.controlnets:
        raise InvalidRequest(
            f"refiner must follow an SDXL model from text to image, got {name} ({files.base.pipeline}), {request.task}"
        )
    if not 0.0 < request.refiner_start < 1.0:
        raise InvalidRequest(f"refiner_start must be between 0 and 1, got {request.refiner_start:g}")


def _scales(files: Resolved, request: Request) -> tuple[float, ...]:
    nets = len(files.controlnets)
    return request.control_scales * nets if len(request.control_scales) == 1 else request.control_scales


def _warnings(request: Request, guidance: float | None) -> tuple[str, ...]:
    given = {
        "negative_prompt": bool(request.negative_prompt),
        "guidance_interval": request.guidance_interval is not None,
    }
    if guidance is None or not _is_off(guidance):
        return ()
    return tuple(
        f"{name} has no effect: guidance_scale is {guidance:g}, which is off"
        for name, is_given in given.items()
        if is_given
    )


def _is_off(guidance: float | None) -> bool:
    return guidance is not None and guidance <= 1.0
