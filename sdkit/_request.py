"""What may be asked for: a frozen request that is checked when it is made, before torch is imported."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from sdkit._checks import (
    MAX_BATCH,
    MAX_IMAGES_PER_PROMPT,
    MAX_SEED,
    check_guidance,
    check_negative,
    check_number,
    check_options,
    check_prompts,
    check_range,
    check_side,
)
from sdkit._errors import InvalidRequest
from sdkit._guidance import Interval, check_interval
from sdkit._inputs import read_images, read_masks
from sdkit._sampler_names import find_sampler
from sdkit._samplers import MAX_STEPS, Sampler
from sdkit._spec import ModelSpec

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_STAGES = 1000
_FRESH_SEEDS = 2**32
DEFAULT_REFINER_START = 0.8


class Settings(TypedDict, total=False):
    """What `Session.generate` takes beside the prompt; `sdkit.generate` documents each."""

    negative_prompt: str | None
    sampler: str | Sampler | None
    schedule: str | None
    steps: int | None
    guidance_scale: float | None
    guidance_interval: tuple[float, float] | None
    seed: int | None
    num_images: int
    width: int | None
    height: int | None
    image: Any
    strength: float | None
    mask: Any
    image_guidance_scale: float | None
    control_image: Any
    control_scale: float | Sequence[float]
    refiner_start: float
    options: Mapping[str, object] | None
    trajectory: int | None
    batch_size: int


@dataclass(frozen=True)
class Request:
    """One checked call of `generate`. Image i has prompt `i // num_images` and seed `seed + i`.

    `sdkit.read` gives the request that made a picture, and `sdkit.replay` runs one.

    Example:
        >>> import sdkit
        >>> request = sdkit.generate(["a red star", "a blue ring"], steps=4, seed=7, device="cpu").request
        >>> request.prompts, list(request.seeds), request.steps, request.task
        (('a red star', 'a blue ring'), [7, 8], 4, 'text')
    """

    prompts: tuple[str, ...]
    negative_prompt: str
    """"" is none, as diffusers' None."""
    sampler: Sampler | None
    """None is the model's own; so it is for steps, guidance, strength and size."""
    steps: int | None
    guidance_scale: float | None
    """1.0 is off."""
    seed: int
    num_images: int
    width: int | None
    """Pixels."""
    height: int | None
    batch_size: int
    images: tuple[Image, ...] = ()
    """Pictures to start from: none, one for all prompts, or one for each."""
    masks: tuple[Image, ...] = ()
    strength: float | None = None
    image_guidance_scale: float | None = None
    control_images: tuple[Image, ...] = ()
    """One for each ControlNet."""
    control_scales: tuple[float, ...] = (1.0,)
    refiner_start: float = DEFAULT_REFINER_START
    options: tuple[tuple[str, object], ...] = ()
    trajectory: int | None = None
    spec: ModelSpec = field(default_factory=ModelSpec)
    dtype: str | None = None
    """The number format of the run that this request describes; None is the device's own."""
    fingerprint: str | None = None
    """Of the model that made the picture; None accepts any."""
    guidance_interval: Interval | None = None
    """Noise levels at which guidance is applied, low and high; None is all of them."""

    @property
    def count(self) -> int:
        """How many images are asked for."""
        return len(self.prompts) * self.num_images

    @property
    def seeds(self) -> range:
        """One seed for each image."""
        return range(self.seed, self.seed + self.count)

    @property
    def task(self) -> str:
        """ "text", "image" or "inpaint": what a picture is made from."""
        return "inpaint" if self.masks else "image" if self.images else "text"


