"""A model and what is put on top of it, by name, through the one call: single files, LoRAs, embeddings, VAEs."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_files import (
    KOHYA_PARTS,
    LoraLayer,
    add_by_hand,
    make_layers,
    open_pipeline,
    write_kohya,
    write_peft,
)
from original_layout import write_original
from safetensors.torch import load_file, save_file

import sdkit
from sdkit import Generation, Lora, ModelError, Session, UnsafeModel

SHAPES = Path(sdkit.__file__).parent / "shapes" / "weights" / "pipeline"
PROMPTS = ["a large red star at the center on a blue background", "a small green ring at the left"]
SETTINGS: dict[str, Any] = {"steps": 4, "seed": 5}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def pixels(made: Generation) -> torch.Tensor:
    return made.to_tensor().int()


def drawn(model: str | Path, prompts: list[str] | str = PROMPTS, **options: Any) -> torch.Tensor:
    return pixels(Session(model, device="cpu", **options).generate(prompts, **SETTINGS))


def changes(pipeline: Any) -> list[LoraLayer]:
    """Changes of all that a LoRA of this family may change."""
    return make_layers(pipeline, KOHYA_PARTS[type(pipeline).__name__])


def test_the_bundled_model_in_one_file_of_the_original_layout_draws_the_same_pictures(
    tmp_path: Path, no_network: None
) -> None:
    write_original(SHAPES, tmp_path / "shapes.safetensors")
    session = Session(tmp_path / "shapes.safetensors", config="shapes", device="cpu")
    made = session.generate(PROMPTS, guidance_scale=2.0, **SETTINGS)
    expected = Session("shapes", device="cpu").generate(PROMPTS, guidance_scale=2.0, **SETTINGS)
    assert torch.equal(pixels(made), pixels(expected))
    assert made.detected.startswith("unknown, text, ")
    assert made.model == "shapes"
    assert made.model_fingerprint != expected.model_fingerprint


@pytest.mark.parametrize("name", ["tiny_sd", "tiny_sdxl"])
def test_one_file_of_the_original_layout_draws_what_its_folder_draws(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, no_network: None
) -> None:
    folder = request.getfixturevalue(name)
    write_original(folder, tmp_path / "model.safetensors")
    made = drawn(tmp_path / "model.safetensors", config=folder)
    assert int((made - drawn(folder)).abs().max()) <= 1


def test_the_prediction_type_can_be_overruled_and_is_told(tiny_sd: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_original(tiny_sd, file, extra={"v_pred": torch.zeros(0)})
    told = Session(file, config=tiny_sd, device="cpu")
    overruled = Session(file, config=tiny_sd, prediction_type="epsilon", device="cpu")
    assert "v_prediction" in told.detected
    assert "prediction_type='epsilon' overrules that" in overruled.detected
    as_told, as_overruled = (pixels(s.generate(PROMPTS, **SETTINGS)) for s in (told, overruled))
    assert int((as_overruled - drawn(tiny_sd)).abs().max()) <= 1
    assert int((as_told - drawn(tiny_sd, prediction_type="v_prediction")).abs().max()) <= 1
    assert int((as_told - as_overruled).abs().max()) > 8


def test_a_pickle_that_would_run_code_is_refused_and_the_code_does_not_run(
    tmp_path: Path, tiny_sd: Path
) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    file = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"model.diffusion_model.input_blocks.0.0.weight": Hostile()}}, file)
    for options in ({}, {"allow_pickle": True}):
        for where in (
            {"model": file, "config": tiny_sd},
            {"model": tiny_sd, "loras": [file]},
            {"model": tiny_sd, "vae": file},
            {"model": tiny_sd, "embeddings": [file]},
        ):
            with pytest.raises(UnsafeModel):
                sdkit.generate("a star", device="cpu", **SETTINGS, **where, **options)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["tiny_sd", "tiny_sdxl"])
def test_loras_of_kohya_and_of_diffusers_give_the_same_pixels(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    pipeline = open_pipeline(folder)
    layers = changes(pipeline)
    kohya = write_kohya(tmp_path / "kohya.safetensors", layers, type(pipeline).__name__)
    peft = write_peft(tmp_path / "peft.safetensors", layers)
    one, other = drawn(folder, loras=[(kohya, 0.7)]), drawn(folder, loras=[Lora(str(peft), 0.7)])
    assert torch.equal(one, other)
    assert int((one - drawn(folder)).abs().max()) > 8
    add_by_hand(pipeline, layers, 0.7)
    pipeline.save_pretrained(tmp_path / "by-hand")
    assert int((one - drawn(tmp_path / "by-hand")).abs().max()) <= 1


def test_keys_of_a_lora_that_matched_nothing_are_named_in_the_result(tiny_sd: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(tiny_sd)
    file = write_kohya(tmp_path / "l.safetensors", changes(pipeline), type(pipeline).__name__)
    stray = {
        "lora_unet_nowhere.lora_up.weight": torch.zeros(4, 2),
        "lora_unet_nowhere.lora_down.weight": torch.zeros(2, 4),
    }
    save_file(load_file(file) | stray, file)
    made = Session(tiny_sd, loras=[file], device="cpu").generate("a star", **SETTINGS)
    (warning,) = made.warnings
    assert "lora_unet_nowhere" in warning


def test_a_lora_of_another_family_is_refused(tiny_sd: Path, tiny_sdxl: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(tiny_sdxl)
    file = write_kohya(tmp_path / "xl.safetensors", changes(pipeline), type(pipeline).__name__)
    with pytest.raises(ModelError, match="xl.safetensors.* does not fit"):
        Session(tiny_sd, loras=[file], device="cpu").generate("a star", **SETTINGS)


def test_a_textual_inversion_takes_its_tokens_place_and_its_length_counts(
    tiny_sd: Path, tmp_path: Path
) -> None:
    vectors = torch.randn(10, 32, generator=torch.Generator().manual_seed(0)) * 3
    save_file({"emb_params": vectors}, tmp_path / "cat.safetensors")
    session = Session(tiny_sd, embeddings={"mycat": tmp_path / "cat.safetensors"}, device="cpu")
    with_it, without = (pixels(session.generate(p, **SETTINGS)) for p in ("a mycat star", "a star"))
    assert int((with_it - without).abs().max()) > 8
    assert torch.equal(without, drawn(tiny_sd, "a star"))
    # Sixteen tokens fit: two of them mark the ends, ten are the embedding's.
    text = session.encode(["mycat a a a a", "mycat a a a a a"])
    assert [at is None for at in text.cut_at] == [True, False]


@pytest.mark.parametrize("kind", ["folder", "pipeline folder", "file"])
def test_another_vae_decodes(kind: str, tiny_sd: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_sd, tmp_path / "other"))
    weights = other / "vae" / "diffusion_pytorch_model.safetensors"
    louder = load_file(weights)
    louder["decoder.conv_out.weight"] *= 1.5
    save_file(louder, weights, metadata={"format": "pt"})
    source = {"folder": other / "vae", "pipeline folder": other, "file": weights}[kind]
    assert int((drawn(tiny_sd, vae=source) - drawn(other)).abs().max()) <= 1
    assert int((drawn(tiny_sd, vae=source) - drawn(tiny_sd)).abs().max()) > 8


def test_every_part_counts_in_the_fingerprint(tiny_sd: Path, tiny_sdxl: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(tiny_sd)
    lora = write_peft(tmp_path / "l.safetensors", changes(pipeline))
    save_file({"emb_params": torch.zeros(1, 32)}, tmp_path / "e.safetensors")
    options: list[dict[str, Any]] = [
        {},
        {"loras": [lora]},
        {"loras": [(lora, 0.5)]},
        {"embeddings": {"cat": tmp_path / "e.safetensors"}},
        {"embeddings": {"dog": tmp_path / "e.safetensors"}},
        {"vae": tiny_sdxl},
        {"prediction_type": "v_prediction"},
    ]
    found = [Session(tiny_sd, device="cpu", **each).fingerprint for each in options]
    assert len(set(found)) == len(options)
    moved = shutil.copy(lora, tmp_path / "moved.safetensors")
    assert Session(tiny_sd, loras=[moved], device="cpu").fingerprint == found[1]


def test_clip_skip_reads_an_earlier_layer(tiny_sd: Path) -> None:
    made = [
        pixels(Session(tiny_sd, device="cpu").generate("a red star", options={"clip_skip": skip}, **SETTINGS))
        for skip in (0, 1)
    ]
    assert int((made[0] - drawn(tiny_sd, "a red star")).abs().max()) <= 1
    assert int((made[0] - made[1]).abs().max()) > 8


def test_an_option_that_the_pipeline_cannot_use_is_one_sentence(tiny_sd: Path) -> None:
    with pytest.raises(sdkit.GenerationError, match="^StableDiffusionPipeline of tiny-sd failed: .*$"):
        Session(tiny_sd, device="cpu").generate("a star", options={"clip_skip": "two"}, **SETTINGS)
