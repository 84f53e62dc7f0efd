"""Which diffusers pipeline does a task, and which of its arguments carry what.

There is one path for every family: what a pipeline's own signature takes is passed, and what it does
not take is refused by name. Nothing here knows a family but by the names of its arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sdkit._errors import InvalidRequest, ModelError
from sdkit._request import Request

# Ours, or decided by ours; `options=` may not set them behind our back.
_TAKEN = frozenset(
    {"prompt", "negative_prompt", "prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds",
     "negative_pooled_prompt_embeds", "image", "mask_image", "control_image", "strength", "width", "height",
     "num_inference_steps", "guidance_scale", "image_guidance_scale", "controlnet_conditioning_scale", "generator",
     "latents", "eta", "output_type", "return_dict", "callback", "callback_steps", "callback_on_step_end",
     "callback_on_step_end_tensor_inputs", "num_images_per_prompt", "denoising_start", "denoising_end", "timesteps",
     "sigmas", "self", "args", "kwargs"}
)  # fmt: skip

# For the pipelines that take them when they are made: nothing judges the pictures, or marks them.
UNWANTED: dict[str, Any] = {
    "safety_checker": None,
    "feature_extractor": None,
    "image_encoder": None,
    "requires_safety_checker": False,
    "add_watermarker": False,
}


@dataclass(frozen=True)
class Task:
    """One kind of call: a pipeline class of diffusers, and what its call takes."""

    kind: str
    """ "text", "image" or "inpaint"."""
    pipeline: str
    """Class name in diffusers."""
    takes: frozenset[str]
    """Names of the call's arguments."""
    defaults: dict[str, Any]
    """The call's own defaults, where it has them."""

    @property
    def control_argument(self) -> str:
        """Where the ControlNet's picture goes."""
        return "control_image" if "control_image" in self.takes else "image"


def pipeline_class(name: str, model: str) -> Any:
    """The pipeline class of diffusers with this name.

    Raises:
        ModelError: diffusers has none.
    """
    import diffusers

    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        raise ModelError(
            f"model {model} must be a pipeline of diffusers {diffusers.__version__}, got {name!r}"
        )
    return found


def find_task(base: str, kind: str, *, controlnet: bool, needs_image: bool, model: str) -> Task:
    """The task that a model does with a request of this kind.

    Args:
        base: class name of the model's own pipeline.
        kind: "text", "image" or "inpaint".
        needs_image: the model can only redraw pictures, as the SDXL refiner.
    Raises:
        InvalidRequest: the model cannot do it; the message says what it can.
    """
    own = pipeline_class(base, model)
    # Asked for last: diffusers' tables import every pipeline that there is, for seconds.
    cls = own if _kind_of(own) == kind and not controlnet else _class_for(base, kind, controlnet=controlnet)
    if cls is None or (needs_image and kind == "text"):
        raise InvalidRequest(_cannot(base, kind, model, controlnet=controlnet, needs_image=needs_image))
    return Task(kind, cls.__name__, *_signature(cls))


def refuse_untaken(task: Task, request: Request, model: str) -> None:
    """Raises InvalidRequest for the first thing given that the pipeline's call does not take."""
    given = {
        "negative_prompt": bool(request.negative_prompt),
        "guidance_scale": request.guidance_scale is not None,
        "strength": request.strength is not None,
        "image_guidance_scale": request.image_guidance_scale is not None,
    }
    for name, is_given in given.items():
        if is_given and name not in task.takes:
            raise InvalidRequest(f"{name} must be left out for {model}: {task.pipeline} does not take it")
    for name, _ in request.options:
        if name in _TAKEN:
            raise InvalidRequest(f"options must not set {name}, which generate sets itself")
        if name not in task.takes:
            known = ", ".join(sorted(task.takes - _TAKEN)) or "none"
            raise InvalidRequest(
                f"options must be taken by {task.pipeline}, the pipeline of {model}, got {name!r}; it takes {known}"
            )


def _class_for(base: str, kind: str, *, controlnet: bool) -> Any | None:
    """What diffusers' own tables name for the task; None where they name nothing."""
    from diffusers.pipelines import auto_pipeline

    tables = {
        "text": auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
        "image": auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
        "inpaint": auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
    }
    found = (key for table in tables.values() for key, cls in table.items() if cls.__name__ == base)
    key = next(found, None)
    if key is None:
        return None
    plain = key.removesuffix("-controlnet")
    return tables[kind].get(f"{plain}-controlnet" if controlnet else plain)


def _kind_of(cls: Any) -> str:
    takes = inspect.signature(cls.__call__).parameters
    return "inpaint" if "mask_image" in takes else "image" if "image" in takes else "text"


def _signature(cls: Any) -> tuple[frozenset[str], dict[str, Any]]:
    parameters = inspect.signature(cls.__call__).parameters
    if "prompt" not in parameters:
        raise ModelError(f"model must turn a prompt into a picture; {cls.__name__} takes none")
    defaults = {n: p.default for n, p in parameters.items() if p.default is not inspect.Parameter.empty}
    return frozenset(parameters), defaults


def _cannot(base: str, kind: str, model: str, *, controlnet: bool, needs_image: bool) -> str:
    if kind == "text" and (needs_image or "InstructPix2Pix" in base or "Img2Img" in base or "Edit" in base):
        return f"model {model} redraws pictures; give image="
    deeds = {"text": "text to image", "image": "image to image", "inpaint": "inpainting"}
    with_it = " with a ControlNet" if controlnet else ""
    others = _able(base, controlnet=controlnet)
    able = f"; it does {', '.join(deeds[k] for k in others)}{with_it}" if others else ""
    return f"model {model} ({base}) has no pipeline in diffusers for {deeds[kind]}{with_it}{able}"


def _able(base: str, *, controlnet: bool) -> Iterable[str]:
    return [k for k in ("text", "image", "inpaint") if _class_for(base, k, controlnet=controlnet) is not None]
