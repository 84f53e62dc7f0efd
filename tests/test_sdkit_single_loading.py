"""One checkpoint file in its authors' layout gives the very pipeline of its folder, offline."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from original_layout import original_tensors, write_original
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdkit._backend.single_loading import load_single_file, load_single_vae
from sdkit._errors import InvalidRequest, ModelCorrupt, ModelError, UnsafeModel
from sdkit._single_file import Detected, detect, pipeline_of

SHAPES = Path(__file__).parents[1] / "sdkit" / "shapes" / "weights" / "pipeline"
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
UNET = "model.diffusion_model."
EXACT = {"rtol": 0.0, "atol": 0.0}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_options: Any) -> None:
        raise AssertionError("a single file must be loaded without the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def quiet() -> Iterator[None]:
    from diffusers.utils import logging

    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture(params=["shapes", "tiny_sd", "tiny_sdxl"])
def folder(request: pytest.FixtureRequest) -> Path:
    return SHAPES if request.param == "shapes" else Path(request.getfixturevalue(request.param))


@pytest.fixture
def sd_file(tiny_sd: Path, tmp_path: Path) -> Path:
    return write_original(tiny_sd, tmp_path / "sd.safetensors")


def load(file: Path, config: Path | None, **options: Any) -> Any:
    return load_single_file(file, detect(file), config=config, dtype=torch.float32, **options)


def reference(folder: Path) -> Any:
    import diffusers

    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    own = {"add_watermarker": False} if "XL" in name else {"safety_checker": None, "feature_extractor": None}
    return getattr(diffusers, name).from_pretrained(folder, dtype=torch.float32, **own)


def draw(pipeline: Any, output_type: str) -> Tensor:
    """The picture or its latents, from weights in memory of their own.

    As they come, weights are views of a mapped file, at any multiple of 8 bytes; by their place relative to
    64 bytes, matrix products round differently (2e-7 in SDXL's pooled text), whatever the file.
    """
    pipeline.set_progress_bar_config(disable=True)
    for part in PARTS:
        for parameter in getattr(pipeline, part, torch.nn.Module()).parameters():
            parameter.data = parameter.data.clone()
    return torch.as_tensor(
        pipeline(
            "a red star",
            num_inference_steps=3,
            guidance_scale=3.0,
            generator=torch.Generator().manual_seed(5),
            output_type=output_type,
        ).images
    )


def weights(pipeline: Any) -> dict[str, Tensor]:
    modules = {part: getattr(pipeline, part, None) for part in PARTS}
    return {
        f"{part}.{name}": value
        for part, module in modules.items()
        if module is not None
        for name, value in module.state_dict().items()
    }


def test_a_file_draws_exactly_what_its_folder_draws(folder: Path, tmp_path: Path, quiet: None) -> None:
    file = write_original(folder, tmp_path / "model.safetensors")
    from_file, from_folder = load(file, folder), reference(folder)
    assert type(from_file) is type(from_folder)
    torch.testing.assert_close(draw(from_file, "latent"), draw(from_folder, "latent"), **EXACT)
    torch.testing.assert_close(draw(from_file, "np"), draw(from_folder, "np"), **EXACT)


def test_every_weight_is_the_files_own(folder: Path, tmp_path: Path, quiet: None) -> None:
    """The config's folder has other weights here, so none of them can have been taken from there."""
    file = write_original(folder, tmp_path / "model.safetensors")
    config = Path(shutil.copytree(folder, tmp_path / "config"))
    for spoilt in config.rglob("*.safetensors"):
        save_file({name: torch.zeros_like(value) for name, value in load_file(spoilt).items()}, spoilt)
    found, wanted = weights(load(file, config)), weights(reference(folder))
    assert found.keys() == wanted.keys()
    assert sum("text_encoder" in name for name in wanted) > 30
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


def test_nothing_judges_or_marks_the_pictures(tiny_sd: Path, tiny_sdxl: Path, tmp_path: Path) -> None:
    sd = load(write_original(tiny_sd, tmp_path / "sd.safetensors"), tiny_sd)
    assert sd.safety_checker is None
    xl = load(write_original(tiny_sdxl, tmp_path / "xl.safetensors"), tiny_sdxl)
    assert xl.watermark is None


def test_names_of_2022_without_a_level_are_read(sd_file: Path, tiny_sd: Path, tmp_path: Path) -> None:
    old = {name.replace(".text_model.", "."): value for name, value in load_file(sd_file).items()}
    file = tmp_path / "old.safetensors"
    save_file(old, file)
    found, wanted = weights(load(file, tiny_sd)), weights(load(sd_file, tiny_sd))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, **EXACT)


