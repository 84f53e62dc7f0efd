"""What one checkpoint file is taken for, by its header, and what is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from original_layout import full_size_tensors, write_original, write_sparse
from safetensors.torch import save_file

from sdkit._backend.single_loading import load_single_file, load_single_vae
from sdkit._errors import ModelCorrupt, ModelError, ModelNotFound, UnsafeModel
from sdkit._single_file import LAYOUTS, Detected, detect, kind_of, layout_folder, pipeline_of

SHAPES = Path(__file__).parents[1] / "sdkit" / "shapes" / "weights" / "pipeline"
UNET = "model.diffusion_model."


@pytest.fixture
def sd_file(tiny_sd: Path, tmp_path: Path) -> Path:
    return write_original(tiny_sd, tmp_path / "sd.safetensors")


@pytest.mark.parametrize(
    ("layout", "channels", "task", "prediction_type", "size_px", "theirs", "pipeline"),
    [
        ("sd1", 4, "text", "epsilon", 512, "v1", "StableDiffusionPipeline"),
        ("sd1", 9, "inpaint", "epsilon", 512, "inpainting", "StableDiffusionInpaintPipeline"),
        ("sd1", 8, "pix2pix", "epsilon", 512, "instruct-pix2pix", "StableDiffusionInstructPix2PixPipeline"),
        ("sd2", 4, "text", None, 768, "v2", "StableDiffusionPipeline"),
        ("sd2", 9, "inpaint", "epsilon", 512, "inpainting_v2", "StableDiffusionInpaintPipeline"),
        ("sdxl", 4, "text", "epsilon", 1024, "xl_base", "StableDiffusionXLPipeline"),
        ("sdxl", 9, "inpaint", "epsilon", 1024, "xl_inpaint", "StableDiffusionXLInpaintPipeline"),
        ("sdxl", 8, "pix2pix", "epsilon", 1024, "xl_base", "StableDiffusionXLInstructPix2PixPipeline"),
        ("sdxl_refiner", 4, "text", "epsilon", 1024, "xl_refiner", "StableDiffusionXLImg2ImgPipeline"),
    ],
)
def test_full_size_headers_are_told_apart(
    tmp_path: Path,
    layout: str,
    channels: int,
    task: str,
    prediction_type: str | None,
    size_px: int,
    theirs: str,
    pipeline: str,
) -> None:
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type

    tensors = full_size_tensors(LAYOUTS / layout, in_channels=channels)
    assert infer_diffusers_model_type(tensors) == theirs
    found = detect(write_sparse(tensors, tmp_path / "fake.safetensors"))
    assert (found.layout, found.task, found.prediction_type) == (layout, task, prediction_type)
    assert found.default_px == size_px
    assert pipeline_of(found) == pipeline
    assert layout_folder(found) == LAYOUTS / layout
    assert "cross attention is" in found.evidence
    assert found.summary.startswith(f"{layout}, {task}, ")


@pytest.mark.parametrize(
    ("keys", "metadata", "prediction_type", "evidence"),
    [
        (["v_pred"], {}, "v_prediction", "key v_pred says"),
        (["v_pred", "ztsnr"], {}, "v_prediction", "v_pred and ztsnr say"),
        (
            [],
            {"modelspec.prediction_type": "v"},
            "v_prediction",
            "modelspec.prediction_type says v_prediction",
        ),
        ([], {"modelspec.predict_key": "v"}, "v_prediction", "modelspec.predict_key"),
        ([], {"ss_v_parameterization": "True"}, "v_prediction", "ss_v_parameterization"),
        ([], {"modelspec.prediction_type": "epsilon"}, "epsilon", "says epsilon"),
        ([], {"modelspec.prediction_type": "of its own"}, None, "wide"),
        (["v_pred"], {"modelspec.prediction_type": "epsilon"}, "v_prediction", "key v_pred says"),
        ([], {}, None, "cross attention is 32 wide, which no known layout has"),
    ],
)
def test_the_prediction_type_is_told_by_key_or_metadata(
    tiny_sd: Path,
    tmp_path: Path,
    keys: list[str],
    metadata: dict[str, str],
    prediction_type: str | None,
    evidence: str,
) -> None:
    extra = {key: torch.tensor([]) for key in keys}
    found = detect(write_original(tiny_sd, tmp_path / "v.safetensors", extra=extra, metadata=metadata))
    assert (found.layout, found.prediction_type) == ("unknown", prediction_type)
    assert evidence in found.evidence
    assert found.zero_snr == ("ztsnr" in keys)


@pytest.mark.parametrize(
    ("architecture", "prediction_type", "size_px"),
    [
        ("stable-diffusion-v2-768-v", "v_prediction", 768),
        ("stable-diffusion-v2-512", "epsilon", 512),
        (None, None, 768),
    ],
)
def test_sd2_is_told_by_metadata_or_said_to_be_unknown(
    tmp_path: Path, architecture: str | None, prediction_type: str | None, size_px: int
) -> None:
    metadata = {} if architecture is None else {"modelspec.architecture": architecture}
    tensors = full_size_tensors(LAYOUTS / "sd2")
    found = detect(write_sparse(tensors, tmp_path / "sd2.safetensors", metadata=metadata))
    assert (found.prediction_type, found.default_px) == (prediction_type, size_px)
    if architecture is None:
        assert "nothing in the file tells SD 2 at 768 px" in found.evidence
        overruled = found.overruled("epsilon")
        assert (overruled.prediction_type, overruled.default_px) == ("epsilon", 512)
        assert "prediction_type='epsilon' overrules that" in overruled.evidence
    assert found.overruled(None) is found


def test_kin_of_a_layout_are_not_taken_for_it(tmp_path: Path) -> None:
    """unCLIP has SD 2's width and a label embedding; Playground 2.5 is SDXL on another noise scale."""
    unclip = full_size_tensors(LAYOUTS / "sd2")
    unclip[f"{UNET}label_emb.0.0.weight"] = torch.empty(1280, 2048, device="meta")
    found = detect(write_sparse(unclip, tmp_path / "unclip.safetensors"))
    assert (found.layout, found.default_px) == ("unknown", None)
    assert "label_emb takes 2048 values" in found.evidence
    playground = {**full_size_tensors(LAYOUTS / "sdxl"), "edm_mean": torch.empty(1, 4, 1, 1)}
    found = detect(write_sparse(playground, tmp_path / "playground.safetensors"))
    assert found.layout == "unknown"
    assert "the key edm_mean" in found.evidence


