"""From a checked request and a session to a Generation, batch by batch."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdkit._request import Request
from sdkit._result import Generation, Timings

if TYPE_CHECKING:
    from torch import Tensor

    from sdkit._backend import TextEmbeddings
    from sdkit._session import Session

_logger = logging.getLogger("sdkit")


@dataclass(frozen=True)
class Batch:
    """Pictures that were made in one go, and their cost."""

    images: Tensor
    """(N, 3, H, W) uint8, 0-255, on the CPU."""
    model_evals: int
    """Denoiser calls, counted as they ran."""
    denoise_s: float
    """Wall seconds, the device waited for."""
    decode_s: float


@dataclass(frozen=True)
class _Settings:
    """What holds for every batch of a request, its Nones replaced by the model's own values."""

    steps: int
    guidance_scale: float
    size: tuple[int, int]
    """Width and height, pixels."""


def run(session: Session, request: Request, *, progress: bool = False) -> Generation:
    """The pictures of a request; all that can be refused is refused before a weight is read."""
    settings = _Settings(
        steps=session.default_steps if request.steps is None else request.steps,
        guidance_scale=session.default_guidance_scale
        if request.guidance_scale is None
        else request.guidance_scale,
        size=session.check_size(request.width, request.height),
    )
    request.sampler.check_steps(settings.steps)
    load_s = session.load()
    start = time.perf_counter()
    text = session.encode(request.prompts, negative_prompt=request.negative_prompt)
    text_s = time.perf_counter() - start
    if text.truncated:
        cut, whole = len(text.truncated), len(text)
        _logger.warning(
            "%d of %d prompts are longer than %s can read, and were cut", cut, whole, session.name
        )
    # Image i has prompt i // num_images: all images of a prompt stand together.
    text = text.take([index // request.num_images for index in range(request.count)])
    batches = _batches(session, request, text, settings, progress=progress)
    denoise_s, decode_s = (
        sum(times) for times in zip(*((b.denoise_s, b.decode_s) for b in batches), strict=True)
    )
    return _generation(
        session, request, text, settings, batches, Timings(load_s, text_s, denoise_s, decode_s)
    )


def _batches(
    session: Session, request: Request, text: TextEmbeddings, settings: _Settings, *, progress: bool
) -> list[Batch]:
    """All pictures of the request, `batch_size` at a time, under one progress bar."""
    from tqdm import tqdm

    starts = range(0, request.count, request.batch_size)
    total = len(starts) * request.sampler.evaluations(settings.steps)
    with tqdm(total=total, desc=session.name, unit="call", disable=not progress) as bar:

        def advance(_evaluations: int) -> None:
            bar.update()

        return [
            session.sample(
                text.rows(first, first + request.batch_size),
                sampler=request.sampler,
                steps=settings.steps,
                guidance_scale=settings.guidance_scale,
                seeds=request.seeds[first : first + request.batch_size],
                width=settings.size[0],
                height=settings.size[1],
                on_step=advance,
            )
            for first in starts
        ]


def _generation(
    session: Session,
    request: Request,
    text: TextEmbeddings,
    settings: _Settings,
    batches: list[Batch],
    timings: Timings,
) -> Generation:
    from sdkit._pixels import to_pil

    return Generation(
        images=[image for batch in batches for image in to_pil(batch.images)],
        seeds=tuple(request.seeds),
        prompts=tuple(prompt for prompt in request.prompts for _ in range(request.num_images)),
        negative_prompt=request.negative_prompt,
        sampler=request.sampler.name,
        steps=settings.steps,
        model_evals=batches[0].model_evals,
        guidance_scale=settings.guidance_scale,
        width=settings.size[0],
        height=settings.size[1],
        model=session.name,
        model_fingerprint=session.fingerprint,
        device=session.device,
        dtype=session.dtype,
        truncated=text.truncated,
        timings=timings,
    )