def make_request(
    prompt: str | Iterable[str],
    *,
    negative_prompt: str | None = None,
    sampler: str | Sampler | None = None,
    schedule: str | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    seed: int | None = None,
    num_images: int = 1,
    width: int | None = None,
    height: int | None = None,
    image: Any = None,
    strength: float | None = None,
    mask: Any = None,
    image_guidance_scale: float | None = None,
    control_image: Any = None,
    control_scale: float | Sequence[float] = 1.0,
    refiner_start: float = DEFAULT_REFINER_START,
    options: Mapping[str, object] | None = None,
    trajectory: int | None = None,
    batch_size: int = 8,
    spec: ModelSpec | None = None,
) -> Request:
    """The request, with a fresh seed from the system where none was given.

    Raises:
        InvalidRequest: something is outside its range; the message says which.
    """
    prompts = check_prompts(prompt)
    found = _check_sampler(sampler, schedule)
    count = len(prompts) * check_range("num_images", num_images, 1, MAX_IMAGES_PER_PROMPT)
    images = () if image is None else _one_or_each("image", read_images("image", image), len(prompts))
    masks = () if mask is None else _one_or_each("mask", read_masks("mask", mask), len(prompts))
    _check_pairing(images, masks, strength, image_guidance_scale)
    controls = () if control_image is None else read_images("control_image", control_image)
    return Request(
        prompts=prompts,
        negative_prompt=check_negative(negative_prompt),
        sampler=found,
        steps=_check_steps(steps, found),
        guidance_scale=None if guidance_scale is None else check_guidance(guidance_scale),
        seed=_check_seed(seed, count),
        num_images=count // len(prompts),
        width=None if width is None else check_side("width", width),
        height=None if height is None else check_side("height", height),
        batch_size=check_range("batch_size", batch_size, 1, MAX_BATCH),
        images=images,
        masks=masks,
        strength=None if strength is None else check_number("strength", strength, 0.0, 1.0),
        image_guidance_scale=None
        if image_guidance_scale is None
        else check_number("image_guidance_scale", image_guidance_scale, 1.0, 50.0, note=" (1 is off)"),
        control_images=controls,
        control_scales=_check_scales(control_scale),
        refiner_start=check_number("refiner_start", refiner_start, 0.0, 1.0),
        options=check_options(options),
        trajectory=None if trajectory is None else check_range("trajectory", trajectory, 2, MAX_STAGES),
        spec=spec or ModelSpec(),
        guidance_interval=None if guidance_interval is None else check_interval(guidance_interval),
    )


def _check_sampler(sampler: str | Sampler | None, schedule: str | None) -> Sampler | None:
    if sampler is not None:
        return find_sampler(sampler, schedule)
    if schedule is not None:
        raise InvalidRequest(f"schedule must come with a sampler, got schedule={schedule!r} alone")
    return None


def _check_steps(steps: object, sampler: Sampler | None) -> int | None:
    if steps is None:
        return None
    return check_range("steps", steps, 1, MAX_STEPS) if sampler is None else sampler.check_steps(steps)


def _check_seed(seed: object, count: int) -> int:
    if seed is None:
        return secrets.randbelow(_FRESH_SEEDS)
    return check_range("seed", seed, 0, MAX_SEED - count)


def _one_or_each(name: str, pictures: tuple[Image, ...], prompts: int) -> tuple[Image, ...]:
    if len(pictures) not in (1, prompts):
        raise InvalidRequest(
            f"{name} must be one picture, or one for each of the {prompts} prompts, got {len(pictures)}"
        )
    return pictures


def _check_pairing(
    images: tuple[Image, ...], masks: tuple[Image, ...], strength: object, image_guidance: object
) -> None:
    if masks and not images:
        raise InvalidRequest("mask must come with the image that it masks; give image= too")
    if not images:
        for name, value in (("strength", strength), ("image_guidance_scale", image_guidance)):
            if value is not None:
                raise InvalidRequest(f"{name} must come with an image to start from; give image= too")
    if masks and len(images) == 1 < len(masks):
        raise InvalidRequest(f"mask must be one picture for one image, got {len(masks)}")


def _check_scales(control_scale: object) -> tuple[float, ...]:
    given = control_scale if isinstance(control_scale, (list, tuple)) else [control_scale]
    if not given:
        raise InvalidRequest("control_scale must hold at least one number, got an empty list")
    return tuple(check_number("control_scale", scale, 0.0, 10.0) for scale in given)
