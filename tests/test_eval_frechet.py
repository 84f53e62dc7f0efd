"""Fréchet distance against four other implementations on the same features, and against fifty digits."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.frechet import frechet_distance, frechet_distance_of_features, root
from eval.scoring.moments import Moments, moments

WIDTH = 32
Pair = tuple[np.ndarray, np.ndarray]

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::scipy.linalg.LinAlgWarning"),
]


def _pair(first: int, second: int) -> Pair:
    rng = np.random.default_rng(first)
    return rng.normal(size=(first, WIDTH)), rng.normal(size=(second, WIDTH)) * 1.3 + 0.4


def _repeated_columns() -> Pair:
    first, second = _pair(200, 150)
    first[:, WIDTH // 2 :], second[:, WIDTH // 2 :] = first[:, : WIDTH // 2], second[:, : WIDTH // 2]
    return first, second


def _constant_column() -> Pair:
    first, second = _pair(200, 150)
    first[:, 5] = second[:, 5] = 0
    return first, second


def _nearly_equal() -> Pair:
    first, _ = _pair(2000, 10)
    return first, first + 1e-3 * np.random.default_rng(1).normal(size=first.shape)


CASES: dict[str, Callable[[], Pair]] = {
    "more rows than dimensions": lambda: _pair(200, 150),
    "fewer rows than dimensions": lambda: _pair(20, 25),
    "fewer on one side": lambda: _pair(20, 200),
    "repeated columns": _repeated_columns,
    "a constant column": _constant_column,
    "nearly equal sets": _nearly_equal,
}
each_case = pytest.mark.parametrize("case", CASES)


def torch_fidelity_(first: Moments, second: Moments) -> float:
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    pair = [{"mu": each.mean, "sigma": each.covariance} for each in (first, second)]
    return float(fid_statistics_to_metric(*pair, verbose=False)["frechet_inception_distance"])


def torchmetrics_(first: Moments, second: Moments) -> float:
    import torch
    from torchmetrics.image.fid import _compute_fid

    parts = (first.mean, first.covariance, second.mean, second.covariance)
    return float(_compute_fid(*(torch.from_numpy(each) for each in parts)))


def pytorch_fid_(first: Moments, second: Moments) -> float:
    from pytorch_fid.fid_score import calculate_frechet_distance

    return float(calculate_frechet_distance(first.mean, first.covariance, second.mean, second.covariance))


def clean_fid_(first: Moments, second: Moments) -> float:
    from cleanfid.fid import frechet_distance as distance

    return float(distance(first.mean, first.covariance, second.mean, second.covariance))


OTHERS = (torch_fidelity_, torchmetrics_, pytorch_fid_, clean_fid_)


def _in_fifty_digits(first: np.ndarray, second: np.ndarray) -> float:
    """From the definition, in arithmetic that loses nothing here."""
    with mpmath.workdps(50):
        means, covariances = [], []
        for rows in (first, second):
            table = mpmath.matrix(rows.tolist())
            n, width = table.rows, table.cols
            mean = [sum(table[i, j] for i in range(n)) / n for j in range(width)]
            centred = mpmath.matrix([[table[i, j] - mean[j] for j in range(width)] for i in range(n)])
            means.append(mean)
            covariances.append(centred.T * centred / (n - 1))
        values, vectors = mpmath.eigsy(covariances[0])
        root = vectors * mpmath.diag([mpmath.sqrt(max(value, 0)) for value in values]) * vectors.T
        cross = mpmath.eigsy(root * covariances[1] * root, eigvals_only=True)
        shift = sum((a - b) ** 2 for a, b in zip(*means, strict=True))
        traces = sum(each[i, i] for each in covariances for i in range(each.rows))
        return float(shift + traces - 2 * sum(mpmath.sqrt(max(value, 0)) for value in cross))


@each_case
@pytest.mark.parametrize("other", OTHERS, ids=lambda other: other.__name__.strip("_"))
def test_it_agrees_with_other_implementations_to_a_millionth(case: str, other: Callable[..., float]) -> None:
    first, second = (moments(each) for each in CASES[case]())
    assert frechet_distance(first, second) == pytest.approx(other(first, second), rel=1e-6)


@pytest.mark.parametrize("case", ["fewer rows than dimensions", "repeated columns", "a constant column"])
def test_without_full_rank_it_is_nearer_to_the_exact_value_than_the_others(case: str) -> None:
    first, second = (
        each[:40, ::4] if case != "fewer rows than dimensions" else each for each in CASES[case]()
    )
    exact = _in_fifty_digits(first, second)
    pair = moments(first), moments(second)
    ours = abs(frechet_distance(*pair) - exact)
    # The sum of the traces, which the distance is a difference of, is known to 16 digits.
    traces = sum(float(np.trace(each.covariance)) for each in pair)
    assert ours <= 100 * np.finfo(float).eps * traces
    assert ours <= min(abs(other(*pair) - exact) for other in OTHERS) + 100 * np.finfo(float).eps * traces


def test_a_root_that_is_known_already_moves_no_digit() -> None:
    first, second = (moments(each) for each in _pair(200, 150))
    known = frechet_distance(first, second, root_of_second=root(second.covariance))
    assert known == frechet_distance(first, second)


@each_case
def test_features_and_moments_give_the_same(case: str) -> None:
    first, second = CASES[case]()
    by_moments = frechet_distance(moments(first), moments(second))
    assert frechet_distance_of_features(first, second) == pytest.approx(by_moments, rel=1e-8)


@pytest.mark.parametrize("n", [20, 200])
def test_a_set_with_itself_is_at_distance_zero(n: int) -> None:
    first, _ = _pair(n, 2)
    assert frechet_distance(moments(first), moments(first)) == pytest.approx(0, abs=1e-12 * WIDTH)
    assert frechet_distance_of_features(first, first) == pytest.approx(0, abs=1e-12 * WIDTH)


def test_a_shift_costs_its_square() -> None:
    first, _ = _pair(200, 2)
    shifted = [frechet_distance(moments(first), moments(first + shift)) for shift in (0.5, 1.0)]
    assert shifted == pytest.approx([WIDTH * 0.25, WIDTH * 1.0], rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 40), m=st.integers(3, 40), width=st.integers(1, 12))
def test_it_is_symmetric_and_blind_to_order_and_never_negative(seed: int, n: int, m: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(n, width)), rng.normal(size=(m, width)) * 2 + 1
    found = frechet_distance_of_features(first, second)
    assert found >= 0
    assert frechet_distance_of_features(second, first) == pytest.approx(found, rel=1e-9)
    again = frechet_distance_of_features(rng.permutation(first), rng.permutation(second))
    assert again == pytest.approx(found, rel=1e-9)
    assert frechet_distance(moments(second), moments(first)) == pytest.approx(found, rel=1e-6)


def test_what_has_no_distance_is_refused() -> None:
    first, second = _pair(20, 25)
    with pytest.raises(ValueError, match="one width"):
        frechet_distance(moments(first), moments(second[:, :5]))
    with pytest.raises(ValueError, match="one width"):
        frechet_distance_of_features(first, second[:, :5])
    with pytest.raises(ValueError, match="N >= 2"):
        frechet_distance_of_features(first[:1], second)
    with pytest.raises(ValueError, match="finite"):
        frechet_distance_of_features(np.full((4, 8), np.nan), second[:, :8])
