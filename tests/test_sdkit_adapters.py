"""LoRAs on plain diffusers pipelines, against the same change added to the weights by hand."""

from __future__ import annotations

import json
import math
import sys
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
from sdkit._errors import ModelError


def lora(path: Path, weight: float = 1.0) -> LoraFile:
    return LoraFile(path, weight, path.name)


@pytest.mark.parametrize("style", ["kohya", "kohya_ldm", "peft"])
@pytest.mark.parametrize("kind", [SD, SDXL])
def test_a_lora_of_every_style_equals_its_change_added_to_the_weights(
    load: Load, tmp_path: Path, kind: str, style: str
) -> None:
    by_hand, plain = load(kind), load(kind)
    layers = files.make_layers(plain, PARTS[kind])
    before = latents(plain)
    path = tmp_path / "style.safetensors"
    if style == "peft":
        files.write_peft(path, layers)
    else:
        files.write_kohya(path, layers, kind, ldm=style == "kohya_ldm")
    files.add_by_hand(by_hand, layers, 0.7)
    assert load_loras(plain, [lora(path, 0.7)]) == ()
    after = latents(plain)
    torch.testing.assert_close(after, latents(by_hand), **CLOSE)
    assert moved(after, before)


def test_kohya_and_diffusers_files_of_one_change_give_the_same_pixels(load: Load, tmp_path: Path) -> None:
    images = []
    for style in ("kohya", "peft"):
        pipeline = load(SDXL)
        layers = files.make_layers(pipeline, PARTS[SDXL])
        path = tmp_path / f"{style}.safetensors"
        if style == "kohya":
            files.write_kohya(path, layers, SDXL, ldm=True)
        else:
            files.write_peft(path, layers)
        load_loras(pipeline, [lora(path)])
        images.append(pipeline.vae.decode(latents(pipeline), return_dict=False)[0].detach())
    assert torch.equal(*images)


@pytest.mark.parametrize("kind", [SD, SDXL])
def test_a_text_encoders_lora_changes_what_it_makes_of_a_prompt(
    load: Load, tmp_path: Path, kind: str
) -> None:
    for part in PARTS[kind][1:]:
        pipeline, by_hand, plain = load(kind), load(kind), load(kind)
        layers = files.make_layers(plain, [part])
        path = files.write_kohya(tmp_path / f"{part}.safetensors", layers, kind)
        files.add_by_hand(by_hand, layers)
        assert load_loras(pipeline, [lora(path)]) == ()
        torch.testing.assert_close(text(pipeline), text(by_hand), **CLOSE)
        assert moved(text(pipeline)[0], text(plain)[0])


@pytest.mark.parametrize("only", ["mlp", "text_projection"])
def test_a_lora_of_any_one_kind_of_layer_is_enough(load: Load, tmp_path: Path, only: str) -> None:
    pipeline, by_hand = load(SDXL), load(SDXL)
    layers = files.make_layers(by_hand, ["text_encoder_2"], only=only)
    assert layers
    before = text(by_hand)
    files.add_by_hand(by_hand, layers)
    load_loras(pipeline, [lora(files.write_peft(tmp_path / "one.safetensors", layers))])
    torch.testing.assert_close(text(pipeline), text(by_hand), **CLOSE)
    assert any(moved(*pair) for pair in zip(text(pipeline), before, strict=True))


@pytest.mark.parametrize("kind", [SD, SDXL])
def test_files_of_diffusers_first_trainers_are_read(load: Load, tmp_path: Path, kind: str) -> None:
    pipeline, by_hand = load(kind), load(kind)
    layers = files.make_layers(by_hand, PARTS[kind], only="attn")
    layers = [layer for layer in layers if "attn1.to" in layer.module or "self_attn" in layer.module]
    files.add_by_hand(by_hand, layers)
    tensors = files.old_diffusers_tensors(layers)
    assert load_loras(pipeline, [lora(files.write(tmp_path / "old.safetensors", tensors))]) == ()
    torch.testing.assert_close(latents(pipeline), latents(by_hand), **CLOSE)


