"""The shipped layouts have the published sizes, load files of that size, and read text as they should."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from original_layout import full_size_tensors, write_sparse

from sdkit._backend.clip_vocabulary import clip_tokenizer
from sdkit._backend.single_loading import load_single_file
from sdkit._errors import ModelError
from sdkit._single_file import LAYOUTS, detect


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_options: Any) -> None:
        raise AssertionError("a shipped layout must be enough without the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("layout", "part", "parameters", "tensors"),
    [
        ("sd1", "unet", 859_520_964, 686),
        ("sd1", "vae", 83_653_863, 248),
        ("sd1", "text_encoder", 123_060_480, 196),
        ("sd2", "unet", 865_910_724, 686),
        ("sd2", "vae", 83_653_863, 248),
        ("sd2", "text_encoder", 340_387_840, 372),
        ("sdxl", "unet", 2_567_463_684, 1680),
        ("sdxl", "vae", 83_653_863, 248),
        ("sdxl", "text_encoder", 123_060_480, 196),
        ("sdxl", "text_encoder_2", 694_659_840, 517),
        ("sdxl_refiner", "unet", 2_259_526_660, 1220),
        ("sdxl_refiner", "vae", 83_653_863, 248),
        ("sdxl_refiner", "text_encoder_2", 694_659_840, 517),
    ],
)
def test_shipped_configs_give_the_published_sizes(
    layout: str, part: str, parameters: int, tensors: int
) -> None:
    import diffusers
    import transformers

    config = json.loads((LAYOUTS / layout / part / "config.json").read_text())
    with torch.device("meta"):
        if part.startswith("text"):
            made = getattr(transformers, config["architectures"][0])(transformers.CLIPTextConfig(**config))
        else:
            made = getattr(diffusers, config["_class_name"]).from_config(config)
    assert (made.num_parameters(), len(made.state_dict())) == (parameters, tensors)


@pytest.mark.parametrize(
    ("layout", "tensors", "prediction_type", "scaling", "pads"),
    [
        # In the file: the parts' own tensors, and position_ids of CLIP, logit_scale of OpenCLIP, whose q, k
        # and v are one matrix; SD 2.x's last layer. 2,515 are in the published SDXL base.
        ("sd1", 1131, "epsilon", 0.18215, [49407]),
        ("sd2", 1228, "v_prediction", 0.18215, [0]),
        ("sdxl", 2515, "epsilon", 0.13025, [49407, 0]),
        pytest.param("sdxl_refiner", 1858, "epsilon", 0.13025, [None, 0], marks=pytest.mark.slow),
    ],
)
def test_a_full_size_file_loads_by_the_shipped_layout(
    tmp_path: Path,
    no_network: None,
    layout: str,
    tensors: int,
    prediction_type: str,
    scaling: float,
    pads: list[int | None],
) -> None:
    """The file is of true size and full of holes, so it takes no disk; read as float16 it takes no memory."""
    original = full_size_tensors(LAYOUTS / layout)
    assert len(original) == tensors
    file = write_sparse(original, tmp_path / "model.safetensors")
    pipeline = load_single_file(file, detect(file), dtype=torch.float16)
    modules = [module for module in pipeline.components.values() if isinstance(module, torch.nn.Module)]
    filled = [value for module in modules for value in module.parameters()]
    assert len(filled) > 1000
    assert all(value.device.type == "cpu" and value.dtype == torch.float16 for value in filled)
    assert pipeline.scheduler.config.prediction_type == prediction_type
    assert pipeline.vae.config.scaling_factor == scaling
    tokenizers = [getattr(pipeline, name, None) for name in ("tokenizer", "tokenizer_2")][: len(pads)]
    assert [None if found is None else found.pad_token_id for found in tokenizers] == pads
    if layout == "sdxl_refiner":
        assert pipeline.config.requires_aesthetics_score
        assert not pipeline.config.force_zeros_for_empty_prompt
    if layout == "sdxl":
        assert pipeline.config.force_zeros_for_empty_prompt


def test_layouts_are_inside_the_package_that_the_wheel_holds() -> None:
    import sdkit

    assert LAYOUTS.parent == Path(str(sdkit.__file__)).parent
    assert sorted(found.name for found in LAYOUTS.iterdir() if found.is_dir()) == [
        "sd1",
        "sd2",
        "sdxl",
        "sdxl_refiner",
    ]


def texts() -> list[str]:
    """What people write, and random text of ten scripts in characters that Python's Unicode knows."""
    written = [
        "", "   ", "a photo of an astronaut riding a horse on mars", "hello! wow!! (masterpiece:1.2), [x|y]",
        "I'M sure they'll say it's what we've said, y'all're", "naïve café, Straße, 3.14 100% #tag @me",
        "日本語のテキスト", "emoji 😀👩‍👩‍👧 ok", "tab\tnew\nline", "عربى हिन्दी ไทย", "a_b-c/d\\e", "x" * 200,
        "<|startoftext|", "½ ² Ⅳ ① ٣", "\u200bzero width", "don't  double   spaces",
    ]  # fmt: skip
    scripts = [
        (0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF), (0x2000, 0x2BFF),
        (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF), (0xAC00, 0xD7A3),
    ]  # fmt: skip
    dice = random.Random(0)
    for _ in range(1000):
        low, high = dice.choice(scripts)
        letters = (
            dice.choice([chr(dice.randint(low, high)), chr(dice.randint(32, 126)), " "]) for _ in range(20)
        )
        written.append("".join(letter for letter in letters if unicodedata.category(letter) != "Cn"))
    return written


@pytest.mark.parametrize(("folder", "pad"), [("sd1/tokenizer", 49407), ("sd2/tokenizer", 0)])
def test_tokens_are_open_clips_own(folder: str, pad: int) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    ours, theirs = clip_tokenizer(LAYOUTS / folder / "tokenizer_config.json"), SimpleTokenizer()
    assert (len(ours), ours.model_max_length, ours.pad_token_id) == (49408, 77, pad)
    for text in texts():
        # open_clip repairs text first (HTML entities, curly quotes), which transformers does not.
        cleaned = theirs.clean_fn(text)
        assert ours(cleaned).input_ids == [49406, *theirs.encode(text), 49407], text
    padded = ours("hi!", padding="max_length", truncation=True).input_ids
    assert padded == [49406, 1883, 256, 49407] + [pad] * 73
    assert len(ours("word " * 100, truncation=True).input_ids) == 77


def test_open_clip_is_read_and_not_imported() -> None:
    code = (
        "import sys; from sdkit._backend.clip_vocabulary import clip_tokenizer;"
        "from sdkit._single_file import LAYOUTS;"
        "clip_tokenizer(LAYOUTS / 'sd1' / 'tokenizer' / 'tokenizer_config.json');"
        "assert 'open_clip' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_without_open_clip_the_remedies_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ModelError, match=r"pip install open_clip_torch, or pass config="):
        clip_tokenizer(LAYOUTS / "sd1" / "tokenizer" / "tokenizer_config.json")
