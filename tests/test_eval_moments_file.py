"""Moments on disk: read as others write them, written as others read them, and nothing run on the way."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.scoring.moments import Moments, moments
from eval.scoring.moments_file import Style, read_moments, write_moments
from sdkit import InvalidRequest

Array = np.ndarray[Any, np.dtype[Any]]
STYLES: tuple[Style, ...] = ("pytorch-fid", "sdkit")


def _moments(seed: int = 0, n: int = 40, width: int = 6) -> Moments:
    return moments(np.random.default_rng(seed).normal(size=(n, width)))


def _assert_equal(read: Moments, written: Moments) -> None:
    np.testing.assert_array_equal(read.mean, written.mean)
    np.testing.assert_array_equal(read.covariance, written.covariance)


@pytest.mark.parametrize("style", STYLES)
def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path, style: Style) -> None:
    written = _moments()
    write_moments(tmp_path / "m.npz", written, style=style)
    read = read_moments(tmp_path / "m.npz")
    _assert_equal(read, written)
    assert read.n == (40 if style == "sdkit" else None)
    assert read.full_rank is (True if style == "sdkit" else None)
    assert [file.name for file in tmp_path.iterdir()] == ["m.npz"]


@pytest.mark.parametrize("style", STYLES)
def test_pytorch_fid_reads_ours_and_we_read_its(tmp_path: Path, style: Style) -> None:
    fid_score = pytest.importorskip("pytorch_fid.fid_score")
    written = _moments()
    write_moments(tmp_path / "m.npz", written, style=style)
    mean, covariance = fid_score.compute_statistics_of_path(str(tmp_path / "m.npz"), None, 1, 6, "cpu")
    np.testing.assert_array_equal(mean, written.mean)
    np.testing.assert_array_equal(covariance, written.covariance)
    np.savez_compressed(tmp_path / "its.npz", mu=mean, sigma=covariance)  # its own call in save_fid_stats
    _assert_equal(read_moments(tmp_path / "its.npz"), written)


def test_clean_fid_reads_ours_and_we_read_its(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cleanfid = pytest.importorskip("cleanfid.features")
    written = _moments()
    folder = tmp_path / "stats"
    folder.mkdir()
    monkeypatch.setattr(cleanfid.cleanfid, "__file__", str(tmp_path / "__init__.py"))
    write_moments(folder / "ours_clean_custom_na.npz", written, style="pytorch-fid")
    mean, covariance = cleanfid.get_reference_statistics("ours", "na", split="custom")
    np.testing.assert_array_equal(mean, written.mean)
    np.testing.assert_array_equal(covariance, written.covariance)
    features = np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32)
    np.savez_compressed(tmp_path / "its.npz", mu=features.mean(axis=0), sigma=np.cov(features, rowvar=False))
    its = read_moments(tmp_path / "its.npz")
    assert its.mean.dtype == its.covariance.dtype == np.float64
    np.testing.assert_allclose(its.covariance, moments(features).covariance, rtol=1e-12, atol=1e-14)


def test_torch_fidelitys_cache_is_read_without_running_a_pickle(tmp_path: Path) -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_fid")
    utils = pytest.importorskip("torch_fidelity.utils")
    import torch

    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    statistics = fidelity.fid_features_to_statistics(features)
    utils.torch_atomic_save(statistics, str(tmp_path / "a-stat-fid-2048.pt"))
    read = read_moments(tmp_path / "a-stat-fid-2048.pt")
    np.testing.assert_array_equal(read.mean, statistics["mu"].astype(np.float64))
    np.testing.assert_array_equal(read.covariance, statistics["sigma"])
    assert read.n is None


class _Attack:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    import torch

    attack = _Attack(tmp_path / "ran")
    (tmp_path / "a.npz").write_bytes(pickle.dumps(attack))
    np.savez(tmp_path / "b.npz", mu=np.array([attack], dtype=object), sigma=np.eye(1))
    torch.save({"mu": attack}, tmp_path / "c.pt")
    for name in ("a.npz", "b.npz", "c.pt"):
        with pytest.raises(InvalidRequest, match=f"{name} cannot be read: it is not arrays alone") as caught:
            read_moments(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_covariances_that_are_singular_or_zero_are_read(tmp_path: Path) -> None:
    thin = moments(np.random.default_rng(0).normal(size=(3, 50)))
    flat = Moments(5, np.ones(4), np.zeros((4, 4)))
    for written in (thin, flat, _moments(n=2)):
        write_moments(tmp_path / "m.npz", written, style="sdkit")
        _assert_equal(read_moments(tmp_path / "m.npz"), written)


def test_single_precision_is_allowed_its_own_rounding(tmp_path: Path) -> None:
    thin = moments(np.random.default_rng(0).normal(size=(20, 60)))
    np.savez(tmp_path / "m.npz", mu=thin.mean.astype(np.float32), sigma=thin.covariance.astype(np.float32))
    assert np.linalg.eigvalsh(read_moments(tmp_path / "m.npz").covariance).min() < 0


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        (np.zeros(3), np.eye(4), r"must be \(D,\) and \(D, D\), got \(3,\) and \(4, 4\)"),
        (np.zeros((1, 3)), np.eye(3), r"must be \(D,\) and"),
        (np.zeros(0), np.zeros((0, 0)), r"must be \(D,\) and"),
        (np.array([0, np.nan]), np.eye(2), "mu in .* must be finite"),
        (np.zeros(2), np.array([[1, np.inf], [np.inf, 1]]), "sigma in .* must be finite"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.4, 1.0]]), "must be symmetric"),
        (np.zeros(2), np.diag([1.0, -0.01]), "negative eigenvalue"),
        (np.zeros(2, np.int64), np.eye(2), "mu in .* must be float32 or float64, got int64"),
    ],
)
def test_what_is_no_mean_and_covariance_is_one_line(
    tmp_path: Path, mean: Array, covariance: Array, message: str
) -> None:
    np.savez(tmp_path / "m.npz", mu=mean, sigma=covariance)
    with pytest.raises(InvalidRequest, match=message) as caught:
        read_moments(tmp_path / "m.npz")
    assert "\n" not in str(caught.value)


def test_other_files_are_named_with_what_they_hold(tmp_path: Path) -> None:
    np.savez(tmp_path / "kid.npz", feats=np.zeros((3, 2)))
    with pytest.raises(InvalidRequest, match="must hold mu and sigma, got feats"):
        read_moments(tmp_path / "kid.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(InvalidRequest, match="one array"):
        read_moments(tmp_path / "array.npz")
    with pytest.raises(InvalidRequest, match="does not exist"):
        read_moments(tmp_path / "none.npz")
    with pytest.raises(InvalidRequest, match=r"must end in \.npz or \.pt"):
        read_moments(tmp_path / "array.npy")


@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_a_cut_file_is_one_line(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "m.npz"
    write_moments(path, _moments(), style="sdkit")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InvalidRequest, match=r"m\.npz cannot be read"):
        read_moments(path)


def test_a_count_must_be_a_whole_number_from_two(tmp_path: Path) -> None:
    for n in (np.array(1), np.array(2.5), np.array([3])):
        np.savez(tmp_path / "m.npz", mu=np.zeros(2), sigma=np.eye(2), n=n)
        with pytest.raises(InvalidRequest, match="n in .* must be a whole number from 2"):
            read_moments(tmp_path / "m.npz")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be written"):
        write_moments(tmp_path / "none" / "m.npz", _moments(), style="sdkit")
    with pytest.raises(InvalidRequest, match=r"must end in \.npz"):
        write_moments(tmp_path / "m.npy", _moments(), style="sdkit")
