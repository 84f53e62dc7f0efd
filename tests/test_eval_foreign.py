"""DINOv2 and CLIP by torch-fidelity's extractors, on networks that were built and filled without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from eval.scoring import foreign
from eval.scoring.extractors import EXTRACTORS, load_extractor
from eval.scoring.foreign import at_224_px
from sdkit import HubUnreachable, InvalidRequest, ModelCorrupt, ModelNotFound, UnsafeModel

NAME = "dinov2-vit-s-14"


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A random DINOv2 in the published file's layout, and transformers' own model of the same weights."""
    from transformers import Dinov2Config, Dinov2Model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Dinov2Config(
            hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14
        )
        model = Dinov2Model(config).eval()
        for name, value in model.named_parameters():  # random, and far from the start of training
            torch.nn.init.normal_(value, 1.0 if "lambda1" in name else 0.0, 0.05)
    theirs = model.state_dict()
    found = {
        "cls_token": theirs["embeddings.cls_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
        "mask_token": theirs["embeddings.mask_token"],
    }
    names = {"patch_embed.proj": "embeddings.patch_embeddings.projection", "norm": "layernorm"}
    for i in range(12):
        ours, layer = f"blocks.{i}", f"encoder.layer.{i}"
        names |= {f"{ours}.norm1": f"{layer}.norm1", f"{ours}.norm2": f"{layer}.norm2"}
        names |= {f"{ours}.attn.proj": f"{layer}.attention.o_proj"}
        names |= {f"{ours}.mlp.fc1": f"{layer}.mlp.fc1", f"{ours}.mlp.fc2": f"{layer}.mlp.fc2"}
        found |= {f"{ours}.ls{k}.gamma": theirs[f"{layer}.layer_scale{k}.lambda1"] for k in (1, 2)}
        for kind in ("weight", "bias"):
            parts = [theirs[f"{layer}.attention.{part}.{kind}"] for part in ("q_proj", "k_proj", "v_proj")]
            found[f"{ours}.attn.qkv.{kind}"] = torch.cat(parts)
    found |= {
        f"{ours}.{kind}": theirs[f"{his}.{kind}"]
        for ours, his in names.items()
        for kind in ("weight", "bias")
    }
    path = tmp_path_factory.mktemp("dinov2") / "dinov2_vits14_pretrain.pth"
    torch.save({name: value.clone() for name, value in found.items()}, path)
    return path, model


def _pixels(side: int = 50) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(side)).to(
        torch.uint8
    )


def test_dinov2_equals_transformers_on_the_same_input_and_positions(dinov2: tuple[Path, Any]) -> None:
    path, theirs = dinov2
    encoder = load_extractor(NAME, "cpu", weights=str(path), batch=1)
    pixels = _pixels()
    with torch.inference_mode():
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

        resized = interpolate_bilinear_2d_like_tensorflow1x(
            pixels.float(), size=(224, 224), align_corners=False
        )
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 255
        deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) * 255
        # transformers resamples the positions by size; the published code by scale, which ours follows.
        positions = at_224_px(theirs.embeddings.position_embeddings)
        theirs.embeddings.interpolate_pos_encoding = lambda *_, **__: positions
        expected = theirs(pixel_values=(resized - mean) / deviation).pooler_output
    found = encoder.images(pixels)
    assert found.shape == (2, 384) == (2, encoder.width)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4 * float(expected.abs().max()))
    assert encoder.key.layer == "class token 384"
    assert encoder.key.resize == "224x224 bilinear TF1"


