"""Distance to the converged picture, in latents and in pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.convergence import latent_rmse, ssim


def _pictures(seed: int, n: int = 2, side: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, side, side), generator=generator).to(torch.uint8)


def _ssim_by_definition(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, around every pixel of the picture with its borders reflected."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    border = ((0, 0), (5, 5), (5, 5))
    wide = [np.pad(each.astype(float), border, mode="reflect") for each in (first, second)]
    for x, y in zip(*wide, strict=True):
        for top in range(x.shape[0] - 10):
            for left in range(x.shape[1] - 10):
                a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                both = (window * (a - mean_a) * (b - mean_b)).sum()
                top_part = (2 * mean_a * mean_b + c1) * (2 * both + c2)
                values.append(top_part / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return float(np.mean(values))


def test_rmse_is_the_root_of_the_mean_square() -> None:
    latents = np.zeros((2, 4, 3, 3), np.float32)
    latents[1] = 2
    assert latent_rmse(latents, np.zeros_like(latents)).tolist() == [0.0, 2.0]


def test_ssim_follows_the_published_formula() -> None:
    first = _pictures(0)
    second = (first.float() * 0.8 + _pictures(1).float() * 0.2).to(torch.uint8)
    found = ssim(first, second)
    expected = [_ssim_by_definition(a.numpy(), b.numpy()) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-6)  # variances as E[x²] - E[x]²: rounding only


@pytest.mark.parametrize(("height", "width"), [(11, 37), (64, 64)])
@pytest.mark.parametrize("kind", ["far", "near", "flat"])
def test_ssim_agrees_with_torchmetrics(kind: str, height: int, width: int) -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, other = (_pictures(seed, 3, 64)[..., :height, :width] for seed in (0, 1))
    if kind == "flat":
        first, other = torch.full_like(first, 250), torch.full_like(first, 249)
    second = first // 8 * 8 if kind == "near" else other
    expected = structural_similarity_index_measure(
        first.double(), second.double(), data_range=255.0, reduction="none"
    )
    np.testing.assert_allclose(ssim(first, second), expected.numpy(), rtol=1e-10)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 3))
def test_identical_ones_are_at_zero_and_at_one(seed: int, n: int) -> None:
    latents = np.random.default_rng(seed).normal(size=(n, 4, 5, 5))
    np.testing.assert_array_equal(latent_rmse(latents, latents), 0.0)
    pictures = _pictures(seed, n)
    np.testing.assert_allclose(ssim(pictures, pictures), 1.0, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_both_are_symmetric_and_look_at_each_picture_alone(seed: int) -> None:
    first, second = _pictures(seed, 3), _pictures(seed + 1, 3)
    np.testing.assert_allclose(ssim(first, second), ssim(second, first), atol=1e-9)
    np.testing.assert_allclose(ssim(first, second)[1:2], ssim(first[1:2], second[1:2]), atol=1e-9)
    a, b = first.double().numpy(), second.double().numpy()
    np.testing.assert_array_equal(latent_rmse(a, b), latent_rmse(b, a))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        latent_rmse(np.zeros((1, 4, 2, 2)), np.zeros((1, 4, 2, 3)))
    with pytest.raises(ValueError, match="finite"):
        latent_rmse(np.full((1, 4, 2, 2), np.nan), np.zeros((1, 4, 2, 2)))
    with pytest.raises(ValueError, match="one shape"):
        ssim(_pictures(0, 1), _pictures(0, 2))
    with pytest.raises(ValueError, match="11 px"):
        ssim(_pictures(0, 1, 8), _pictures(0, 1, 8))
    with pytest.raises(ValueError, match="uint8"):
        ssim(_pictures(0).float(), _pictures(1).float())


def test_the_layout_in_memory_moves_no_digit() -> None:
    draws = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (3, 3, 64, 64), generator=draws).to(torch.uint8)
    converged = (
        (pictures.int() + torch.randint(0, 9, pictures.shape, generator=draws)).clamp(0, 255).to(torch.uint8)
    )
    last, other = (
        each.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) for each in (pictures, converged)
    )
    assert last.stride() != pictures.stride()
    np.testing.assert_array_equal(ssim(last, other), ssim(pictures, converged))
    latents = np.random.default_rng(0).normal(size=(3, 4, 16, 16)).astype(np.float32)
    turned = np.asfortranarray(latents)
    np.testing.assert_array_equal(
        latent_rmse(turned, np.asfortranarray(latents * 1.1)), latent_rmse(latents, latents * 1.1)
    )
