"""The report's pictures: beside the page, inside it, or none; what the page's scripts read of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from markupsafe import Markup

from eval.records import Cell, Run
from eval.reporting import accelerated
from eval.reporting.merging import PlacedCell
from eval.reporting.picture_files import CellFiles, address, cell_files
from eval.reporting.pictures import (
    NOT_JUDGED,
    Layout,
    PictureColumns,
    cells_first,
    layout,
    packed,
    picture_columns,
    run_of,
    telling_prompts,
)
from eval.reporting.thumbnails import ORIGINAL_PX, embedded, embedded_strip, thumbnail

MODES = ("beside", "embedded", "none")
ROWS = 24
"""Prompts that the page shows at once; the scripts' own number."""
THUMBNAILS = 400
"""At most so many are written, of what the page shows first."""
EMBEDDED, EMBEDDED_PROMPTS, EMBEDDED_CELLS = 320, 12, 40
EMBEDDED_BYTES, STRIP_BYTES = 4_000_000, 1_000_000
"""What pictures and filmstrips may add to the page."""
_INSIDE = "data: blob:"

Addresses = dict[int, dict[int, str]]
"""Place of the cell -> index of the picture -> its address."""


@dataclass(frozen=True)
class Gallery:
    """What the page holds of pictures."""

    columns: dict[str, object] | None = None
    """For the page's scripts, to be written as JSON; None where no picture is shown."""
    policy: str = _INSIDE
    """Where pictures may come from, as the page's `img-src` says it."""
    judged: bool = False
    """Some picture bears the judge's verdict."""

    @property
    def json(self) -> Markup:
        """The columns as JSON that nothing in it can end the script element it stands in."""
        text = json.dumps(self.columns, separators=(",", ":"), allow_nan=False)
        for character in "<>&":
            text = text.replace(character, f"\\u{ord(character):04x}")
        return Markup(text)


@dataclass
class _Inside:
    """Pictures that the page carries, or small copies that lie beside it."""

    prompts: list[int] | None = None
    """Prompts that are shown; None shows all."""
    pictures: Addresses = field(default_factory=dict)
    films: Addresses = field(default_factory=dict)


