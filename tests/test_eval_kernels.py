"""KID and CMMD against torch-fidelity, torchmetrics, clean-fid and scikit-learn's kernels on the same features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from eval.scoring.kernels import cmmd, cmmd_values, kid, kid_values

rng = np.random.default_rng(0)
FIRST = rng.normal(size=(60, 12))
SECOND = rng.normal(size=(60, 12)) * 1.2 + 0.3
MORE = rng.normal(size=(90, 12)) * 1.2 + 0.3


def _by_scikit_learn(first: np.ndarray, second: np.ndarray) -> float:
    n, m = len(first), len(second)
    xx, yy = (polynomial_kernel(each, degree=3, coef0=1) for each in (first, second))
    xy = polynomial_kernel(first, second, degree=3, coef0=1)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def test_kid_agrees_with_torch_fidelity_over_one_subset_of_all() -> None:
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    pair = [torch.from_numpy(each) for each in (FIRST, SECOND)]
    expected = kid_features_to_metric(*pair, kid_subsets=1, kid_subset_size=60, verbose=False, rng_seed=0)
    assert kid(FIRST, SECOND) == pytest.approx(expected[KEY_METRIC_KID_MEAN], rel=1e-10)


def test_kid_agrees_with_torchmetrics() -> None:
    from torchmetrics.image.kid import poly_mmd

    expected = float(poly_mmd(torch.from_numpy(FIRST), torch.from_numpy(SECOND)))
    assert kid(FIRST, SECOND) == pytest.approx(expected, rel=1e-10)


def test_kid_agrees_with_clean_fid_over_one_subset_of_all() -> None:
    from cleanfid.fid import kernel_distance

    # clean-fid draws its subset from the global state, and takes off the diagonal of all pairs alike.
    state = np.random.get_state()  # noqa: NPY002
    try:
        expected = kernel_distance(FIRST, SECOND, num_subsets=1, max_subset_size=60)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    assert kid(FIRST, SECOND) == pytest.approx(expected, rel=1e-10)


def test_kid_of_unequal_counts_agrees_with_scikit_learns_kernel() -> None:
    assert kid(FIRST, MORE) == pytest.approx(_by_scikit_learn(FIRST, MORE), rel=1e-10)


def test_kid_has_no_bias_at_few_pictures() -> None:
    draws = np.random.default_rng(1)
    found = [kid(draws.normal(size=(8, 4)), draws.normal(size=(8, 4))) for _ in range(4000)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error
    assert min(found) < 0


def test_cmmd_agrees_with_scikit_learns_kernel_in_the_published_formula() -> None:
    first, second = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (FIRST, MORE))
    gamma = 1 / (2 * 10.0**2)
    terms = [
        rbf_kernel(a, b, gamma=gamma).mean() for a, b in ((first, first), (second, second), (first, second))
    ]
    # Means of numbers near 1, times 1000: float64 keeps 1e-13 of what is left.
    assert cmmd(FIRST, MORE) == pytest.approx(1000 * (terms[0] + terms[1] - 2 * terms[2]), abs=1e-11)


def test_cmmd_sees_directions_only() -> None:
    assert cmmd(FIRST * 7, MORE) == pytest.approx(cmmd(FIRST, MORE), rel=1e-9)
    with pytest.raises(ValueError, match="no direction"):
        cmmd(np.zeros((4, 12)), MORE)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 30), m=st.integers(2, 30), block=st.integers(1, 40))
def test_both_are_symmetric_and_blind_to_order_and_to_the_block(
    seed: int, n: int, m: int, block: int
) -> None:
    draws = np.random.default_rng(seed)
    first, second = draws.normal(size=(n, 5)), draws.normal(size=(m, 5)) + 0.5
    for metric in (kid, cmmd):
        found = metric(first, second)
        assert metric(second, first) == pytest.approx(found, rel=1e-9, abs=1e-10)
        again = metric(draws.permutation(first), draws.permutation(second), block=block)
        assert again == pytest.approx(found, rel=1e-9, abs=1e-10)


def _jackknifed(statistic: Callable[[np.ndarray], float], rows: np.ndarray) -> np.ndarray:
    """Pseudo-values by their definition: leave each row out in turn."""
    n, whole = len(rows), statistic(rows)
    return np.array([n * whole - (n - 1) * statistic(np.delete(rows, i, axis=0)) for i in range(n)])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(4, 25), m=st.integers(2, 30), block=st.integers(1, 40))
def test_each_pictures_part_in_kid_is_the_jackknifes_pseudo_value(
    seed: int, n: int, m: int, block: int
) -> None:
    draws = np.random.default_rng(seed)
    first, second = draws.normal(size=(n, 5)), draws.normal(size=(m, 5)) + 0.5
    found = kid_values(first, second, block=block)
    np.testing.assert_allclose(found, _jackknifed(lambda rows: kid(rows, second), first), atol=1e-9)


def test_each_pictures_part_in_cmmd_is_the_jackknifes_but_for_the_own_pairs() -> None:
    found = cmmd_values(FIRST, MORE)
    expected = _jackknifed(lambda rows: cmmd(rows, MORE), FIRST)
    assert found.mean() == pytest.approx(cmmd(FIRST, MORE), rel=1e-12)
    # The jackknife takes the own pairs' 1/N off the mean, and its spread differs by the order of 1/N².
    np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), rtol=0, atol=0.01)
    assert found.std() == pytest.approx(expected.std(), rel=2 / len(FIRST) ** 2 * 10)


def test_two_pictures_have_parts_too() -> None:
    assert kid_values(FIRST[:2], SECOND).mean() == pytest.approx(_by_scikit_learn(FIRST[:2], SECOND))


def test_identical_sets_are_at_distance_zero_and_kid_lies_below() -> None:
    assert cmmd(FIRST, FIRST) == pytest.approx(0, abs=1e-12)
    # Unbiased, KID of a set with itself leaves out each row's kernel with itself on one side only.
    assert kid(FIRST, FIRST) < 0


@pytest.mark.parametrize("metric", [kid, cmmd])
def test_what_has_no_distance_is_refused(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match="N >= 2"):
        metric(FIRST[:1], SECOND)
    with pytest.raises(ValueError, match="one width"):
        metric(FIRST, SECOND[:, :3])
    with pytest.raises(ValueError, match="finite"):
        metric(np.full((4, 12), np.inf), SECOND)