def test_tensors_of_other_things_are_passed_over(tiny_sd: Path, tmp_path: Path) -> None:
    extra = {"model_ema.decay": torch.ones(()), "betas": torch.ones(1000), "global_step": torch.ones(1)}
    file = write_original(tiny_sd, tmp_path / "extra.safetensors", extra=extra)
    assert weights(load(file, tiny_sd)).keys() == weights(reference(tiny_sd)).keys()


@pytest.mark.parametrize(
    ("channels", "task", "pipeline"),
    [
        (9, "inpaint", "StableDiffusionInpaintPipeline"),
        (8, "pix2pix", "StableDiffusionInstructPix2PixPipeline"),
    ],
)
def test_a_wider_first_layer_makes_another_pipeline(
    tiny_sd: Path, tmp_path: Path, channels: int, task: str, pipeline: str
) -> None:
    first = torch.randn(16, channels, 3, 3, generator=torch.Generator().manual_seed(0))
    file = write_original(
        tiny_sd, tmp_path / "wide.safetensors", extra={f"{UNET}input_blocks.0.0.weight": first}
    )
    assert detect(file).task == task
    made = load(file, tiny_sd)
    assert (type(made).__name__, made.unet.config.in_channels) == (pipeline, channels)
    torch.testing.assert_close(made.unet.conv_in.weight.data, first, **EXACT)
    assert pipeline_of(detect(file), "StableDiffusionXLPipeline") == pipeline.replace(
        "Diffusion", "DiffusionXL"
    )


