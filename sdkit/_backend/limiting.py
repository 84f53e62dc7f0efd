"""Guidance in an interval, over diffusers' own loop, whose guidance scale is set anew before every call.

No time is saved here: the pipeline still doubles its rows, and this path is what quicker ones are held against.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from torch import Tensor

from sdkit._errors import InvalidRequest
from sdkit._guidance import Interval, guided_calls

UNGUIDED = math.nextafter(1.0, 2.0)
"""uncond + 1 (cond - uncond) is the conditional prediction to rounding; at 1 itself the pipeline would take the
unconditional rows out of the batch, and not out of its embeddings."""


def limit_guidance(pipeline: Any, scheduler: Any, scale: float, interval: Interval) -> None:
    """Makes one run of the pipeline guided only where the noise level lies in the interval.

    The scheduler scales the model's input before each call, at the timestep of that call; the scale is read after it.

    Args:
        pipeline: a copy of its own for this run, one of `sdkit._guidance.PIPELINES`.
        scheduler: the run's own, made for it.
        scale: the guidance scale within the interval, above 1.
    Raises:
        InvalidRequest: the model takes the guidance scale as an input, or its scheduler knows no training noise.
    """
    if getattr(pipeline.unet.config, "time_cond_proj_dim", None) is not None:
        raise InvalidRequest(
            "guidance_interval must be left out for a model that was distilled to take its guidance scale as an input"
        )
    if not hasattr(scheduler, "alphas_cumprod"):
        raise InvalidRequest(
            f"guidance_interval must be left out with {type(scheduler).__name__}, which has no training noise levels"
        )
    scale_input, alphas = scheduler.scale_model_input, scheduler.alphas_cumprod.double().cpu().tolist()

    @functools.wraps(scale_input)
    def scaled(sample: Tensor, timestep: Any = None, *arguments: Any, **options: Any) -> Any:
        (guided,) = guided_calls([float(timestep)], alphas, interval)
        pipeline._guidance_scale = scale if guided else UNGUIDED
        return scale_input(sample, timestep, *arguments, **options)

    scheduler.scale_model_input = scaled
