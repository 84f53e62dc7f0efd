"""Filmstrips: the way from noise to picture of a cell's first pictures, beside its scored ones.

    cells/<key>/film/00000.png    the stages of picture 0, side by side, the finished picture last
    cells/<key>/film/film.json    which pictures, the step that each frame stands after; written last

A film shows and decides nothing: no hash of a cell covers it, and a cell without one is whole.
"""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.records import Cell, ReportPlan
from eval.running.atomic import make_folder, sync, write_atomic
from eval.running.generator import Generator
from eval.running.serial import decode, encode
from sdkit._errors import GenerationError
from sdkit._sampler_names import find_sampler

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MAX_HEIGHT_PX = 256
"""Frames of higher pictures are reduced to this."""
INDEX = "film/film.json"


@dataclass(frozen=True)
class Film:
    """What lies in a cell's folder film/: one strip a picture, all alike."""

    pictures: tuple[int, ...]
    """Indices of the cell's pictures; picture i is in `film/{i:05d}.png`."""
    steps: tuple[int, ...]
    """Whole steps that are done where each frame stands: 0 is the first noise, the last one the picture."""
    frame_width: int
    """Pixels; a strip is as wide as all its frames."""
    frame_height: int

    def path(self, picture: int) -> str:
        """The picture's strip, relative to the cell's folder."""
        return f"film/{picture:05d}.png"


def read_film(cell_folder: Path) -> Film | None:
    """The cell's film; None where it has none, or not all of it is there."""
    try:
        film = decode(Film, json.loads((cell_folder / INDEX).read_bytes()))
    except (OSError, ValueError):
        return None
    return film if all((cell_folder / film.path(picture)).is_file() for picture in film.pictures) else None


def make_film(
    generator: Generator[Any],
    text_rows: Callable[[int, int], Any],
    cell: Cell,
    report: ReportPlan,
    cell_folder: Path,
) -> Film | None:
    """Draw the cell's first pictures once more, one by one, and keep their stages; what is there already stays.

    Args:
        text_rows: start, stop -> the encoded prompts of these pictures.
    Returns:
        None where no film is asked for.
    Raises:
        RunFolderError: the folder cannot be written.
        Exception: whatever the sampler raises, or GenerationError where it tells no stages.
    """
    if report.filmstrips == 0:
        return None
    if "trajectory" not in inspect.signature(generator.sample).parameters:
        raise GenerationError(f"{type(generator).__name__} tells no stages of its pictures")
    calls = generator.model_evals(cell.sampler, cell.steps)
    film = Film(
        pictures=tuple(range(min(report.filmstrips, cell.count))),
        steps=_steps(cell, calls, min(report.frames, calls + 1)),
        **_size(cell),
    )
    if read_film(cell_folder) == film:
        return film
    make_folder(cell_folder / "film")
    (cell_folder / INDEX).unlink(missing_ok=True)  # it must not speak of strips that are being replaced
    for picture in film.pictures:
        frames = _frames(generator, text_rows(picture, picture + 1), cell, picture, len(film.steps))
        write_atomic(cell_folder / film.path(picture), _strip(frames, film), sync_folder=False)
    sync(cell_folder / "film")
    write_atomic(cell_folder / INDEX, encode(film))
    return film


def _steps(cell: Cell, calls: int, frames: int) -> tuple[int, ...]:
    """Frame i of n stands before denoiser call i · calls / (n - 1), rounded up, as sdkit keeps its stages."""
    done = find_sampler(cell.sampler).steps_done
    before = [-(-index * calls // (frames - 1)) for index in range(frames - 1)]
    return (*(done(call, calls) for call in before), cell.steps)


def _size(cell: Cell) -> dict[str, int]:
    height = min(cell.height, MAX_HEIGHT_PX)
    return {"frame_width": max(1, round(cell.width * height / cell.height)), "frame_height": height}


def _frames(generator: Generator[Any], text: Any, cell: Cell, picture: int, count: int) -> Sequence[Tensor]:
    """(1, 3, H, W) uint8 each, from noise to the picture."""
    sample: Any = generator.sample
    made = sample(
        text,
        sampler=cell.sampler,
        steps=cell.steps,
        guidance_scale=cell.guidance,
        guidance_interval=cell.guidance_interval,
        seeds=cell.seeds(picture, picture + 1),
        width=cell.width,
        height=cell.height,
        trajectory=count,
    )
    if len(made.stages) != count - 1:
        raise GenerationError(
            f"the pipeline tells {len(made.stages)} of {count - 1} stages on the way to its pictures"
        )
    return (*made.stages, made.images)


def _strip(frames: Sequence[Tensor], film: Film) -> bytes:
    """The frames side by side, as PNG."""
    from PIL import Image

    size = (film.frame_width, film.frame_height)
    sheet = Image.new("RGB", (len(frames) * film.frame_width, film.frame_height))
    for place, frame in enumerate(frames):
        sheet.paste(_reduced(Image.fromarray(_levels(frame)), size), (place * film.frame_width, 0))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _levels(frame: Tensor) -> Any:
    return frame[0].permute(1, 2, 0).contiguous().numpy()


def _reduced(picture: Image, size: tuple[int, int]) -> Image:
    from PIL.Image import Resampling

    return picture if picture.size == size else picture.resize(size, Resampling.LANCZOS)
