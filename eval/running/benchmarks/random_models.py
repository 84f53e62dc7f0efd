"""Stable Diffusion 1.5 and SDXL by architecture, with random weights: speed does not hang on their values."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTEXT_TOKENS = 77
NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
NO_SAFETY = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


@dataclass(frozen=True)
class Architecture:
    """One model to build, and how it is commonly run."""

    title: str
    side_px: int
    guidance: float
    build: Callable[[], Any]
    """A diffusers pipeline, float32, on torch's default device."""


def architectures(*, small: bool) -> dict[str, Architecture]:
    """Name -> architecture; small ones have the same blocks, few and narrow, and 64 px."""
    kind = "small, " if small else ""
    return {
        "sd15": Architecture(
            f"Stable Diffusion 1.5 ({kind}random weights)", 64 if small else 512, 7.5, lambda: _sd15(small)
        ),
        "sdxl": Architecture(
            f"SDXL base ({kind}random weights)", 64 if small else 1024, 5.0, lambda: _sdxl(small)
        ),
    }


def write_model(architecture: Architecture, folder: Path, *, device: str, dtype: str) -> None:
    """Write it as a diffusers folder, its weights the same each time on the same kind of device.

    Args:
        device: where the random numbers are drawn; a GPU is far faster.
        dtype: of the weights on disk.
    """
    import torch

    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        pipeline = architecture.build()
    pipeline.to(getattr(torch, dtype)).save_pretrained(folder)


def _sd15(small: bool) -> Any:
    """Source: the configuration files of stable-diffusion-v1-5."""
    import diffusers

    width, channels = (32, (32, 64, 64, 64)) if small else (768, (320, 640, 1280, 1280))
    tokenizer = _tokenizer()
    return diffusers.StableDiffusionPipeline(
        vae=_vae(small, 512, 0.18215),
        text_encoder=_text(tokenizer, width, 12, 12, small=small),
        tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(
            sample_size=8 if small else 64, cross_attention_dim=width, block_out_channels=channels
        ),
        scheduler=diffusers.PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **NOISE),
        **NO_SAFETY,
    )


def _sdxl(small: bool) -> Any:
    """Source: the configuration files of stable-diffusion-xl-base-1.0."""
    import diffusers

    first, second = (32, 32) if small else (768, 1280)
    time_dim = 8 if small else 256
    tokenizer = _tokenizer()
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(small, 1024, 0.13025),
        text_encoder=_text(tokenizer, first, 12, 12, small=small),
        text_encoder_2=_text(tokenizer, second, 32, 20, small=small, projected=True),
        tokenizer=tokenizer,
        tokenizer_2=_tokenizer(),
        unet=diffusers.UNet2DConditionModel(
            sample_size=8 if small else 128,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(32, 64, 64) if small else (320, 640, 1280),
            transformer_layers_per_block=(1, 1, 1) if small else (1, 2, 10),
            attention_head_dim=(2, 4, 4) if small else (5, 10, 20),
            cross_attention_dim=first + second,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=time_dim,
            projection_class_embeddings_input_dim=6 * time_dim + second,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(**NOISE),
        add_watermarker=False,
    )


def _vae(small: bool, side_px: int, scale: float) -> Any:
    import diffusers

    return diffusers.AutoencoderKL(
        block_out_channels=(32,) * 4 if small else (128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1 if small else 2,
        latent_channels=4,
        sample_size=64 if small else side_px,
        scaling_factor=scale,
    )


def _text(
    tokenizer: Any, width: int, layers: int, heads: int, *, small: bool, projected: bool = False
) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2 if small else layers,
        num_attention_heads=2 if small else heads,
        max_position_embeddings=CONTEXT_TOKENS,
        projection_dim=width,
        hidden_act="gelu" if projected else "quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _tokenizer() -> Any:
    import tempfile

    from sdkit._backend.clip_vocabulary import clip_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "tokenizer_config.json"
        settings.write_text(json.dumps({"model_max_length": CONTEXT_TOKENS, "pad_token": "<|endoftext|>"}))
        return clip_tokenizer(settings)
