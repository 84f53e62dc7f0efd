"""The denoiser by itself: rows of any runs in one call, for who keeps many runs at once and their schedulers' part.

A UNet takes a timestep a row, so rows of other samplers, step counts and guidances share a call. What it is called
with is what the pipelines of Stable Diffusion and SDXL call it with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sdkit._backend.common_rows import Texts, reading
from sdkit._backend.noise import Noise
from sdkit._device import memory_errors
from sdkit._errors import InvalidRequest
from sdkit._guidance import NEGATIVE

if TYPE_CHECKING:
    from sdkit._backend.loading import Loaded
    from sdkit._backend.text import TextEmbeddings
    from sdkit._plan import SamplerPlan

_PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
_TABLE_BYTES = 2**30
"""Embeddings of more than this stay on the CPU, and go to the device row by row."""


class Denoiser:
    """A model's UNet over a table of prompts, at one size. Threads take turns; on a CPU they run side by side.

    Example:
        >>> from sdkit import Session
        >>> session = Session("shapes", device="cpu")
        >>> denoiser = session.denoiser(session.encode(["a red star"]))
        >>> noise = denoiser.noise([7], session.plan("ddim", 4)).first()
        >>> denoiser.predict(noise, [999.0], [0]).shape, denoiser.shape
        (torch.Size([1, 4, 16, 16]), (4, 16, 16))
    """

    def __init__(
        self,
        loaded: Loaded,
        text: TextEmbeddings,
        size: tuple[int, int],
        device: torch.device,
        dtype: torch.dtype,
        lock: contextlib.AbstractContextManager[object],
    ) -> None:
        check_denoiser(loaded, text)
        pipeline = loaded.pipeline
        self._unet, self._device, self._dtype, self._lock = pipeline.unet, device, dtype, lock
        factor = pipeline.vae_scale_factor
        self.shape = (int(self._unet.config.in_channels), size[1] // factor, size[0] // factor)
        """C, h, w of a row's latents."""
        self._tables = _tables(text, device, dtype)
        self._time_ids = _time_ids(pipeline, size, self._tables, device, dtype)

    def noise(self, seeds: Sequence[int], plan: SamplerPlan) -> Noise:
        """All noise of a run, each picture's from its own seed, on the CPU."""
        return Noise(seeds, self.shape, plan)

    @torch.inference_mode()
    def predict(
        self,
        latents: Tensor,
        timesteps: Sequence[float],
        rows: Sequence[int],
        inputs: Sequence[int] | None = None,
    ) -> Tensor:
        """What the UNet says of each row, (B, C, h, w) float32 on the device.

        Args:
            latents: (U, C, h, w), scaled as the UNet reads them.
            timesteps: U training timesteps, 0..999; fractions are allowed.
            rows: B indices into the table of prompts; `sdkit._guidance.NEGATIVE` is the negative prompt.
            inputs: for each row which latents it reads, every one of them by some row; None is one row each. What
                a network can do without its text is then done once for them (`compile="fused"`).
        Raises:
            OutOfMemory: so many rows do not fit.
        """
        inputs = range(len(rows)) if inputs is None else inputs
        with self._lock, memory_errors(f"denoise {len(rows)} rows at once", self._device):
            read = torch.tensor(list(inputs))
            times = torch.tensor(timesteps, dtype=torch.float32)[read]
            picked = torch.tensor([row - NEGATIVE for row in rows])  # its row is the table's first
            embeds = {name: _picked(table, picked, self._device) for name, table in self._tables.items()}
            added = {}
            if self._time_ids is not None:
                time_ids = self._time_ids.expand(len(rows), -1)
                added = {"added_cond_kwargs": {"text_embeds": embeds["pooled"], "time_ids": time_ids}}
            with reading(inputs, Texts(self._tables["prompt"], picked, embeds["prompt"])):
                output: Tensor = self._unet(
                    latents.to(self._device, self._dtype)[read.to(self._device)],
                    times.to(self._device),
                    encoder_hidden_states=embeds["prompt"],
                    return_dict=False,
                    **added,
                )[0]
            return output.float()


def check_denoiser(loaded: Loaded, text: TextEmbeddings) -> None:
    """Refuses a model whose pipeline does more between two denoiser calls than a scheduler's step.

    Raises:
        InvalidRequest: says what it is.
    """
    name = type(loaded.pipeline).__name__
    reason = None
    if name not in _PIPELINES:
        reason = f"the pipeline must be one of {', '.join(_PIPELINES)}, got {name}"
    elif loaded.refiner is not None or loaded.controlnets:
        reason = "a refiner or a ControlNet takes part"
    elif not {"prompt_embeds", "negative_prompt_embeds"} <= text.tensors.keys():
        reason = "the pipeline hands out no embeddings of prompts"
    else:
        config, vae = loaded.pipeline.unet.config, loaded.pipeline.vae.config
        if config.in_channels != vae.latent_channels:
            reason = f"the UNet reads {config.in_channels} channels, and latents have {vae.latent_channels}"
        elif config.time_cond_proj_dim is not None:
            reason = "the UNet is told the guidance scale"
    if reason is not None:
        raise InvalidRequest(f"the denoiser cannot be called by itself: {reason}; let its pipeline run it")


def _tables(text: TextEmbeddings, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The negative prompt's row and then all prompts: "prompt" (1 + N, tokens, width), "pooled" (1 + N, width)."""
    found = {}
    for ours, name in (("prompt", "prompt_embeds"), ("pooled", "pooled_prompt_embeds")):
        if name in text.tensors:
            table = torch.cat([text.tensors[f"negative_{name}"], text.tensors[name]]).to(dtype)
            found[ours] = table.to(device) if table.nbytes <= _TABLE_BYTES else table
    return found


def _picked(table: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    return table[rows.to(table.device)].to(device)


def _time_ids(
    pipeline: Any, size: tuple[int, int], tables: dict[str, Tensor], device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    """(1, 6): SDXL's micro-conditioning, the picture's own size, not cropped; None for other models."""
    if "pooled" not in tables:
        return None
    encoder = pipeline.text_encoder_2
    width = tables["pooled"].shape[-1] if encoder is None else encoder.config.projection_dim
    side = (size[1], size[0])
    found: Tensor = pipeline._get_add_time_ids(
        side, (0, 0), side, dtype=dtype, text_encoder_projection_dim=int(width)
    )
    return found.to(device)
