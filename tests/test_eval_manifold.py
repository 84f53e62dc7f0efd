"""Precision, recall, density and coverage against their authors' package and torch-fidelity."""

from __future__ import annotations

import numpy as np
import prdc as published
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.manifold import PRDC, prdc

rng = np.random.default_rng(0)
MADE = rng.normal(size=(120, 6)) * 0.8
REAL = rng.normal(size=(200, 6)) + 0.3


def four(found: PRDC) -> tuple[float, ...]:
    return found.precision, found.recall, found.density, found.coverage


@pytest.mark.parametrize("nearest_k", [1, 3, 5, 20])
def test_all_four_equal_the_authors_own(nearest_k: int, capsys: pytest.CaptureFixture[str]) -> None:
    expected = published.compute_prdc(real_features=REAL, fake_features=MADE, nearest_k=nearest_k)
    found = prdc(MADE, REAL, nearest_k=nearest_k)
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, abs=1e-12)


def test_precision_and_recall_equal_torch_fidelitys() -> None:
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    pair = [torch.from_numpy(each) for each in (MADE, REAL)]
    expected = prc_features_to_metric(
        *pair, prc_neighborhood=5, prc_batch_size=50, save_cpu_ram=False, verbose=False
    )
    found = prdc(MADE, REAL, nearest_k=5)
    assert (found.precision, found.recall) == pytest.approx(
        (expected[KEY_METRIC_PRECISION], expected[KEY_METRIC_RECALL]), abs=1e-6
    )


def test_identical_sets_have_all_of_each_other() -> None:
    found = prdc(REAL, REAL)
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)


def test_sets_that_lie_apart_have_nothing() -> None:
    assert four(prdc(MADE, REAL + 100)) == (0.0, 0.0, 0.0, 0.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), block=st.integers(1, 50))
def test_neither_order_nor_block_changes_anything(seed: int, block: int) -> None:
    draws = np.random.default_rng(seed)
    made, real = draws.normal(size=(20, 3)), draws.normal(size=(30, 3))
    found = prdc(made, real)
    assert four(prdc(draws.permutation(made), draws.permutation(real), block=block)) == pytest.approx(
        four(found), abs=1e-12
    )
    assert prdc(real, made).precision == pytest.approx(found.recall)


def test_too_few_for_k_neighbours_are_refused() -> None:
    for pair in ((MADE[:5], REAL), (MADE, REAL[:5])):
        with pytest.raises(ValueError, match="N > k = 5"):
            prdc(*pair)
    with pytest.raises(ValueError, match="one width"):
        prdc(MADE, REAL[:, :2])
