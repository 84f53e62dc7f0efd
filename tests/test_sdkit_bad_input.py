"""Every way to ask for something that cannot be done gets one sentence, which says what can."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from safetensors.torch import save_file

import sdkit
from sdkit import SdkitError

SEED_MAX = 2**63 - 2
RED = Image.new("RGB", (64, 64), "red")
WHITE = Image.new("L", (64, 64), 255)
UNTAKEN = "clip_skip, cross_attention_kwargs, guidance_rescale, ip_adapter_image, ip_adapter_image_embeds"


@pytest.fixture(scope="module")
def places(tiny_sd: Path, tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models and things that are none, by the names that the tables below use."""
    root = tmp_path_factory.mktemp("places")
    found = {
        "SD": tiny_sd,
        "SDXL": tiny_sdxl,
        "PIX": tiny_models.make_pix2pix(root / "tiny-pix"),
        "REFINER": tiny_models.make_refiner(root / "tiny-refiner"),
        "NET": tiny_models.make_controlnet(root / "tiny-net"),
        "FLUX": tiny_models.make_flux(root / "tiny-flux"),
        "EMPTY": root / "empty",
        "CUT": root / "cut.safetensors",
        "PICKLE": root / "evil.ckpt",
        "LORA": root / "lora.safetensors",
        "NOPIC": root / "words.png",
    }
    found["EMPTY"].mkdir()
    found["NOPIC"].write_text("no picture")
    save_file({f"lora_unet_{i}.lora_up.weight": torch.zeros(2, 2) for i in range(3)}, found["LORA"])
    found["CUT"].write_bytes(found["LORA"].read_bytes()[:-4])
    torch.save({"a": torch.zeros(1)}, found["PICKLE"])
    return found


