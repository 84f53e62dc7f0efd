"""Inception score against torch-fidelity and torchmetrics on the same logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.inception_score import inception_score

LOGITS = np.random.default_rng(0).normal(size=(203, 30)) * 3


def test_it_equals_torch_fidelitys() -> None:
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    expected = isc_features_to_metric(torch.from_numpy(LOGITS), splits=10, shuffle=True, rng_seed=7)
    found = inception_score(LOGITS, splits=10, seed=7)
    assert found.value == pytest.approx(expected[KEY_METRIC_ISC_MEAN], rel=1e-10)
    assert found.spread == pytest.approx(expected[KEY_METRIC_ISC_STD], rel=1e-8)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save all:UserWarning")
@pytest.mark.filterwarnings("ignore:std:UserWarning")  # of its one split
def test_over_one_split_it_equals_torchmetrics() -> None:
    from torchmetrics.image.inception import InceptionScore

    class Logits(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels

    with torch.random.fork_rng():
        torch.manual_seed(3)
        metric = InceptionScore(feature=Logits(), splits=1)
        metric.update(torch.from_numpy(LOGITS))
        expected, _ = metric.compute()
    # One split has all pictures, so that no shuffle matters.
    assert inception_score(LOGITS, splits=1, seed=0).value == pytest.approx(float(expected), rel=1e-6)


def test_one_sure_class_for_all_gives_one_and_a_sure_class_each_their_number() -> None:
    same, each = np.zeros((50, 5)), np.zeros((50, 5))
    same[:, 2] = each[np.arange(50), np.arange(50) % 5] = 200
    assert inception_score(same, splits=1, seed=0).value == pytest.approx(1)
    assert inception_score(each, splits=1, seed=0).value == pytest.approx(5)


def test_a_class_that_no_picture_can_be_of_changes_nothing() -> None:
    logits = np.eye(4)[np.arange(39) % 3] * 2000
    logits[:, 3] = -3000
    assert inception_score(logits, splits=1, seed=0).value == pytest.approx(3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_one_split_is_blind_to_order_and_stays_within_its_bounds(seed: int) -> None:
    draws = np.random.default_rng(seed)
    logits = draws.normal(size=(30, 7)) * 4
    found = inception_score(logits, splits=1, seed=0).value
    assert 1 - 1e-12 <= found <= 7
    assert inception_score(draws.permutation(logits), splits=1, seed=1).value == pytest.approx(found)


def test_a_seed_repeats_the_splits_and_no_global_state_moves() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert inception_score(LOGITS, seed=1) == inception_score(LOGITS, seed=1)
    assert inception_score(LOGITS, seed=1) != inception_score(LOGITS, seed=2)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_fewer_pictures_than_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="N >= 10"):
        inception_score(LOGITS[:9], seed=0)
