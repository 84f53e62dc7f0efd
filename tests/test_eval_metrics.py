"""CLIP score, FID and the judge's share, against independent formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from eval.scoring.metrics import clip_score, clip_scores, fid, frechet_distance, judge_all, moments, no_fid

rng = np.random.default_rng(0)
FIRST = rng.normal(size=(200, 16)).astype(np.float32)
SECOND = (rng.normal(size=(300, 16)) * 1.3 + 0.4).astype(np.float32)


def _by_eigenvalues(first: np.ndarray, second: np.ndarray) -> float:
    """FID from the symmetric form sqrt(S1) S2 sqrt(S1), which torch-fidelity does not use."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    means = [each.mean(axis=0) for each in (first, second)]
    covariances = []
    for features, mean in zip((first, second), means, strict=True):
        centred = features - mean
        covariances.append(centred.T @ centred / (len(features) - 1))
    values, vectors = linalg.eigh(covariances[0])
    root = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(linalg.eigvalsh(root @ covariances[1] @ root).clip(0)).sum()
    shift = means[0] - means[1]
    return float(shift @ shift + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * cross)


def test_fid_equals_an_independent_formula() -> None:
    found = frechet_distance(moments(FIRST), moments(SECOND))
    assert found == pytest.approx(_by_eigenvalues(FIRST, SECOND), rel=1e-6)


def test_fid_equals_torch_fidelity_on_the_same_features() -> None:
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    pair = [fid_features_to_statistics(torch.from_numpy(each).double()) for each in (FIRST, SECOND)]
    expected = fid_statistics_to_metric(*pair, verbose=False)["frechet_inception_distance"]
    found = fid(FIRST, moments(SECOND), name="fid[x]", identity="x")
    assert found.value == pytest.approx(expected, rel=1e-6)
    assert not found.higher_is_better


def test_fid_of_a_set_with_itself_is_zero_and_grows_with_distance() -> None:
    assert frechet_distance(moments(FIRST), moments(FIRST)) == pytest.approx(0, abs=1e-6)
    shifted = [frechet_distance(moments(FIRST), moments(FIRST + shift)) for shift in (0.5, 1.0)]
    assert shifted == pytest.approx([16 * 0.25, 16 * 1.0], rel=1e-5)


def test_fid_does_not_depend_on_the_order_of_pictures() -> None:
    again = rng.permutation(FIRST)
    expected = frechet_distance(moments(FIRST), moments(SECOND))
    assert frechet_distance(moments(again), moments(SECOND)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("pictures", "reference", "subject"), [(16, 300, "17 pictures"), (200, 16, "17 reference")]
)
def test_too_few_pictures_for_full_rank_give_none_with_the_reason(
    pictures: int, reference: int, subject: str
) -> None:
    found = fid(FIRST[:pictures], moments(SECOND[:reference]), name="fid[x]", identity="x")
    assert found.value is None
    assert found.reason is not None
    assert subject in found.reason
    assert "got 16" in found.reason


def test_no_reference_gives_none_with_the_reason() -> None:
    found = no_fid(200, name="fid[x]")
    assert found.value is None
    assert found.reason is not None
    assert "reference=none" in found.reason


def test_moments_refuse_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        moments(np.full((4, 2), np.nan))


def test_clip_scores_are_a_hundred_cosines_and_are_not_clipped() -> None:
    images = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    texts = np.array([[5.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
    assert clip_scores(images, texts) == pytest.approx([100, -100, 100 / np.sqrt(2)])


def test_clip_scores_refuse_unequal_counts() -> None:
    with pytest.raises(ValueError, match="its caption"):
        clip_scores(FIRST, FIRST[:3])


def test_the_clip_score_of_a_cell_has_an_interval() -> None:
    found = clip_score([30.0, 31.0, 29.0], identity="x")
    assert found.value == pytest.approx(30)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 30 < found.high


def test_the_judge_counts_pictures_in_which_everything_is_right() -> None:
    right, wrong = {"shape": True, "colour": True}, {"shape": True, "colour": False}
    found = judge_all([right, wrong, right, right], identity="x")
    assert found.value == 0.75
    assert found.n == 4
    assert found.low is not None
    assert found.low < 0.75