def test_positions_are_resampled_by_scale_and_not_by_size() -> None:
    positions = torch.randn(1, 1 + 37 * 37, 8, generator=torch.Generator().manual_seed(0))
    found = at_224_px(positions)
    assert found.shape == (1, 1 + 16 * 16, 8)
    torch.testing.assert_close(found[:, :1], positions[:, :1])
    grid = positions[:, 1:].reshape(1, 37, 37, 8).permute(0, 3, 1, 2)
    by_size = torch.nn.functional.interpolate(grid, size=(16, 16), mode="bicubic").flatten(2).transpose(1, 2)
    assert not torch.allclose(found[:, 1:], by_size, atol=1e-3)
    # Output i reads the input around (i + 0.5) · 37 / 16.1 - 0.5, by the scale that was given.
    line = torch.arange(37.0).view(1, 1, 37, 1).expand(1, 1, 37, 37).reshape(1, 1, -1).transpose(1, 2)
    ramp = at_224_px(torch.cat([torch.zeros(1, 1, 1), line], dim=1))[0, 1:, 0].view(16, 16)[:, 8]
    expected = (torch.arange(16.0) + 0.5) * 37 / 16.1 - 0.5
    # torch's cubic kernel bends a ramp by less than 0.06 between its knots; by size it would be 0.21 off at the end.
    torch.testing.assert_close(ramp[1:15], expected[1:15], atol=0.06, rtol=0)
    assert abs(float(ramp[14]) - (14.5 * 37 / 16 - 0.5)) > 0.1


def test_dinov2_is_never_downloaded_as_no_hash_of_it_is_published() -> None:
    with pytest.raises(
        ModelNotFound, match=r"metrics\.weights\.dinov2-vit-l-14=FILE.*dinov2_vitl14_pretrain\.pth"
    ) as caught:
        load_extractor("dinov2-vit-l-14", "cpu")
    assert "\n" not in str(caught.value)


def test_other_weights_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    for name in (NAME, "clip-vit-b-32"):
        with pytest.raises(ModelCorrupt, match="cannot be loaded") as caught:
            load_extractor(name, "cpu", weights=str(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelNotFound, match="there is none"):
        load_extractor(NAME, "cpu", weights=str(tmp_path / "none.pth"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random CLIP under OpenAI's names."""
    import open_clip

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = open_clip.CLIP(
            embed_dim=16,
            vision_cfg={"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 16},
            text_cfg={"context_length": 8, "vocab_size": 50, "width": 64, "heads": 1, "layers": 1},
            quick_gelu=True,
        )
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return path


def test_clip_equals_open_clip_on_the_same_input(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip
    from safetensors.torch import load_file

    monkeypatch.setitem(foreign.CLIP, "clip-vit-b-32", (32, 16, 16))
    encoder = load_extractor("clip-vit-b-32", "cpu", weights=str(clip))
    pixels = _pixels(32)  # the network's own size, so that no kernel resizes
    theirs = open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 16},
        text_cfg={"context_length": 8, "vocab_size": 50, "width": 64, "heads": 1, "layers": 1},
        quick_gelu=True,
    ).eval()
    theirs.load_state_dict(load_file(clip))
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    deviation = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    with torch.inference_mode():
        expected = theirs.encode_image((pixels.float() / 255 - mean) / deviation)
    # torch-fidelity keeps CLIP's matrices in half precision until they are widened again.
    np.testing.assert_allclose(
        encoder.images(pixels), expected.numpy(), atol=5e-3 * float(expected.abs().max())
    )


def test_the_weights_of_another_network_do_not_pass_under_a_name(clip: Path) -> None:
    with pytest.raises(ModelCorrupt, match="must be of 336 px in patches of 14 to 768 numbers, got 32 px"):
        load_extractor("clip-vit-l-14-336px", "cpu", weights=str(clip))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_archive_that_openai_did_not_publish_is_refused(
    tmp_path: Path, monkeypatch: Any
) -> None:
    path = tmp_path / "archive.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(UnsafeModel, match="not a file that OpenAI published"):
        load_extractor("clip-vit-b-32", "cpu", weights=str(path))


def test_clip_offline_says_which_file_which_hash_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(
        HubUnreachable, match=r"ViT-B-32\.pt \(sha256 40d365715913c9da\.\.\.\) at .*clip-vit-b-32"
    ) as caught:
        load_extractor("clip-vit-b-32", "cpu")
    assert "metrics.weights.clip-vit-b-32=FILE" in str(caught.value)


def test_an_unknown_extractor_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match="nearest: dinov2-vit-l-14"):
        load_extractor("dinov2-vit-l14", "cpu")
    assert set(foreign.DINOV2) | set(foreign.CLIP) < set(EXTRACTORS)