@pytest.mark.parametrize("prefix", ["", UNET])
@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["joint_blocks.0.x_block.attn.qkv.weight"], "sd3"),
        (["double_blocks.0.img_attn.qkv.weight"], "flux"),
        (["double_blocks.0.img_attn.qkv.weight", "single_stream_modulation.lin.weight"], "unknown"),
    ],
)
def test_transformers_are_known_and_need_a_config(
    tmp_path: Path, names: list[str], layout: str, prefix: str
) -> None:
    file = tmp_path / "dit.safetensors"
    save_file({prefix + name: torch.zeros(2, 2) for name in names}, file)
    found = detect(file)
    assert (found.layout, found.prediction_type) == (layout, None)
    with pytest.raises(ModelError, match=f"layout {layout} needs config=, a diffusers folder"):
        load_single_file(file, found, dtype=torch.float32)


def test_unknown_input_channels_are_refused(tiny_sd: Path, tmp_path: Path) -> None:
    wide = {f"{UNET}input_blocks.0.0.weight": torch.zeros(16, 5, 3, 3)}
    with pytest.raises(ModelError, match=r"4 input channels \(text\), 9 \(inpainting\) or 8 .*, got 5"):
        detect(write_original(tiny_sd, tmp_path / "depth.safetensors", extra=wide))


def test_detection_needs_no_torch(sd_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sdkit._single_file import detect;"
        "print(detect(Path(sys.argv[1])).layout); assert 'torch' not in sys.modules"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(sd_file)], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "unknown"), ran.stderr