def gallery(
    run: Run,
    folder: Path,
    chosen: str | None = None,
    folders: Mapping[str, Path] | None = None,
    mode: str = "beside",
) -> Gallery:
    """The pictures of a run, for its report.

    Args:
        folder: the report's folder, which is the run's own unless runs were merged.
        chosen: key of the decision's cell, whose pictures are shown first.
        folders: run's name -> its folder, for the cells of merged runs.
        mode: "beside" leaves pictures where they are, and writes thumbnails of large ones into `folder`;
            "embedded" puts a choice of them into the page; "none" shows none.

    Raises:
        ValueError: no such mode.
        RunFolderError: a thumbnail cannot be written.
    """
    if mode not in MODES:
        raise ValueError(f"pictures must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "none" or not any(run.images.values()):
        return Gallery()
    cells = [result.cell for result in run.results]
    files = [cell_files(cell, folder, folders or {}) for cell in cells]
    plan = layout(run)
    found = picture_columns(run, plan, _present(run, files))
    order = cells_first(cells, chosen)
    lead = order[0] if order and cells[order[0]].key == chosen else None
    inside = (
        _embedded(found, plan, files, order, lead)
        if mode == "embedded"
        else _Inside(pictures=_thumbnails(found, plan, files, order, cells, folder))
    )
    columns = {
        "mode": mode,
        "chosen": chosen,
        "prompts": plan.texts,
        "draws": plan.draws,
        "shown": inside.prompts,
        "pictures": inside.pictures,
        "strips": inside.films,
        **_cells(run, cells, files, plan, folder),
        **_values(found, plan),
    }
    policy = f"{_INSIDE} 'self' file:" if mode == "beside" else _INSIDE
    return Gallery(columns, policy, bool((found.judge != NOT_JUDGED).any()))


def _present(run: Run, files: Sequence[CellFiles]) -> dict[str, set[int]]:
    return {
        result.cell.key: {
            row.index for row in run.images.get(result.cell.key, ()) if each.has(row.index, row.path)
        }
        for result, each in zip(run.results, files, strict=True)
    }


def _cells(
    run: Run, cells: Sequence[Cell], files: Sequence[CellFiles], plan: Layout, folder: Path
) -> dict[str, object]:
    """One column a fact, one row a cell, in the grid's order."""
    homes = list(dict.fromkeys(each.home for each in files))
    names = list(plan.own)
    marks = [
        (dict(cell.marks) if isinstance(cell, PlacedCell) else {}) | own
        for cell, own in zip(cells, accelerated.marks(cells), strict=True)
    ]
    own_keys = [each.own_key for each in files]
    keys = [cell.key for cell in cells]
    return {
        "keys": keys,
        "own_keys": None if own_keys == keys else own_keys,
        "labels": [cell.label for cell in cells],
        "samplers": [cell.sampler for cell in cells],
        "steps": [cell.steps for cell in cells],
        "guidances": [cell.guidance for cell in cells],
        "marks": list(dict.fromkeys(heading for found in marks for heading in found)),
        "marked": [list(found.values()) for found in marks] if any(marks) else None,
        "seeds": [cell.seed for cell in cells],
        "shared_seeds": [cell.shared_seed for cell in cells],
        "failed": [i for i, result in enumerate(run.results) if result.error is not None],
        "homes": [address(home, folder) for home in homes],
        "home": [homes.index(each.home) for each in files],
        "run": [names.index(run_of(cell, plan)) for cell in cells],
        "films": {
            i: {
                "pictures": film.pictures,
                "steps": film.steps,
                "width": film.width_px,
                "height": film.height_px,
            }
            for i, each in enumerate(files)
            if (film := each.film) is not None
        },
    }


def _values(found: PictureColumns, plan: Layout) -> dict[str, object]:
    """One value a picture, packed; None where it is the same for all."""
    plain = np.arange(plan.places, dtype=np.int32)
    orders = [None if np.array_equal(own, plain) else packed(own) for own in plan.own.values()]
    return {
        "orders": orders,
        "present": None if found.present.all() else packed(found.present),
        "clip": None if np.isnan(found.clip).all() else packed(found.clip),
        "judge": packed(found.judge) if (found.judge != NOT_JUDGED).any() else None,
        "attributes": found.attributes,
    }


def _thumbnails(
    found: PictureColumns,
    plan: Layout,
    files: Sequence[CellFiles],
    order: Sequence[int],
    cells: Sequence[Cell],
    folder: Path,
) -> Addresses:
    """Small copies of the large pictures that the page shows first."""
    shown = range(0, min(ROWS, len(plan.texts)) * plan.draws, plan.draws)
    large = [i for i in order if max(cells[i].width, cells[i].height) > ORIGINAL_PX]
    asked = [(i, int(found.index[i, place])) for i in large for place in shown if found.present[i, place]]
    copies: Addresses = {}
    for i, index in asked[:THUMBNAILS]:
        if (small := thumbnail(files[i], index, folder)) is not None:
            copies.setdefault(i, {})[index] = small
    return copies


def _embedded(
    found: PictureColumns, plan: Layout, files: Sequence[CellFiles], order: Sequence[int], lead: int | None
) -> _Inside:
    """A choice of pictures as bytes: of a few prompts in every cell, or in as many cells as there is room for."""
    drawn = [i for i in order if found.present[i].any()][:EMBEDDED_CELLS]
    most = max(4, min(EMBEDDED_PROMPTS, EMBEDDED // max(len(drawn), 1)))
    prompts = telling_prompts(found, plan, lead, most)
    pictures, room = {}, EMBEDDED_BYTES
    for i in drawn:
        places = [prompt * plan.draws for prompt in prompts if found.present[i, prompt * plan.draws]]
        uris = {index: embedded(files[i].picture(index)) for index in found.index[i, places].tolist()}
        pictures[i] = {index: uri for index, uri in uris.items() if uri is not None}
        room -= sum(map(len, pictures[i].values()))
        if room < 0:
            break
    wanted = [prompt * plan.draws for prompt in prompts]
    strips, room = {}, STRIP_BYTES
    for i in pictures:
        strips[i] = _strips(files[i], found.index[i, wanted].tolist(), room)
        room -= sum(map(len, strips[i].values()))
    return _Inside(prompts, pictures, strips)


def _strips(files: CellFiles, wanted: Sequence[int], room: int) -> dict[int, str]:
    """Filmstrips of the wanted pictures, as many as there is room for."""
    found: dict[int, str] = {}
    for index in files.film.pictures if files.film else ():
        uri = embedded_strip(files.strip(index), files.film) if index in wanted and files.film else None
        if uri is not None and len(uri) <= room:
            found[index] = uri
            room -= len(uri)
    return found
