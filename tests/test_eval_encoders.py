"""Encoders against open_clip's own forward pass, and what they refuse."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eval.hashing import file_sha256
from eval.scoring import activations
from eval.scoring.clip_score import clip_scores
from eval.scoring.encoders import ClipEncoder, load_clip
from eval.scoring.weight_files import read_tensors
from eval.scoring.weights import locate
from sdkit import HubUnreachable, InvalidRequest, ModelCorrupt, ModelError, ModelNotFound, UnsafeModel

CAPTIONS = ["a red star", "a star on a red star", "on"]


@pytest.fixture(scope="module")
def encoder(tiny_scorer: Path) -> ClipEncoder:
    return load_clip(str(tiny_scorer), "cpu")


def _pixels(side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randint(0, 256, (3, 3, side, side), generator=generator).to(torch.uint8)


def _pil(pixels: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(each) for each in pixels.permute(0, 2, 3, 1).numpy()]


@pytest.mark.parametrize("side", [64, 96])
def test_clip_score_equals_a_direct_forward_pass(encoder: ClipEncoder, tiny_scorer: Path, side: int) -> None:
    import open_clip

    pixels = _pixels(side)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tiny_scorer}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_scorer}")
    with torch.no_grad():
        images = model.eval().encode_image(
            torch.stack([preprocess(each) for each in _pil(pixels)]), normalize=True
        )
        expected = 100 * (images * model.encode_text(tokenizer(CAPTIONS), normalize=True)).sum(dim=1)
    found = clip_scores(encoder.images(pixels), encoder.texts(CAPTIONS))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_the_fast_way_equals_pil_to_the_bit(encoder: ClipEncoder) -> None:
    pixels = _pixels(64)
    expected = torch.stack([encoder.preprocess(each) for each in _pil(pixels)])
    torch.testing.assert_close(encoder.prepare(pixels), expected, rtol=0, atol=0)


def test_features_do_not_depend_on_the_batch(encoder: ClipEncoder) -> None:
    pixels = _pixels(64)
    alone = np.concatenate([encoder.images(pixels[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(encoder.images(pixels), alone, atol=1e-5)
    assert encoder.texts(CAPTIONS, batch=2).shape == (3, encoder.width)


def test_captions_that_are_cut_are_counted(encoder: ClipEncoder) -> None:
    assert encoder.truncated([*CAPTIONS, "star " * 40]) == 1


def test_the_key_names_weights_resize_crop_layer_activation_and_versions(
    encoder: ClipEncoder, tiny_scorer: Path
) -> None:
    import open_clip

    sha256 = file_sha256(tiny_scorer / "open_clip_model.safetensors")
    key = encoder.key
    assert re.fullmatch(r"open_clip tiny-scorer config [0-9a-f]{8} \(GELU\)", key.name)
    assert key.weights == f"sha256:{sha256[:16]}"
    assert (key.resize, key.crop, key.layer) == (
        "64x64 bicubic shortest PIL, normalised by 0.5 and 0.25",
        "centre",
        "image embedding 8",
    )
    assert f"open_clip_torch {open_clip.__version__}" in key.versions
    assert any(each.startswith("pillow ") for each in key.versions)


def test_a_broken_weights_file_is_one_line(tiny_scorer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scorer"
    shutil.copytree(tiny_scorer, folder)
    (folder / "open_clip_model.safetensors").write_bytes(b"\x10")
    with pytest.raises(ModelCorrupt, match="cannot be loaded") as caught:
        load_clip(str(folder), "cpu")
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_not_filled_with_random_ones(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {}}))
    with pytest.raises(ModelNotFound, match=r"no \.safetensors weights"):
        load_clip(str(tmp_path), "cpu")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("ViT-B-23/openai", "nearest architectures: ViT-B-32"),
        ("ViT-B-32", "must name weights after ViT-B-32/"),
        ("ViT-B-32/opanai", "one of openai"),
        ("nowhere", "must be shapes, a folder"),
    ],
)
def test_an_unknown_encoder_is_answered_with_what_there_is(spec: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        locate(spec)


def test_openais_weights_with_plain_gelu_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="use ViT-B-32-quickgelu"):
        locate("ViT-B-32/openai")
    with pytest.raises(InvalidRequest, match="one of openai, laion400m_e31"):
        locate("ViT-B-32-quickgelu/laion2b_s34b_b79k")
    (tmp_path / "openai.safetensors").write_bytes(b"")
    for stated in ("ViT-B-32", "ViT-B-32+gelu"):
        with pytest.raises(ModelError, match="use ViT-B-32-quickgelu"):
            locate(f"{stated}/{tmp_path / 'openai.safetensors'}")


def test_openais_weights_are_known_by_their_hash_whatever_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"as published")
    monkeypatch.setattr(activations, "openai_hashes", lambda: frozenset({file_sha256(path)}))
    with pytest.raises(ModelError, match="use ViT-B-32-quickgelu"):
        locate(f"ViT-B-32+gelu/{path}")
    assert locate(f"ViT-B-32-quickgelu/{path}").weights == path
    assert len(activations.openai_hashes()) == 1
    monkeypatch.undo()
    assert len(activations.openai_hashes()) == 9


def test_a_file_of_unknown_weights_must_say_its_activation(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"x")
    with pytest.raises(InvalidRequest, match=r"must say which activation .*ViT-B-32\+gelu/FILE for GELU"):
        locate(f"ViT-B-32/{path}")
    with pytest.raises(InvalidRequest, match="must name one activation"):
        locate(f"ViT-B-32-quickgelu+gelu/{path}")
    assert locate(f"ViT-B-32+gelu/{path}").model_name == "ViT-B-32"
    assert locate(f"ViT-B-32-quickgelu/{path}").model_name == "ViT-B-32-quickgelu"
    assert locate(f"ViT-bigG-14-CLIPA/{path}").weights == path, "this architecture knows one activation only"


def test_no_published_file_is_taken_for_the_other_activation(tmp_path: Path) -> None:
    """Over open_clip's whole table, by tag and by the name of the release: LAION's own used either activation."""
    import open_clip

    checked = 0
    for architecture, tag in open_clip.list_pretrained():
        quick_name = f"{architecture}-quickgelu"
        if quick_name not in open_clip.list_models():
            continue
        config = open_clip.get_pretrained_cfg(architecture, tag)
        right, wrong = (quick_name, architecture) if config.get("quick_gelu") else (architecture, quick_name)
        names = {f"{tag.replace('_', '-')}.safetensors", f"timm_{tag}.bin", Path(config.get("url", "")).name}
        for name in names - {"", f"{architecture}.pt"}:
            if tag not in name.replace("-", "_"):
                continue  # a name that tells nothing has to say it
            path = tmp_path / name
            path.write_bytes(b"x")
            assert locate(f"{right}/{path}").weights == path
            with pytest.raises(ModelError, match=f"use {right}$"):
                locate(f"{wrong}/{path}")
            checked += 1
    assert checked > 80


def test_a_published_release_is_known_by_the_hash_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    path = tmp_path / "renamed.pt"
    path.write_bytes(b"as published")
    url = f"https://example.org/vit_b_32-quickgelu-laion400m_e31-{file_sha256(path)[:8]}.pt"
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *_: {"url": url, "quick_gelu": True})
    with pytest.raises(ModelError, match="use ViT-B-32-quickgelu$"):
        locate(f"ViT-B-32+gelu/{path}")


def test_a_tag_has_one_name_however_its_activation_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: "weights")
    tag = "laion2b_s34b_b79k"
    assert locate(f"ViT-B-32+gelu/{tag}") == locate(f"ViT-B-32/{tag}")


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)  # type: ignore[no-untyped-call]
    for load in (lambda: locate(f"ViT-B-32-quickgelu/{path}"), lambda: read_tensors("them", path)):
        with pytest.raises(UnsafeModel, match="TorchScript archive, which can run code") as caught:
            load()
        assert "\n" not in str(caught.value)


def test_a_tokenizer_with_code_of_its_own_is_refused_even_where_the_config_trusts_it(
    tiny_scorer: Path, tmp_path: Path
) -> None:
    folder, ran = tmp_path / "scorer", tmp_path / "ran"
    shutil.copytree(tiny_scorer, folder)
    _change(
        folder / "open_clip_config.json",
        "model_cfg",
        "text_cfg",
        tokenizer_kwargs={"trust_remote_code": True},
    )
    _change(
        folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "own.Own"]}, tokenizer_class="Own"
    )
    (folder / "own.py").write_text(
        f"open({str(ran)!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast as Own\n"
    )
    with pytest.raises(UnsafeModel, match="code of its own, which is never run"):
        load_clip(str(folder), "cpu")
    assert not ran.exists()


@pytest.mark.parametrize(
    ("file", "within", "change"),
    [
        ("open_clip_config.json", ("preprocess_cfg",), {"mean": [0.4] * 3}),
        ("open_clip_config.json", ("model_cfg", "vision_cfg"), {"head_width": 4}),
        ("tokenizer_config.json", (), {"model_max_length": 5}),
    ],
)
def test_a_folder_that_computes_otherwise_has_another_key(
    encoder: ClipEncoder, tiny_scorer: Path, tmp_path: Path, file: str, within: tuple[str, ...], change: Any
) -> None:
    folder = tmp_path / tiny_scorer.name
    shutil.copytree(tiny_scorer, folder)
    assert load_clip(str(folder), "cpu").key == encoder.key
    _change(folder / file, *within, **change)
    assert load_clip(str(folder), "cpu").key != encoder.key


def _change(file: Path, *within: str, **change: Any) -> None:
    """Write `change` into the JSON object that lies `within` a file."""
    whole = json.loads(file.read_text())
    part = whole
    for name in within:
        part = part[name]
    part.update(change)
    file.write_text(json.dumps(whole))


def test_captions_are_encoded_in_smaller_batches_when_memory_runs_out(
    encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = encoder.texts(CAPTIONS)
    whole, seen = encoder.model.encode_text, []

    def small(tokens: torch.Tensor) -> torch.Tensor:
        seen.append(len(tokens))
        if len(tokens) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(tokens)

    monkeypatch.setattr(encoder.model, "encode_text", small)
    np.testing.assert_allclose(encoder.texts(CAPTIONS, batch=4), expected, atol=1e-5)
    assert seen == [3, 2, 1, 1, 1]
    assert encoder.texts([]).shape == (0, encoder.width)


def test_a_hub_repository_offline_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: object, **asked: object) -> str:
        assert "*.bin" not in asked["allow_patterns"]  # type: ignore[operator]
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(HubUnreachable, match="metrics.clip=FOLDER") as caught:
        locate("hf-hub:laion/CLIP-ViT-B-32")
    assert "\n" not in str(caught.value)


def test_a_hub_repository_is_read_as_a_folder(tiny_scorer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tiny_scorer))
    assert load_clip("hf-hub:me/tiny@abc", "cpu").key.name.startswith("open_clip hf-hub:me/tiny@abc config ")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (torch.zeros(1, 3, 64, 64), r"must be uint8, 0-255, got float32; quantise them once"),
        (torch.zeros(1, 64, 64, 3, dtype=torch.uint8), r"channels stand last: permute"),
        (torch.zeros(1, 1, 64, 64, dtype=torch.uint8), r"must be \(N, 3, H, W\)"),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), r"must be \(N, 3, H, W\)"),
        (torch.zeros(0, 3, 64, 64, dtype=torch.uint8), r"N >= 1"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.int16), r"got int16"),
    ],
)
def test_pictures_of_another_kind_are_refused(encoder: ClipEncoder, bad: torch.Tensor, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        encoder.images(bad)


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    def offline(_: object) -> str:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(HubUnreachable, match=r"metrics\.clip=ViT-B-32-quickgelu/FILE") as caught:
        locate("ViT-B-32-quickgelu/openai")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (
            "ViT-B-16-SigLIP",
            {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3, "image_resize_mode": "squash"},
        ),
        ("ViT-L-14", {}),
    ],
)
def test_a_file_is_normalised_as_all_published_weights_of_its_architecture(
    architecture: str, expected: dict[str, object], tmp_path: Path
) -> None:
    from eval.scoring.encoders import _published_preprocessing
    from eval.scoring.weights import ClipSource

    file = tmp_path / "mine.safetensors"
    found = _published_preprocessing(ClipSource("x", architecture, str(file), file))
    assert {name: value for name, value in found.items() if name in expected} == expected
    assert bool(found) == bool(expected)
    assert _published_preprocessing(ClipSource("x", architecture, "webli", file)) == {}, "a tag has its own"
