"""From a checked request and a session to a Generation, batch by batch."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdkit._errors import OutOfMemory
from sdkit._request import Request
from sdkit._result import Generation, Timings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from torch import Tensor

    from sdkit._backend.backend import Job
    from sdkit._backend.stages import Step
    from sdkit._backend.text import TextEmbeddings
    from sdkit._session import Session
    from sdkit._settle import Settled

    OnStep = Callable[[Step], bool | None]

_logger = logging.getLogger("sdkit")


@dataclass(frozen=True)
class Batch:
    """Pictures that were made in one go, and their cost.

    Example:
        >>> from sdkit import Session
        >>> session = Session("shapes", device="cpu")
        >>> batch = session.sample(session.encode(["a red star"]), sampler="ddim", steps=4, guidance_scale=1, seeds=[0])
        >>> batch.images.dtype, batch.model_evals
        (torch.uint8, 4)
    """

    images: Tensor
    """(N, 3, H, W) uint8, 0-255, on the CPU."""
    model_evals: int
    """Denoiser calls, counted as they ran."""
    denoise_s: float
    """Wall seconds, the device waited for."""
    decode_s: float
    stages: tuple[Tensor, ...] = ()
    """(N, 3, H, W) uint8 each: the way from noise to picture, where it was asked for."""
    latents: Tensor | None = None
    """(N, C, h, w) float32, on the CPU: what was decoded; None where only the pipeline can decode."""


def run(
    session: Session, request: Request, *, progress: bool | None = None, on_step: OnStep | None = None
) -> Generation:
    """The pictures of a request; all that can be refused is refused before a weight is read.

    Args:
        progress: a bar on standard error; None shows one where somebody is likely to watch it.
        on_step: called after every step; False stops the run.
    """
    from sdkit._settle import settle

    settled = settle(session, session.files, request)
    load_s = session.load()
    start = time.perf_counter()
    text = session.encode_for(request, settled)
    text_s = time.perf_counter() - start
    # Image i has prompt i // num_images: all images of a prompt stand together.
    text = text.take([index // request.num_images for index in range(request.count)])
    shown = _is_watched() if progress is None else progress
    batches, batch_size = _batches(session, request, text, settled, progress=shown, on_step=on_step)
    timings = Timings(load_s, text_s, sum(b.denoise_s for b in batches), sum(b.decode_s for b in batches))
    warnings = (
        *session.warnings,
        *settled.warnings,
        *_cut_warning(session, text),
        *_halved_warning(min(request.batch_size, request.count), batch_size, settled),
    )
    for warning in warnings:
        _logger.warning("%s", warning)
    return _generation(session, request, text, settled, batches, timings, warnings, batch_size)


def _batches(
    session: Session,
    request: Request,
    text: TextEmbeddings,
    settled: Settled,
    *,
    progress: bool,
    on_step: OnStep | None,
) -> tuple[list[Batch], int]:
    """All pictures of the request under one progress bar, and how many were made at once in the end.

    A batch that the device has no room for is halved and tried again: every image has its own generator, so the
    pictures stay the same.
    """
    from tqdm import tqdm

    # A scheduler that we do not know may draw from one generator only, and each picture has its own.
    alone = settled.sampler.family == "own"
    batch_size, first, made = 1 if alone else min(request.batch_size, request.count), 0, []
    with tqdm(
        total=request.count * settled.evaluations, desc=session.name, unit="call", disable=not progress
    ) as bar:
        while first < request.count:
            last = min(first + batch_size, request.count)

            def advance(_evaluations: int, rows: int = last - first) -> None:
                bar.update(rows)

            job = _job(request, settled, range(first, last))
            told = None if on_step is None else _teller(on_step, first)
            try:
                made.append(session.work(text.rows(first, last), job, on_call=advance, on_step=told))
            except OutOfMemory:
                if last - first == 1:
                    raise
                batch_size = (last - first) // 2
                continue
            first = last
    return made, batch_size


def _teller(on_step: OnStep, first: int) -> Callable[[int, int, Callable[[], list[Image]]], bool | None]:
    from sdkit._backend.stages import Step

    return lambda index, total, preview: on_step(Step(index, total, first, preview))


def _job(request: Request, settled: Settled, rows: range) -> Job:
    from sdkit._backend.backend import Job

    return Job(
        task=settled.task,
        sampler=settled.sampler,
        steps=settled.steps,
        guidance_scale=settled.guidance_scale,
        seeds=[request.seeds[i] for i in rows],
        size=settled.size,
        images=_of_rows(request.images, request, rows),
        masks=_of_rows(request.masks, request, rows),
        strength=settled.strength,
        image_guidance_scale=settled.image_guidance_scale,
        control_images=request.control_images,
        control_scales=settled.control_scales,
        refiner_start=request.refiner_start,
        options=dict(request.options),
        stages=0 if request.trajectory is None else request.trajectory - 1,
        guidance_interval=settled.guidance_interval,
    )


def _of_rows(pictures: Sequence[Image], request: Request, rows: range) -> list[Image]:
    if not pictures:
        return []
    return [pictures[0] if len(pictures) == 1 else pictures[i // request.num_images] for i in rows]


def _is_watched() -> bool:
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)


def _cut_warning(session: Session, text: TextEmbeddings) -> tuple[str, ...]:
    if not text.truncated:
        return ()
    cut, whole = len(text.truncated), len(text)
    return (f"{cut} of {whole} prompts are longer than {session.name} can read, and were cut",)


def _halved_warning(asked: int, ran: int, settled: Settled) -> tuple[str, ...]:
    if ran >= asked or settled.sampler.family == "own":
        return ()
    return (f"a batch of {asked} images did not fit into memory: they were made {ran} at a time",)


def _generation(
    session: Session,
    request: Request,
    text: TextEmbeddings,
    settled: Settled,
    batches: list[Batch],
    timings: Timings,
    warnings: tuple[str, ...],
    batch_size: int,
) -> Generation:
    from dataclasses import replace

    from sdkit._pixels import to_pil

    images = [image for batch in batches for image in to_pil(batch.images)]
    stages = [
        [image for batch in batches for image in to_pil(batch.stages[stage])]
        for stage in range(len(batches[0].stages))
    ]
    # The request as it ran: defaults that change one day must not change what is made again from its record.
    ran = replace(
        request,
        sampler=settled.sampler,
        steps=settled.steps,
        guidance_scale=settled.guidance_scale,
        guidance_interval=settled.guidance_interval,
        width=images[0].width,
        height=images[0].height,
        strength=settled.strength,
        image_guidance_scale=settled.image_guidance_scale,
        dtype=session.dtype,
        fingerprint=session.fingerprint,
    )
    return Generation(
        images=images,
        request=ran,
        prompts=text.prompts,
        cut_at=text.cut_at,
        model_evals=batches[0].model_evals,
        model=session.name,
        detected=session.detected,
        device=session.device,
        batch_size=batch_size,
        warnings=warnings,
        timings=timings,
        trajectory=[list(way) for way in zip(*stages, images, strict=True)] if stages else [],
    )
