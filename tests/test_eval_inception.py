"""TF-Inception under three ways of resizing, each against the implementation that it is named after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eval.scoring import inception
from eval.scoring.inception import InceptionEncoder, as_clean_fid, as_pytorch_fid
from sdkit import HubUnreachable, ModelCorrupt, ModelNotFound


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the published file's layout."""
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fidelity.FeatureExtractorInceptionV3.__new__(fidelity.FeatureExtractorInceptionV3)
        torch.save(_random_inception_state(model), path)
    return path


@pytest.fixture(scope="module")
def encoders(published: Path) -> dict[str, InceptionEncoder]:
    return {
        name: inception.load_inception(name, str(published), "cpu", batch=2) for name in inception.RESIZES
    }


def _pixels(side: int, n: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randint(0, 256, (n, 3, side, side + 6), generator=generator).to(torch.uint8)


def test_features_are_torch_fidelitys(encoders: dict[str, InceptionEncoder], published: Path) -> None:
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    layers = ["2048", "logits_unbiased"]
    theirs = fidelity.FeatureExtractorInceptionV3("x", layers, feature_extractor_weights_path=str(published))
    pixels = _pixels(32)
    expected, logits = theirs(pixels)
    found = encoders["inception"].images(pixels)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoders["inception"].logits(found), logits.numpy(), rtol=1e-4, atol=1e-5)
    assert found.shape == (2, encoders["inception"].width)


def test_the_pytorch_fid_variant_has_pytorch_fids_features(
    encoders: dict[str, InceptionEncoder], published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytorch_fid import inception as theirs

    state = torch.load(published, weights_only=True)
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: state)
    network = theirs.InceptionV3([theirs.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    pixels = _pixels(40)
    with torch.inference_mode():
        (expected,) = network(pixels.float() / 255)
    found = encoders["inception-pytorch-fid"].images(pixels)
    np.testing.assert_allclose(found, expected.flatten(1).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [40, 320])
def test_the_clean_fid_variant_resizes_as_clean_fid(side: int) -> None:
    from cleanfid.resize import build_resizer

    resize = build_resizer("clean")
    pixels = _pixels(side)
    expected = np.stack([resize(each) for each in pixels.permute(0, 2, 3, 1).numpy()]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(as_clean_fid(pixels).numpy(), (expected - 128) / 128)


def test_the_three_resizes_are_three_numbers_with_three_keys(encoders: dict[str, InceptionEncoder]) -> None:
    pixels = _pixels(48)
    found = [each.images(pixels) for each in encoders.values()]
    assert len({each.key for each in encoders.values()}) == 3
    assert {each.key.weights for each in encoders.values()} == {encoders["inception"].key.weights}
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not np.allclose(found[i], found[j], rtol=1e-3, atol=0)
    assert as_pytorch_fid(pixels).shape == (2, 3, 299, 299)


@pytest.mark.parametrize("name", list(inception.RESIZES))
def test_features_do_not_depend_on_the_batch(encoders: dict[str, InceptionEncoder], name: str) -> None:
    pixels = _pixels(20, 3)
    alone = np.concatenate([encoders[name].images(pixels[i : i + 1]) for i in range(3)])
    together = encoders[name].images(pixels)
    np.testing.assert_allclose(together, alone, atol=1e-5 * float(np.abs(alone).max()))


def test_inception_offline_or_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFound, match=r"metrics\.weights\.inception must be a file"):
        inception.locate(str(tmp_path / "none.pth"), "inception")

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    for name in inception.RESIZES:  # each reads its own setting
        with pytest.raises(HubUnreachable, match=rf"metrics\.weights\.{name}=FILE"):
            inception.locate(None, name)


def test_inception_in_the_cache_is_checked_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    path.parent.mkdir()
    path.write_bytes(b"changed")
    with pytest.raises(ModelCorrupt, match="must have sha256 6726825d"):
        inception.locate(None, "inception")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    path = tmp_path / "trap.pth"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelCorrupt):
        inception.load_inception("inception", str(path), "cpu")
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
