"""Small diffusers folders of every family, with random weights: built in a second, the same each time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import CLIPTextConfig, CLIPTokenizer

CONTEXT_TOKENS = 16


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random weights that are the same each time, and a global state that is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


UNJUDGED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
XL = {"cross_attention_dim": 64, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
      "projection_class_embeddings_input_dim": 6 * 8 + 32, "use_linear_projection": True}  # fmt: skip


def sd_kind(folder: Path, pipeline: str, scheduler: Any, *, seed: int, **unet: Any) -> Path:
    """A Stable Diffusion 1.x kind: one text encoder, a VAE of factor 8, 64 x 64 px."""
    import diffusers
    from transformers import CLIPTextModel

    with seeded(seed):
        tokenizer = clip_tokenizer()
        made = getattr(diffusers, pipeline)(
            vae=diffusers.AutoencoderKL(**vae_options(levels=4)),
            text_encoder=CLIPTextModel(text_config(tokenizer)),
            tokenizer=tokenizer,
            unet=diffusers.UNet2DConditionModel(**unet_options(cross_attention_dim=32, **unet)),
            scheduler=scheduler,
            **UNJUDGED,
        )
    return save(made, folder)


def sdxl_kind(folder: Path, pipeline: str, scheduler: Any, *, seed: int, **unet: Any) -> Path:
    """An SDXL kind: two text encoders, pooled embeddings, size conditioning, a VAE of factor 4."""
    import diffusers
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    with seeded(seed):
        tokenizer = clip_tokenizer()
        made = getattr(diffusers, pipeline)(
            vae=diffusers.AutoencoderKL(**vae_options(levels=3)),
            text_encoder=CLIPTextModel(text_config(tokenizer)),
            text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer)),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=diffusers.UNet2DConditionModel(**unet_options(**XL, **unet)),
            scheduler=scheduler,
            add_watermarker=False,
        )
    return save(made, folder)


def make_sd(folder: Path) -> Path:
    """Stable Diffusion 1.x."""
    from diffusers import PNDMScheduler

    scheduler = PNDMScheduler(**scheduler_options(skip_prk_steps=True, set_alpha_to_one=False))
    return sd_kind(folder, "StableDiffusionPipeline", scheduler, seed=0)


def make_sdxl(folder: Path) -> Path:
    """SDXL base."""
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(**scheduler_options(timestep_spacing="leading"))
    return sdxl_kind(folder, "StableDiffusionXLPipeline", scheduler, seed=1)


def make_lcm(folder: Path) -> Path:
    """A latent consistency model: guidance comes by an embedding, and the scheduler leaps."""
    from diffusers import LCMScheduler

    scheduler = LCMScheduler(**scheduler_options())
    return sd_kind(folder, "LatentConsistencyModelPipeline", scheduler, seed=2, time_cond_proj_dim=16)


def make_pix2pix(folder: Path) -> Path:
    """InstructPix2Pix: a UNet that also reads the latents of the picture to edit."""
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(**scheduler_options())
    pipeline = "StableDiffusionInstructPix2PixPipeline"
    return sd_kind(folder, pipeline, scheduler, seed=5, in_channels=8, out_channels=4)


def make_pix2pix_xl(folder: Path) -> Path:
    """InstructPix2Pix of the SDXL kind."""
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(**scheduler_options())
    pipeline = "StableDiffusionXLInstructPix2PixPipeline"
    return sdxl_kind(folder, pipeline, scheduler, seed=11, in_channels=8, out_channels=4)


def make_inpainting(folder: Path) -> Path:
    """An inpainting model of its own: a UNet of nine channels."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**scheduler_options())
    return sd_kind(folder, "StableDiffusionInpaintPipeline", scheduler, seed=6, in_channels=9, out_channels=4)


def make_refiner(folder: Path) -> Path:
    """An SDXL refiner: one text encoder, and an aesthetic score beside the size."""
    import diffusers
    from transformers import CLIPTextModelWithProjection

    with seeded(7):
        tokenizer = clip_tokenizer()
        unet = {**XL, "cross_attention_dim": 32, "projection_class_embeddings_input_dim": 5 * 8 + 32}
        pipeline = diffusers.StableDiffusionXLImg2ImgPipeline(
            vae=diffusers.AutoencoderKL(**vae_options(levels=3)),
            text_encoder=None,
            text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer)),
            tokenizer=None,
            tokenizer_2=tokenizer,
            unet=diffusers.UNet2DConditionModel(**unet_options(**unet)),
            scheduler=diffusers.EulerDiscreteScheduler(**scheduler_options()),
            requires_aesthetics_score=True,
            add_watermarker=False,
        )
    return save(pipeline, folder)


def t5_tokenizer() -> Any:
    """A T5 tokenizer that knows the letters of the alphabet and a few words."""
    from transformers import T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁a", "▁red", "▁star", *"abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(
        vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0, model_max_length=32
    )