def test_a_pipeline_without_a_unet_is_left_to_diffusers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    asked: dict[str, Any] = {}

    def from_single_file(file: str, **options: Any) -> Any:
        asked.update(options, file=file)
        return type("Loaded", (), {"components": {"vae": torch.nn.Linear(2, 2, device="meta")}})()

    monkeypatch.setattr(diffusers.FluxPipeline, "from_single_file", from_single_file)
    file, config = tmp_path / "flux.safetensors", tmp_path / "config"
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)}, file)
    config.mkdir()
    parts = {"transformer": ["diffusers", "FluxTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]}
    index = {"_class_name": "FluxPipeline", **parts}
    (config / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelCorrupt, match="lacks weight of its vae"):
        load(file, config)
    assert asked == {
        "file": str(file),
        "config": str(config),
        "local_files_only": True,
        "dtype": torch.float32,
    }


def test_the_files_v_prediction_overrules_the_config_and_the_argument_overrules_both(
    tiny_sd: Path, tmp_path: Path
) -> None:
    keys = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    file = write_original(tiny_sd, tmp_path / "v.safetensors", extra=keys)
    scheduler = load(file, tiny_sd).scheduler
    assert scheduler.config.prediction_type == "v_prediction"
    # PNDM knows no such option; the schedulers that are built from its config do.
    assert scheduler.config.rescale_betas_zero_snr is True
    assert load(file, tiny_sd, prediction_type="epsilon").scheduler.config.prediction_type == "epsilon"
    with pytest.raises(InvalidRequest, match="prediction_type must be one of epsilon, v_prediction"):
        load(file, tiny_sd, prediction_type="noise")


def test_a_given_config_is_believed_where_the_file_is_silent(
    sd_file: Path, tiny_sd: Path, tmp_path: Path
) -> None:
    config = Path(shutil.copytree(tiny_sd, tmp_path / "config"))
    settings = config / "scheduler" / "scheduler_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "prediction_type": "v_prediction"}))
    assert load(sd_file, config).scheduler.config.prediction_type == "v_prediction"
    assert load(sd_file, tiny_sd).scheduler.config.prediction_type == "epsilon"


def test_v_prediction_draws_another_picture(sd_file: Path, tiny_sd: Path, quiet: None) -> None:
    plain = draw(load(sd_file, tiny_sd), "latent")
    other = draw(load(sd_file, tiny_sd, prediction_type="v_prediction"), "latent")
    assert not torch.allclose(plain, other, atol=0.1)


def test_sd2_at_512_px_is_one_argument_away(
    sd_file: Path, tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small folder stands in for the shipped one, as full size takes long."""
    monkeypatch.setattr("sdkit._backend.single_loading.LAYOUTS", tiny_sd.parent)
    found = Detected("sd2", "text", None, "", 768, 64)
    for prediction_type, size_px in ((None, 768), ("v_prediction", 768), ("epsilon", 512)):
        made = load_single_file(
            sd_file, found, config=tiny_sd, prediction_type=prediction_type, dtype=torch.float32
        )
        assert made.unet.config.sample_size * made.vae_scale_factor == size_px


@pytest.mark.parametrize("zipped", [True, False])
def test_a_harmless_pickle_is_read_where_it_is_allowed(tiny_sd: Path, tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "model.ckpt"
    content = {"state_dict": original_tensors(tiny_sd), "global_step": 470000}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    found = detect(file, allow_pickle=True)
    pipeline = load_single_file(file, found, config=tiny_sd, dtype=torch.float32, allow_pickle=True)
    for name, value in weights(reference(tiny_sd)).items():
        torch.testing.assert_close(weights(pipeline)[name], value, **EXACT)


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        (f"{UNET}time_embed.0.weight", r"lacks time_embedding\.linear_1\.weight of its unet"),
        (
            f"{UNET}middle_block.1.proj_in.weight",
            r"lacks mid_block\.attentions\.0\.proj_in\.weight of its unet",
        ),
        (UNET + "label_emb.0.0.bias", r"lacks label_emb\.0\.0\.bias of its unet"),
        ("first_stage_model.decoder.conv_in.bias", r"lacks decoder\.conv_in\.bias of its vae"),
        ("first_stage_model.encoder.mid.attn_1.k.weight", r"attentions\.0\.to_k\.weight of its vae"),
        ("first_stage_model.", r"lacks every tensor of its vae"),
        (
            "conditioner.embedders.0.transformer.text_model.encoder.layers.1.mlp.fc1.bias",
            r"lacks encoder\.layers\.1\.mlp\.fc1\.bias of its text_encoder;",
        ),
        ("conditioner.embedders.0.", r"lacks every tensor of its text_encoder;"),
        (
            "conditioner.embedders.1.model.text_projection",
            r"lacks text_projection\.weight of its text_encoder_2;",
        ),
        ("conditioner.embedders.1.", r"lacks every tensor of its text_encoder_2;"),
    ],
)
def test_a_missing_tensor_is_named_with_its_part(
    tiny_sdxl: Path, tmp_path: Path, dropped: str, message: str
) -> None:
    """The config's folder holds all weights: none of them stands in for what the file lacks."""
    tensors = original_tensors(tiny_sdxl)
    kept = {name: value.clone() for name, value in tensors.items() if not name.startswith(dropped)}
    assert len(kept) < len(tensors)
    file = tmp_path / "holed.safetensors"
    save_file(kept, file)
    with pytest.raises(ModelCorrupt, match=message) as caught:
        load(file, tiny_sdxl)
    assert "\n" not in str(caught.value)


def test_a_config_of_another_model_is_refused(sd_file: Path, tiny_sd: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"conv_in\.weight of its unet is \(16, 4, 3, 3\), and \(32, 4, 3, 3\)"
    ):
        load(sd_file, SHAPES)
    # A deeper model than the config's: without a word, diffusers would leave the rest out.
    deeper = {f"{UNET}middle_block.1.transformer_blocks.1.norm1.weight": torch.zeros(32)}
    file = write_original(tiny_sd, tmp_path / "deep.safetensors", extra=deeper)
    with pytest.raises(
        ModelError, match=r"whose unet has no mid_block\.attentions\.0\.transformer_blocks\.1"
    ):
        load(file, tiny_sd)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"unet": ["evil_package", "UNet"]}, UnsafeModel, r"needs code of its own for unet \(evil_package\)"),
        ({"_class_name": "EvilPipeline"}, ModelError, "must be a pipeline of diffusers"),
        ({"text_encoder": ["transformers", "BertModel"]}, ModelError, "must be a CLIPTextModel or"),
        ({"scheduler": ["diffusers", "NoScheduler"]}, ModelError, "scheduler"),
        ({"tokenizer": ["transformers", "NoTokenizer"]}, ModelError, "tokenizer"),
    ],
)
def test_a_config_that_names_something_else_is_refused(
    sd_file: Path, tiny_sd: Path, tmp_path: Path, change: dict[str, Any], kind: type[ModelError], message: str
) -> None:
    config = Path(shutil.copytree(tiny_sd, tmp_path / "config"))
    index = config / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    with pytest.raises(kind, match=message) as caught:
        load(sd_file, config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "lost", ["model_index.json", "text_encoder/config.json", "unet/config.json", "tokenizer/tokenizer.json"]
)
def test_a_config_that_lacks_a_file_is_refused(
    sd_file: Path, tiny_sd: Path, tmp_path: Path, lost: str
) -> None:
    config = Path(shutil.copytree(tiny_sd, tmp_path / "config"))
    (config / lost).unlink()
    if lost.startswith("tokenizer"):
        (config / "tokenizer" / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError) as caught:
        load(sd_file, config)
    assert str(config) in str(caught.value)
    assert "\n" not in str(caught.value)


