"""The denoiser's stage: the DDPM objective on cached latents, captions dropped one time in ten."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdkit.shapes import world
from sdkit.shapes._autoencoder import to_unit
from sdkit.shapes._contrastive import TEXT_WIDTH
from sdkit.shapes._loop import Objective, Schedule, learn
from sdkit.shapes._pool import Pool
from sdkit.shapes._words import build_tokenizer

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

SCHEDULE = Schedule(steps=16_000, batch=32, rate=1e-3, average=True)
"""Enough, and no more: some 6,000 steps later guidance gained next to nothing, and a sweep over guidance
scales had little left to find. The figures are in the README beside this file."""
DROPPED = 0.1
_PAIRS_WEIGHT = 2.0
"""Pictures of two objects, the harder half, are drawn this many times as often as those of one."""
_SNR_CAP = 5.0
"""Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy": low noise weighs less."""
_HIGH_NOISE_CAP = 30.0
"""At high noise, epsilon's error shrinks with the signal, and with it what the caption has to teach: where
things are, and on what ground. Weighted by 1 + 1/SNR, as v-prediction is (Salimans & Ho 2022), up to here."""


@dataclass(frozen=True)
class Latents:
    """`values` (N, 4, 16, 16), of unit variance; `texts` (N, 16, 128); `empty` (16, 128), no caption.

    `pairs` (N,) bool: which pictures hold two objects.
    """

    values: Tensor
    texts: Tensor
    empty: Tensor
    pairs: Tensor


def build() -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=world.SIZE_PX // 4,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 80, 128),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,  # diffusers reads this as the number of heads
        norm_num_groups=8,
    )


def build_noise_schedule() -> DDPMScheduler:
    """Stable Diffusion's own: 1000 steps, scaled_linear from 0.00085 to 0.012, epsilon."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        clip_sample=False, prediction_type="epsilon", steps_offset=1,
    )  # fmt: skip


@torch.no_grad()
def cache(pool: Pool, autoencoder: AutoencoderKL, text: CLIPTextModel, folder: Path) -> Latents:
    """Latents' means and captions' embeddings of the whole pool, computed on the first call."""
    path = folder / "latents.pt"
    if not path.exists():
        device = next(autoencoder.parameters()).device
        scale = float(autoencoder.config.scaling_factor)
        chunks = [to_unit(chunk).to(device) for chunk in torch.split(pool.images, 256)]
        values = torch.cat([autoencoder.encode(chunk).latent_dist.mode().cpu() * scale for chunk in chunks])
        captions = [scene.caption for scene in pool.scenes]
        blocks = [captions[i : i + 512] for i in range(0, len(captions), 512)]
        texts = torch.cat([_embed(text, block) for block in blocks])
        stored = {"values": values, "texts": texts, "empty": _embed(text, [""])[0]}
        torch.save(stored, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
    pairs = torch.tensor([len(scene.shapes) == 2 for scene in pool.scenes])
    return Latents(**torch.load(path, weights_only=True), pairs=pairs)


def train(
    latents: Latents, folder: Path, device: torch.device, schedule: Schedule | None = None, workers: int = 1
) -> UNet2DConditionModel:
    schedule = schedule or SCHEDULE
    torch.manual_seed(3)
    model = build().to(device, memory_format=torch.channels_last)
    shares = [_objective(model, latents, schedule, device, share, workers) for share in range(workers)]
    learn("denoiser", model, shares, schedule, folder)
    return model


def _objective(
    model: UNet2DConditionModel,
    latents: Latents,
    schedule: Schedule,
    device: torch.device,
    share: int,
    shares: int,
) -> Objective:
    """The loss of every `shares`-th picture of a step's batch, from the `share`-th on."""
    noise_schedule = build_noise_schedule()
    signal = noise_schedule.alphas_cumprod
    snr = signal / (1 - signal)
    weights = (_SNR_CAP / snr).clamp(max=1.0) * (1 + 1 / snr).clamp(max=_HIGH_NOISE_CAP)
    values, texts, empty = latents.values.to(device), latents.texts.to(device), latents.empty.to(device)
    drawn = 1 + (_PAIRS_WEIGHT - 1) * latents.pairs

    def step(index: int) -> dict[str, Tensor]:
        rng = torch.Generator().manual_seed(index)
        rows = torch.multinomial(drawn, schedule.batch, replacement=True, generator=rng)
        # One timestep from each of `batch` equal strata: the same mean, less variance.
        strata = (torch.arange(schedule.batch) + torch.rand(schedule.batch, generator=rng)) / schedule.batch
        times = (strata * len(signal)).long()
        noise = torch.randn((schedule.batch, *values.shape[1:]), generator=rng)
        dropped = torch.rand(schedule.batch, generator=rng) < DROPPED
        mine = (weights[times], times, noise, dropped, rows)
        weight, times, noise, dropped, rows = (tensor[share::shares].to(device) for tensor in mine)
        noisy = noise_schedule.add_noise(values[rows], noise, times).contiguous(
            memory_format=torch.channels_last
        )
        condition = torch.where(dropped[:, None, None], empty, texts[rows])
        error = (model(noisy, times, condition).sample - noise).square().mean(dim=(1, 2, 3))
        return {"loss": (weight * error).mean(), "mse": error.mean().detach()}

    return step


def _embed(text: CLIPTextModel, captions: list[str]) -> Tensor:
    tokenizer = build_tokenizer()
    ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    hidden: Tensor = text(ids.to(next(text.parameters()).device)).last_hidden_state
    return hidden.cpu()
