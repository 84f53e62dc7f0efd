"""Intervals of means, paired differences and shares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from eval.scoring.uncertainty import mean_interval, paired_difference, wilson


def test_the_interval_of_a_mean_is_student_t() -> None:
    values = np.random.default_rng(0).normal(30, 2, 50)
    found = mean_interval(values.tolist())
    expected = stats.t.interval(0.95, 49, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)


def test_the_interval_covers_the_true_mean_in_about_95_of_100_cases() -> None:
    rng = np.random.default_rng(1)
    draws = [mean_interval(rng.normal(5, 1, 20).tolist()) for _ in range(1000)]
    covered = sum(
        each.low <= 5 <= each.high for each in draws if each.low is not None and each.high is not None
    )
    assert 930 <= covered <= 970


def test_one_value_has_a_mean_and_no_interval() -> None:
    found = mean_interval([3.0])
    assert (found.value, found.low, found.high) == (3.0, None, None)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_nothing_and_nan_have_no_mean(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)


def test_pairing_tells_apart_what_the_single_intervals_cannot() -> None:
    base = np.random.default_rng(2).normal(30, 5, 64)
    better = base + np.random.default_rng(3).normal(0.5, 0.1, 64)
    single, other = mean_interval(base.tolist()), mean_interval(better.tolist())
    assert single.high is not None
    assert other.low is not None
    assert other.low < single.high
    assert paired_difference(better.tolist(), base.tolist()).excludes_zero


def test_a_paired_difference_needs_pairs() -> None:
    with pytest.raises(ValueError, match="equal lengths, got 2 and 1"):
        paired_difference([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (7, 10), (10, 10), (60, 128)])
def test_wilson_agrees_with_scipy(successes: int, n: int) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    found = wilson(successes, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 4), (5, 4)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


def test_clusters_of_one_size_are_students_interval_over_their_means() -> None:
    values = np.random.default_rng(4).normal(30, 2, (25, 4))
    found = mean_interval(values.ravel().tolist(), clusters=np.repeat(np.arange(25), 4).tolist())
    means = values.mean(axis=1)
    expected = stats.t.interval(0.95, 24, means.mean(), stats.sem(means))
    assert (found.low, found.high) == pytest.approx(expected)


def test_a_paired_difference_is_scipys() -> None:
    first, second = np.random.default_rng(5).normal(0, 1, (2, 40))
    found = paired_difference(first.tolist(), second.tolist())
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
