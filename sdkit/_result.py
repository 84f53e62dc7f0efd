"""What a call of `generate` gives back: the pictures, and all that is needed to make them again."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from sdkit._checks import check_range
from sdkit._errors import InvalidRequest
from sdkit._request import Request

if TYPE_CHECKING:
    from torch import Tensor

_GAP_PX = 2


@dataclass(frozen=True)
class Timings:
    """Wall seconds of each stage of one call.

    Example:
        >>> from sdkit import Timings
        >>> Timings(load_s=1.0, text_s=0.25, denoise_s=2.0, decode_s=0.5).total_s
        3.75
    """

    load_s: float
    """Reading the model; 0 when it was loaded before."""
    text_s: float
    denoise_s: float
    decode_s: float

    @property
    def total_s(self) -> float:
        """Their sum."""
        return self.load_s + self.text_s + self.denoise_s + self.decode_s


@dataclass(frozen=True)
class Generation:
    """Pictures and how they came about; picture i has `prompts[i]` and `seeds[i]`.

    Example:
        >>> import sdkit
        >>> made = sdkit.generate("a red star", num_images=2, steps=4, seed=7, device="cpu")
        >>> len(made), made.seeds, made.sampler, made.model_evals
        (2, (7, 8), 'dpmpp_2m_karras', 4)
    """

    images: list[Image.Image] = field(repr=False)
    request: Request
    """What was asked for, with all that was left open filled in as it ran."""
    prompts: tuple[str, ...]
    """One for each image."""
    cut_at: tuple[int | None, ...]
    """For each image the character of its prompt from which no text encoder read on; None: all was read."""
    model_evals: int
    """Denoiser calls that each picture took; guidance doubles the rows of a call, not the calls."""
    model: str
    detected: str
    """What a single file was taken for, and why; "" for a folder."""
    device: str
    batch_size: int
    """Images that were made at once, at the end of the run."""
    warnings: tuple[str, ...]
    """What was not as asked for, one sentence each."""
    timings: Timings
    trajectory: list[list[Image.Image]] = field(default_factory=list, repr=False)
    """For each image its stages from pure noise to picture, where they were asked for."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def seeds(self) -> tuple[int, ...]:
        """One for each image."""
        return tuple(self.request.seeds)

    @property
    def negative_prompt(self) -> str:
        """What was steered away from; "" is none."""
        return self.request.negative_prompt

    @property
    def sampler(self) -> str:
        """Its name; `request.sampler` has its resolved options."""
        return "" if self.request.sampler is None else self.request.sampler.name

    @property
    def steps(self) -> int:
        """What was asked for; `model_evals` is what ran."""
        return self.request.steps or 0

    @property
    def guidance_scale(self) -> float | None:
        """None where the pipeline takes none."""
        return self.request.guidance_scale

    @property
    def width(self) -> int:
        """Pixels."""
        return self.images[0].width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.images[0].height

    @property
    def model_fingerprint(self) -> str:
        """Of the model's contents, and of all that was loaded on top of it."""
        return self.request.fingerprint or ""

    @property
    def dtype(self) -> str:
        """The number format that the model ran in."""
        return self.request.dtype or ""

    @property
    def truncated(self) -> tuple[int, ...]:
        """Indices of images whose prompt was longer than the model reads, and was cut."""
        return tuple(i for i, at in enumerate(self.cut_at) if at is not None)

    def save(self, path: str | Path) -> tuple[Path, ...]:
        """The files that were written: `path` for one image, `path` with -0000, -0001 ... for several.

        A PNG carries the text that the WebUI writes, and a record from which `sdkit.read` gives the request back.

        Args:
            path: its ending names the format; PNG keeps every pixel as it is. Files there are replaced.
        Raises:
            InvalidRequest: the folder does not exist, or no format has this ending.
        Example:
            >>> import pathlib, sdkit, tempfile
            >>> made = sdkit.generate("a red star", steps=4, seed=7, device="cpu")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     (file,) = made.save(pathlib.Path(folder) / "star.png")
            ...     sdkit.read(file).seed
            7
        """
        target = check_target(path)
        names = [target]
        if len(self.images) > 1:
            names = [
                target.with_name(f"{target.stem}-{i:04d}{target.suffix}") for i in range(len(self.images))
            ]
        for index, (image, name) in enumerate(zip(self.images, names, strict=True)):
            try:
                if target.suffix.lower() == ".png":
                    from sdkit._record import png_text

                    image.save(name, pnginfo=png_text(self, index))
                else:
                    image.save(name)
            except OSError as error:
                raise InvalidRequest(f"{name} cannot be written: {error.strerror or error}") from error
        return tuple(names)

    def grid(self, columns: int | None = None) -> Image.Image:
        """All images on one sheet, row by row.

        Args:
            columns: images a row; None makes the sheet about square.
        Example:
            >>> import sdkit
            >>> sdkit.generate("a red star", num_images=3, steps=4, seed=7, device="cpu").grid(columns=3).size
            (196, 64)
        """
        if columns is not None:
            check_range("columns", columns, 1, 10_000)
        across = min(columns or math.ceil(math.sqrt(len(self.images))), len(self.images))
        return _sheet(self.images, across)

    def filmstrip(self, images: Sequence[int] | None = None) -> Image.Image:
        """The way from noise to picture, a row for each image, from left to right.

        Args:
            images: indices of the images to show; None is all.
        Raises:
            InvalidRequest: no stages were kept; ask for them with `trajectory=`.
        Example:
            >>> import sdkit
            >>> sdkit.generate("a red star", steps=4, trajectory=5, seed=7, device="cpu").filmstrip().size
            (328, 64)
        """
        if not self.trajectory:
            raise InvalidRequest("filmstrip needs the stages of the run; generate with trajectory=5, say")
        chosen = (
            range(len(self))
            if images is None
            else [check_range("images", i, 0, len(self) - 1) for i in images]
        )
        rows = [self.trajectory[index] for index in chosen]
        return _sheet([stage for row in rows for stage in row], len(rows[0]))

    def to_tensor(self) -> Tensor:
        """(N, 3, H, W) uint8, 0-255: the very levels that are saved.

        Example:
            >>> import sdkit
            >>> sdkit.generate("a red star", steps=4, seed=7, device="cpu").to_tensor().shape
            torch.Size([1, 3, 64, 64])
        """
        import numpy as np
        import torch

        levels = np.stack([np.asarray(image) for image in self.images])
        return torch.from_numpy(levels).permute(0, 3, 1, 2).contiguous()

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the pictures, or the way to them where it was kept."""
        buffer = io.BytesIO()
        (self.filmstrip() if self.trajectory else self.grid()).save(buffer, format="PNG")
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


def _sheet(images: Sequence[Image.Image], across: int) -> Image.Image:
    down = math.ceil(len(images) / across)
    step_x, step_y = images[0].width + _GAP_PX, images[0].height + _GAP_PX
    sheet = Image.new("RGB", (across * step_x - _GAP_PX, down * step_y - _GAP_PX), "white")
    for index, image in enumerate(images):
        sheet.paste(image, (index % across * step_x, index // across * step_y))
    return sheet
