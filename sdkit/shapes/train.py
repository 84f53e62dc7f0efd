"""Trains `shapes` from nothing and writes its weights: `python -m sdkit.shapes.train --folder runs/shapes`.

The stages follow each other: autoencoder, the CLIP that conditions, the denoiser on the first two's
outputs, and, on its own, the CLIP that scores. Each goes on from its last checkpoint, and logs to
`<folder>/<stage>.jsonl`. On two CPU cores all of it takes hours; on a GPU, minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from sdkit.shapes import _autoencoder, _contrastive, _denoiser, _pool
from sdkit.shapes._words import build_tokenizer

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPModel, CLIPTextModel

WEIGHTS = Path(__file__).parent / "weights"


def main(arguments: list[str] | None = None) -> int:
    """Run the stages and write the weights; returns the process's exit code."""
    options = _parser().parse_args(arguments)
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    autoencoder = _autoencoder.train(folder, device)
    pool = _pool.load(folder)
    text = text_tower(_contrastive.train_text(pool, folder, device))
    _autoencoder.train_decoder(autoencoder, folder, device)
    latents = _denoiser.cache(pool, autoencoder, text, folder)
    denoiser = _denoiser.train(latents, folder, device, workers=options.workers)
    write_pipeline(autoencoder, text, denoiser, options.weights / "pipeline", options.guidance)
    write_scorer(_contrastive.train_scorer(pool, folder, device), options.weights / "scorer")
    return 0


def text_tower(clip: CLIPModel) -> CLIPTextModel:
    """The text tower alone, in the class that pipelines load."""
    from transformers import CLIPTextModel

    tower = CLIPTextModel(clip.config.text_config)
    tower.load_state_dict(clip.text_model.state_dict())
    device = next(clip.parameters()).device
    result: CLIPTextModel = tower.to(device).eval()
    return result


def write_pipeline(
    autoencoder: AutoencoderKL,
    text: CLIPTextModel,
    denoiser: UNet2DConditionModel,
    folder: Path,
    guidance: float,
) -> None:
    """A folder that `StableDiffusionPipeline.from_pretrained` loads: fp16 safetensors, no safety checker."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    noise_schedule = _denoiser.build_noise_schedule()
    scheduler = DDIMScheduler.from_config(noise_schedule.config, set_alpha_to_one=False)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder.half(),
        text_encoder=text.half(),
        tokenizer=build_tokenizer(),
        unet=denoiser.half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    (folder / "sdkit.json").write_text(json.dumps({"guidance_scale": guidance, "steps": 20}) + "\n")


def write_scorer(model: nn.Module, folder: Path) -> None:
    """A folder that open_clip loads as `local-dir:`."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        k: v.half().contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()
    }
    (folder / "open_clip_model.safetensors").write_bytes(save(weights))
    (folder / "open_clip_config.json").write_text(json.dumps(_contrastive.scorer_config(), indent=2) + "\n")
    build_tokenizer().save_pretrained(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sdkit.shapes.train", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="checkpoints, logs and caches")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where the finished model is written")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's own number if not given")
    parser.add_argument(
        "--workers", type=int, default=1, help="threads that share the denoiser's batch, on a CPU"
    )
    parser.add_argument(
        "--guidance", type=float, default=2.0, help="default guidance scale, written beside the weights"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
