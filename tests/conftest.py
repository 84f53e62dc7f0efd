"""Fixtures of all tests: two small diffusers folders with random weights, built once a run, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import CLIPTextConfig, CLIPTokenizer

CONTEXT_TOKENS = 16


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Stable Diffusion 1.x kind: one text encoder, a VAE of factor 8, 64 x 64 px."""
    import diffusers
    import torch
    from transformers import CLIPTextModel

    folder = tmp_path_factory.mktemp("models") / "tiny-sd"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = _tokenizer()
        pipeline = diffusers.StableDiffusionPipeline(
            vae=diffusers.AutoencoderKL(**_vae_options(levels=4)),
            text_encoder=CLIPTextModel(_text_config(tokenizer)),
            tokenizer=tokenizer,
            unet=diffusers.UNet2DConditionModel(**_unet_options(cross_attention_dim=32)),
            scheduler=diffusers.PNDMScheduler(
                **_scheduler_options(skip_prk_steps=True, set_alpha_to_one=False)
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    _save(pipeline, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an SDXL kind: two text encoders, pooled embeddings, size conditioning, a VAE of factor 4."""
    import diffusers
    import torch
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    folder = tmp_path_factory.mktemp("models") / "tiny-sdxl"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tokenizer = _tokenizer()
        unet = _unet_options(
            cross_attention_dim=64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 32,
            use_linear_projection=True,
        )
        pipeline = diffusers.StableDiffusionXLPipeline(
            vae=diffusers.AutoencoderKL(**_vae_options(levels=3)),
            text_encoder=CLIPTextModel(_text_config(tokenizer)),
            text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer)),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=diffusers.UNet2DConditionModel(**unet),
            scheduler=diffusers.EulerDiscreteScheduler(**_scheduler_options(timestep_spacing="leading")),
            add_watermarker=False,
        )
    _save(pipeline, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an open_clip kind with random weights: 8-d embedding, 64 x 64 px, its tokenizer beside it."""
    import json

    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("models") / "tiny-scorer"
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    text = {
        "context_length": CONTEXT_TOKENS,
        "vocab_size": len(tokenizer),
        "width": 16,
        "heads": 2,
        "layers": 1,
    }
    model = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 64, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {**text, "hf_tokenizer_name": "tokenizer"},
    }
    config = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        weights = open_clip.CLIP(**{**model, "text_cfg": text}).state_dict()
    save_file(
        {name: value.contiguous() for name, value in weights.items()}, folder / "open_clip_model.safetensors"
    )
    return folder


def _save(pipeline: Any, folder: Path) -> None:
    """Saved with the decoder's last layer made louder, so that random weights give varied pixels."""
    import torch

    with torch.no_grad():
        pipeline.vae.decoder.conv_out.weight.mul_(2.0)
    pipeline.save_pretrained(folder, safe_serialization=True)


def _tokenizer() -> CLIPTokenizer:
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    merges = [("r", "e"), ("re", "d</w>"), ("s", "t"), ("st", "a"), ("sta", "r</w>"), ("o", "n</w>")]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_TOKENS)


def _text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        projection_dim=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _unet_options(**more: Any) -> dict[str, Any]:
    return {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "norm_num_groups": 8,
        "attention_head_dim": 2,
        **more,
    }


def _vae_options(levels: int) -> dict[str, Any]:
    return {
        "block_out_channels": (8,) * levels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 64,
    }


def _scheduler_options(**more: Any) -> dict[str, Any]:
    return {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        **more,
    }
