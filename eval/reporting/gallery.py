"""The same-seed grid of pictures: which cells and prompts it shows, and the pictures as bytes in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.records import Cell, CellResult, ImageRow, Run
from eval.reporting import axes
from eval.reporting.figures import spread
from eval.reporting.merging import PlacedCell

MAX_PROMPTS, MAX_CELLS, MAX_SAMPLERS = 8, 12, 4
SMALL_PX = 128
"""Pictures up to this side are embedded byte for byte and shown with hard pixels."""
SMALL_BYTES = 16_384
"""Larger files are reduced, so that the page stays below 8 MB whatever the model draws."""
THUMBNAIL_PX = 160


@dataclass(frozen=True)
class Picture:
    """One picture of the grid."""

    uri: str | None
    """`data:` address; None where the file is missing or no picture."""
    note: str
    """Seed and scores, for the tooltip."""
    right: bool | None
    """The judge's verdict on the whole picture; None where nobody judged."""
    small: bool
    """Embedded untouched, to be shown with hard pixels."""


@dataclass(frozen=True)
class PictureRow:
    """One prompt with its picture in every shown cell."""

    prompt: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """Prompts × cells; `rows[i].pictures[j]` belongs to `cells[j]`."""

    cells: tuple[CellResult, ...]
    rows: tuple[PictureRow, ...]
    reduced: bool
    """True where pictures were made smaller for the page."""

    @property
    def groups(self) -> tuple[tuple[CellResult, int], ...]:
        """The first cell of each sampler, with how many columns stand under it."""
        names = [result.cell.series for result in self.cells]
        return tuple((self.cells[names.index(name)], names.count(name)) for name in dict.fromkeys(names))

    @property
    def judged(self) -> bool:
        """True where any picture bears the judge's verdict."""
        return any(picture.right is not None for row in self.rows for picture in row.pictures)


def gallery(
    run: Run, folder: Path, chosen: CellResult | None = None, folders: Mapping[str, Path] | None = None
) -> Gallery:
    """The grid of a run: each of a few samplers at its best guidance, over steps, for a spread of prompts.

    Args:
        folder: the run's folder; pictures outside it are not read.
        chosen: a cell that must be among those shown.
        folders: run's name -> its folder, for the cells of merged runs.
    """
    cells = shown_cells(run, chosen)
    prompts = run.plan.prompts
    chosen_prompts = spread(range(len(prompts.texts)), MAX_PROMPTS)
    homes = [_home(cell.cell, folder, folders or {}) for cell in cells]
    by_place = [{(row.index, row.prompt): row for row in run.images.get(cell.cell.key, ())} for cell in cells]
    rows = tuple(
        PictureRow(
            prompts.texts[i],
            tuple(
                _picture(rows.get((i * prompts.seeds_per_prompt, prompts.texts[i])), home)
                for rows, home in zip(by_place, homes, strict=True)
            ),
        )
        for i in chosen_prompts
    )
    reduced = any(picture.uri and not picture.small for row in rows for picture in row.pictures)
    return Gallery(cells, rows if cells else (), reduced)


def _home(cell: Cell, folder: Path, folders: Mapping[str, Path]) -> Path:
    return folders[cell.run] if isinstance(cell, PlacedCell) and cell.run in folders else folder


def shown_cells(run: Run, chosen: CellResult | None) -> tuple[CellResult, ...]:
    """At most `MAX_CELLS` cells with pictures, by sampler and steps in the grid's order."""
    results = axes.separated(run.results)
    drawn = [result for result in results if result.error is None and run.images.get(result.cell.key)]
    samplers = list(dict.fromkeys(result.cell.series for result in drawn))
    best = {sampler: _best(drawn, sampler) for sampler in samplers}
    ranks = _ranks(drawn)
    leaders = sorted(samplers, key=lambda sampler: ranks[drawn.index(best[sampler])], reverse=True)
    if chosen and chosen.cell.series in leaders:
        leaders.insert(0, leaders.pop(leaders.index(chosen.cell.series)))
    kept = [sampler for sampler in samplers if sampler in leaders[:MAX_SAMPLERS]]
    shown = []
    for sampler in kept:
        own = chosen if chosen and chosen.cell.series == sampler else None
        guidance = (own or best[sampler]).cell.guidance
        line = [r for r in drawn if (r.cell.series, r.cell.guidance) == (sampler, guidance)]
        line.sort(key=lambda result: result.cell.steps)
        shown += _spread_with(line, own, MAX_CELLS // len(kept))
    return tuple(shown)


def _best(drawn: Sequence[CellResult], sampler: str) -> CellResult:
    mine = [place for place, result in enumerate(drawn) if result.cell.series == sampler]
    ranks = _ranks(drawn)
    return drawn[max(mine, key=lambda place: ranks[place])]


def _ranks(drawn: Sequence[CellResult]) -> list[tuple[float, ...]]:
    """Of each cell; higher is better: the judge first, then the CLIP score, then FID; unknown ranks last."""
    have = axes.known_names(drawn)
    names = (axes.judge_name(drawn), axes.CLIP, axes.fid_name(drawn))
    columns = [axes.column(drawn, name) for name in names if name in have and name is not None]
    ranked = [column for column in columns if column.higher_is_better is not None]
    return [tuple(column.merit(place) for column in ranked) for place in range(len(drawn))]


def _spread_with(line: Sequence[CellResult], own: CellResult | None, most: int) -> list[CellResult]:
    """A spread of the line; `own`, if it fell out, takes the place of its nearest neighbour."""
    places = spread(range(len(line)), most)
    keys = [result.cell.key for result in line]
    wanted = keys.index(own.cell.key) if own and own.cell.key in keys else None
    if wanted is not None and wanted not in places:
        places[min(range(len(places)), key=lambda i: abs(places[i] - wanted))] = wanted
    return [line[place] for place in places]


def _picture(row: ImageRow | None, folder: Path) -> Picture:
    if row is None:
        return Picture(None, "no picture", None, small=True)
    note = f"seed {row.seed}"
    if row.clip_score is not None:
        note += f", CLIP score {row.clip_score:.1f}"
    wrong = [name for name, right in (row.judge or {}).items() if not right]
    if row.judge:
        note += f", wrong: {', '.join(wrong)}" if wrong else ", all right by the judge"
    uri, small = embedded(folder, row.path)
    return Picture(uri, note, not wrong if row.judge else None, small)


def embedded(folder: Path, path: str) -> tuple[str | None, bool]:
    """The picture at `path` below `folder` as a `data:` address, and whether its bytes are untouched.

    None where the path leads out of the folder, or to no readable picture.
    """
    from PIL import Image

    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()):
        return None, True
    try:
        payload = file.read_bytes()
        with Image.open(io.BytesIO(payload)) as picture:
            if picture.format == "PNG" and max(picture.size) <= SMALL_PX and len(payload) <= SMALL_BYTES:
                picture.verify()
                return _uri(payload, "png"), True
            small = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None, True
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=80)
    return _uri(buffer.getvalue(), "jpeg"), False


def _uri(payload: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(payload).decode('ascii')}"
