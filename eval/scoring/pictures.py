"""A picture file to the pixels that it means, strictly: what cannot be known is an error, never a guess.

Colour profiles are left alone and CMYK goes through Pillow's own conversion, as in pytorch-fid and clean-fid.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdkit._errors import InvalidRequest, first_line

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
_ORIENTATION = 0x0112  # EXIF tag
_TO_8_BITS = 257  # 65535 / 255
_PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


class UnreadablePicture(InvalidRequest):
    """A file that holds no picture which can be taken as it is."""


def read_picture(path: Path) -> Tensor:
    """The picture (3, H, W) uint8, RGB 0-255, turned as its EXIF says.

    Raises:
        UnreadablePicture: missing, truncated, damaged, several frames, transparent, of unknown range, or too large.
    """
    return decode_picture(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises UnreadablePicture where the system refuses."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadablePicture(f"picture {path} cannot be read: {error.strerror or error}") from error


def decode_picture(contents: bytes, name: str) -> Tensor:
    """As `read_picture`, of a file's contents; `name` stands in errors."""
    import torch
    from PIL import Image, UnidentifiedImageError

    try:
        with _strict():
            with Image.open(io.BytesIO(contents)) as opened:
                opened.verify()  # a PNG's checksums, which decoding does not look at
            with Image.open(io.BytesIO(contents)) as opened:
                pixels = _pixels(opened, contents)
    except UnidentifiedImageError as error:
        raise UnreadablePicture(f"picture {name} cannot be read: no picture format that is known") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadablePicture(
            f"picture {name} is too large: more than {Image.MAX_IMAGE_PIXELS} pixels"
        ) from error
    except UnreadablePicture as error:
        raise UnreadablePicture(f"picture {name} {error}") from error.__cause__
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, RuntimeError, MemoryError) as error:
        raise UnreadablePicture(f"picture {name} cannot be read: {first_line(error)}") from error
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def centre_square(picture: Tensor) -> Tensor:
    """The largest centred square of pictures (..., 3, H, W); of an odd margin the smaller half is cut first."""
    height, width = picture.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[..., top : top + side, left : left + side]


def picture_files(folder: Path) -> tuple[Path, ...]:
    """Files below `folder` with a suffix of `SUFFIXES`, numbers in names in the order of numbers.

    Links are followed, each folder once. Hidden files and folders are not looked at.

    Raises:
        OSError: the folder, or one below it, may not be read.
    """
    found = [path for path in _walk(folder) if path.suffix.lower() in SUFFIXES]
    return tuple(sorted(found, key=lambda path: _natural(path.relative_to(folder))))


def _walk(folder: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in files if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise error


def _natural(path: Path) -> list[tuple[list[tuple[int, int, str]], str]]:
    """Sorts 2 before 10, in folders' names too; numbers before letters, and 01 before 1 by the plain text."""
    return [([_part(part) for part in re.findall(r"[0-9]+|[^0-9]+", name)], name) for name in path.parts]


def _part(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text.isdigit() else (1, 0, text.casefold())


@contextmanager
def _strict() -> Iterator[None]:
    """Bombs are errors, and so are truncated files, whatever another library told Pillow."""
    from PIL import Image, ImageFile

    tolerant = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bad metadata does not touch the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = tolerant


def _pixels(picture: ImageFile, contents: bytes) -> Array:
    """(H, W, 3) uint8."""
    from PIL import Image as pillow

    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # a camera's JPEG, whose further frames are previews
        raise UnreadablePicture(f"must hold one frame, got {frames}; save the one that is meant")
    deep = _depth(picture) == 16  # asked before EXIF, for which a PNG is decoded
    orientation = picture.getexif().get(_ORIENTATION, 1)
    rgb = pillow.fromarray(_deep(picture, contents)) if deep else _plain(picture)
    turn = {
        2: pillow.Transpose.FLIP_LEFT_RIGHT,
        3: pillow.Transpose.ROTATE_180,
        4: pillow.Transpose.FLIP_TOP_BOTTOM,
        5: pillow.Transpose.TRANSPOSE,
        6: pillow.Transpose.ROTATE_270,
        7: pillow.Transpose.TRANSVERSE,
        8: pillow.Transpose.ROTATE_90,
    }.get(orientation)
    return np.array(rgb if turn is None else rgb.transpose(turn))


def _depth(picture: ImageFile) -> int:
    """Bits a channel in the file: 16 also where Pillow shows an 8-bit mode, as it does for colour."""
    stored = " ".join(str(tile.args) for tile in picture.tile)
    if ";12" in stored:
        raise UnreadablePicture("must hold 8 or 16 bits a channel, got 12; save it as 8-bit RGB")
    wide = picture.mode.startswith("I;16") or ";16" in stored
    return 16 if wide or (picture.mode == "I" and picture.format == "PPM") else 8


def _plain(picture: Image) -> Image:
    """In mode RGB."""
    if picture.mode not in _PLAIN_MODES:
        raise UnreadablePicture(
            f"must hold 8 or 16 bits a channel, got Pillow's mode {picture.mode!r}, whose range is not known; "
            "save it as 8-bit RGB"
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        _require_opaque(picture.getchannel("A").getextrema()[0] == 255)
    return picture.convert("RGB")


def _deep(picture: ImageFile, contents: bytes) -> Array:
    """(H, W, 3) uint8 of 16 bits a channel, rounded; Pillow itself would clip grey and cut colour."""
    if picture.format == "PNG":
        samples = _deep_png(contents)
        _require_opaque("transparency" not in picture.info)
    elif picture.mode.startswith("I"):
        samples = np.array(picture).astype(np.int64)[:, :, None]
    else:
        raise UnreadablePicture(
            f"holds 16 bits a channel in {picture.format}, which cannot be read in full; save it as PNG"
        )
    channels = samples.shape[2]
    if channels in (2, 4):
        _require_opaque(bool((samples[:, :, -1] == 65535).all()))
    colour = samples[:, :, :3] if channels > 2 else samples[:, :, :1].repeat(3, axis=2)
    return np.rint(colour / _TO_8_BITS).astype(np.uint8)


def _deep_png(contents: bytes) -> Array:
    import torch
    from torchvision.io import ImageReadMode, decode_png

    encoded = torch.frombuffer(bytearray(contents), dtype=torch.uint8)
    decoded: Tensor = decode_png(encoded, mode=ImageReadMode.UNCHANGED)
    return np.asarray(decoded.permute(1, 2, 0).numpy()).astype(np.int64)


def _require_opaque(opaque: bool) -> None:
    if not opaque:
        raise UnreadablePicture(
            "must be opaque, got transparent pixels, and what lies behind them is not known; "
            "compose it on its background first"
        )
