"""The autoencoder's stage: pictures to latents (4, 16, 16) and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdkit.shapes import world
from sdkit.shapes._loop import Objective, Schedule, learn

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

CROPS = Schedule(steps=3500, batch=16, rate=2e-3)
WHOLE = Schedule(steps=1100, batch=8, rate=6e-4, average=True)
DECODER = Schedule(steps=1000, batch=8, rate=8e-4, average=True)
EVALUATED = 256
_CROP_PX = 32
_KL_WEIGHT = 1e-5
_LATENT_NOISE = 0.08
"""At most, in standard deviations of the latents."""
HELD_OUT_SEED = 900_000_000
"""Seeds from here on are never drawn in training."""


def build() -> AutoencoderKL:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 40, 80),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=world.SIZE_PX,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def train(folder: Path, device: torch.device) -> AutoencoderKL:
    """Crops around the objects first, where nearly all of the error is, then whole pictures.

    The latents are final then: the denoiser may start while `train_decoder` goes on.
    """
    torch.manual_seed(0)
    model = build().to(device)

    def objective(schedule: Schedule, crop: bool, first_seed: int) -> Objective:
        def step(index: int) -> dict[str, Tensor]:
            seed = first_seed + index * schedule.batch
            images = (
                _crops(schedule.batch, seed) if crop else world.sample(schedule.batch, first_seed=seed).images
            )
            return _loss(model, to_unit(images).to(device), seed)

        return step

    learn("autoencoder-crops", model, [objective(CROPS, True, 0)], CROPS, folder)
    second = objective(WHOLE, False, CROPS.steps * CROPS.batch)
    learn(
        "autoencoder", model, [second], WHOLE, folder, lambda: {"psnr_db": held_out_psnr_db(model, EVALUATED)}
    )
    model.register_to_config(scaling_factor=1 / latent_std(model, 2 * EVALUATED))
    return model


def train_decoder(model: AutoencoderKL, folder: Path, device: torch.device) -> None:
    """Train the decoder alone, on latents with a little noise, as a denoiser's are never quite right."""
    first_seed = CROPS.steps * CROPS.batch + WHOLE.steps * WHOLE.batch
    spread = _LATENT_NOISE / float(model.config.scaling_factor)

    def step(index: int) -> dict[str, Tensor]:
        seed = first_seed + index * DECODER.batch
        images = to_unit(world.sample(DECODER.batch, first_seed=seed).images).to(device)
        with torch.no_grad():
            latents = model.encode(images).latent_dist.mode()
        rng = torch.Generator().manual_seed(seed)
        noise = torch.randn(latents.shape, generator=rng) * torch.rand((len(latents), 1, 1, 1), generator=rng)
        error = model.decode(latents + spread * noise.to(device)).sample - images
        return {"loss": error.abs().mean() + 4 * error.square().mean(), "mse": error.square().mean().detach()}

    found = lambda: {"psnr_db": held_out_psnr_db(model, EVALUATED)}  # noqa: E731
    learn("decoder", model.decoder, [step], DECODER, folder, found)


def to_unit(images: Tensor) -> Tensor:
    """uint8 0-255 -> float32 -1..1."""
    return images.float() / 127.5 - 1


def to_bytes(images: Tensor) -> Tensor:
    """Floats -1..1 -> uint8 0-255, rounded."""
    return ((images / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


@torch.no_grad()
def reconstruct(model: AutoencoderKL, images: Tensor, batch: int = 32) -> Tensor:
    """(N, 3, 64, 64) uint8 -> the same, through the latents' means."""
    device = next(model.parameters()).device
    chunks = [to_unit(chunk).to(device) for chunk in torch.split(images, batch)]
    return torch.cat(
        [to_bytes(model.decode(model.encode(c).latent_dist.mode()).sample).cpu() for c in chunks]
    )


def held_out_psnr_db(model: AutoencoderKL, count: int) -> float:
    """`psnr_db` of the first `count` held-out pictures and what becomes of them."""
    images = world.sample(count, first_seed=HELD_OUT_SEED, split="held_out").images
    return psnr_db(images, reconstruct(model, images))


def psnr_db(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, from the mean squared error over all pictures; higher is better."""
    return 10 * math.log10(255**2 / (first.double() - second.double()).square().mean().item())


@torch.no_grad()
def latent_std(model: AutoencoderKL, count: int) -> float:
    device = next(model.parameters()).device
    images = torch.split(to_unit(world.sample(count, first_seed=HELD_OUT_SEED).images), 64)
    return torch.cat([model.encode(chunk.to(device)).latent_dist.mode() for chunk in images]).std().item()


def _crops(count: int, seed: int) -> Tensor:
    """(count, 3, 32, 32): windows on count / 2 pictures, two of each, the first near its middle."""
    whole = world.sample(count // 2, first_seed=seed).images
    where = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, world.SIZE_PX - _CROP_PX + 1, (count, 2), generator=where).tolist()
    pairs = zip(whole.repeat_interleave(2, 0), corners, strict=True)
    return torch.stack([image[:, y : y + _CROP_PX, x : x + _CROP_PX] for image, (y, x) in pairs])


def _loss(model: AutoencoderKL, images: Tensor, seed: int) -> dict[str, Tensor]:
    posterior = model.encode(images).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(seed)).to(images.device)
    decoded = model.decode(posterior.mean + posterior.std * noise).sample
    error = decoded - images
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    loss = error.abs().mean() + 4 * error.square().mean() + _KL_WEIGHT * kl
    return {
        "loss": loss,
        "mse": error.square().mean().detach(),
        "kl": kl.detach(),
        "std": posterior.std.mean().detach(),
    }