# Arguments of `generate` beside the prompt, and the sentence. Names in capitals stand for places.
VALUES: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt must be a non-empty string, got ''"),
    ({"prompt": "  "}, "prompt must be a non-empty string, got '  '"),
    ({"prompt": []}, "prompt must hold at least one string, got an empty list"),
    ({"prompt": ["a star", ""]}, "prompt[1] must be a non-empty string, got ''"),
    ({"prompt": ["a star", None]}, "prompt[1] must be a non-empty string, got None"),
    ({"prompt": 3}, "prompt must be a string or a list of strings, got 3"),
    ({"prompt": "a\ud800"}, "prompt must be Unicode text, got half of a surrogate pair in 'a\\ud800'"),
    ({"negative_prompt": 3}, "negative_prompt must be a string or None, got 3"),
    ({"steps": 0}, "steps must be 1..1000, got 0"),
    ({"steps": 10**6}, "steps must be 1..1000, got 1000000"),
    ({"steps": 2.5}, "steps must be a whole number, got 2.5"),
    ({"steps": True}, "steps must be a whole number, got True"),
    ({"steps": 2, "sampler": "heun"}, "steps must be 3..1000 for heun, got 2"),
    ({"steps": 1, "sampler": "pndm"}, "steps must be 2..1000 for pndm, got 1"),
    ({"guidance_scale": 0.5}, "guidance_scale must be 1..50 (1 is off), got 0.5"),
    ({"guidance_scale": math.nan}, "guidance_scale must be 1..50 (1 is off), got nan"),
    ({"guidance_scale": math.inf}, "guidance_scale must be 1..50 (1 is off), got inf"),
    ({"guidance_scale": "7"}, "guidance_scale must be a number 1..50, got '7'"),
    ({"seed": -1}, f"seed must be 0..{SEED_MAX}, got -1"),
    ({"seed": 2**63}, f"seed must be 0..{SEED_MAX}, got {2**63}"),
    ({"seed": "7"}, "seed must be a whole number, got '7'"),
    ({"num_images": 0}, "num_images must be 1..10000, got 0"),
    ({"batch_size": 0}, "batch_size must be 1..4096, got 0"),
    ({"width": 65}, "width must be a multiple of 8 in 8..4096, got 65; try 64"),
    ({"height": 4104}, "height must be a multiple of 8 in 8..4096, got 4104; try 4096"),
    ({"height": 0}, "height must be a multiple of 8 in 8..4096, got 0; try 8"),
    ({"width": "64"}, "width must be a whole number, got '64'"),
    ({"strength": 1.5, "image": RED}, "strength must be 0..1, got 1.5"),
    ({"strength": "all", "image": RED}, "strength must be a number 0..1, got 'all'"),
    ({"image_guidance_scale": 0.0, "image": RED}, "image_guidance_scale must be 1..50 (1 is off), got 0"),
    ({"control_scale": -1.0}, "control_scale must be 0..10, got -1"),
    ({"control_scale": []}, "control_scale must hold at least one number, got an empty list"),
    ({"refiner_start": 2.0}, "refiner_start must be 0..1, got 2"),
    ({"trajectory": 1}, "trajectory must be 2..1000, got 1"),
    ({"options": ["clip_skip"]}, "options must map names of the pipeline's arguments to values, got ['clip_skip']"),
    ({"image": 3}, "image must be a picture, a file or an array (H, W, 3) uint8, got 3"),
    ({"image": []}, "image must hold at least one picture, got an empty list"),
    (
        {"image": np.zeros((8, 8, 3), np.float32)},
        "image must be a picture, a file or an array (H, W, 3) uint8, got ndarray of shape (8, 8, 3) and type float32",
    ),
    ({"image": "gone.png"}, "image must be a picture, got 'gone.png', which does not exist"),
    ({"sampler": 3}, "sampler must be a name, got 3; see sdkit.samplers()"),
    ({"schedule": "karras"}, "schedule must come with a sampler, got schedule='karras' alone"),
    ({"model": 3}, "model must be None, a folder, a file or a hub id, got 3"),
    ({"model": " "}, "model must be None, a folder, a file or a hub id, got ' '"),
    ({"revision": ""}, "revision must be a branch, tag or commit, got ''"),
    ({"prediction_type": "x0"}, "prediction_type must be one of epsilon, v_prediction, sample, got 'x0'"),
    ({"vae": 3}, "vae must be a folder, a file or a hub id, got 3"),
    ({"loras": "ink.safetensors"}, "loras must be a list of files, or of (file, weight), got 'ink.safetensors'"),
    ({"loras": [("ink.safetensors", 1, 2)]},
     "loras[0] must be a file, or (file, weight), got ('ink.safetensors', 1, 2)"),
    ({"loras": [("ink.safetensors", "much")]}, "loras[0]: weight must be a number -10..10, got 'much'"),
    ({"loras": [("ink.safetensors", 99)]}, "loras[0]: weight must be -10..10, got 99"),
    ({"embeddings": "cat.safetensors"},
     "embeddings must map tokens to files, or be a list of files, got 'cat.safetensors'"),
    ({"embeddings": {"my cat": "cat.safetensors"}}, "embeddings must map tokens without spaces to files, got 'my cat'"),
    ({"controlnet": [3]}, "controlnet[0] must be a folder, a file or a hub id, got 3"),
    ({"allow_pickle": "yes"}, "allow_pickle must be True or False, got 'yes'"),
    ({"memory": "tiny"}, "memory must be one of auto, low, high, got 'tiny'"),
    ({"dtype": "int8"}, "dtype must be one of float32, float16, bfloat16, got 'int8'"),
]  # fmt: skip

