"""Two CLIPs that know nothing of each other: one gives the pipeline its text tower, one scores.

Both learn to find a picture's caption among all captions of the batch, which hold, for each
picture, several that differ from the true one in a single attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sdkit.shapes import world
from sdkit.shapes._autoencoder import HELD_OUT_SEED, to_unit
from sdkit.shapes._loop import Objective, Schedule, learn
from sdkit.shapes._pool import Pool
from sdkit.shapes._words import CONTEXT, build_tokenizer

if TYPE_CHECKING:
    from transformers import CLIPModel

TEXT = Schedule(steps=1000, batch=48, rate=1e-3, weight_decay=0.02)
SCORER = Schedule(steps=7000, batch=48, rate=1.5e-3, weight_decay=0.02)
EVALUATED = 1000
_ALTERED = 6
_MEAN, _STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
TEXT_WIDTH = 128
SCORER_WIDTH = 64

Towers = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Pictures (N, 3, 64, 64) and tokens (M, 16) -> normalised (N, D), (M, D), and the logits' scale."""


def build_text() -> CLIPModel:
    """The CLIP whose text tower conditions the denoiser: a vision transformer beside a causal one."""
    from transformers import CLIPConfig, CLIPModel

    tokenizer = build_tokenizer()
    text = {
        "vocab_size": len(tokenizer), "hidden_size": TEXT_WIDTH, "intermediate_size": 4 * TEXT_WIDTH,
        "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": CONTEXT,
        "projection_dim": 64, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {
        "hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4,
        "image_size": world.SIZE_PX, "patch_size": 8, "projection_dim": 64,
    }  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))
    # From the customary 0.02 a short training leaves "left" and "right" all but equal in the last hidden
    # state (mean square 0.025 apart, colours 1 to 2), and the denoiser then cannot tell them apart either.
    for embedding in (
        model.text_model.embeddings.token_embedding,
        model.vision_model.embeddings.position_embedding,
    ):
        nn.init.normal_(embedding.weight, std=0.5)
    return model


def scorer_config() -> dict[str, Any]:
    """What open_clip reads from `open_clip_config.json`: a residual network beside a small text tower."""
    return {
        "model_cfg": {
            "embed_dim": SCORER_WIDTH,
            "vision_cfg": {"image_size": world.SIZE_PX, "layers": [1, 1, 1, 1], "width": 16},
            "text_cfg": {
                "context_length": CONTEXT, "vocab_size": len(build_tokenizer()), "width": 96, "heads": 4,
                "layers": 3, "hf_tokenizer_name": ".",
            },
        },
        "preprocess_cfg": {"mean": _MEAN, "std": _STD, "interpolation": "bicubic", "resize_mode": "squash"},
    }  # fmt: skip


def build_scorer() -> nn.Module:
    from open_clip.model import CLIP

    config = scorer_config()["model_cfg"]
    text = {key: value for key, value in config["text_cfg"].items() if key != "hf_tokenizer_name"}
    model: nn.Module = CLIP(config["embed_dim"], config["vision_cfg"], text)
    return model


def train_text(pool: Pool, folder: Path, device: torch.device) -> CLIPModel:
    torch.manual_seed(1)
    model = build_text().to(device)

    def towers(images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = model(input_ids=tokens, pixel_values=images)
        return output.image_embeds, output.text_embeds, model.logit_scale.exp()

    _train("text", model, towers, TEXT, pool, folder, device, seed=11)
    return model


def train_scorer(pool: Pool, folder: Path, device: torch.device) -> nn.Module:
    torch.manual_seed(2)
    model = build_scorer().to(device)
    _train("scorer", model, scorer_towers(model), SCORER, pool, folder, device, seed=22)
    return model


def first_among_ten(towers: Towers, device: torch.device, count: int) -> float:
    """How often, over held-out renders, the true caption scores above nine that differ in one attribute."""
    drawn = world.sample(count, first_seed=HELD_OUT_SEED + 50_000, split="held_out")
    rng = np.random.default_rng(0)
    choices = [[scene, *(world.alter(scene, rng) for _ in range(9))] for scene in drawn.scenes]
    tokenize = _tokenize()
    right = 0
    with torch.no_grad():
        for start in range(0, count, 100):
            rows = choices[start : start + 100]
            tokens = tokenize([scene.caption for row in rows for scene in row]).to(device)
            images, texts, _ = towers(to_unit(drawn.images[start : start + 100]).to(device), tokens)
            scores = (texts.view(len(rows), 10, -1) * images[:, None]).sum(-1)
            right += int((scores[:, 1:].max(1).values < scores[:, 0]).sum())
    return right / count


def scorer_towers(model: nn.Module) -> Towers:
    """The scorer as `Towers`: its features normalised, as open_clip's forward pass gives them."""

    def towers(images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, text, scale = model(images, tokens)
        return image, text, scale

    return towers


def _train(
    name: str, model: nn.Module, towers: Towers, schedule: Schedule, pool: Pool, folder: Path,
    device: torch.device, *, seed: int,
) -> None:  # fmt: skip
    objective = _objective(towers, schedule, pool, device, seed)
    learn(
        name,
        model,
        [objective],
        schedule,
        folder,
        lambda: {"first_of_ten": first_among_ten(towers, device, EVALUATED)},
    )


def _objective(towers: Towers, schedule: Schedule, pool: Pool, device: torch.device, seed: int) -> Objective:
    tokenize = _tokenize()

    def step(index: int) -> dict[str, Tensor]:
        rows = pool.batch(index, schedule.batch, seed)
        rng = np.random.default_rng([seed, index])
        truth = [pool.scenes[i] for i in rows]
        altered = [world.alter(scene, rng) for scene in truth for _ in range(_ALTERED)]
        captions = [scene.caption for scene in (*truth, *altered)]
        images, texts, scale = towers(to_unit(pool.images[rows]).to(device), tokenize(captions).to(device))
        logits = scale.clamp(max=100) * images @ texts.T
        target = torch.tensor([captions.index(c) for c in captions[: len(rows)]], device=device)
        to_text = nn.functional.cross_entropy(logits, target)
        to_image = nn.functional.cross_entropy(
            logits[:, : len(rows)].T, torch.arange(len(rows), device=device)
        )
        right = (logits.argmax(1) == target).float().mean().detach()
        return {"loss": (to_text + to_image) / 2, "right": right}

    return step


def _tokenize() -> Callable[[list[str]], Tensor]:
    tokenizer = build_tokenizer()

    def tokens(captions: list[str]) -> Tensor:
        ids: Tensor = tokenizer(
            captions, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return ids

    return tokens
