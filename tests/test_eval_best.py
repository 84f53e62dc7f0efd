"""Comparisons with the best of several cells: bounds that hold whichever is the best."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit

from eval.scoring.best import bounds
from eval.scoring.multiple import max_t


def centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=1, keepdims=True)


def rows(cells: int, units: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (cells, units)) + rng.normal(0, 3, units)


def test_two_cells_have_the_one_sided_t_of_a_single_comparison() -> None:
    found = bounds(centred(rows(2, 40)), seed=0)
    np.testing.assert_allclose(found.critical, stdtrit(39, 0.95))
    assert found.critical_pairs == pytest.approx(stdtrit(39, 0.975))


def test_errors_are_those_of_max_t_and_pairs_need_more_than_the_best_alone() -> None:
    values = rows(12, 60)
    found, pairs = bounds(centred(values), seed=0), max_t(values, seed=0)
    np.testing.assert_allclose(found.errors, pairs.errors, atol=1e-12)
    assert pairs.critical is not None
    assert found.critical_pairs == pytest.approx(pairs.critical, rel=0.03)
    assert (found.critical < found.critical_pairs).all()
    assert (found.critical > stdtrit(59, 0.95)).all()


def test_the_critical_value_of_independent_cells_is_dunnetts() -> None:
    # Dunnett (1964), one-sided 5 %, nine treatments and a control, many degrees of freedom: 2.42.
    values = np.random.default_rng(3).normal(0, 1, (10, 4000))
    assert bounds(centred(values), seed=1).critical.mean() == pytest.approx(2.42, abs=0.05)


def test_upper_bounds_cover_the_true_gaps_of_all_cells_at_once() -> None:
    rng, truth = np.random.default_rng(5), np.array([0.0, -0.05, -0.1, -0.4, -1.0, 0.0])
    covered = 0
    for trial in range(300):
        values = truth[:, None] + rng.normal(0, 1, (6, 50)) + rng.normal(0, 2, 50)
        found = bounds(centred(values), seed=trial)
        covered += bool((found.uppers(values.mean(axis=1)) >= truth.max() - truth).all())
    assert covered >= 0.95 * 300 - 2.5 * np.sqrt(300 * 0.95 * 0.05)


def test_a_cell_alone_is_the_best() -> None:
    found = bounds(centred(rows(1, 10)), seed=0)
    assert found.uppers(np.array([3.0])).tolist() == [0.0]


def test_cells_that_never_differ_lie_at_their_own_gap() -> None:
    values = np.tile(np.random.default_rng(0).normal(size=20), (3, 1)) + np.array([[0.0], [-1.0], [-2.0]])
    found = bounds(centred(values), seed=0)
    np.testing.assert_allclose(found.uppers(values.mean(axis=1)), [0, 1, 2], atol=1e-9)
    np.testing.assert_allclose(found.lowers(values.mean(axis=1)), [0, 1, 2], atol=1e-9)


def test_fewer_cells_keep_what_held_for_all() -> None:
    values = rows(8, 30)
    found = bounds(centred(values), seed=0)
    some = np.array([1, 4, 6])
    part = found.among(some)
    np.testing.assert_array_equal(part.errors, found.errors[np.ix_(some, some)])
    assert (part.uppers(values.mean(axis=1)[some]) <= found.uppers(values.mean(axis=1))[some] + 1e-12).all()


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros((2, 1)), np.array([[0.0, np.nan]]), np.zeros(4)])
def test_what_cannot_be_compared_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="scores must be finite"):
        bounds(bad, seed=0)
