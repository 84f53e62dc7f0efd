"""Generations: what is saved where, and which outputs are no pictures at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sdkit import Generation, InvalidPixels, InvalidRequest, Session, Timings
from sdkit._pixels import quantise
from sdkit._request import make_request


def generation(count: int) -> Generation:
    request = make_request(
        "../../a/prompt.png", num_images=count, seed=0, sampler="ddim", steps=2, guidance_scale=1.0
    )
    return Generation(
        images=[Image.new("RGB", (8, 16), (10 * i, 0, 200)) for i in range(count)],
        request=request,
        prompts=("../../a/prompt.png",) * count,
        cut_at=(None,) * count,
        model_evals=2,
        model="tiny",
        detected="",
        device="cpu",
        batch_size=count,
        warnings=(),
        timings=Timings(0.0, 0.1, 0.2, 0.3),
    )


def test_one_image_is_saved_under_the_name_that_was_given(tmp_path: Path) -> None:
    made = generation(1)
    assert made.save(tmp_path / "out.png") == (tmp_path / "out.png",)
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(made.images[0]))


def test_several_images_are_numbered(tmp_path: Path) -> None:
    names = [path.name for path in generation(3).save(str(tmp_path / "out.png"))]
    assert (
        names
        == ["out-0000.png", "out-0001.png", "out-0002.png"]
        == sorted(p.name for p in tmp_path.iterdir())
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/out.png", "folder .*nowhere must exist"),
        ("out.xyz", r"path must end in a picture format such as .png, got 'out.xyz'"),
        ("out", "path must end in a picture format"),
        (".", "path must name a file, got the folder"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        generation(1).save(tmp_path / name)


def test_a_grid_holds_every_image(tmp_path: Path) -> None:
    sheet = generation(3).grid()
    assert sheet.size == (2 * 8 + 2, 2 * 16 + 2)
    assert [sheet.getpixel(at) for at in ((0, 0), (10, 0), (0, 18))] == [
        (0, 0, 200),
        (10, 0, 200),
        (20, 0, 200),
    ]
    assert generation(3).grid(columns=9).size == (3 * 8 + 2 * 2, 16)


def test_a_notebook_is_shown_a_png() -> None:
    assert Image.open(io.BytesIO(generation(2)._repr_png_())).format == "PNG"


def test_pixels_are_rounded_to_the_nearest_level() -> None:
    values = torch.arange(256, dtype=torch.float32) / 255
    pixels = (values * 2 - 1).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(
        quantise(pixels + 0.003, made_by="")[0, 0].flatten(), torch.arange(256).to(torch.uint8)
    )
    assert torch.equal(
        quantise(pixels - 0.003, made_by="")[0, 0].flatten(), torch.arange(256).to(torch.uint8)
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.nan, "pixels must be finite, got 1 of 2 images with NaN or infinity"),
        (-1.5, "pixels must show something, got 1 of 2 images wholly black"),
    ],
)
def test_nan_and_black_are_errors_and_never_pictures(
    tiny_sd: Path, monkeypatch: pytest.MonkeyPatch, value: float, message: str
) -> None:
    session = Session(tiny_sd, device="cpu")
    session.load()
    vae = session._loaded()._loaded.pipeline.vae
    decode = vae.decode

    def spoiled(*arguments: Any, **options: Any) -> tuple[torch.Tensor]:
        pixels = decode(*arguments, **options)[0]
        pixels[1] = value
        return (pixels,)

    monkeypatch.setattr(vae, "decode", spoiled)
    with pytest.raises(InvalidPixels, match=message):
        session.generate(["a star", "a ring"], steps=2, seed=0)


def test_a_tensor_holds_the_levels_that_are_saved() -> None:
    made = generation(3)
    levels = made.to_tensor()
    assert (levels.dtype, tuple(levels.shape)) == (torch.uint8, (3, 3, 16, 8))
    assert levels[2, :, 0, 0].tolist() == [20, 0, 200]


def test_a_filmstrip_needs_the_stages_of_the_run(tiny_sd: Path) -> None:
    with pytest.raises(
        InvalidRequest, match="^filmstrip needs the stages of the run; generate with trajectory=5"
    ):
        generation(1).filmstrip()
    made = Session(tiny_sd, device="cpu").generate(["a star", "a ring"], steps=4, trajectory=3, seed=0)
    assert [len(way) for way in made.trajectory] == [3, 3]
    assert made.filmstrip().size == (3 * 64 + 2 * 2, 2 * 64 + 2)
    assert made.filmstrip([1]).size == (3 * 64 + 2 * 2, 64)
    assert Image.open(io.BytesIO(made._repr_png_())).size == made.filmstrip().size