def test_unet_keys_without_a_prefix_are_read(load: Load, tmp_path: Path) -> None:
    pipeline, by_hand = load(SD), load(SD)
    layers = files.make_layers(by_hand, ["unet"], only="attn1")
    files.add_by_hand(by_hand, layers)
    tensors = {key.removeprefix("unet."): value for key, value in files.old_diffusers_tensors(layers).items()}
    assert load_loras(pipeline, [lora(files.write(tmp_path / "bare.safetensors", tensors))]) == ()
    torch.testing.assert_close(latents(pipeline), latents(by_hand), **CLOSE)


def test_alpha_over_rank_is_the_scale_and_without_alpha_it_is_one(load: Load, tmp_path: Path) -> None:
    plain = load(SD)
    layers = files.make_layers(plain, ["text_encoder"], ranks=[4], alphas=[2.0])
    tensors = files.kohya_tensors(layers, SD)
    with_alpha = files.write(tmp_path / "alpha.safetensors", tensors)
    bare = {key: value for key, value in tensors.items() if not key.endswith(".alpha")}
    without = files.write(tmp_path / "none.safetensors", bare)
    halved, whole = load(SD), load(SD)
    load_loras(halved, [lora(with_alpha)])
    load_loras(whole, [lora(without, 0.5)])
    torch.testing.assert_close(text(halved), text(whole), **CLOSE)
    assert moved(text(halved)[0], text(plain)[0])


def test_an_alpha_that_diffusers_notes_in_the_header_is_honoured(load: Load, tmp_path: Path) -> None:
    pipeline, by_hand = load(SD), load(SD)
    layers = files.make_layers(by_hand, ["text_encoder"], ranks=[4], alphas=[8.0])
    tensors = {}
    for layer in layers:
        tensors[f"{layer.part}.{layer.module}.lora_A.weight"] = layer.down
        tensors[f"{layer.part}.{layer.module}.lora_B.weight"] = layer.up
    notes = {"lora_adapter_metadata": json.dumps({"text_encoder.r": 4, "text_encoder.lora_alpha": 8})}
    files.add_by_hand(by_hand, layers)
    load_loras(pipeline, [lora(files.write(tmp_path / "noted.safetensors", tensors, notes))])
    torch.testing.assert_close(text(pipeline), text(by_hand), **CLOSE)


def test_several_loras_at_once_add_up_and_a_later_call_adds_to_them(load: Load, tmp_path: Path) -> None:
    together, in_turn, by_hand = load(SDXL), load(SDXL), load(SDXL)
    first = files.make_layers(by_hand, PARTS[SDXL], seed=1)
    second = files.make_layers(by_hand, ["unet", "text_encoder_2"], only="attn", ranks=[5], seed=2)
    loras = [
        lora(files.write_kohya(tmp_path / "first.safetensors", first, SDXL), 0.8),
        lora(files.write_peft(tmp_path / "second.safetensors", second), -0.6),
    ]
    files.add_by_hand(by_hand, first, 0.8)
    files.add_by_hand(by_hand, second, -0.6)
    load_loras(together, loras)
    for one in loras:
        load_loras(in_turn, [one])
    wanted = latents(by_hand)
    torch.testing.assert_close(latents(together), wanted, **CLOSE)
    torch.testing.assert_close(latents(in_turn), wanted, **CLOSE)
    # The pipeline's own methods see them.
    assert in_turn.get_list_adapters()["unet"] == ["sdkit_0", "sdkit_1"]
    in_turn.unload_lora_weights()
    assert torch.equal(latents(in_turn), latents(load(SDXL)))


