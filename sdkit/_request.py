"""What may be asked for: a frozen request that is checked when it is made, before torch is imported."""

from __future__ import annotations

import math
import operator
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import SupportsIndex

from sdkit._errors import InvalidRequest
from sdkit._samplers import Sampler, find_sampler

DEFAULT_SAMPLER = "dpmpp_2m_karras"
DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 7.5
MAX_GUIDANCE = 50.0
MAX_SIDE_PX = 4096
SIDE_MULTIPLE_PX = 8
MAX_IMAGES_PER_PROMPT = 10_000
MAX_BATCH = 4096
MAX_SEED = 2**63 - 1
_FRESH_SEEDS = 2**32


@dataclass(frozen=True)
class Request:
    """One checked call of `generate`. Image i has prompt `i // num_images` and seed `seed + i`."""

    prompts: tuple[str, ...]
    negative_prompt: str
    """"" is none, as diffusers' None."""
    sampler: Sampler
    steps: int | None
    """None is the model's default."""
    guidance_scale: float | None
    """1.0 is off; None is the model's default."""
    seed: int
    num_images: int
    width: int | None
    """Pixels; None is the model's own size."""
    height: int | None
    batch_size: int

    @property
    def count(self) -> int:
        """How many images are asked for."""
        return len(self.prompts) * self.num_images

    @property
    def seeds(self) -> range:
        """One seed for each image."""
        return range(self.seed, self.seed + self.count)


def make_request(
    prompt: str | Iterable[str],
    *,
    negative_prompt: str | None = None,
    sampler: str | Sampler = DEFAULT_SAMPLER,
    steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int | None = None,
    num_images: int = 1,
    width: int | None = None,
    height: int | None = None,
    batch_size: int = 8,
) -> Request:
    """The request, with a fresh seed from the system where none was given.

    Raises:
        InvalidRequest: something is outside its range; the message says which.
    """
    prompts = check_prompts(prompt)
    found = find_sampler(sampler)
    images = check_range("num_images", num_images, 1, MAX_IMAGES_PER_PROMPT)
    count = len(prompts) * images
    return Request(
        prompts=prompts,
        negative_prompt=check_negative(negative_prompt),
        sampler=found,
        steps=None if steps is None else found.check_steps(steps),
        guidance_scale=None if guidance_scale is None else check_guidance(guidance_scale),
        seed=secrets.randbelow(_FRESH_SEEDS)
        if seed is None
        else check_range("seed", seed, 0, MAX_SEED - count),
        num_images=images,
        width=None if width is None else check_side("width", width),
        height=None if height is None else check_side("height", height),
        batch_size=check_range("batch_size", batch_size, 1, MAX_BATCH),
    )


def check_prompts(prompt: str | Iterable[str]) -> tuple[str, ...]:
    """One prompt or several, as a tuple; none may be blank."""
    if isinstance(prompt, str):
        prompts: tuple[object, ...] = (prompt,)
    elif isinstance(prompt, Iterable):
        prompts = tuple(prompt)
    else:
        raise InvalidRequest(f"prompt must be a string or a list of strings, got {prompt!r}")
    if not prompts:
        raise InvalidRequest("prompt must hold at least one string, got an empty list")
    checked = tuple(text for text in prompts if isinstance(text, str) and text.strip())
    if len(checked) != len(prompts):
        index = next(i for i, text in enumerate(prompts) if not (isinstance(text, str) and text.strip()))
        where = "prompt" if isinstance(prompt, str) else f"prompt[{index}]"
        raise InvalidRequest(f"{where} must be a non-empty string, got {prompts[index]!r}")
    return checked


def check_negative(negative_prompt: object) -> str:
    """The negative prompt; None becomes ""."""
    if negative_prompt is None:
        return ""
    if not isinstance(negative_prompt, str):
        raise InvalidRequest(f"negative_prompt must be a string or None, got {negative_prompt!r}")
    return negative_prompt


def check_guidance(guidance_scale: object) -> float:
    """The guidance scale as a float, 1..50."""
    if isinstance(guidance_scale, bool) or not hasattr(guidance_scale, "__float__"):
        raise InvalidRequest(f"guidance_scale must be a number 1..{MAX_GUIDANCE:g}, got {guidance_scale!r}")
    scale = float(guidance_scale)
    if not (math.isfinite(scale) and 1.0 <= scale <= MAX_GUIDANCE):
        raise InvalidRequest(f"guidance_scale must be 1..{MAX_GUIDANCE:g} (1 is off), got {scale:g}")
    return scale


def check_side(name: str, value: SupportsIndex) -> int:
    """Width or height in pixels: a multiple of 8, at most 4096; the model's minimum is checked later."""
    side = _whole(name, value)
    if side % SIDE_MULTIPLE_PX or not SIDE_MULTIPLE_PX <= side <= MAX_SIDE_PX:
        allowed = f"a multiple of {SIDE_MULTIPLE_PX} in {SIDE_MULTIPLE_PX}..{MAX_SIDE_PX}"
        raise InvalidRequest(f"{name} must be {allowed}, got {side}; try {_nearest_side(side)}")
    return side


def check_fits(name: str, side: int, min_px: int) -> None:
    """Raises InvalidRequest when a side is smaller than the model can draw."""
    if side < min_px:
        raise InvalidRequest(f"{name} must be at least {min_px} for this model, got {side}")


def check_range(name: str, value: object, low: int, high: int) -> int:
    """The value as an int in `low`..`high`."""
    number = _whole(name, value)
    if not low <= number <= high:
        raise InvalidRequest(f"{name} must be {low}..{high}, got {number}")
    return number


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise InvalidRequest(f"{name} must be a whole number, got {value!r}")
    return operator.index(value)


def _nearest_side(side: int) -> int:
    rounded = SIDE_MULTIPLE_PX * round(side / SIDE_MULTIPLE_PX)
    return min(max(rounded, SIDE_MULTIPLE_PX), MAX_SIDE_PX)