@pytest.mark.parametrize(
    ("names", "kind", "said"),
    [
        (["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"], "lora", "a LoRA; give it as loras="),
        (["unet.mid_block.attentions.0.to_k.lora_A.weight"], "lora", "loras="),
        (["unet.up_blocks.0.attentions.0.to_q_lora.down.weight"], "lora", "loras="),
        (["lora_te_text_model_encoder_layers_0_mlp_fc1.hada_w1_a"], "lora", "loras="),
        (["model.diffusion_model.out.lora_up.weight"], "lora", "loras="),
        (["first_stage_model.decoder.conv_in.weight"], "vae", "a VAE; give it as vae="),
        (["encoder.down.0.block.0.conv1.weight", "decoder.conv_in.weight"], "vae", "vae="),
        (["decoder.up_blocks.0.resnets.0.conv1.weight"], "vae", "vae="),
        (["emb_params"], "embedding", "a textual inversion; give it as embeddings="),
        (["clip_l", "clip_g"], "embedding", "embeddings="),
        (["<cat-toy>"], "embedding", "embeddings="),
        (["my_token"], "embedding", "embeddings="),
        (["control_model.time_embed.0.weight", f"{UNET}out.0.weight"], "controlnet", "controlnet="),
        (["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.a"], "controlnet", "controlnet="),
        (["ip_adapter.1.to_k_ip.weight", "image_proj.norm.weight"], "ip_adapter", "an IP-Adapter"),
        (["down_blocks.0.resnets.0.conv1.weight"], "denoiser", "one part of a diffusers folder"),
        (["text_model.encoder.layers.0.mlp.fc1.weight"], "text_encoder", "a text encoder alone"),
    ],
)
def test_what_is_no_checkpoint_is_sent_where_it_belongs(
    tmp_path: Path, names: list[str], kind: str, said: str
) -> None:
    assert kind_of(names) == kind
    file = tmp_path / "other.safetensors"
    save_file({name: torch.zeros(2, 2) for name in names}, file)
    with pytest.raises(ModelError, match=said):
        detect(file)


def test_a_textual_inversion_in_a_pickle_is_told(tmp_path: Path) -> None:
    file = tmp_path / "style.pt"
    torch.save({"string_to_param": {"*": torch.zeros(1, 8)}, "name": "style", "step": 10}, file)
    with pytest.raises(ModelError, match="embeddings="):
        detect(file, allow_pickle=True)


def test_a_truncated_file_and_a_folder_are_named(sd_file: Path, tmp_path: Path) -> None:
    sd_file.write_bytes(sd_file.read_bytes()[:-100])
    with pytest.raises(ModelCorrupt, match="is not whole"):
        detect(sd_file)
    with pytest.raises(ModelNotFound, match="is a folder"):
        detect(tmp_path)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "m.safetensors", "does not exist"),
        (b"", "m.safetensors", "is not whole"),
        (b"\xff" * 4096, "m.safetensors", "is not whole"),
        (b"version https://git-lfs.github.com/spec/v1\n", "m.safetensors", "a git-lfs pointer; run git lfs"),
        (b"<!DOCTYPE html><html>Log in", "m.safetensors", "a web page and no weights; download it anew"),
        (b"PK\x03\x04" + b"\0" * 100, "m.safetensors", "a pickle by another name"),
        (b"", "m.ckpt", "no file of torch"),
        (b"\xff" * 4096, "m.ckpt", "no file of torch"),
        (b"version https://git-lfs.github.com/spec/v1\n", "m.ckpt", "a git-lfs pointer; run git lfs"),
        (b"PK\x03\x04" + b"\0" * 100, "m.ckpt", "is not whole"),
    ],
)
def test_damage_is_named_in_one_line(tmp_path: Path, content: bytes | None, name: str, message: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    kind = ModelNotFound if content is None else ModelCorrupt
    with pytest.raises(kind, match=message) as caught:
        detect(file, allow_pickle=True)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


class Hostile:
    """Unpickled by an ordinary reader, it makes a directory."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".pth"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_in_both_modes_and_runs_nothing(
    tmp_path: Path, suffix: str, zipped: bool
) -> None:
    file, mark = tmp_path / f"model{suffix}", tmp_path / "code-ran"
    content = {"state_dict": {"weight": torch.zeros(2), "code": Hostile(mark)}}
    if zipped:
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps({"code": Hostile(mark)}, protocol=2))
    with pytest.raises(UnsafeModel, match=r"is a pickle, which can run code .* or allow_pickle=True"):
        detect(file)
    with pytest.raises(
        UnsafeModel, match=r"asks for \S*mkdir, which could run code, and is refused"
    ) as caught:
        detect(file, allow_pickle=True)
    assert "\n" not in str(caught.value)
    found = Detected("unknown", "text", None, "", None, None)
    for allow in (False, True):
        with pytest.raises(UnsafeModel):
            load_single_file(file, found, config=SHAPES, dtype=torch.float32, allow_pickle=allow)
        with pytest.raises(UnsafeModel):
            load_single_vae(file, SHAPES, torch.float32, allow_pickle=allow)
    assert not mark.exists()
    # The file would have done it, had it been let.
    if not zipped:
        pickle.loads(file.read_bytes())
        assert mark.is_dir()