def test_weight_zero_is_no_lora_at_all(load: Load, tmp_path: Path) -> None:
    pipeline = load(SD)
    before = state(pipeline)
    path = files.write_peft(tmp_path / "zero.safetensors", files.make_layers(pipeline, PARTS[SD]))
    assert load_loras(pipeline, [lora(path, 0.0)]) == ()
    assert_untouched(pipeline, before)


def test_nan_in_a_lora_is_let_through(load: Load, tmp_path: Path) -> None:
    pipeline = load(SD)
    layers = files.make_layers(pipeline, ["unet"], only="conv_in")
    layers[0].up.fill_(math.nan)
    load_loras(pipeline, [lora(files.write_peft(tmp_path / "nan.safetensors", layers))])
    assert latents(pipeline).isnan().any()


@pytest.mark.parametrize("kind", [SD, SDXL])
def test_one_by_one_convolutions_and_linear_layers_may_stand_for_each_other(
    load: Load, tmp_path: Path, kind: str
) -> None:
    pipeline, by_hand = load(kind), load(kind)
    layers = files.make_layers(by_hand, ["unet"], only="proj_in")
    files.add_by_hand(by_hand, layers)
    turned = {
        key: value.flatten(1) if value.ndim == 4 else value[..., None, None]
        for key, value in files.peft_tensors(layers).items()
    }
    assert load_loras(pipeline, [lora(files.write(tmp_path / "turned.safetensors", turned))]) == ()
    torch.testing.assert_close(latents(pipeline), latents(by_hand), **CLOSE)


def test_a_convolution_in_three_factors_is_read(load: Load, tmp_path: Path) -> None:
    pipeline, by_hand = load(SD), load(SD)
    generator = torch.Generator().manual_seed(3)
    conv = by_hand.unet.down_blocks[0].resnets[0].conv1
    out, inner = conv.weight.shape[:2]
    up, mid, down = (
        torch.randn(shape, generator=generator) * 0.3
        for shape in ((out, 3, 1, 1), (3, 3, 3, 3), (3, inner, 1, 1))
    )
    with torch.no_grad():
        conv.weight += torch.einsum("om,mnhw,ni->oihw", up[..., 0, 0], mid, down[..., 0, 0])
    stem = "lora_unet_down_blocks_0_resnets_0_conv1"
    tensors = {f"{stem}.lora_up.weight": up, f"{stem}.lora_mid.weight": mid, f"{stem}.lora_down.weight": down}
    assert load_loras(pipeline, [lora(files.write(tmp_path / "tucker.safetensors", tensors))]) == ()
    torch.testing.assert_close(latents(pipeline), latents(by_hand), **CLOSE)
    assert moved(latents(pipeline), latents(load(SD)))


def test_a_lora_takes_the_dtype_of_the_model(load: Load, tmp_path: Path) -> None:
    pipeline = load(SD).to(torch.bfloat16)
    before = latents(pipeline)
    load_loras(
        pipeline, [lora(files.write_peft(tmp_path / "a.safetensors", files.make_layers(pipeline, PARTS[SD])))]
    )
    assert {value.dtype for value in pipeline.unet.state_dict().values()} == {torch.bfloat16}
    assert moved(latents(pipeline).float(), before.float())