PAIRINGS: list[tuple[dict[str, Any], str]] = [
    ({"mask": WHITE}, "mask must come with the image that it masks; give image= too"),
    ({"strength": 0.5}, "strength must come with an image to start from; give image= too"),
    ({"image_guidance_scale": 1.5}, "image_guidance_scale must come with an image to start from; give image= too"),
    (
        {"image": [RED, RED, RED], "prompt": ["a", "b"]},
        "image must be one picture, or one for each of the 2 prompts, got 3",
    ),
    (
        {"image": [RED, RED.resize((32, 32))], "prompt": ["a", "b"]},
        "image must be of one size, or come with width and height, got 32x32, 64x64",
    ),
    ({"image": RED, "mask": [WHITE, WHITE], "prompt": ["a", "b"]}, "mask must be one picture for one image, got 2"),
    ({"control_image": RED}, "control_image must come with the ControlNet that reads it; give controlnet= too"),
    ({"control_scale": 0.5}, "control_scale must come with a ControlNet; give controlnet= too"),
    ({"controlnet": "NET"}, "controlnet must come with the picture that it reads; give control_image= too"),
    (
        {"controlnet": "NET", "control_image": [RED, RED]},
        "control_image must be one picture for each of 1 ControlNets, got 2",
    ),
    (
        {"controlnet": "NET", "control_image": RED, "control_scale": [1, 2]},
        "control_scale must be one number, or one for each of 1 ControlNets, got 2",
    ),
    (
        {"image": RED, "image_guidance_scale": 1.5},
        "image_guidance_scale must be left out for tiny-sd: StableDiffusionImg2ImgPipeline does not take it",
    ),
    (
        {"image": RED, "strength": 0.1, "steps": 4},
        "strength must leave at least one of 4 steps, got 0.1; raise it to 0.25 or more",
    ),
    ({"trajectory": 9, "steps": 4}, "trajectory must be 2..5 for 4 denoiser calls, got 9"),
    (
        {"options": {"original_size": (64, 64)}},
        "options must be taken by StableDiffusionPipeline, the pipeline of tiny-sd, got 'original_size'; it takes "
        + UNTAKEN,
    ),
    ({"options": {"latents": None}}, "options must not set latents, which generate sets itself"),
    ({"width": 8}, "width must be at least 16 for this model, got 8"),
    ({"model": "FLUX", "width": 72}, "width must be a multiple of 16 for this model, got 72; try 64"),
    ({"model": "PIX"}, "model tiny-pix redraws pictures; give image="),
    ({"model": "REFINER"}, "model tiny-refiner redraws pictures; give image="),
    (
        {"model": "PIX", "image": RED, "mask": WHITE},
        "model tiny-pix (StableDiffusionInstructPix2PixPipeline) has no pipeline in diffusers for inpainting",
    ),
    (
        {"model": "PIX", "image": RED, "strength": 0.5},
        "strength must be left out for tiny-pix: StableDiffusionInstructPix2PixPipeline does not take it",
    ),
    (
        {"refiner": "REFINER"},
        "refiner must follow an SDXL model from text to image, got tiny-sd (StableDiffusionPipeline), text",
    ),
    (
        {"model": "SDXL", "refiner": "REFINER", "refiner_start": 1.0},
        "refiner_start must be between 0 and 1, got 1",
    ),
    ({"config": "SDXL"}, "config must come with a single file, got config='{SDXL}' for tiny-sd"),
]  # fmt: skip

MODELS: list[tuple[dict[str, Any], str]] = [
    ({"model": "gone.safetensors"}, "model file gone.safetensors does not exist"),
    (
        {"model": "nothing-here"},
        'model must be "shapes", a diffusers folder, a .safetensors file or a hub id owner/name, got \'nothing-here\'',
    ),
    (
        {"model": "EMPTY"},
        "model folder {EMPTY} must hold model_index.json, as diffusers' save_pretrained writes it",
    ),
    ({"model": "LORA"}, "model file {LORA} is a LoRA; give it as loras="),
    (
        {"model": "PICKLE"},
        "model file {PICKLE} is a pickle, which can run code when it is read; use a .safetensors file, or"
        " allow_pickle=True to read its tensors and run nothing",
    ),
    ({"loras": ["gone.safetensors"]}, "loras file gone.safetensors does not exist"),
    ({"loras": ["EMPTY"]}, "loras folder {EMPTY} must hold one .safetensors file, has 0; name the file"),
    ({"vae": "gone.safetensors"}, "vae file gone.safetensors does not exist"),
    ({"vae": "EMPTY"}, "vae folder {EMPTY} must hold config.json, as save_pretrained writes it"),
    ({"vae": "NET"}, "vae must be of a kind Autoencoder..., got {NET}, which is ControlNetModel"),
    ({"controlnet": "LORA", "control_image": RED},
     "controlnet must be a diffusers folder or a hub id, got the file {LORA}"),
    ({"controlnet": "EMPTY", "control_image": RED},
     "controlnet folder {EMPTY} must hold config.json, as save_pretrained writes it"),
    (
        {"model": "someone/some-model", "local_files_only": True},
        "model someone/some-model is no folder here and not in the local cache, and the hub may not be asked; go"
        " online, or name a folder",
    ),
]  # fmt: skip


def placed(value: Any, places: dict[str, Path]) -> Any:
    if isinstance(value, list):
        return [placed(item, places) for item in value]
    return str(places[value]) if isinstance(value, str) and value in places else value


