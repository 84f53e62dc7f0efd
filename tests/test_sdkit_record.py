"""From a picture's file back to the same bytes, and what a file is not believed in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from PIL import Image, PngImagePlugin

import sdkit
from sdkit import Generation, InvalidRequest, ModelError, Request

PROMPT = 'a "red" star, (small:1.2): on\nblue <lora:x:1>, 赤い星 🌟'
RED = Image.new("RGB", (64, 64), "red")


def saved(made: Generation, folder: Path, name: str = "a.png") -> Path:
    return made.save(folder / name)[0]


def rewritten(path: Path, **changes: Any) -> Path:
    """A copy of the file whose record was tampered with."""
    with Image.open(path) as image:
        record = json.loads(image.text["sdkit"]) | changes  # type: ignore[attr-defined]
        info = PngImagePlugin.PngInfo()
        info.add_text("sdkit", json.dumps(record))
        image.save(path.with_name("tampered.png"), pnginfo=info)
    return path.with_name("tampered.png")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "sampler": "euler_a",
            "schedule": "sgm_uniform",
            "guidance_scale": 3.3,
            "negative_prompt": "blue, (very)",
        },
        {"sampler": "dpmpp_sde", "steps": 3},
        {"width": 48, "height": 32, "options": {"clip_skip": 1, "guidance_rescale": 0.25}},
        {"image": RED, "strength": 0.6, "sampler": "ddim"},
        {"image": RED, "mask": RED.convert("L"), "sampler": "heun"},
    ],
    ids=lambda settings: "-".join(settings) or "defaults",
)
def test_replaying_a_picture_gives_the_same_bytes(
    settings: dict[str, Any], tiny_sd: Path, tmp_path: Path
) -> None:
    made = sdkit.generate(PROMPT, model=tiny_sd, seed=11, device="cpu", **{"steps": 4, **settings})
    file = saved(made, tmp_path)
    inputs = {name: settings[name] for name in ("image", "mask") if name in settings}
    again = sdkit.replay(sdkit.read(file, **inputs), device="cpu")
    assert saved(again, tmp_path, "b.png").read_bytes() == file.read_bytes()


def test_each_picture_of_many_can_be_made_again_alone(tiny_sd: Path, tmp_path: Path) -> None:
    made = sdkit.generate(["a star", "a ring"], model=tiny_sd, num_images=2, steps=4, seed=3, device="cpu")
    files = made.save(tmp_path / "many.png")
    request = sdkit.read(files[3])
    assert (request.prompts, request.seed, request.num_images) == (("a ring",), 6, 1)
    again = sdkit.replay(request, device="cpu").to_tensor()[0].int()
    assert int((again - made.to_tensor()[3].int()).abs().max()) <= 1


def test_a_request_holds_all_that_was_left_open(tiny_sd: Path, tmp_path: Path) -> None:
    made = sdkit.generate("a star", model=tiny_sd, seed=3, device="cpu")
    request = sdkit.read(saved(made, tmp_path))
    assert isinstance(request, Request)
    assert request.sampler is not None
    assert (request.sampler.name, request.steps, request.guidance_scale) == ("dpmpp_2m_karras", 20, 7.5)
    assert (request.width, request.height, request.dtype) == (64, 64, "float32")
    assert request.fingerprint == made.model_fingerprint


def test_what_stands_on_top_of_the_model_is_recorded_too(
    tiny_sd: Path, tiny_sdxl: Path, tmp_path: Path
) -> None:
    net = tiny_models.make_controlnet(tmp_path / "net")
    made = sdkit.generate(
        "a star", model=tiny_sd, controlnet=net, control_image=RED, control_scale=0.5, vae=tiny_sd,
        prediction_type="v_prediction", steps=3, seed=3, device="cpu",
    )  # fmt: skip
    request = sdkit.read(saved(made, tmp_path), control_image=RED)
    assert request.spec == made.request.spec
    assert request.control_scales == (0.5,)
    assert sdkit.replay(request, device="cpu").to_tensor().equal(made.to_tensor())


def test_the_picture_that_was_started_from_must_be_given_and_be_the_same(
    tiny_sd: Path, tmp_path: Path
) -> None:
    made = sdkit.generate("a star", model=tiny_sd, image=RED, steps=2, seed=3, device="cpu")
    file = saved(made, tmp_path)
    with pytest.raises(InvalidRequest, match="made from a picture that it does not hold; give read"):
        sdkit.read(file)
    with pytest.raises(
        InvalidRequest, match=f"^image must be the picture that {file} was made from, got another one$"
    ):
        sdkit.read(file, image=Image.new("RGB", (64, 64), "blue"))
    with pytest.raises(InvalidRequest, match="was made without mask; leave it out"):
        sdkit.read(file, image=RED, mask=RED)


def test_another_model_under_the_same_name_is_not_taken_for_the_first(tiny_sd: Path, tmp_path: Path) -> None:
    made = sdkit.generate("a star", model=tiny_sd, steps=2, seed=3, device="cpu")
    file = saved(made, tmp_path)
    other = tiny_models.make_inpainting(tmp_path / "tiny-sd")
    with pytest.raises(ModelError, match=f"fingerprint {made.model_fingerprint}, got"):
        sdkit.replay(sdkit.read(file, model=other), device="cpu")


def test_a_file_is_not_believed_in_what_it_may_load(tiny_sd: Path, tmp_path: Path) -> None:
    file = saved(sdkit.generate("a star", model=tiny_sd, steps=2, seed=3, device="cpu"), tmp_path)
    request = sdkit.read(rewritten(file, on_top={"allow_pickle": True}))
    assert not request.spec.allow_pickle
    for changes, message in [
        ({"on_top": {"device": "cuda"}}, "holds a record that cannot be understood"),
        ({"steps": 10**9}, r"steps must be 1\.\.999"),
        ({"seed": "now"}, "seed must be a whole number"),
        ({"version": 99}, "holds a record of version 99, this sdkit reads 1"),
        ({"options": {"latents": 1}}, None),
        ({"dtype": "int4"}, "dtype must be one of"),
        ({"prompt": 3}, "prompt must be"),
        ({"inputs": {"image": ["0"]}}, "give read"),
        (
            {"unrecorded": ["cross_attention_kwargs"]},
            "options that a file cannot hold: cross_attention_kwargs",
        ),
    ]:
        if message is None:
            with pytest.raises(InvalidRequest, match="options must not set latents"):
                sdkit.replay(rewritten(file, **changes), device="cpu")
        else:
            with pytest.raises(InvalidRequest, match=message):
                sdkit.read(rewritten(file, **changes))


def test_an_option_that_json_cannot_hold_is_named(tiny_sd: Path, tmp_path: Path) -> None:
    made = sdkit.generate(
        "a star",
        model=tiny_sd,
        steps=2,
        seed=3,
        device="cpu",
        options={"cross_attention_kwargs": {"scale": 1 + 0j}},
    )
    with pytest.raises(InvalidRequest, match="options that a file cannot hold: cross_attention_kwargs"):
        sdkit.read(saved(made, tmp_path))


def test_a_picture_by_the_webui_is_understood(tiny_sd: Path, tmp_path: Path) -> None:
    text = (
        "a red star, very small\nNegative prompt: blue\n"
        "Steps: 5, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 123, Size: 64x48,"
        " Model hash: 0123456789, Model: dream, Version: v1.10.1"
    )
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    RED.save(tmp_path / "webui.png", pnginfo=info)
    with pytest.raises(
        InvalidRequest, match=r"was made by another tool with the model dream; give read\(\.\.\., model=\)"
    ):
        sdkit.read(tmp_path / "webui.png")
    request = sdkit.read(tmp_path / "webui.png", model=tiny_sd)
    made = sdkit.replay(request, device="cpu")
    assert (made.sampler, made.steps, made.guidance_scale, made.seeds) == ("dpmpp_2m_karras", 5, 6.5, (123,))
    assert made.images[0].size == (64, 48)


def test_a_picture_that_says_nothing_is_refused(tmp_path: Path) -> None:
    RED.save(tmp_path / "plain.png")
    with pytest.raises(InvalidRequest, match="must be a PNG that says how it was made, and has no such text"):
        sdkit.read(tmp_path / "plain.png")


def test_the_home_folder_is_not_written_into_pictures(
    tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tiny_sd.parent))
    file = saved(sdkit.generate("a star", model=tiny_sd, steps=2, seed=3, device="cpu"), tmp_path)
    assert str(tiny_sd.parent).encode() not in file.read_bytes()
    assert sdkit.read(file).spec.model == f"~/{tiny_sd.name}"
    assert sdkit.replay(file, device="cpu").seeds == (3,)
