"""Textual inversions, against the same vectors put in the embedding matrix by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lora_files as files
import pytest
import torch
from lora_files import (
    CLOSE,
    PARTS,
    SD,
    SDXL,
    Load,
    assert_untouched,
    latents,
    moved,
    state,
    text,
)
from torch import Tensor

from sdkit._backend.adapters import LoraFile, load_embeddings, load_loras
from sdkit._errors import InvalidRequest, ModelError, UnsafeModel

ROWS = torch.randn((3, 32), generator=torch.Generator().manual_seed(6))
WORDS = ("red", "star", "on")


def by_hand_rows(pipeline: Any, rows: Sequence[Tensor]) -> None:
    """The vectors in place of those of ordinary words, in each text encoder."""
    encoders = [(pipeline.text_encoder, pipeline.tokenizer)]
    if hasattr(pipeline, "text_encoder_2"):
        encoders.append((pipeline.text_encoder_2, pipeline.tokenizer_2))
    with torch.no_grad():
        for (encoder, tokenizer), vectors in zip(encoders, rows, strict=True):
            for word, vector in zip(WORDS, vectors, strict=False):
                (index,) = tokenizer(word, add_special_tokens=False).input_ids
                encoder.get_input_embeddings().weight[index] = vector


@pytest.mark.parametrize("style", ["diffusers", "emb_params", "string_to_param.*"])
@pytest.mark.parametrize("count", [1, 3])
def test_an_embedding_equals_its_vectors_put_in_the_matrix(
    load: Load, tmp_path: Path, style: str, count: int
) -> None:
    pipeline, by_hand = load(SD), load(SD)
    key = "<cat>" if style == "diffusers" else style
    path = files.write(tmp_path / "<cat>.safetensors", {key: ROWS[:count]})
    by_hand_rows(by_hand, [ROWS[:count]])
    assert load_embeddings(pipeline, [("", path)]) == ()
    wanted = text(by_hand, f"a {' '.join(WORDS[:count])} b")
    assert torch.equal(*text(pipeline, "a <cat> b"), *wanted)
    assert torch.equal(latents(pipeline, "<cat>"), latents(by_hand, " ".join(WORDS[:count])))
    assert moved(wanted[0], text(load(SD), f"a {' '.join(WORDS[:count])} b")[0])


def test_an_embedding_takes_the_name_that_it_is_given(load: Load, tmp_path: Path) -> None:
    pipeline, named, by_stem = load(SD), load(SD), load(SD)
    path = files.write(tmp_path / "dog.safetensors", {"<cat>": ROWS[:1]})
    bare = files.write(tmp_path / "BadHands-5.safetensors", {"emb_params": ROWS[:1]})
    load_embeddings(pipeline, [("", path)])
    load_embeddings(named, [("<pet>", path)])
    load_embeddings(by_stem, [("", bare)])
    wanted = text(pipeline, "a <cat>")
    assert torch.equal(*text(named, "a <pet>"), *wanted)
    assert torch.equal(*text(by_stem, "a BadHands-5"), *wanted)
    assert moved(text(named, "a <cat>")[0], wanted[0])


def test_a_pickle_of_a1111_names_its_own_token(load: Load, tmp_path: Path) -> None:
    pipeline, by_hand = load(SD), load(SD)
    path = tmp_path / "file.pt"
    content = {"string_to_token": {"*": 265}, "string_to_param": {"*": ROWS[:2]}, "name": "puss", "step": 9}
    torch.save(content, path)
    with pytest.raises(UnsafeModel, match=r"embedding file\.pt .*allow_pickle=True"):
        load_embeddings(pipeline, [("", path)])
    load_embeddings(pipeline, [("", path)], allow_pickle=True)
    by_hand_rows(by_hand, [ROWS[:2]])
    assert torch.equal(*text(pipeline, "puss"), *text(by_hand, "red star"))


@pytest.mark.parametrize("eos_in_settings", [None, 2], ids=["new settings", "settings of the first ports"])
@pytest.mark.parametrize("count", [1, 3])
def test_an_sdxl_embedding_goes_to_both_encoders(
    load: Load, tmp_path: Path, count: int, eos_in_settings: int | None
) -> None:
    pipeline, by_hand = load(SDXL), load(SDXL)
    for one in (pipeline, by_hand):
        for encoder in (one.text_encoder, one.text_encoder_2.text_model):
            encoder.eos_token_id = eos_in_settings or encoder.eos_token_id
    rows = [ROWS[:count], -2 * ROWS[:count]]
    path = files.write(tmp_path / "cat.safetensors", dict(zip(("clip_l", "clip_g"), rows, strict=True)))
    by_hand_rows(by_hand, rows)
    assert load_embeddings(pipeline, [("<Cat>", path)]) == ()
    for got, wanted in zip(
        text(pipeline, "a <cat> b"), text(by_hand, f"a {' '.join(WORDS[:count])} b"), strict=True
    ):
        assert torch.equal(got, wanted)


def test_embeddings_are_whole_words_in_any_case_and_keep_apart(load: Load, tmp_path: Path) -> None:
    """Three traps of replacing text: capital letters, a name that begins another, a name inside a word."""
    pipeline, by_hand = load(SD), load(SD)
    one = files.write(tmp_path / "Sty.safetensors", {"emb_params": ROWS[:2]})
    other = files.write(tmp_path / "Sty2.safetensors", {"emb_params": ROWS[2:]})
    load_embeddings(pipeline, [("", one), ("", other)])
    by_hand_rows(by_hand, [ROWS])
    assert torch.equal(*text(pipeline, "STY, sty2"), *text(by_hand, "red star, on"))
    assert torch.equal(*text(pipeline, "mystyle"), *text(by_hand, "mystyle"))
    assert torch.equal(*text(pipeline, ["Sty", "b"]), *text(by_hand, ["red star", "b"]))


def test_prompts_without_the_token_are_as_before(load: Load, tmp_path: Path) -> None:
    pipeline = load(SDXL)
    before = latents(pipeline)
    vectors = {"clip_l": ROWS.clone(), "clip_g": ROWS.clone()}
    load_embeddings(pipeline, [("<cat>", files.write(tmp_path / "cat.safetensors", vectors))])
    assert torch.equal(latents(pipeline), before)


@pytest.mark.parametrize(
    ("kind", "tensors", "said"),
    [
        (SDXL, {"<cat>": ROWS[:1]}, "it is for clip_l, not for clip_l 32 wide and clip_g 32 wide"),
        (
            SD,
            {"clip_l": ROWS[:1], "clip_g": ROWS[1:2]},
            "it is for clip_l and clip_g, not for clip_l 32 wide",
        ),
        (SD, {"emb_params": torch.zeros(2, 768)}, "it is for clip_l 768 wide, not for clip_l 32 wide"),
        (SDXL, {"clip_l": ROWS[:1], "clip_g": ROWS[1:]}, "as many for each encoder, got (1, 32), (2, 32)"),
        (SD, {"emb_params": torch.zeros(0, 32)}, "must hold (vectors, width)"),
        (SD, {"a.lora_down.weight": ROWS[:1], "a.lora_up.weight": ROWS[1:]}, "got a LoRA; give it as one"),
        (SD, {"a": ROWS[:1], "b": ROWS[1:]}, "got 2 tensors of other names"),
    ],
)
def test_an_embedding_that_does_not_fit_is_refused_and_nothing_added(
    load: Load, tmp_path: Path, kind: str, tensors: dict[str, Tensor], said: str
) -> None:
    pipeline = load(kind)
    before, words = state(pipeline), len(pipeline.tokenizer)
    good = {"emb_params": ROWS[:1]} if kind == SD else {"clip_l": ROWS[:1], "clip_g": ROWS[1:2]}
    pairs = [
        ("<good>", files.write(tmp_path / "good.safetensors", good)),
        ("", files.write(tmp_path / "bad.safetensors", tensors)),
    ]
    with pytest.raises(ModelError) as caught:
        load_embeddings(pipeline, pairs)
    assert str(caught.value).startswith("embedding bad.safetensors ")
    assert said in str(caught.value)
    assert_untouched(pipeline, before)
    assert len(pipeline.tokenizer) == words


@pytest.mark.parametrize("token", ["red", "<cat>", "<CAT>", "<cat>_1"])
def test_a_token_that_is_taken_is_refused(load: Load, tmp_path: Path, token: str) -> None:
    pipeline = load(SD)
    path = files.write(tmp_path / "cat.safetensors", {"emb_params": ROWS[:2]})
    load_embeddings(pipeline, [("<cat>", path)])
    with pytest.raises(InvalidRequest, match=r"token of embedding cat\.safetensors must be new, got"):
        load_embeddings(pipeline, [(token, path)])


def test_loras_and_embeddings_go_together(load: Load, tmp_path: Path) -> None:
    pipeline, by_hand = load(SD), load(SD)
    layers = files.make_layers(by_hand, PARTS[SD])
    path = files.write_kohya(tmp_path / "a.safetensors", layers, SD)
    files.add_by_hand(by_hand, layers)
    by_hand_rows(by_hand, [ROWS])
    load_loras(pipeline, [LoraFile(path, 1.0, path.name)])
    load_embeddings(pipeline, [("<cat>", files.write(tmp_path / "cat.safetensors", {"emb_params": ROWS}))])
    torch.testing.assert_close(latents(pipeline, "<cat>"), latents(by_hand, " ".join(WORDS)), **CLOSE)


def test_an_encoder_that_is_not_clip_is_said_to_know_nothing_of_it(load: Load, tmp_path: Path) -> None:
    import diffusers
    from transformers import T5Config, T5EncoderModel

    parts = load(SD).components
    t5 = T5EncoderModel(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    pipeline = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=None,
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        text_encoder_2=t5,
        tokenizer_2=None,
        transformer=None,
    )
    path = files.write(tmp_path / "cat.safetensors", {"clip_l": ROWS})
    (warning,) = load_embeddings(pipeline, [("<cat>", path)])
    assert warning.startswith("embeddings mean nothing to text_encoder_2, a T5EncoderModel")
    assert pipeline.tokenizer.convert_tokens_to_ids("<cat>_2") == len(pipeline.tokenizer) - 1
