"""Means of several rows at once: their intervals hold together, and no further than they must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.joint import joint_means
from eval.scoring.multiple import max_t
from eval.scoring.uncertainty import mean_interval, paired_difference


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 6), count=st.integers(3, 30), seed=st.integers(0, 1000))
def test_joint_intervals_lie_between_one_and_all(rows: int, count: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 1, (rows, count))
    found = joint_means(values, seed=0, draws=200)
    for row in range(rows):
        alone = paired_difference(values[row], np.zeros(count))
        every = paired_difference(values[row], np.zeros(count), level=1 - 0.05 / rows)
        together = found.interval(row)
        assert None not in (alone.high, every.high, together.high)
        assert alone.high - 1e-9 <= together.high <= every.high + 1e-9  # type: ignore[operator]


def test_joint_intervals_of_one_row_against_nothing_are_max_t_of_a_pair() -> None:
    values = np.random.default_rng(5).normal(0.3, 1, 50)
    pair = max_t(np.stack([values, np.zeros(50)]), seed=0).difference(0, 1)
    assert joint_means(values[None], seed=0).interval(0).low == pytest.approx(pair.low)


def test_joint_intervals_hold_for_all_rows_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    held = 0
    for trial in range(300):
        common = rng.normal(0, 1, 40)
        values = 0.7 * common + rng.normal(0, 1, (12, 40))
        found = joint_means(values, seed=trial, draws=400)
        held += all(abs(found.means[row]) <= found.critical * found.errors[row] for row in range(12))
    assert 0.91 <= held / 300 <= 0.99


def test_rows_of_one_prompt_count_as_one() -> None:
    values = np.random.default_rng(6).normal(0, 1, 12)
    prompts = [place // 3 for place in range(12)]
    found = joint_means(values[None], clusters=prompts, seed=0).interval(0)
    assert found.low == pytest.approx(mean_interval(values, clusters=prompts).low)


def test_rows_that_never_differ_have_an_interval_of_no_width_and_single_pictures_none() -> None:
    assert joint_means(np.zeros((3, 10)), seed=0).interval(1).high == 0
    assert joint_means(np.ones((2, 1)), seed=0).interval(0).low is None
    with pytest.raises(ValueError, match="finite"):
        joint_means(np.full((1, 3), np.nan), seed=0)
