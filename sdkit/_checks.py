"""Single values, checked one by one: what is wrong is answered in one line with what would be right."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

from sdkit._errors import InvalidRequest

MAX_GUIDANCE = 50.0
MAX_SIDE_PX = 4096
SIDE_MULTIPLE_PX = 8
MAX_IMAGES_PER_PROMPT = 10_000
MAX_BATCH = 4096
MAX_SEED = 2**63 - 1
DTYPES = ("float32", "float16", "bfloat16")
MEMORY = ("auto", "low", "high")


def check_prompts(prompt: object) -> tuple[str, ...]:
    """One prompt or several, as a tuple; none may be blank."""
    if isinstance(prompt, str):
        prompts: tuple[object, ...] = (prompt,)
    elif isinstance(prompt, Iterable):
        prompts = tuple(prompt)
    else:
        raise InvalidRequest(f"prompt must be a string or a list of strings, got {prompt!r}")
    if not prompts:
        raise InvalidRequest("prompt must hold at least one string, got an empty list")
    for index, text in enumerate(prompts):
        where = "prompt" if isinstance(prompt, str) else f"prompt[{index}]"
        if not (isinstance(text, str) and text.strip()):
            raise InvalidRequest(f"{where} must be a non-empty string, got {text!r}")
        _check_unicode(where, text)
    return tuple(text for text in prompts if isinstance(text, str))


def check_negative(negative_prompt: object) -> str:
    """The negative prompt; None becomes ""."""
    if negative_prompt is None:
        return ""
    if not isinstance(negative_prompt, str):
        raise InvalidRequest(f"negative_prompt must be a string or None, got {negative_prompt!r}")
    _check_unicode("negative_prompt", negative_prompt)
    return negative_prompt


def check_guidance(guidance_scale: object) -> float:
    """The guidance scale as a float, 1..50."""
    return check_number("guidance_scale", guidance_scale, 1.0, MAX_GUIDANCE, note=" (1 is off)")


def check_number(name: str, value: object, low: float, high: float, *, note: str = "") -> float:
    """The value as a float in `low`..`high`."""
    if isinstance(value, (bool, str)) or not isinstance(value, SupportsFloat):
        raise InvalidRequest(f"{name} must be a number {low:g}..{high:g}, got {value!r}")
    number = float(value)
    if not (math.isfinite(number) and low <= number <= high):
        raise InvalidRequest(f"{name} must be {low:g}..{high:g}{note}, got {number:g}")
    return number


def check_side(name: str, value: object) -> int:
    """Width or height in pixels: a multiple of 8, at most 4096; what the model can draw is checked later."""
    side = _whole(name, value)
    if side % SIDE_MULTIPLE_PX or not SIDE_MULTIPLE_PX <= side <= MAX_SIDE_PX:
        allowed = f"a multiple of {SIDE_MULTIPLE_PX} in {SIDE_MULTIPLE_PX}..{MAX_SIDE_PX}"
        raise InvalidRequest(f"{name} must be {allowed}, got {side}; try {_nearest(side, SIDE_MULTIPLE_PX)}")
    return side


def check_fits(name: str, side: int, min_px: int, multiple_px: int) -> None:
    """Raises InvalidRequest when a side is smaller than the model can draw, or not a multiple of its grain."""
    if side < min_px:
        raise InvalidRequest(f"{name} must be at least {min_px} for this model, got {side}")
    if side % multiple_px:
        near = _nearest(side, multiple_px)
        raise InvalidRequest(
            f"{name} must be a multiple of {multiple_px} for this model, got {side}; try {near}"
        )


def check_range(name: str, value: object, low: int, high: int) -> int:
    """The value as an int in `low`..`high`."""
    number = _whole(name, value)
    if not low <= number <= high:
        raise InvalidRequest(f"{name} must be {low}..{high}, got {number}")
    return number


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """The value, when it is one of the choices."""
    allowed = tuple(choices)
    if not isinstance(value, str) or value not in allowed:
        raise InvalidRequest(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def check_source(name: str, value: object) -> str:
    """A folder, file or hub id as text; whether it is there is another question."""
    if not isinstance(value, (str, Path)) or not str(value).strip():
        raise InvalidRequest(f"{name} must be a folder, a file or a hub id, got {value!r}")
    return str(value)


def check_flag(name: str, value: object) -> bool:
    """True or False, and nothing that is merely like them."""
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be True or False, got {value!r}")
    return value


def check_options(options: object) -> tuple[tuple[str, object], ...]:
    """Further arguments of the diffusers pipeline, by name, sorted."""
    if options is None:
        return ()
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InvalidRequest(f"options must map names of the pipeline's arguments to values, got {options!r}")
    return tuple(sorted(options.items()))


def _check_unicode(name: str, text: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InvalidRequest(f"{name} must be Unicode text, got half of a surrogate pair in {text!r}")


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise InvalidRequest(f"{name} must be a whole number, got {value!r}")
    return operator.index(value)


def _nearest(side: int, multiple: int) -> int:
    return min(max(multiple * round(side / multiple), multiple), MAX_SIDE_PX)
