"""CLIP score equals transformers' CLIPModel with the same weights, and the wrong activation is another number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import CONTEXT_TOKENS, clip_tokenizer

from eval.scoring.clip_score import clip_scores
from eval.scoring.encoders import ClipEncoder, load_clip

WIDTH, EMBEDDING, SIDE_PX, PATCH_PX, LAYERS = 32, 16, 32, 8, 2
TOKENS, VOCABULARY = CONTEXT_TOKENS, len(clip_tokenizer())
CAPTIONS = ["a red star", "a star on a red star", "on"]


def _config(*, quick: bool) -> dict[str, Any]:
    vision = {
        "image_size": SIDE_PX,
        "layers": LAYERS,
        "width": WIDTH,
        "head_width": 8,
        "patch_size": PATCH_PX,
    }
    text = {"context_length": TOKENS, "vocab_size": VOCABULARY, "width": WIDTH, "heads": 4, "layers": LAYERS}
    return {"embed_dim": EMBEDDING, "vision_cfg": vision, "text_cfg": text, "quick_gelu": quick}


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    import open_clip

    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = open_clip.CLIP(**_config(quick=True))
        # Larger than at the start of training, so that the towers are far from linear.
        return {
            name: (value * 3 if value.ndim > 1 else value).contiguous()
            for name, value in model.state_dict().items()
        }


def _folder(root: Path, weights: dict[str, torch.Tensor], *, quick: bool, tokenizer: Path) -> Path:
    import shutil

    folder = root / ("quick" if quick else "plain")
    shutil.copytree(tokenizer, folder)
    config = _config(quick=quick)
    config["text_cfg"] |= {"hf_tokenizer_name": "tokenizer"}
    cfg = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(cfg))
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["QuickGELU", "GELU"])
def pair(
    request: pytest.FixtureRequest, weights: dict[str, torch.Tensor], tiny_scorer: Path, tmp_path_factory: Any
) -> tuple[ClipEncoder, Any]:
    """Ours, and transformers' model with the same weights."""
    folder = _folder(tmp_path_factory.mktemp("clip"), weights, quick=request.param, tokenizer=tiny_scorer)
    return load_clip(str(folder), "cpu"), _transformers(weights, quick=request.param)


def _transformers(weights: dict[str, torch.Tensor], *, quick: bool) -> Any:
    from transformers import CLIPConfig, CLIPModel

    shared = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": 4,
        "num_hidden_layers": LAYERS,
    }
    shared |= {"hidden_act": "quick_gelu" if quick else "gelu", "projection_dim": EMBEDDING}
    text = shared | {"vocab_size": VOCABULARY, "max_position_embeddings": TOKENS, "eos_token_id": 2}
    vision = shared | {"image_size": SIDE_PX, "patch_size": PATCH_PX}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBEDDING)).eval()
    found: dict[str, torch.Tensor] = {
        "logit_scale": weights["logit_scale"],
        "text_projection.weight": weights["text_projection"].T,
        "visual_projection.weight": weights["visual.proj"].T,
        "text_model.embeddings.token_embedding.weight": weights["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": weights["positional_embedding"],
        "vision_model.embeddings.class_embedding": weights["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": weights["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": weights["visual.positional_embedding"],
    }
    norms = {"text_model.final_layer_norm": "ln_final", "vision_model.pre_layrnorm": "visual.ln_pre"}
    norms |= {"vision_model.post_layernorm": "visual.ln_post"}
    for tower, theirs in (("", "text_model"), ("visual.", "vision_model")):
        for i in range(LAYERS):
            ours = f"{tower}transformer.resblocks.{i}"
            layer = f"{theirs}.encoder.layers.{i}"
            norms |= {f"{layer}.layer_norm1": f"{ours}.ln_1", f"{layer}.layer_norm2": f"{ours}.ln_2"}
            norms |= {f"{layer}.mlp.fc1": f"{ours}.mlp.c_fc", f"{layer}.mlp.fc2": f"{ours}.mlp.c_proj"}
            norms |= {f"{layer}.self_attn.out_proj": f"{ours}.attn.out_proj"}
            for kind in ("weight", "bias"):
                parts = weights[f"{ours}.attn.in_proj_{kind}"].chunk(3)
                for name, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                    found[f"{layer}.self_attn.{name}.{kind}"] = part
    found |= {
        f"{theirs}.{kind}": weights[f"{ours}.{kind}"]
        for theirs, ours in norms.items()
        for kind in ("weight", "bias")
    }
    missing, unexpected = model.load_state_dict(found, strict=False)
    assert [name for name in missing if "position_ids" not in name] == []
    assert unexpected == []
    return model


def _pixels() -> torch.Tensor:
    shape = (3, 3, SIDE_PX, SIDE_PX)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def test_clip_score_equals_transformers_on_the_same_pixels(pair: tuple[ClipEncoder, Any]) -> None:
    ours, theirs = pair
    pixels = _pixels()
    with torch.no_grad():
        tokens = ours.tokenizer(CAPTIONS)
        # open_clip pools at the largest token id, the end mark; transformers where the end token's id stands.
        theirs.text_model.eos_token_id = theirs.config.text_config.eos_token_id = 2
        vision = theirs.vision_model(pixel_values=ours.prepare(pixels)).pooler_output
        text = theirs.text_model(input_ids=tokens)
        pooled = text.last_hidden_state[torch.arange(len(tokens)), tokens.argmax(dim=-1)]
        images, captions = theirs.visual_projection(vision), theirs.text_projection(pooled)
        expected = 100 * torch.nn.functional.cosine_similarity(images, captions)
    found = clip_scores(ours.images(pixels), ours.texts(CAPTIONS))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_the_other_activation_is_another_number_under_another_key(
    weights: dict[str, torch.Tensor], tiny_scorer: Path, tmp_path: Path
) -> None:
    found, keys = [], set()
    for quick in (True, False):
        encoder = load_clip(str(_folder(tmp_path, weights, quick=quick, tokenizer=tiny_scorer)), "cpu")
        found.append(clip_scores(encoder.images(_pixels()), encoder.texts(CAPTIONS)))
        keys.add(encoder.key.name.rpartition(" ")[2])
    assert np.abs(found[0] - found[1]).max() > 1e-2
    assert keys == {"(QuickGELU)", "(GELU)"}