def refuse(arguments: dict[str, Any], sentence: str, places: dict[str, Path]) -> SdkitError:
    given = {"prompt": "a red star", "model": "SD", "device": "cpu", **arguments}
    with pytest.raises(SdkitError) as caught:
        sdkit.generate(**{name: placed(value, places) for name, value in given.items()})
    named = {name: str(path) for name, path in places.items()}
    expected = sentence.format_map(named) if any(f"{{{name}}}" in sentence for name in named) else sentence
    assert str(caught.value) == expected
    return caught.value


@pytest.mark.parametrize(("arguments", "sentence"), VALUES)
def test_a_wrong_value_is_answered_in_one_sentence(
    arguments: dict[str, Any], sentence: str, places: dict[str, Path]
) -> None:
    assert isinstance(refuse(arguments, sentence, places), ValueError)


@pytest.mark.parametrize(("arguments", "sentence"), PAIRINGS)
def test_a_wrong_pairing_is_answered_in_one_sentence_before_a_weight_is_read(
    arguments: dict[str, Any], sentence: str, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdkit._backend.backend.load", lambda *_: pytest.fail("weights were read"))
    sdkit.unload()
    assert isinstance(refuse(arguments, sentence, places), ValueError)


@pytest.mark.parametrize(("arguments", "sentence"), MODELS)
def test_a_model_that_cannot_be_used_is_answered_in_one_sentence(
    arguments: dict[str, Any], sentence: str, places: dict[str, Path]
) -> None:
    assert isinstance(refuse(arguments, sentence, places), sdkit.ModelError)


def test_a_truncated_file_says_where_it_ends(places: dict[str, Path]) -> None:
    for argument in ("model", "vae"):
        with pytest.raises(sdkit.ModelCorrupt, match=f"^model file {places['CUT']} is not whole .*anew$"):
            sdkit.generate("a star", **{"model": places["SD"], argument: places["CUT"]}, device="cpu")


def test_a_file_that_is_no_picture_is_named(places: dict[str, Path]) -> None:
    with pytest.raises(
        sdkit.InvalidRequest, match="^image must be a picture, got '.*words.png', which cannot be read"
    ):
        sdkit.generate("a star", model=places["SD"], image=places["NOPIC"], device="cpu")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("GatedRepoError", "model a/b is gated; accept its terms on the hub and log in with `hf auth login`"),
        ("RepositoryNotFoundError", "model a/b is no folder here, and the hub has none of this name"),
        ("RevisionNotFoundError", "model a/b has no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_sentence(
    error: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi, constants, errors

    def refuse(*_arguments: object, **_options: object) -> None:
        kind = getattr(errors, error)
        raised = kind.__new__(kind)
        Exception.__init__(raised, "no")
        raise raised

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", refuse)
    with pytest.raises(sdkit.ModelNotFound) as caught:
        sdkit.generate("a star", model="a/b", revision="v9", device="cpu")
    assert str(caught.value) == sentence


def test_an_argument_that_does_not_exist_is_a_type_error(places: dict[str, Path]) -> None:
    with pytest.raises(TypeError, match="guidance"):
        sdkit.Session(places["SD"], device="cpu").generate("a star", guidance=7)  # type: ignore[call-arg]


def test_numbers_of_numpy_are_taken_as_plain_ones() -> None:
    from sdkit._request import make_request

    request = make_request("a star", steps=np.int64(7), guidance_scale=np.float32(2), seed=np.uint8(3))
    assert (request.steps, request.guidance_scale, request.seed) == (7, 2.0, 3)
    assert type(request.steps) is int
    assert type(request.guidance_scale) is float


def test_one_string_and_a_list_of_one_ask_for_the_same() -> None:
    from sdkit._request import make_request

    assert make_request("a star", seed=1) == make_request(["a star"], seed=1)
    assert list(make_request(["a star", "a ring"], num_images=3, seed=40).seeds) == [40, 41, 42, 43, 44, 45]
    assert len({make_request("a star").seed for _ in range(8)}) == 8


def test_the_tables_hold_at_least_sixty_rows() -> None:
    assert len(VALUES) + len(PAIRINGS) + len(MODELS) >= 60
