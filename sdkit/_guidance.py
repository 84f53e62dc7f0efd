"""Guidance in a limited interval of noise levels: which calls of a run are guided. Pure.

Levels are sigmas of the variance-exploding form, the ratio of noise to signal, as the denoiser reads them from its
timestep: sqrt((1 - alpha) / alpha) of the model's `alphas_cumprod`. Stable Diffusion goes from about 14.6 to 0.03.

Source: Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality
in Diffusion Models": guided where low < sigma <= high, elsewhere the conditional prediction alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sdkit._errors import InvalidRequest

Interval = tuple[float, float]
"""Low and high, sigmas: 0 <= low < high."""

NEGATIVE = -1
"""Stands for the negative prompt where rows of text are told by their index."""

PIPELINES = (
    "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline",
)  # fmt: skip
"""Those of diffusers that read their guidance scale anew at every call; others take it once, or distilled it."""


def check_interval(interval: object, name: str = "guidance_interval") -> Interval:
    """The interval as two floats.

    Raises:
        InvalidRequest: it is not two finite numbers, 0 <= low < high.
    """
    allowed = f"{name} must be two noise levels, 0 <= low < high"
    if not isinstance(interval, (tuple, list)) or len(interval) != 2:
        raise InvalidRequest(f"{allowed}, got {interval!r}; for example [0.3, 5]")
    if any(isinstance(end, bool) or not isinstance(end, (int, float)) for end in interval):
        raise InvalidRequest(f"{allowed}, got {interval!r}; for example [0.3, 5]")
    low, high = float(interval[0]), float(interval[1])
    if not 0 <= low < high < math.inf:
        raise InvalidRequest(f"{allowed}, got {low:g}, {high:g}; for example [0.3, 5]")
    return low, high


def refuse_interval(pipeline: str, model: str) -> None:
    """Raises InvalidRequest where a pipeline cannot leave guidance out of single calls.

    Args:
        pipeline: class name in diffusers.
    """
    if pipeline not in PIPELINES:
        raise InvalidRequest(
            f"guidance_interval must be left out for {model}: {pipeline} does not choose its guidance call by call;"
            f" {', '.join(PIPELINES)} do"
        )


def noise_level(timestep: float, alphas_cumprod: Sequence[float]) -> float:
    """The sigma of a training timestep; between whole ones by its logarithm, as k-diffusion has it.

    Args:
        alphas_cumprod: (training timesteps,), falling from nearly 1; 0 is pure noise, whose sigma is infinite.
    """
    last = len(alphas_cumprod) - 1
    place = min(max(timestep, 0.0), float(last))
    below = int(place)
    part = place - below
    low = _log_sigma(alphas_cumprod[below])
    if part == 0:
        return math.exp(low)
    return math.exp((1 - part) * low + part * _log_sigma(alphas_cumprod[below + 1]))


def guided_calls(
    timesteps: Sequence[float], alphas_cumprod: Sequence[float], interval: Interval | None
) -> tuple[bool, ...]:
    """Whether each denoiser call is guided, in the order of the calls.

    Args:
        timesteps: what the denoiser is told at each call, as a scheduler's `timesteps` lists it.
        interval: None guides all of them.
    """
    if interval is None:
        return (True,) * len(timesteps)
    return tuple(is_guided(noise_level(timestep, alphas_cumprod), interval) for timestep in timesteps)


def is_guided(level: float, interval: Interval | None) -> bool:
    """Whether a call at this noise level is guided; None guides at all levels."""
    return interval is None or interval[0] < level <= interval[1]


def _log_sigma(alpha: float) -> float:
    return math.inf if alpha <= 0 else 0.5 * math.log((1 - alpha) / alpha)
