"""FID at N = infinity and its paired differences: against the jackknife by hand, and against known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from eval.scoring.benchmarks import simulated
from eval.scoring.frechet import frechet_distance
from eval.scoring.frechet_interval import (
    difference_of,
    fid_infinity,
    fid_sample,
    fid_target,
    infinity_of,
    paired_fid_difference,
)
from eval.scoring.moments import Moments, moments

WIDTH = 8
REFERENCE = Moments(1000, np.zeros(WIDTH), np.diag(np.linspace(0.5, 2, WIDTH)))
TARGET = fid_target(REFERENCE)


def _rows(n: int, scale: float = 1.2, shift: float = 0.2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2, 1, (n, WIDTH)) * scale + shift


def test_the_value_is_the_fid_of_these_pictures() -> None:
    rows = _rows(200)
    assert fid_sample(rows, TARGET, seed=0).value == pytest.approx(
        frechet_distance(moments(rows), REFERENCE), rel=1e-9
    )


def test_influences_are_those_of_the_jackknife_by_hand() -> None:
    rows = _rows(400)
    n = len(rows)
    left_out = np.array([frechet_distance(moments(np.delete(rows, i, axis=0)), REFERENCE) for i in range(n)])
    by_hand = (n - 1) * (left_out.mean() - left_out)
    found = fid_sample(rows, TARGET, seed=0).scores
    # An influence is a derivative; deleting a row is a step of 1 / N, so the two differ by a term of that order.
    assert np.corrcoef(found, by_hand)[0, 1] > 0.999
    assert found.std() == pytest.approx(by_hand.std(), rel=0.05)


def test_the_bias_of_few_pictures_is_taken_off() -> None:
    truth = frechet_distance(moments(_rows(400_000, seed=99)), REFERENCE)
    plain, extrapolated = [], []
    for seed in range(300):
        sample = fid_sample(_rows(60, seed=seed), TARGET, seed=seed)
        plain.append(sample.value)
        extrapolated.append(sample.infinity)
    error = np.std(extrapolated) / np.sqrt(300)
    assert np.mean(plain) - truth > 4 * error, "FID of 60 pictures is too high"
    assert abs(np.mean(extrapolated) - truth) < 4 * error


def test_equal_cells_differ_by_nothing_and_the_sign_turns() -> None:
    first, second = _rows(200), _rows(200, 1.4)
    same = paired_fid_difference(first, first, REFERENCE, seed=0)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    there = paired_fid_difference(first, second, REFERENCE, seed=0)
    back = paired_fid_difference(second, first, REFERENCE, seed=0)
    assert there.value == pytest.approx(-back.value)
    assert there.low == pytest.approx(-back.high)  # type: ignore[operator]


def test_pairing_narrows_the_interval_of_cells_that_share_their_noise() -> None:
    base = np.random.default_rng(0).gamma(2, 1, (300, WIDTH))
    own = np.random.default_rng(1).normal(0, 0.1, (2, 300, WIDTH))
    pair = base * 1.2 + own[0], base * 1.25 + own[1]
    paired = paired_fid_difference(*pair, REFERENCE, seed=0)
    apart = paired_fid_difference(pair[0], _rows(300, 1.25, 0.0, seed=7), REFERENCE, seed=0)
    assert (paired.high - paired.low) < 0.5 * (apart.high - apart.low)  # type: ignore[operator]


def test_the_order_of_rows_moves_the_value_no_further_than_the_halves_do() -> None:
    rows = _rows(500)
    found = fid_sample(rows, TARGET, seed=0)
    moved = fid_sample(np.random.default_rng(1).permutation(rows), TARGET, seed=0)
    assert moved.value == pytest.approx(found.value, rel=1e-9)
    np.testing.assert_allclose(np.sort(moved.scores), np.sort(found.scores), rtol=1e-6, atol=1e-8)
    assert fid_sample(rows, TARGET, seed=0).infinity == found.infinity


def test_rows_of_one_prompt_count_as_one() -> None:
    prompts = np.repeat(np.arange(100), 4)
    base = np.repeat(np.random.default_rng(0).gamma(2, 1, (100, WIDTH)), 4, axis=0)
    rows = base + np.random.default_rng(1).normal(0, 0.05, base.shape)
    alone = fid_infinity(rows, REFERENCE, seed=0)
    grouped = fid_infinity(rows, REFERENCE, seed=0, clusters=prompts.tolist())
    assert (grouped.high - grouped.low) > 1.7 * (alone.high - alone.low)  # type: ignore[operator]


def test_below_full_rank_there_is_a_value_and_no_interval() -> None:
    first, second = _rows(WIDTH), _rows(WIDTH, 1.5)
    found = paired_fid_difference(first, second, REFERENCE, seed=0)
    assert np.isfinite(found.value)
    assert (found.low, found.high) == (None, None)
    assert infinity_of(fid_sample(first, TARGET, seed=0)).low is None


def test_cells_of_other_rows_or_another_seed_do_not_pair() -> None:
    first = fid_sample(_rows(100), TARGET, seed=0)
    for other in (fid_sample(_rows(101), TARGET, seed=0), fid_sample(_rows(100), TARGET, seed=1)):
        with pytest.raises(ValueError, match="same rows"):
            difference_of(first, other)
    with pytest.raises(ValueError, match="as the reference's"):
        fid_sample(_rows(50)[:, :3], TARGET, seed=0)


def test_no_global_state_moves() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    fid_infinity(_rows(50), REFERENCE, seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_intervals_of_differences_cover_the_known_truth() -> None:
    """A small draw of the benchmark in `coverage.py`, which has the figures."""
    world = simulated.world()
    target = fid_target(world.reference.moments)
    truth = simulated.true_fid(world.near, world.reference) - simulated.true_fid(world.far, world.reference)
    held, sweeps = 0, 200
    for seed in range(sweeps):
        draws = np.random.default_rng([17, seed])
        near, far = simulated.features(draws, 256, (world.near, world.far), world.centres)
        pair = (fid_sample(each, target, seed=seed) for each in (near, far))
        found = difference_of(*pair)
        held += found.low <= truth <= found.high  # type: ignore[operator]
    # 99.9 % of binomial(200, 0.95).
    low, high = stats.binom.ppf((0.0005, 0.9995), sweeps, 0.95)
    assert low <= held <= high
