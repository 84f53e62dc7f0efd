"""Many comparisons at once: Holm's adjustment, and max-T intervals of all differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from eval.scoring.multiple import max_t

rng = np.random.default_rng(0)
PROMPTS = rng.normal(30, 3, 120)


def _cells(*shifts: float, noise: float = 0.5, seed: int = 1) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return np.stack([PROMPTS + shift + draws.normal(0, noise, len(PROMPTS)) for shift in shifts])


def test_two_cells_have_one_comparison_and_so_students_interval() -> None:
    first, second = _cells(0.3, 0.0)
    found = max_t(np.stack([first, second]), seed=0).difference(0, 1)
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    # The critical value is a quantile of 4,000 seeded draws, and not below the t of one comparison.
    assert found.low is not None
    assert found.high is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.05)
    assert found.high - found.low >= (expected.high - expected.low) * (1 - 1e-12)


def test_intervals_lie_between_one_comparison_and_bonferroni() -> None:
    values = _cells(*np.linspace(0, 1, 8))
    found = max_t(values, seed=0)
    df, pairs = values.shape[1] - 1, 28
    assert found.critical is not None
    assert stats.t.ppf(0.975, df) < found.critical < stats.t.ppf(1 - 0.025 / pairs, df)


def test_a_difference_is_the_mean_of_paired_differences_and_turns_its_sign() -> None:
    values = _cells(0.0, 1.0, -1.0)
    found = max_t(values, seed=0)
    there, back = found.difference(1, 2), found.difference(2, 1)
    assert there.value == pytest.approx(float((values[1] - values[2]).mean()))
    assert (there.value, there.low, there.high) == (-back.value, -back.high, -back.low)  # type: ignore[operator]


def test_identical_cells_differ_by_nothing_for_certain() -> None:
    values = np.stack([PROMPTS, PROMPTS, PROMPTS + 1])
    found = max_t(values, seed=0)
    assert (found.difference(0, 1).low, found.difference(0, 1).high) == (0.0, 0.0)
    assert found.difference(2, 0).low == pytest.approx(1.0)


def test_one_cell_alone_works() -> None:
    found = max_t(PROMPTS[None], seed=0)
    assert found.difference(0, 0).value == 0


def test_pictures_of_one_prompt_are_one_unit() -> None:
    prompts = np.repeat(np.arange(30), 4)
    draws = np.random.default_rng(3)
    shared = np.repeat(draws.normal(0, 2, (2, 30)), 4, axis=1)
    values = shared + draws.normal(0, 0.1, (2, 120))
    alone = max_t(values, seed=0).difference(0, 1)
    grouped = max_t(values, clusters=prompts.tolist(), seed=0).difference(0, 1)
    assert alone.low is not None
    assert alone.high is not None
    assert grouped.low is not None
    assert grouped.high is not None
    assert (grouped.high - grouped.low) > 1.7 * (alone.high - alone.low)


def test_the_seed_repeats_it_and_no_global_state_moves() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    values = _cells(0.0, 0.1, 0.2)
    assert max_t(values, seed=1).critical == max_t(values, seed=1).critical
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_all_intervals_hold_together_as_often_as_they_say() -> None:
    truth = np.zeros(6)
    draws, held, sweeps = np.random.default_rng(5), 0, 300
    for _ in range(sweeps):
        values = draws.normal(0, 1, (1, 60)) + draws.exponential(1, (6, 60))
        found = max_t(values, seed=0, draws=500)
        pairs = [(i, j) for i in range(6) for j in range(i)]
        intervals = [(found.difference(i, j), truth[i] - truth[j]) for i, j in pairs]
        held += all(each.low <= t <= each.high for each, t in intervals)  # type: ignore[operator]
    # 99.9 % of binomial(300, 0.95).
    low, high = stats.binom.ppf((0.0005, 0.9995), sweeps, 0.95)
    assert low <= held <= high


def test_what_has_no_intervals_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        max_t(np.array([[1.0, np.nan]]), seed=0)
    with pytest.raises(ValueError, match="finite"):
        max_t(PROMPTS, seed=0)
