"""Fixtures of all tests: small models with random weights, built once a run, offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny_models import CONTEXT_TOKENS, clip_tokenizer, make_sd, make_sdxl

if TYPE_CHECKING:
    from asking import Ask
    from lora_files import Load
    from playwright.sync_api import Browser


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Moments of references are kept for this run only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDKIT_EVAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Stable Diffusion 1.x kind: one text encoder, a VAE of factor 8, 64 x 64 px."""
    return make_sd(tmp_path_factory.mktemp("models") / "tiny-sd")


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an SDXL kind: two text encoders, pooled embeddings, size conditioning, a VAE of factor 4."""
    return make_sdxl(tmp_path_factory.mktemp("models") / "tiny-sdxl")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless chromium; skips, and says so, where there is none."""
    from browsing import open_browser

    yield from open_browser()


@pytest.fixture
def ask() -> Ask:
    """Composes the plan of a command line."""
    from asking import ask_for

    return ask_for


@pytest.fixture
def load(tiny_sd: Path, tiny_sdxl: Path) -> Load:
    """Loads a plain pipeline by its class's name."""
    from lora_files import SD, open_pipeline

    return lambda kind: open_pipeline(tiny_sd if kind == SD else tiny_sdxl)


@pytest.fixture(scope="session")
def tiny_scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an open_clip kind with random weights: 8-d embedding, 64 x 64 px, its tokenizer beside it."""
    import json

    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("models") / "tiny-scorer"
    tokenizer = clip_tokenizer()
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
