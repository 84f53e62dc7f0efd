"""Mean and covariance, at once, in batches and from shards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.moments import Moments, RunningMoments, moments


def _close(first: Moments, second: Moments) -> None:
    assert first.n == second.n
    scale = float(np.abs(second.covariance).max()) or 1.0
    np.testing.assert_allclose(first.mean, second.mean, rtol=1e-10, atol=1e-10 * np.abs(second.mean).max())
    np.testing.assert_allclose(first.covariance, second.covariance, rtol=1e-10, atol=1e-10 * scale)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 60),
    width=st.integers(1, 6),
    offset=st.sampled_from([0.0, 1e3, -1e5]),
    data=st.data(),
)
def test_shards_and_batches_merge_to_one_pass(
    seed: int, n: int, width: int, offset: float, data: st.DataObject
) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, width)) + offset
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
    parts = np.split(rows, cuts)
    whole, merged = RunningMoments(width), RunningMoments(width)
    for part in parts:
        whole.add(part)
        shard = RunningMoments(width)
        shard.add(part)
        merged.merge(shard)
    once = moments(rows)
    # An offset of 1e5 leaves float64 eleven digits of a unit spread.
    if abs(offset) < 1e4:
        _close(whole.finish(), once)
        _close(merged.finish(), once)
    expected = np.atleast_2d(np.cov(rows, rowvar=False))
    np.testing.assert_allclose(once.covariance, expected, rtol=1e-7, atol=1e-9 * max(1.0, abs(offset)))


def test_they_equal_torch_fidelitys() -> None:
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics

    rows = np.random.default_rng(0).normal(size=(50, 7))
    expected = fid_features_to_statistics(torch.from_numpy(rows))
    found = moments(rows)
    np.testing.assert_allclose(found.mean, expected["mu"], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.covariance, expected["sigma"], rtol=1e-12, atol=1e-14)


def test_float32_features_are_summed_in_float64() -> None:
    rows = (np.random.default_rng(0).normal(size=(5000, 3)) + 100).astype(np.float32)
    np.testing.assert_allclose(
        moments(rows).covariance, np.cov(rows.astype(np.float64), rowvar=False), rtol=1e-10, atol=1e-12
    )


def test_what_has_no_moments_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        moments(np.full((4, 2), np.nan))
    with pytest.raises(ValueError, match="2 rows at least, got 1"):
        moments(np.ones((1, 2)))
    with pytest.raises(ValueError, match="one width"):
        RunningMoments(2).merge(RunningMoments(3))
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        RunningMoments(2).add(np.ones((3, 3)))
