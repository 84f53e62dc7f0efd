"""Latents: the first noise, and the way back to pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sdkit._backend.noise import normal_noise

# `shapes` on one CPU core, ms a picture at 1, 2, 4, 8, 16, 32 rows: 17.9, 13.2, 11.9, 11.1, 10.9, 11.1.
_DECODE_ROWS_SMALL, _DECODE_ROWS_LARGE, _LARGE_PX = 32, 8, 512 * 512
# Of the ways tried on `shapes` this left the smallest error, 30 levels of 255; no linear map does better than 18.
_FIT_SIDE, _FIT_PICTURES, _FIT_STRENGTH = 16, 8, 1.8


def first_noise(
    pipeline: Any,
    generators: Sequence[torch.Generator],
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """(N, C, h, w): the very draw that diffusers makes from a list of generators, always in float32.

    Args:
        size: width and height, pixels.
    """
    factor = pipeline.vae_scale_factor
    shape = (pipeline.unet.config.in_channels, size[1] // factor, size[0] // factor)
    return normal_noise(generators, shape).to(device, dtype)


class Float32Draws(TorchFunctionMode):
    """Makes every `torch.randn` draw float32 numbers first: a draw in float16 is another draw altogether."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        wanted = options.get("dtype")
        if func is torch.randn and wanted in (torch.float16, torch.bfloat16):
            return func(*args, **{**options, "dtype": torch.float32}).to(wanted)
        return func(*args, **options)


def float32_draws(dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """Within it all noise is drawn in float32, whatever the pipeline's dtype; free of cost in float32."""
    return contextlib.nullcontext() if dtype == torch.float32 else Float32Draws()


def decodes_itself(pipeline: Any) -> bool:
    """True when only the pipeline knows how its latents become pixels."""
    vae = getattr(pipeline, "vae", None)
    return type(vae).__name__ not in ("AutoencoderKL", "AutoencoderTiny", "ConsistencyDecoderVAE")


def spatial(pipeline: Any, latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Latents as (N, C, h, w); FLUX keeps them packed, as (N, tokens, 4 C)."""
    if latents.ndim != 3:
        return latents
    unpacked: Tensor = pipeline._unpack_latents(latents, size[1], size[0], pipeline.vae_scale_factor)
    return unpacked


def decode(pipeline: Any, latents: Tensor) -> Iterator[Tensor]:
    """Pixels (n, 3, H, W) float, about -1..1, a few rows at a time: a VAE needs far more memory than a denoiser.

    Args:
        latents: (N, C, h, w), as the denoiser leaves them.
    """
    vae = pipeline.vae
    large = latents.shape[-1] * latents.shape[-2] * pipeline.vae_scale_factor**2 >= _LARGE_PX
    rows = _DECODE_ROWS_LARGE if large else _DECODE_ROWS_SMALL
    for start in range(0, len(latents), rows):
        chunk = _unscaled(latents[start : start + rows], vae.config)
        yield vae.decode(chunk.to(vae.dtype), return_dict=False)[0].float()


def fit_preview(pipeline: Any) -> Tensor:
    """(C + 1, 3): the linear map from a latent and 1 to its patch's mean colour, -1..1.

    Fitted by least squares on what the VAE's encoder makes of smooth pictures in strong random colours, so that
    every VAE has one.
    """
    vae, cell = pipeline.vae, _FIT_SIDE // 2
    draws = torch.rand((_FIT_PICTURES, 3, 2, 2), generator=torch.Generator().manual_seed(0))
    colours = ((draws * 2 - 1) * _FIT_STRENGTH).clamp(-1, 1)
    scale = cell * pipeline.vae_scale_factor
    pictures = torch.nn.functional.interpolate(colours, scale_factor=scale, mode="bicubic").clamp(-1, 1)
    latents = vae.encode(pictures.to(pipeline._execution_device, vae.dtype)).latent_dist.mode().float().cpu()
    targets = torch.nn.functional.adaptive_avg_pool2d(pictures, latents.shape[-2:])
    rows = _with_one(_scaled(latents, vae.config))
    solution: Tensor = torch.linalg.lstsq(rows, targets.movedim(1, -1).reshape(-1, 3)).solution
    return solution


def rough_pixels(latents: Tensor, colours: Tensor) -> Tensor:
    """(N, 3, h, w) float, about -1..1: what latents (N, C, h, w) look like, by the map of `fit_preview`."""
    flat = _with_one(latents.float().cpu()) @ colours
    return flat.reshape(len(latents), *latents.shape[-2:], 3).movedim(-1, 1)


def _with_one(latents: Tensor) -> Tensor:
    rows = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)


def _scaled(latents: Tensor, config: Any) -> Tensor:
    """Latents (N, C, h, w) from the VAE's encoder as the denoiser knows them."""
    centre, spread = _statistics(latents, config)
    return (latents - centre) / spread


def _unscaled(latents: Tensor, config: Any) -> Tensor:
    """Latents (N, C, h, w) as the VAE's decoder takes them."""
    centre, spread = _statistics(latents, config)
    return latents * spread + centre


def _statistics(latents: Tensor, config: Any) -> tuple[Tensor | float, Tensor | float]:
    """Mean and deviation of the VAE's latents: one for each channel where its settings say so."""
    scale, shift = float(config.scaling_factor), float(getattr(config, "shift_factor", None) or 0.0)
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        centre, spread = (torch.tensor(v).to(latents).view(1, -1, 1, 1) for v in (mean, std))
        return centre, spread / scale
    return shift, 1.0 / scale