def t5_encoder(tokenizer: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
    return T5EncoderModel(config)


def make_sd3(folder: Path, shift_factor: float = 0.06) -> Path:
    """Three text encoders, a joint transformer, flow matching with a shift, a VAE with a shift."""
    import diffusers
    from transformers import CLIPTextModelWithProjection

    with seeded(3):
        tokenizer, t5 = clip_tokenizer(), t5_tokenizer()
        pipeline = diffusers.StableDiffusion3Pipeline(
            transformer=diffusers.SD3Transformer2DModel(
                sample_size=8, patch_size=2, in_channels=16, num_layers=1, attention_head_dim=8,
                num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32,
                pooled_projection_dim=64, out_channels=16, pos_embed_max_size=16,
            ),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=diffusers.AutoencoderKL(
                **{**vae_options(levels=4), "latent_channels": 16}, scaling_factor=1.5, shift_factor=shift_factor
            ),
            text_encoder=CLIPTextModelWithProjection(text_config(tokenizer)),
            tokenizer=tokenizer,
            text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer)),
            tokenizer_2=tokenizer,
            text_encoder_3=t5_encoder(t5),
            tokenizer_3=t5,
        )  # fmt: skip
    return save(pipeline, folder)


def make_flux(folder: Path) -> Path:
    """A CLIP and a T5 encoder, packed latents, guidance by embedding, flow matching with a dynamic shift."""
    import diffusers
    from transformers import CLIPTextModel

    with seeded(4):
        tokenizer, t5 = clip_tokenizer(), t5_tokenizer()
        pipeline = diffusers.FluxPipeline(
            transformer=diffusers.FluxTransformer2DModel(
                patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
                num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
                axes_dims_rope=(4, 4, 8), guidance_embeds=True,
            ),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            vae=diffusers.AutoencoderKL(**vae_options(levels=4), scaling_factor=0.4, shift_factor=0.1),
            text_encoder=CLIPTextModel(text_config(tokenizer)),
            tokenizer=tokenizer,
            text_encoder_2=t5_encoder(t5),
            tokenizer_2=t5,
        )  # fmt: skip
    return save(pipeline, folder)


def make_controlnet(folder: Path, seed: int = 8) -> Path:
    """A ControlNet for the SD-style model, its silent last layers given a voice."""
    import diffusers
    import torch

    with seeded(seed):
        options = unet_options(cross_attention_dim=32)
        for name in ("sample_size", "up_block_types"):
            del options[name]
        net = diffusers.ControlNetModel(**options, conditioning_embedding_out_channels=(8, 8, 16, 16))
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if not parameter.abs().sum() or "controlnet_cond_embedding.conv_out" in name:
                    parameter.normal_(0, 0.2)
    net.save_pretrained(folder)
    return folder


def make_pixart(folder: Path) -> Path:
    """PixArt-Sigma: a T5 encoder with attention masks, a transformer, and noise prediction."""
    import diffusers

    with seeded(9):
        t5 = t5_tokenizer()
        pipeline = diffusers.PixArtSigmaPipeline(
            tokenizer=t5,
            text_encoder=t5_encoder(t5),
            vae=diffusers.AutoencoderKL(**vae_options(levels=4)),
            transformer=diffusers.PixArtTransformer2DModel(
                sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2,
                caption_channels=32, in_channels=4, cross_attention_dim=16, out_channels=8,
                norm_type="ada_norm_single", use_additional_conditions=False,
            ),
            scheduler=diffusers.DPMSolverMultistepScheduler(**scheduler_options()),
        )  # fmt: skip
    return save(pipeline, folder)


def make_amused(folder: Path) -> Path:
    """aMUSEd: not diffusion at all, but tokens unmasked step by step, by a scheduler of its own."""
    import diffusers
    from transformers import CLIPTextModelWithProjection

    with seeded(10):
        tokenizer = clip_tokenizer()
        pipeline = diffusers.AmusedPipeline(
            transformer=diffusers.UVit2DModel(
                hidden_size=32, use_bias=False, hidden_dropout=0.0, cond_embed_dim=32,
                micro_cond_encode_dim=2, micro_cond_embed_dim=10, encoder_hidden_size=32, vocab_size=32,
                codebook_size=32, in_channels=32, block_out_channels=32, num_res_blocks=1, downsample=True,
                upsample=True, block_num_heads=1, num_hidden_layers=1, num_attention_heads=1,
                attention_dropout=0.0, intermediate_size=32, layer_norm_eps=1e-6, ln_elementwise_affine=True,
            ),
            scheduler=diffusers.AmusedScheduler(mask_token_id=31),
            vqvae=diffusers.VQModel(
                act_fn="silu", block_out_channels=[8], down_block_types=["DownEncoderBlock2D"], in_channels=3,
                latent_channels=8, layers_per_block=1, norm_num_groups=8, num_vq_embeddings=32, out_channels=3,
                sample_size=8, up_block_types=["UpDecoderBlock2D"], mid_block_add_attention=False,
                lookup_from_codebook=True,
            ),
            text_encoder=CLIPTextModelWithProjection(text_config(tokenizer)),
            tokenizer=tokenizer,
        )  # fmt: skip
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def save(pipeline: Any, folder: Path) -> Path:
    """The folder, saved with the decoder's last layer made louder, so that random weights give varied pixels."""
    import torch

    with torch.no_grad():
        pipeline.vae.decoder.conv_out.weight.mul_(2.0)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def clip_tokenizer() -> CLIPTokenizer:
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    merges = [("r", "e"), ("re", "d</w>"), ("s", "t"), ("st", "a"), ("sta", "r</w>"), ("o", "n</w>")]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_TOKENS)


def text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
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


def unet_options(**more: Any) -> dict[str, Any]:
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


def vae_options(levels: int) -> dict[str, Any]:
    return {
        "block_out_channels": (8,) * levels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 64,
    }


def scheduler_options(**more: Any) -> dict[str, Any]:
    return {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        **more,
    }
