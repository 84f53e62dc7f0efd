"""One diffusers pipeline at work: encodes, denoises, decodes.

With its annexes `_loading` and `_scheduling`, the only place that knows diffusers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sdkit._device import dtype_name, memory_errors
from sdkit._loading import hushed, load_pipeline
from sdkit._models import ModelFolder
from sdkit._pixels import quantise
from sdkit._samplers import Sampler
from sdkit._scheduling import build_scheduler

_ENCODE_ROWS = 32
_DECODE_ROWS_SMALL, _DECODE_ROWS_LARGE, _LARGE_PX = 32, 8, 512 * 512


@dataclass(frozen=True)
class TextEmbeddings:
    """Prompts as the denoiser reads them, on the CPU: one row a prompt, one row for the negative prompt."""

    prompt: Tensor
    """(N, tokens, width)."""
    negative: Tensor
    """(1, tokens, width)."""
    pooled: Tensor | None
    """(N, width); SDXL only."""
    negative_pooled: Tensor | None
    """(1, width); SDXL only."""
    truncated: tuple[int, ...]
    """Rows whose prompt was longer than the context and was cut."""

    def __len__(self) -> int:
        return self.prompt.shape[0]

    def rows(self, start: int, stop: int) -> TextEmbeddings:
        """The rows `start`..`stop - 1`, with the same negative prompt."""
        return self.take(range(*slice(start, stop).indices(len(self))))

    def take(self, indices: Sequence[int]) -> TextEmbeddings:
        """The rows of these indices, in this order; an index may come several times."""
        chosen = list(indices)
        cut = set(self.truncated)
        return replace(
            self,
            prompt=self.prompt[chosen],
            pooled=None if self.pooled is None else self.pooled[chosen],
            truncated=tuple(row for row, index in enumerate(chosen) if index in cut),
        )


class Backend:
    """One loaded pipeline on one device. Not safe for threads: its owner holds a lock."""

    def __init__(self, folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> None:
        self._folder, self._device, self._dtype = folder, device, dtype
        with memory_errors(f"load {folder.name}", device), hushed():
            self._pipeline = load_pipeline(folder, device, dtype)
        # Every scheduler is built from this one: `from_config` chains leak options from one to the next.
        self._scheduler_config = dict(self._pipeline.scheduler.config)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], negative_prompt: str) -> TextEmbeddings:
        """Embeddings of the prompts, encoded once each; "" stands for no negative prompt."""
        with memory_errors(f"encode {len(prompts)} prompts", self._device), hushed():
            parts = [
                self._encode(prompts[i : i + _ENCODE_ROWS]) for i in range(0, len(prompts), _ENCODE_ROWS)
            ]
            # None, not "": SDXL then takes zeros where its own settings say so.
            guided = self._encode_with_negative(prompts[0], negative_prompt or None)
        pooled = [part[1] for part in parts if part[1] is not None]
        return TextEmbeddings(
            prompt=torch.cat([part[0] for part in parts]).cpu(),
            negative=guided[0].cpu(),
            pooled=torch.cat(pooled).cpu() if pooled else None,
            negative_pooled=None if guided[1] is None else guided[1].cpu(),
            truncated=self._truncated(prompts),
        )

    def denoise(
        self,
        text: TextEmbeddings,
        *,
        sampler: Sampler,
        steps: int,
        guidance_scale: float,
        seeds: Sequence[int],
        size: tuple[int, int],
        on_step: Callable[[int], None] | None,
    ) -> tuple[Tensor, int]:
        """Latents (N, C, h, w) by the pipeline's own loop, and the number of denoiser calls it made."""
        evaluations = 0

        def count(_pipeline: Any, _index: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal evaluations
            evaluations += 1
            if on_step is not None:
                on_step(evaluations)
            return {}

        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self._pipeline.scheduler = build_scheduler(sampler, self._scheduler_config, dtype=self._dtype)
        with memory_errors(f"denoise {len(seeds)} images of {size[0]}x{size[1]} px at once", self._device):
            latents = self._pipeline(
                **self._embeddings(text, guided=guidance_scale > 1.0),
                width=size[0],
                height=size[1],
                num_inference_steps=steps,
                guidance_scale=guidance_scale,
                latents=self._first_noise(generators, size),
                generator=generators,
                output_type="latent",
                callback_on_step_end=count,
                return_dict=False,
            )[0]
        return latents, evaluations

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) uint8, 0-255, on the CPU: quantised once, by rounding.

        Raises:
            InvalidPixels: NaN, or a picture that is wholly black.
        """
        factor = self._pipeline.vae_scale_factor
        large = latents.shape[-1] * latents.shape[-2] * factor**2 >= _LARGE_PX
        rows = _DECODE_ROWS_LARGE if large else _DECODE_ROWS_SMALL
        with memory_errors(f"decode {min(rows, len(latents))} images at once", self._device):
            chunks = [self._decode(latents[i : i + rows]) for i in range(0, len(latents), rows)]
        return torch.cat(chunks)

    def synchronise(self) -> None:
        """Waits until the device has done all it was given, so that a clock may be read."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        found = self._pipeline.encode_prompt(
            prompt=list(prompts),
            device=self._device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return found[0], found[2] if len(found) == 4 else None

    def _encode_with_negative(self, prompt: str, negative_prompt: str | None) -> tuple[Tensor, Tensor | None]:
        """The negative prompt's one row; the pipeline gives it only beside a prompt."""
        found = self._pipeline.encode_prompt(
            prompt=prompt,
            device=self._device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=negative_prompt,
        )
        return found[1], found[3] if len(found) == 4 else None

    def _truncated(self, prompts: Sequence[str]) -> tuple[int, ...]:
        tokenizer = self._pipeline.tokenizer
        with hushed():
            tokens = tokenizer(list(prompts)).input_ids
        return tuple(i for i, row in enumerate(tokens) if len(row) > tokenizer.model_max_length)

    def _embeddings(self, text: TextEmbeddings, *, guided: bool) -> dict[str, Tensor | None]:
        def put(rows: Tensor) -> Tensor:
            wide = rows.expand(len(text), *rows.shape[1:])
            return wide.to(self._device, self._dtype)

        given = {"prompt_embeds": put(text.prompt)}
        if guided:
            given["negative_prompt_embeds"] = put(text.negative)
        if text.pooled is not None and text.negative_pooled is not None:
            given["pooled_prompt_embeds"] = put(text.pooled)
            if guided:
                given["negative_pooled_prompt_embeds"] = put(text.negative_pooled)
        return dict(given)

    def _first_noise(self, generators: Sequence[torch.Generator], size: tuple[int, int]) -> Tensor:
        """(N, C, h, w): the very draw that diffusers makes from a list of generators, always in float32."""
        factor = self._pipeline.vae_scale_factor
        shape = (1, self._pipeline.unet.config.in_channels, size[1] // factor, size[0] // factor)
        noise = torch.cat([torch.randn(shape, generator=g, dtype=torch.float32) for g in generators])
        return noise.to(self._device, self._dtype)

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self._pipeline.vae
        pixels = vae.decode(_unscaled(latents, vae.config).to(vae.dtype), return_dict=False)[0].float()
        return quantise(pixels, made_by=f"{self._folder.name}, {dtype_name(self._dtype)}")


def _unscaled(latents: Tensor, config: Any) -> Tensor:
    """Latents (N, C, h, w) as the VAE's decoder takes them."""
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    scale, shift = float(config.scaling_factor), float(getattr(config, "shift_factor", None) or 0.0)
    if mean is not None and std is not None:
        centre, spread = (torch.tensor(v).to(latents).view(1, -1, 1, 1) for v in (mean, std))
        return latents * spread / scale + centre
    return latents / scale + shift
