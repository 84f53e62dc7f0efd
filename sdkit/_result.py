"""What a call of `generate` gives back: the pictures, and all that is needed to make them again."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from sdkit._errors import InvalidRequest

_GAP_PX = 2


@dataclass(frozen=True)
class Timings:
    """Wall seconds of each stage of one call."""

    load_s: float
    """Reading the model; 0 when it was loaded before."""
    text_s: float
    denoise_s: float
    decode_s: float

    @property
    def total_s(self) -> float:
        return self.load_s + self.text_s + self.denoise_s + self.decode_s


@dataclass(frozen=True)
class Generation:
    """Pictures and how they came about; picture i has `prompts[i]` and `seeds[i]`."""

    images: list[Image.Image] = field(repr=False)
    seeds: tuple[int, ...]
    prompts: tuple[str, ...]
    """One for each image."""
    negative_prompt: str
    sampler: str
    steps: int
    """What was asked for."""
    model_evals: int
    """Denoiser calls that each picture took; guidance doubles the rows of a call, not the calls."""
    guidance_scale: float
    width: int
    height: int
    model: str
    model_fingerprint: str
    device: str
    dtype: str
    truncated: tuple[int, ...]
    """Indices of images whose prompt was longer than the model reads, and was cut."""
    timings: Timings

    def __len__(self) -> int:
        return len(self.images)

    def save(self, path: str | Path) -> tuple[Path, ...]:
        """The files that were written: `path` for one image, `path` with -0000, -0001 ... for several.

        Args:
            path: its ending names the format; PNG keeps every pixel as it is. Files there are replaced.
        Raises:
            InvalidRequest: the folder does not exist, or no format has this ending.
        """
        target = check_target(path)
        names = [target]
        if len(self.images) > 1:
            names = [
                target.with_name(f"{target.stem}-{i:04d}{target.suffix}") for i in range(len(self.images))
            ]
        for image, name in zip(self.images, names, strict=True):
            try:
                image.save(name)
            except OSError as error:
                raise InvalidRequest(f"{name} cannot be written: {error.strerror or error}") from error
        return tuple(names)

    def grid(self, columns: int | None = None) -> Image.Image:
        """All images on one sheet, row by row.

        Args:
            columns: images a row; None makes the sheet about square.
        """
        if columns is not None and columns < 1:
            raise InvalidRequest(f"columns must be at least 1, got {columns}")
        across = min(columns or math.ceil(math.sqrt(len(self.images))), len(self.images))
        down = math.ceil(len(self.images) / across)
        step_x, step_y = self.width + _GAP_PX, self.height + _GAP_PX
        sheet = Image.new("RGB", (across * step_x - _GAP_PX, down * step_y - _GAP_PX), "white")
        for index, image in enumerate(self.images):
            sheet.paste(image, (index % across * step_x, index // across * step_y))
        return sheet

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        buffer = io.BytesIO()
        self.grid().save(buffer, format="PNG")
        return buffer.getvalue()


def check_target(path: str | Path) -> Path:
    """The path, once its folder exists and its ending is a format that images are written in."""
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise InvalidRequest(f"folder {target.parent} must exist to save into it; create it first")
    if target.is_dir():
        raise InvalidRequest(f"path must name a file, got the folder {target}")
    if Image.registered_extensions().get(target.suffix.lower()) not in Image.SAVE:
        raise InvalidRequest(f"path must end in a picture format such as .png, got {target.name!r}")
    return target
