"""Picture files of every kind: the pixels that they mean, or an error that names the file and why."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from eval.scoring.pictures import UnreadablePicture, centre_square, picture_files, read_picture
from sdkit import InvalidRequest

Array = np.ndarray[Any, np.dtype[Any]]
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def _deep_png(path: Path, samples: Array, colour_type: int) -> Path:
    """A 16-bit PNG of samples (H, W, C), which Pillow cannot write in colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def _save(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def _hwc(path: Path) -> Array:
    return read_picture(path).permute(1, 2, 0).numpy()


def test_colour_comes_as_it_was_saved(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp", "a.tif", "a.ppm"):
        read = read_picture(_save(tmp_path / name, Image.fromarray(RGB)))
        assert read.dtype == torch.uint8
        assert read.shape == (3, 6, 9)
        np.testing.assert_array_equal(read.permute(1, 2, 0).numpy(), RGB)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_bilevel_and_palette_become_rgb(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(RGB).convert(mode)
    np.testing.assert_array_equal(_hwc(_save(tmp_path / "a.png", picture)), np.array(picture.convert("RGB")))


def test_an_opaque_alpha_is_dropped(tmp_path: Path) -> None:
    opaque = np.concatenate([RGB, np.full((6, 9, 1), 255, np.uint8)], axis=2)
    np.testing.assert_array_equal(_hwc(_save(tmp_path / "a.png", Image.fromarray(opaque))), RGB)


def test_one_transparent_pixel_is_an_error(tmp_path: Path) -> None:
    alpha = np.full((6, 9, 1), 255, np.uint8)
    alpha[3, 3] = 254
    picture = Image.fromarray(np.concatenate([RGB, alpha], axis=2))
    with pytest.raises(UnreadablePicture, match=r"a\.png must be opaque, got transparent pixels"):
        read_picture(_save(tmp_path / "a.png", picture))


def test_a_transparent_palette_entry_is_an_error_only_where_it_is_used(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None)
    paletted = picture.convert("P")
    used = int(np.array(paletted)[0, 0])
    with pytest.raises(UnreadablePicture, match="must be opaque"):
        read_picture(_save(tmp_path / "a.png", paletted, transparency=used))
    assert read_picture(_save(tmp_path / "b.png", paletted, transparency=200)).shape == (3, 1, 2)


def test_every_grey_of_16_bits_is_rounded_and_not_clipped(tmp_path: Path) -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(deep / 257).astype(np.uint8)
    for name in ("a.png", "a.tif"):
        read = _hwc(_save(tmp_path / name, Image.fromarray(deep)))
        np.testing.assert_array_equal(read, np.stack([expected] * 3, axis=2))


def test_16_bit_pgm_is_rounded_too(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 65535]], np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 4 1 65535\n" + deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(_hwc(tmp_path / "a.pgm")[0, :, 0], [0, 0, 1, 255])


def test_colour_of_16_bits_is_rounded_where_pillow_cuts(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (40, 50, 3), dtype=np.uint16)
    path = _deep_png(tmp_path / "a.png", deep, 2)
    np.testing.assert_array_equal(_hwc(path), np.rint(deep / 257).astype(np.uint8))
    with Image.open(path) as picture:
        assert (np.array(picture) != _hwc(path)).any()


def test_alpha_of_16_bits_must_be_full(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (4, 5, 4), dtype=np.uint16)
    deep[:, :, 3] = 65535
    read = _hwc(_deep_png(tmp_path / "a.png", deep, 6))
    np.testing.assert_array_equal(read, np.rint(deep[:, :, :3] / 257).astype(np.uint8))
    deep[0, 0, 3] = 65534
    with pytest.raises(UnreadablePicture, match="must be opaque"):
        read_picture(_deep_png(tmp_path / "b.png", deep, 6))


def test_floats_and_32_bits_have_no_known_range(tmp_path: Path) -> None:
    for name, values in (("f.tif", RGB[:, :, 0] / np.float32(255)), ("i.tif", RGB[:, :, 0].astype(np.int32))):
        path = _save(tmp_path / name, Image.fromarray(values))
        with pytest.raises(UnreadablePicture, match="whose range is not known"):
            read_picture(path)


def test_cmyk_is_converted_as_pillow_does(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.jpg", Image.fromarray(RGB).convert("CMYK"))
    with Image.open(path) as picture:
        np.testing.assert_array_equal(_hwc(path), np.array(picture.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_exif_turns_the_picture_upright(tmp_path: Path, orientation: int, deep: bool) -> None:
    upright = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    if deep:
        grey = Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 257)
        path = _save(tmp_path / "a.png", grey, exif=exif)
        np.testing.assert_array_equal(_hwc(path), np.stack([upright[:, :, 0]] * 3, axis=2))
    else:
        np.testing.assert_array_equal(
            _hwc(_save(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)), upright
        )


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif"])
def test_a_truncated_file_is_named_even_where_pillow_was_told_to_bear_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (90, 90, 3), dtype=np.uint8))
    path = _save(tmp_path / name, noise)
    path.write_bytes(path.read_bytes()[:-2000])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UnreadablePicture, match=f"{name} cannot be read"):
        read_picture(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_a_flipped_byte_in_a_png_is_seen(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", Image.fromarray(RGB), compress_level=0)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"IDAT") + 30] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UnreadablePicture, match=r"a\.png cannot be read"):
        read_picture(path)


@pytest.mark.parametrize("contents", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_one_line(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "a.png").write_bytes(contents)
    with pytest.raises(InvalidRequest, match=r"a\.png cannot be read") as caught:
        read_picture(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePicture, match="No such file"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_several_frames_are_an_error(tmp_path: Path, name: str) -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    path = _save(tmp_path / name, frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadablePicture, match="must hold one frame, got 2"):
        read_picture(path)


def test_a_decompression_bomb_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path / "a.png", Image.fromarray(RGB))
    for limit in (40, 10):  # Pillow warns above the limit and raises above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UnreadablePicture, match=rf"a\.png is too large: more than {limit} pixels"):
            read_picture(path)


def test_the_centre_square_is_the_middle_of_the_longer_side() -> None:
    wide = torch.arange(3 * 2 * 5).reshape(3, 2, 5)
    torch.testing.assert_close(centre_square(wide), wide[:, :, 1:3])
    torch.testing.assert_close(centre_square(wide.mT), wide.mT[:, 1:3])
    torch.testing.assert_close(centre_square(wide[None]), wide[None, :, :, 1:3])


def test_files_are_sorted_as_people_count(tmp_path: Path) -> None:
    names = [
        "10.png",
        "2.png",
        "1.png",
        "a10/1.jpg",
        "a9/3.jpg",
        "B.PNG",
        ".hidden.png",
        ".git/1.png",
        "note.txt",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in picture_files(tmp_path)]
    assert found == ["1.png", "2.png", "10.png", "a9/3.jpg", "a10/1.jpg", "B.PNG"]


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    (tmp_path / "root" / "loop").mkdir(parents=True)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "1.png").touch()
    (tmp_path / "root" / "near").symlink_to(tmp_path / "far")
    (tmp_path / "root" / "loop" / "back").symlink_to(tmp_path / "root")
    assert [path.name for path in picture_files(tmp_path / "root")] == ["1.png"]