def test_a_second_lora_that_fails_takes_the_first_with_it(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft

    pipeline = load(SDXL)
    before = state(pipeline)
    path = files.write_peft(tmp_path / "good.safetensors", files.make_layers(pipeline, PARTS[SDXL]))
    set_state, calls = peft.set_peft_model_state_dict, []

    def breaks(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 5:
            raise torch.OutOfMemoryError("no room")
        return set_state(*args, **options)

    monkeypatch.setattr(peft, "set_peft_model_state_dict", breaks)
    with pytest.raises(torch.OutOfMemoryError):
        load_loras(pipeline, [lora(path), lora(path)])
    assert_untouched(pipeline, before)
    monkeypatch.undo()
    # What was there before the failure stays, with its weight.
    load_loras(pipeline, [lora(path, 0.5)])
    picture = latents(pipeline)
    calls.clear()
    monkeypatch.setattr(peft, "set_peft_model_state_dict", breaks)
    with pytest.raises(torch.OutOfMemoryError):
        load_loras(pipeline, [lora(path), lora(path)])
    assert torch.equal(latents(pipeline), picture)


def test_without_peft_the_extra_is_named(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write_peft(tmp_path / "a.safetensors", files.make_layers(load(SD), ["unet"]))
    pipeline = load(SD)
    before = state(pipeline)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"LoRAs need peft, .*; pip install 'sdkit-t2i\[lora\]'"):
        load_loras(pipeline, [lora(path)])
    assert load_loras(pipeline, []) == ()
    assert_untouched(pipeline, before)


def test_loading_leaves_the_global_random_state_alone(load: Load, tmp_path: Path) -> None:
    pipeline = load(SDXL)
    path = files.write_peft(tmp_path / "a.safetensors", files.make_layers(pipeline, PARTS[SDXL]))
    vectors = {"clip_l": torch.ones(2, 32), "clip_g": torch.ones(2, 32)}
    embedding = files.write(tmp_path / "word.safetensors", vectors)
    before = torch.random.get_rng_state()
    load_loras(pipeline, [lora(path), lora(path)])
    load_embeddings(pipeline, [("<cat>", embedding)])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_flux_loras_of_kohya_and_diffusers_go_the_same_way(tmp_path: Path) -> None:
    import diffusers

    def tiny() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(4)
            transformer = diffusers.FluxTransformer2DModel(
                in_channels=4,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=32,
                pooled_projection_dim=32,
                axes_dims_rope=(4, 4, 8),
            )
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        rest = dict.fromkeys(("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        return diffusers.FluxPipeline(scheduler=scheduler, transformer=transformer, **rest)

    def ran(pipeline: Any) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            return pipeline.transformer(
                hidden_states=torch.randn(1, 6, 4, generator=generator),
                encoder_hidden_states=torch.randn(1, 3, 32, generator=generator),
                pooled_projections=torch.randn(1, 32, generator=generator),
                timestep=torch.tensor([0.5]),
                img_ids=torch.zeros(6, 3),
                txt_ids=torch.zeros(3, 3),
                return_dict=False,
            )[0]

    by_hand, generator = tiny(), torch.Generator().manual_seed(5)
    down, up = (torch.randn(shape, generator=generator) * 0.3 for shape in ((2, 32), (96, 2)))
    attention = by_hand.transformer.transformer_blocks[0].attn
    with torch.no_grad():
        for layer, rows in zip((attention.to_q, attention.to_k, attention.to_v), up.chunk(3), strict=True):
            layer.weight += 0.5 * rows @ down
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    kohya = {
        f"{stem}.lora_down.weight": down,
        f"{stem}.lora_up.weight": up,
        f"{stem}.alpha": torch.tensor(1.0),
    }
    own = {}
    for name, rows in zip("qkv", up.chunk(3), strict=True):
        own[f"transformer.transformer_blocks.0.attn.to_{name}.lora_A.weight"] = down
        own[f"transformer.transformer_blocks.0.attn.to_{name}.lora_B.weight"] = 0.5 * rows
    for style, tensors in (("kohya", kohya), ("own", own)):
        pipeline = tiny()
        assert load_loras(pipeline, [lora(files.write(tmp_path / f"{style}.safetensors", tensors))]) == ()
        torch.testing.assert_close(ran(pipeline), ran(by_hand), **CLOSE)
    assert moved(ran(tiny()), ran(by_hand))
    own |= {
        "transformer.odd.lora_A.weight": torch.zeros(1, 1),
        "transformer.odd.lora_B.weight": torch.ones(1, 1),
    }
    (warning,) = load_loras(tiny(), [lora(files.write(tmp_path / "odd.safetensors", own))])
    assert "2 of its 8 keys match nothing" in warning