def original_vae(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors


def bare_vae(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "first_stage_model."
    return {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}


@pytest.mark.parametrize("pick", [original_vae, bare_vae])
@pytest.mark.parametrize("place", ["", "vae"])
def test_a_vae_of_the_authors_layout_is_loaded(
    tiny_sd: Path, tmp_path: Path, pick: Callable[[dict[str, Tensor]], dict[str, Tensor]], place: str
) -> None:
    file = tmp_path / "vae.safetensors"
    save_file({name: value.clone() for name, value in pick(original_tensors(tiny_sd)).items()}, file)
    vae = load_single_vae(file, tiny_sd / place, torch.float32)
    wanted = load_file(tiny_sd / "vae" / "diffusion_pytorch_model.safetensors")
    assert vae.state_dict().keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(vae.state_dict()[name], value, **EXACT)


@pytest.mark.parametrize("old", [False, True])
def test_a_vae_of_diffusers_layout_is_loaded(tiny_sd: Path, tmp_path: Path, old: bool) -> None:
    wanted = load_file(tiny_sd / "vae" / "diffusion_pytorch_model.safetensors")
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"} if old else {}
    stored = dict(wanted)
    for new, before in names.items():
        stored = {n.replace(f"s.0.{new}.", f"s.0.{before}."): value for n, value in stored.items()}
    assert (stored.keys() != wanted.keys()) == old
    file = tmp_path / "vae.safetensors"
    save_file({**stored, "loss.logvar": torch.zeros(1)}, file)
    found = load_single_vae(file, tiny_sd, torch.float32).state_dict()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, **EXACT)


def test_what_holds_no_vae_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    lora = tmp_path / "lora.safetensors"
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, lora)
    with pytest.raises(ModelError, match=r"vae must be a file that holds a VAE, .* holds: lora"):
        load_single_vae(lora, tiny_sd, torch.float32)
    checkpoint = tmp_path / "checkpoint.safetensors"
    tensors = original_tensors(tiny_sd)
    save_file({n: t.clone() for n, t in tensors.items() if not n.startswith("first_stage")}, checkpoint)
    with pytest.raises(ModelCorrupt, match="of its vae"):
        load_single_vae(checkpoint, tiny_sd, torch.float32)
    whole = write_original(tiny_sd, tmp_path / "whole.safetensors")
    with pytest.raises(ModelError, match="does not fit config"):
        load_single_vae(whole, SHAPES, torch.float32)
