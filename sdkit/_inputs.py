"""Pictures that go into a request: read, checked, and made RGB or grey. Pillow, and no torch."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdkit._errors import InvalidRequest, first_line

if TYPE_CHECKING:
    from PIL.Image import Image


def read_images(name: str, value: object) -> tuple[Image, ...]:
    """One picture or several as RGB: Pillow images, files, or arrays (H, W, 3) uint8.

    Raises:
        InvalidRequest: something else, or a file that is no picture.
    """
    return tuple(_read(where, item, "RGB") for where, item in _each(name, value))


def read_masks(name: str, value: object) -> tuple[Image, ...]:
    """One mask or several as grey pictures, white where a picture is drawn anew."""
    return tuple(_read(where, item, "L") for where, item in _each(name, value))


def digest(image: Image) -> str:
    """SHA-256 of the picture's mode, size and pixels: the same however it was stored."""
    return hashlib.sha256(f"{image.mode} {image.size}\n".encode() + image.tobytes()).hexdigest()


def resized(image: Image, width: int, height: int) -> Image:
    """The picture at this size in pixels, by Lanczos as diffusers does; masks keep their hard edges."""
    from PIL.Image import Resampling

    if image.size == (width, height):
        return image
    return image.resize((width, height), Resampling.NEAREST if image.mode == "L" else Resampling.LANCZOS)


def _each(name: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, (list, tuple)):
        if not value:
            raise InvalidRequest(f"{name} must hold at least one picture, got an empty list")
        return [(f"{name}[{i}]", item) for i, item in enumerate(value)]
    return [(name, value)]


def _read(name: str, value: object, mode: str) -> Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(value, (str, Path)):
        path = Path(value).expanduser()
        try:
            with warnings.catch_warnings():
                # A picture of many megapixels is the caller's business until Pillow itself refuses it.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(path) as opened:
                    return ImageOps.exif_transpose(opened).convert(mode)
        except FileNotFoundError as error:
            raise InvalidRequest(
                f"{name} must be a picture, got {str(path)!r}, which does not exist"
            ) from error
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
            raise InvalidRequest(
                f"{name} must be a picture, got {str(path)!r}, which cannot be read ({first_line(error)})"
            ) from error
    if isinstance(value, Image.Image):
        return value.convert(mode)
    array: Any = value
    if _is_picture_array(array):
        return Image.fromarray(array).convert(mode)
    raise InvalidRequest(f"{name} must be a picture, a file or an array (H, W, 3) uint8, got {_kind(value)}")


def _is_picture_array(value: Any) -> bool:
    if type(value).__module__ != "numpy" or str(getattr(value, "dtype", "")) != "uint8":
        return False
    shape = value.shape
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))


def _kind(value: object) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__} of shape {tuple(shape)} and type {getattr(value, 'dtype', '?')}"
    return repr(value)
