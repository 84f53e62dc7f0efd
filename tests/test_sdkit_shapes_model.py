"""The weights that ship: what the bundled model, its autoencoder and its scorer reach on held-out scenes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sdkit.shapes import evaluate, world
from sdkit.shapes.train import WEIGHTS


def test_all_weights_are_safetensors_in_half_precision_and_fit_in_24_mb() -> None:
    from safetensors import safe_open

    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 24 * 10**6
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 4
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}]
    for path in weights:
        with safe_open(path, "pt") as stored:
            tensors = [stored.get_tensor(key) for key in stored.keys()]  # noqa: SIM118
        assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float16}


def test_a_call_of_the_denoiser_and_a_decode_stay_cheap() -> None:
    from diffusers import StableDiffusionPipeline
    from torch.utils.flop_counter import FlopCounterMode

    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS / "pipeline", dtype=torch.float32)
    latents, context = torch.zeros(1, 4, 16, 16), torch.zeros(1, 16, 128)
    with torch.no_grad(), FlopCounterMode(display=False) as denoiser:
        pipeline.unet(latents, torch.tensor([500]), context)
    with torch.no_grad(), FlopCounterMode(display=False) as decoder:
        pipeline.vae.decode(latents)
    assert denoiser.get_total_flops() <= 0.4e9
    assert decoder.get_total_flops() <= 0.8e9


def test_the_autoencoder_keeps_held_out_pictures_as_they_are() -> None:
    drawn = world.sample(512, first_seed=evaluate.HELD_OUT_SEED, split="held_out")
    back = evaluate.reconstructed(drawn.images)
    assert evaluate.psnr_db(drawn.images, back) >= 35
    assert evaluate.judged(back, drawn.scenes).all_right >= 0.97


def test_the_scorer_puts_the_true_caption_first_of_ten_that_differ_in_one_attribute() -> None:
    assert evaluate.first_of_ten(1000) >= 0.97


@pytest.mark.parametrize("count", [64, pytest.param(256, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("objects", "bar"), [(1, 0.85), (2, 0.60)])
def test_the_generator_draws_what_held_out_captions_say(objects: int, bar: float, count: int) -> None:
    assert evaluate.generated(objects, count, evaluate.default_guidance()).all_right >= bar


def test_the_scorer_is_not_the_text_encoder_that_makes_the_pictures() -> None:
    generator, scorer = (WEIGHTS / "pipeline" / "text_encoder", WEIGHTS / "scorer")
    files = [next(folder.glob("*.safetensors")).read_bytes() for folder in (generator, scorer)]
    assert files[0] != files[1]
    assert not Path(WEIGHTS / "scorer" / "text_encoder").exists()
