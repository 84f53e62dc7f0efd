"""Saturation, contrast and clipping of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eval.scoring.guards import clipped, contrast, saturation


def _pictures(seed: int, n: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, 9, 11), generator=generator).to(torch.uint8)


def _flat(*level: int) -> torch.Tensor:
    return torch.tensor(level, dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 8, 8)


def test_saturation_is_pillows_to_its_eight_bits() -> None:
    for picture in _pictures(0, 3):
        image = Image.fromarray(picture.permute(1, 2, 0).numpy()).convert("HSV")
        expected = np.asarray(image)[..., 1].astype(float).mean() / 255
        # Pillow cuts each pixel's value to a whole level: at most one level too low.
        assert expected <= saturation(picture[None])[0] <= expected + 1 / 255


def test_known_pictures_have_known_values() -> None:
    assert saturation(_flat(255, 0, 0))[0] == 1
    assert saturation(_flat(90, 90, 90))[0] == 0
    assert saturation(_flat(0, 0, 0))[0] == 0
    half = _flat(0, 0, 0).clone()
    half[..., :4] = 255
    assert contrast(half)[0] == pytest.approx(0.5)
    assert contrast(_flat(10, 200, 30))[0] == pytest.approx(0, abs=1e-12)
    assert clipped(half)[0] == 1
    assert clipped(_flat(255, 1, 254))[0] == pytest.approx(1 / 3)


def test_contrast_is_pillows_luma_to_its_rounding() -> None:
    picture = _pictures(1, 1)
    luma = np.asarray(Image.fromarray(picture[0].permute(1, 2, 0).numpy()).convert("L")).astype(float)
    # Pillow rounds luma to whole levels, which moves no value by more than one.
    assert contrast(picture)[0] == pytest.approx(luma.std() / 255, abs=1 / 255)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_each_picture_is_looked_at_alone_and_stays_within_its_bounds(seed: int) -> None:
    pictures = _pictures(seed, 3)
    for guard, most in ((saturation, 1.0), (contrast, 0.5), (clipped, 1.0)):
        found = guard(pictures)
        assert found.shape == (3,)
        assert (found >= 0).all()
        assert (found <= most).all()
        np.testing.assert_allclose(found[1:2], guard(pictures[1:2]), rtol=1e-13)


@pytest.mark.parametrize("guard", [saturation, contrast, clipped])
@pytest.mark.parametrize(
    "bad", [torch.zeros(1, 8, 8, 3, dtype=torch.uint8), torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8)]
)
def test_floats_and_channels_in_the_wrong_place_are_refused(guard: object, bad: torch.Tensor) -> None:
    assert callable(guard)
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\) uint8"):
        guard(bad)
