"""Which LoRAs are refused, and that a refusal leaves the pipeline as it was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lora_files as files
import pytest
import torch
from lora_files import CLOSE, PARTS, SD, SDXL, Load, assert_untouched, latents, state, text
from torch import Tensor

from sdkit._backend.adapters import LoraFile, load_loras
from sdkit._backend.lora_keys import ldm_names
from sdkit._errors import InvalidRequest, ModelCorrupt, ModelError, ModelNotFound, UnsafeModel


def lora(path: Path, weight: float = 1.0) -> LoraFile:
    return LoraFile(path, weight, path.name)


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_weight_that_is_no_number_is_refused(weight: float) -> None:
    with pytest.raises(InvalidRequest, match=r"weight of LoRA style must be a finite number, got (nan|inf)"):
        LoraFile(Path("style.safetensors"), weight, "style")


def test_keys_that_match_nothing_are_counted_and_named(load: Load, tmp_path: Path) -> None:
    pipeline = load(SD)
    layers = files.make_layers(pipeline, ["unet"], only="attn1")
    tensors = files.kohya_tensors(layers, SD)
    for index in range(2):
        for half in ("lora_down", "lora_up"):
            tensors[f"lora_unet_down_blocks_{7 + index}_attn.{half}.weight"] = torch.zeros(1, 1)
    (warning,) = load_loras(pipeline, [lora(files.write(tmp_path / "odd.safetensors", tensors))])
    assert warning == (
        f"LoRA odd.safetensors: 4 of its {len(tensors)} keys match nothing in this model and are left out:"
        " lora_unet_down_blocks_7_attn.lora_down.weight, lora_unet_down_blocks_7_attn.lora_up.weight,"
        " lora_unet_down_blocks_8_attn.lora_down.weight, ..."
    )
    assert "sdkit_0" in pipeline.get_list_adapters()["unet"]


def refused(pipeline: Any, path: Path, error: type[Exception] = ModelError, **options: Any) -> str:
    """The message of a refusal, which must leave the pipeline as it was."""
    before, picture = state(pipeline), latents(pipeline)
    with pytest.raises(error) as caught:
        load_loras(pipeline, [lora(path)], **options)
    assert_untouched(pipeline, before)
    assert torch.equal(latents(pipeline), picture)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("style", ["kohya", "kohya_ldm", "peft"])
@pytest.mark.parametrize(("made_for", "used_on"), [(SD, SDXL), (SDXL, SD)])
def test_a_lora_of_another_family_is_refused_whole(
    load: Load, tmp_path: Path, made_for: str, used_on: str, style: str
) -> None:
    path = tmp_path / "other.safetensors"
    layers = files.make_layers(load(made_for), PARTS[made_for])
    if style == "peft":
        files.write_peft(path, layers)
    else:
        files.write_kohya(path, layers, made_for, ldm=style == "kohya_ldm")
    message = refused(load(used_on), path)
    widths = {SD: 32, SDXL: 64}
    assert message.startswith("LoRA other.safetensors does not fit model tiny-sd")
    assert f"text width is {widths[made_for]}), this model's is {widths[used_on]}" in message


def test_a_family_is_named_by_the_width_of_its_text(load: Load, tmp_path: Path) -> None:
    stem = "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k"
    tensors = {
        f"{stem}.lora_down.weight": torch.zeros(4, 2048),
        f"{stem}.lora_up.weight": torch.zeros(640, 4),
    }
    message = refused(load(SD), files.write(tmp_path / "xl.safetensors", tensors))
    assert message == (
        "LoRA xl.safetensors does not fit model tiny-sd: it is made for SDXL (its text width is 2048),"
        " this model's is 32"
    )


def test_a_transformers_lora_is_refused_though_its_text_encoder_would_fit(load: Load, tmp_path: Path) -> None:
    pipeline = load(SD)
    tensors = files.kohya_tensors(files.make_layers(pipeline, ["text_encoder"]), SDXL)
    stem = "lora_unet_double_blocks_0_img_attn_proj"
    tensors |= {f"{stem}.lora_down.weight": torch.zeros(2, 8), f"{stem}.lora_up.weight": torch.zeros(8, 2)}
    path = files.write(tmp_path / "dit.safetensors", tensors, {"ss_base_model_version": "flux1"})
    message = refused(pipeline, path)
    assert "it changes a unet with other layers than this model's (its header says flux1)" in message


def test_a_lora_for_two_text_encoders_is_refused_where_there_is_one(load: Load, tmp_path: Path) -> None:
    layers = files.make_layers(load(SDXL), ["text_encoder", "text_encoder_2"])
    message = refused(load(SD), files.write_kohya(tmp_path / "two.safetensors", layers, SDXL))
    assert "it changes a text_encoder_2, which is no part of this model's" in message


def test_a_layer_of_another_shape_is_refused_and_named(load: Load, tmp_path: Path) -> None:
    pipeline = load(SD)
    layers = files.make_layers(pipeline, PARTS[SD], only="attn")
    tensors = files.peft_tensors(layers)
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors[f"{name}.lora_A.weight"] = torch.zeros(2, 48)
    tensors[f"{name}.lora_B.weight"] = torch.zeros(32, 2)
    message = refused(pipeline, files.write(tmp_path / "shape.safetensors", tensors))
    assert message.endswith(f"its {name} is 32 x 48, this model's is 32 x 32")


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"lora_unet_conv_in.hada_w1_a": torch.zeros(1, 1)}, "must be a plain LoRA, got a LoHa"),
        ({"lora_unet_conv_in.lokr_w1": torch.zeros(1, 1)}, "must be a plain LoRA, got a LoKr"),
        ({"lora_unet_conv_in.dora_scale": torch.zeros(1)}, "must be a plain LoRA, got a DoRA"),
        ({"model.diffusion_model.out.2.bias": torch.zeros(4)}, "got a whole model; give it as model="),
        ({"conv_in.weight": torch.zeros(1), "conv_in.bias": torch.zeros(1)}, "got a whole model"),
        ({"emb_params": torch.zeros(2, 32)}, "got a textual inversion; give it as an embedding"),
        ({"<cat>": torch.zeros(32)}, "got a textual inversion"),
        (
            {"a.weight": torch.zeros(1), "b.weight": torch.zeros(1)},
            "got no key of one; its first key is a.weight",
        ),
    ],
)
def test_other_files_are_refused_by_what_they_are(
    load: Load, tmp_path: Path, tensors: dict[str, Tensor], said: str
) -> None:
    assert said in refused(load(SD), files.write(tmp_path / "other.safetensors", tensors))


def test_files_that_cannot_be_read_are_named(load: Load, tmp_path: Path) -> None:
    pipeline = load(SD)
    whole = files.write_peft(tmp_path / "whole.safetensors", files.make_layers(pipeline, ["unet"]))
    short, garbage = tmp_path / "short.safetensors", tmp_path / "garbage.safetensors"
    short.write_bytes(whole.read_bytes()[:-64])
    garbage.write_bytes(b"\x93not a model" * 9)
    for path in (short, garbage):
        assert path.name in refused(pipeline, path, ModelCorrupt)
    assert "missing" in refused(pipeline, tmp_path / "none.safetensors", ModelNotFound)
    assert "a folder" in refused(pipeline, tmp_path, ModelNotFound)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran-code"),))


def test_pickles_are_read_only_on_request_and_never_run(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline, by_hand = load(SD), load(SD)
    layers = files.make_layers(by_hand, ["text_encoder"])
    files.add_by_hand(by_hand, layers)
    plain, evil, empty, garbage = (tmp_path / f"{name}.pt" for name in ("plain", "evil", "empty", "garbage"))
    torch.save({}, empty)
    torch.save({"state_dict": files.kohya_tensors(layers, SD)}, plain)
    torch.save({"a.lora_down.weight": _Evil()}, evil)
    garbage.write_bytes(b"not a model" * 9)
    assert "allow_pickle=True" in refused(pipeline, plain, UnsafeModel)
    assert "which could run code, and is refused" in refused(pipeline, evil, UnsafeModel, allow_pickle=True)
    assert "garbage.pt" in refused(pipeline, garbage, ModelCorrupt, allow_pickle=True)
    assert "got no key of one; it is empty" in refused(pipeline, empty, allow_pickle=True)
    assert not (tmp_path / "ran-code").exists()
    load_loras(pipeline, [lora(plain)], allow_pickle=True)
    torch.testing.assert_close(text(pipeline), text(by_hand), **CLOSE)


def test_block_names_of_sdxl_and_sd_1_are_those_of_the_original_checkpoints() -> None:
    wanted = {
        "down_blocks.1.attentions.0.proj_in": "input_blocks.4.1.proj_in",
        "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k": (
            "input_blocks.8.1.transformer_blocks.9.attn2.to_k"
        ),
        "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
        "down_blocks.1.resnets.0.conv_shortcut": "input_blocks.4.0.skip_connection",
        "mid_block.resnets.1.time_emb_proj": "middle_block.2.emb_layers.1",
        "mid_block.attentions.0.proj_out": "middle_block.1.proj_out",
        "up_blocks.0.attentions.2.proj_in": "output_blocks.2.1.proj_in",
        "up_blocks.0.upsamplers.0.conv": "output_blocks.2.2.conv",
        "up_blocks.1.resnets.0.conv2": "output_blocks.3.0.out_layers.3",
        "up_blocks.3.attentions.2.proj_in": "output_blocks.11.1.proj_in",
        "conv_in": "input_blocks.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
    }
    for ours, theirs in wanted.items():
        assert theirs in ldm_names(ours, 2)
    assert ldm_names("conv_norm_out", 2) == ()


def test_every_layer_of_sdxl_is_found_under_the_name_that_diffusers_converts(tmp_path: Path) -> None:
    """diffusers' own converter as the reference, for a UNet of SDXL's depth."""
    import diffusers
    from diffusers.loaders import lora_conversion_utils as converter

    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(
            block_out_channels=(32, 64, 128),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(2, 4, 8),
            cross_attention_dim=16,
            use_linear_projection=True,
        )
    modules = [n for n, m in unet.named_modules() if isinstance(m, torch.nn.Linear) and "attentions" in n]
    assert len(modules) == 70 * 10 + 11 * 2  # ten layers in each of SDXL's 70 transformer blocks
    for module in modules:
        (theirs,) = ldm_names(module, 2)
        key = f"lora_unet_{theirs}".replace(".", "_") + ".lora_down.weight"
        (mapped,) = converter._maybe_map_sgm_blocks_to_diffusers({key: 0}, unet.config)
        found = (
            converter._convert_unet_lora_key(mapped).replace(".processor.", ".").replace("_lora.", ".lora.")
        )
        assert found.removesuffix(".lora.down.weight") in (module, module.removesuffix(".0"))


def test_a_text_encoder_that_was_not_loaded_is_a_warning(load: Load, tmp_path: Path) -> None:
    pipeline = load(SDXL)
    path = files.write_kohya(tmp_path / "a.safetensors", files.make_layers(pipeline, PARTS[SDXL]), SDXL)
    pipeline.text_encoder_2 = None
    (warning,) = load_loras(pipeline, [lora(path)])
    assert "match nothing in this model and are left out: lora_te2_text_model_encoder_layers_0_" in warning


def test_a_header_that_is_no_json_is_refused_by_name(load: Load, tmp_path: Path) -> None:
    pipeline = load(SD)
    tensors = files.peft_tensors(files.make_layers(pipeline, ["text_encoder"]))
    path = files.write(tmp_path / "odd.safetensors", tensors, {"lora_adapter_metadata": "{"})
    assert refused(pipeline, path, ModelCorrupt).startswith("LoRA odd.safetensors must note peft's settings")


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"lora_up": (32, 3)}, ModelError, "has factors that are no LoRA's, up (32, 3) and down (2, 32)"),
        ({"lora_up": (32, 0), "lora_down": (0, 32)}, ModelError, "has factors that are no LoRA's"),
        ({"lora_up": (32,)}, ModelError, "has factors that are no LoRA's"),
        ({"lora_down": ()}, ModelError, "has factors that are no LoRA's"),
        ({"lora_mid": (2, 5, 3, 3)}, ModelCorrupt, "must hold factors that fit together, not at lora_te"),
    ],
)
def test_factors_that_do_not_multiply_are_refused(
    load: Load, tmp_path: Path, changed: dict[str, tuple[int, ...]], error: type[Exception], said: str
) -> None:
    stem = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    shapes = {"lora_up": (32, 2), "lora_down": (2, 32), **changed}
    tensors = {f"{stem}.{half}.weight": torch.zeros(shape) for half, shape in shapes.items()}
    assert said in refused(load(SD), files.write(tmp_path / "a.safetensors", tensors), error)
