"""Encoders against open_clip's own forward pass, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.scoring import inception
from eval.scoring.encoders import ClipEncoder, load_clip
from eval.scoring.metrics import clip_scores
from eval.scoring.weights import file_sha256, locate
from sdkit import HubUnreachable, InvalidRequest, ModelCorrupt, ModelError, ModelNotFound

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


def test_the_identity_names_weights_resize_and_version(encoder: ClipEncoder, tiny_scorer: Path) -> None:
    import open_clip

    sha256 = file_sha256(tiny_scorer / "open_clip_model.safetensors")
    assert f"sha256:{sha256[:16]}" in encoder.identity
    assert "64x64 px bicubic shortest" in encoder.identity
    assert open_clip.__version__ in encoder.identity


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
    with pytest.raises(ModelError, match="use ViT-B-32-quickgelu for OpenAI"):
        locate("ViT-B-32/openai")
    with pytest.raises(InvalidRequest, match="one of openai, laion400m_e31"):
        locate("ViT-B-32-quickgelu/laion2b_s34b_b79k")
    (tmp_path / "openai.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="quickgelu"):
        locate(f"ViT-B-32/{tmp_path / 'openai.safetensors'}")


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    def offline(_: object) -> str:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(HubUnreachable, match=r"metrics\.clip=ViT-B-32-quickgelu/FILE") as caught:
        locate("ViT-B-32-quickgelu/openai")
    assert "\n" not in str(caught.value)


def test_inception_offline_or_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFound, match=r"metrics\.inception_weights must be a file"):
        inception.locate(str(tmp_path / "none.pth"))

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(HubUnreachable, match=r"metrics\.inception_weights=FILE"):
        inception.locate(None)


def test_inception_in_the_cache_is_checked_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    path.parent.mkdir()
    path.write_bytes(b"changed")
    with pytest.raises(ModelCorrupt, match="must have sha256 6726825d"):
        inception.locate(None)


def test_inception_gives_torch_fidelitys_features_and_loads_no_pickle(tmp_path: Path) -> None:
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fidelity.FeatureExtractorInceptionV3.__new__(fidelity.FeatureExtractorInceptionV3)
        state = _random_inception_state(model)
    path = tmp_path / "inception.pth"
    torch.save(state, path)
    encoder = inception.load_inception(str(path), "cpu")
    expected = fidelity.FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(path))
    pixels = _pixels(32)[:1]
    np.testing.assert_allclose(encoder.images(pixels), expected(pixels)[0].numpy(), rtol=1e-5)
    assert encoder.images(pixels).shape == (1, encoder.width)
    assert "not the published file" in encoder.identity


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    path = tmp_path / "trap.pth"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelCorrupt):
        inception.load_inception(str(path), "cpu")
    assert not (tmp_path / "ran").exists()


def _random_inception_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state of the right names and shapes: the constructor builds the layers before it reads the file."""
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    kept: dict[str, torch.Tensor] = {}

    class Stop(Exception):
        pass

    def capture(*_: object, **__: object) -> dict[str, torch.Tensor]:
        kept.update({name: value.clone() for name, value in model.state_dict().items()})
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity, "load_state_dict_from_url", capture)
        with pytest.raises(Stop):
            model.__init__("x", ["2048"])  # type: ignore[misc, call-arg, arg-type]
    return kept
