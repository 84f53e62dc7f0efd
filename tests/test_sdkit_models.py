"""What `model=` may mean, and how a model that cannot be used is refused before its weights are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdkit import HubUnreachable, ModelCorrupt, ModelError, ModelNotFound, Session, UnsafeModel
from sdkit._folders import Sizes
from sdkit._known import Defaults
from sdkit._models import Resolved
from sdkit._models import resolve as resolve_spec
from sdkit._spec import make_spec


def resolve(model: str | Path, **options: Any) -> Resolved:
    return resolve_spec(make_spec(model, **options))


@pytest.fixture
def copy(tiny_sd: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_sd, tmp_path / "copy"))


def test_a_folder_is_read_without_its_weights(tiny_sd: Path, tiny_sdxl: Path) -> None:
    sd, xl = resolve(tiny_sd).base, resolve(str(tiny_sdxl)).base
    assert (sd.name, sd.pipeline, sd.family, sd.folder.variant) == (
        "tiny-sd",
        "StableDiffusionPipeline",
        "diffusion",
        None,
    )
    assert sd.folder.sizes == Sizes(width=64, height=64, min_px=16, multiple_px=8)
    assert xl.pipeline == "StableDiffusionXLPipeline"
    assert xl.folder.sizes == Sizes(width=32, height=32, min_px=8, multiple_px=4)
    assert resolve(tiny_sd).defaults == Defaults("dpmpp_2m_karras", 20, 7.5)


def test_a_folders_own_defaults_are_taken(copy: Path) -> None:
    (copy / "sdkit.json").write_text('{"guidance_scale": 3, "steps": 8}')
    made = Session(copy, device="cpu").generate("a star", seed=0)
    assert (made.guidance_scale, made.steps) == (3.0, 8)
    (copy / "sdkit.json").write_text('{"guidance_scale": 0}')
    with pytest.raises(ModelCorrupt, match=r"sdkit\.json: guidance_scale must be 1\.\.50"):
        resolve(copy)


def truncate(folder: Path) -> Path:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    return file


def garble(folder: Path) -> Path:
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(b"\xff" * 4096)
    return file


def empty(folder: Path) -> Path:
    file = folder / "text_encoder" / "model.safetensors"
    file.write_bytes(b"")
    return file


def point(folder: Path) -> Path:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    return file


def scramble_config(folder: Path) -> Path:
    file = folder / "unet" / "config.json"
    file.write_text('{"sample_size": ')
    return file


@pytest.mark.parametrize("damage", [truncate, garble, empty, point, scramble_config])
def test_a_corrupt_file_is_named_in_one_line(copy: Path, damage: Callable[[Path], Path]) -> None:
    file = damage(copy)
    with pytest.raises(ModelCorrupt) as caught:
        Session(copy, device="cpu")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_refused_when_they_are_read(copy: Path) -> None:
    config = copy / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"block_out_channels": [8, 16]}))
    with pytest.raises(ModelError, match=f"^model {copy} cannot be loaded: .*$"):
        Session(copy, device="cpu").load()


def test_weights_that_lack_a_tensor_are_refused_when_they_are_read(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    for part in ("unet", "vae", "text_encoder"):
        file = next((copy / part).glob("*.safetensors"))
        whole = load_file(file)
        save_file(dict(list(whole.items())[1:]), file, metadata={"format": "pt"})
        with pytest.raises(ModelCorrupt, match=f"^model {copy / part} lacks the weights of .*$"):
            Session(copy, device="cpu").load()
        save_file(whole, file, metadata={"format": "pt"})
    Session(copy, device="cpu").load()


def test_pickled_weights_are_read_only_when_they_are_allowed_and_then_run_no_code(
    copy: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    expected = Session(copy, device="cpu").generate("a star", seed=0, steps=2).to_tensor()
    pickled = copy / "unet" / "diffusion_pytorch_model.bin"
    torch.save(load_file(weights), pickled)
    weights.unlink()
    with pytest.raises(UnsafeModel, match=r"unet must hold \.safetensors weights, has only pickled weights"):
        resolve(copy)
    made = Session(copy, device="cpu", allow_pickle=True).generate("a star", seed=0, steps=2).to_tensor()
    assert torch.equal(made, expected)

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"conv_in.weight": Hostile()}, pickled)
    with pytest.raises(ModelError):
        Session(copy, device="cpu", allow_pickle=True).load()
    assert not (tmp_path / "ran").exists()


def test_code_that_comes_with_a_model_is_never_run(copy: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"unet": ["my_unet", "MyUNet"]}))
    with pytest.raises(UnsafeModel, match=r"needs code of its own for unet \(my_unet\), which is never run"):
        resolve(copy)
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": ["pipeline", "Mine"]}))
    with pytest.raises(
        UnsafeModel, match=r"needs a pipeline of its own \(\['pipeline', 'Mine'\]\), which is never run"
    ):
        resolve(copy)


def test_a_pipeline_that_diffusers_does_not_have_is_refused(copy: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "DreamPipeline"}))
    with pytest.raises(ModelError, match=r"must be a pipeline of diffusers [\d.]+, got 'DreamPipeline'"):
        Session(copy, device="cpu").generate("a star")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sdxl-turbo", ("euler_a_sgm_uniform", 1, 1.0)),
        ("sdxl_lightning_8step", ("euler_sgm_uniform", 8, 1.0)),
        ("LCM_Dreamshaper_v7", ("lcm", 4, 1.0)),
        ("Hyper-SDXL-2steps-lora", ("ddim", 2, 1.0)),
        ("hyper-sd15-4steps", ("ddim", 4, 1.0)),
        ("my-model", ("dpmpp_2m_karras", 20, 7.5)),
    ],
)
def test_distilled_models_are_known_by_name(
    name: str, expected: tuple[str, int, float], copy: Path, tmp_path: Path
) -> None:
    named = copy.rename(tmp_path / name)
    assert resolve(named).defaults == Defaults(*expected)
    made = Session(named, device="cpu").generate("a star", seed=0)
    assert (made.sampler, made.steps, made.guidance_scale) == expected


def test_a_distilled_lora_brings_its_defaults(tiny_sd: Path, tmp_path: Path) -> None:
    file = tmp_path / "lcm-lora-sdv1-5.safetensors"
    file.write_bytes(b"")
    assert resolve(tiny_sd, loras=[file]).defaults == Defaults("lcm", 4, 1.0)


def test_a_folder_that_holds_only_the_fp16_variant_is_loaded(copy: Path) -> None:
    for file in copy.rglob("*.safetensors"):
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    assert Session(copy, device="cpu").load() > 0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "nothing-here",
            'model must be "shapes", a diffusers folder, a .safetensors file or a hub id owner/name',
        ),
        ("./nothing/here", 'model must be "shapes"'),
        ("nothing.safetensors", "model file nothing.safetensors does not exist"),
    ],
)
def test_a_model_that_is_not_there_is_not_found(model: str, message: str) -> None:
    with pytest.raises(ModelNotFound, match=message):
        resolve(model)


def test_a_folder_of_something_else_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"must hold model_index\.json"):
        resolve(tmp_path)


@pytest.mark.parametrize("by_option", [True, False])
def test_a_hub_id_without_a_hub_is_one_line(
    by_option: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    # The environment variable is read when the library is imported, which other tests have done.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not by_option)
    with pytest.raises(
        HubUnreachable, match=r"^model someone/some-model is no folder here and not in the .*$"
    ):
        resolve("someone/some-model", local_files_only=by_option)


def test_a_hub_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi, constants

    def refuse(*_arguments: object, **_options: object) -> None:
        raise ConnectionError("name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", refuse)
    with pytest.raises(HubUnreachable, match=r"the hub does not answer \(ConnectionError\); go online"):
        resolve("someone/some-model")


def test_the_fingerprint_is_of_the_contents_and_not_of_the_place(tiny_sd: Path, copy: Path) -> None:
    assert resolve(copy).fingerprint == resolve(tiny_sd).fingerprint
    (copy / "README.md").write_text("words")
    (copy / "sdkit.json").write_text("{}")
    assert resolve(copy).fingerprint == resolve(tiny_sd).fingerprint
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert resolve(copy).fingerprint != resolve(tiny_sd).fingerprint
