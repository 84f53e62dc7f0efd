"""One way of making batches of one model, timed in this process: diffusers, diffusers compiled, or ours.

python -m eval.benchmarks.image_ways WAY SHAPE      SHAPE is JSON; what was found is printed as JSON, on the last line
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

EAGER, COMPILED, OURS = "diffusers", "diffusers, compiled", "ours"
DECODED = 8
"""Pictures decoded at once, as ours does for large ones: a VAE needs far more memory than a denoiser."""
REPEATS = 3
PROMPT = "a photograph of an astronaut riding a horse"


@dataclass(frozen=True)
class Shape:
    """What is made."""

    model: str
    """A diffusers folder."""
    device: str
    dtype: str
    side_px: int
    steps: int
    guidance: float
    batch: int


@dataclass(frozen=True)
class Batches:
    """What one process found."""

    seconds: tuple[float, ...]
    """Each timed batch, from text to pixels."""
    flops_per_image: int | None
    """None from diffusers, and where torch counts none."""
    peak_flops_per_s: float | None
    """Published, of the device."""
    reason: str | None
    """Why it has no peak or no count."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Time one way and print what was found."""
    from eval.running.device_peaks import device_peak, tf32_allowed
    from eval.running.serial import decode
    from eval.running.stopwatch import Failure, clock

    way, given = sys.argv[1:] if arguments is None else arguments
    shape: Shape = decode(Shape, json.loads(given))
    make, flops = by_session(shape) if way == OURS else (by_diffusers(shape, compiled=way == COMPILED), None)
    make()
    seconds = []
    for _ in range(REPEATS):
        begun = clock(shape.device)
        make()
        seconds.append(clock(shape.device) - begun)
    peak = device_peak(device_name(shape.device), shape.dtype, tf32=shape.device == "cuda" and tf32_allowed())
    untold = peak.reason if isinstance(peak, Failure) else None
    found = Batches(tuple(seconds), flops, None if isinstance(peak, Failure) else peak.flops_per_s, untold)
    print(json.dumps(asdict(found)))  # noqa: T201


def device_name(device: str) -> str:
    """As torch or the system tells it."""
    import torch

    from sdkit._cpu import cpu_name

    return torch.cuda.get_device_name(device) if device == "cuda" else cpu_name()


def by_diffusers(shape: Shape, *, compiled: bool) -> Callable[[], Any]:
    """A call that makes a batch of pixels by diffusers' own pipeline, as its guide to speed says."""
    import torch
    from diffusers import DiffusionPipeline, EulerDiscreteScheduler

    pipeline = DiffusionPipeline.from_pretrained(shape.model, dtype=getattr(torch, shape.dtype))
    pipeline = pipeline.to(shape.device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="linspace"
    )
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.vae.to(memory_format=torch.channels_last)
    if compiled:
        pipeline.unet = torch.compile(pipeline.unet, fullgraph=True)
        pipeline.vae.decode = torch.compile(pipeline.vae.decode, fullgraph=True)

    def make() -> Any:
        latents = pipeline(
            [PROMPT] * shape.batch,
            num_inference_steps=shape.steps,
            guidance_scale=shape.guidance,
            height=shape.side_px,
            width=shape.side_px,
            generator=[torch.Generator().manual_seed(seed) for seed in range(shape.batch)],
            output_type="latent",
            return_dict=False,
        )[0]
        with torch.no_grad():
            return [_pixels(pipeline.vae, chunk) for chunk in latents.split(DECODED)]

    return make


def _pixels(vae: Any, latents: Any) -> Any:
    """(n, 3, H, W) uint8 on the CPU."""
    decoded = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
    return (decoded / 2 + 0.5).clamp(0, 1).mul(255).round().byte().cpu()


def by_session(shape: Shape) -> tuple[Callable[[], Any], int | None]:
    """The same by a session, and the operations of one picture."""
    from eval.records import Cell
    from eval.running.flops import compute_of
    from sdkit import Session

    session = Session(shape.model, device=shape.device, dtype=shape.dtype)
    session.load()

    def make() -> Any:
        return session.sample(
            session.encode([PROMPT] * shape.batch),
            sampler="euler",
            steps=shape.steps,
            guidance_scale=shape.guidance,
            seeds=range(shape.batch),
            width=shape.side_px,
            height=shape.side_px,
        )

    cell = Cell(
        model_fingerprint="",
        sampler="euler",
        steps=shape.steps,
        guidance=shape.guidance,
        prompts_digest="",
        count=0,
        seed=0,
        width=shape.side_px,
        height=shape.side_px,
        dtype=shape.dtype,
        device_type=shape.device,
    )
    return make, compute_of(session, (PROMPT,), cell, None).flops_per_image


if __name__ == "__main__":
    main()
