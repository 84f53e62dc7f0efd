"""The grid of pictures as plain columns: prompts × cells, where each picture lies and what it scored. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.records import Cell, ImageRow, Plan, Run
from eval.reporting.merging import PlacedCell

NOT_JUDGED = 255
"""In the judge's column: nobody judged the picture."""
MAX_ATTRIBUTES = 7
"""As many of the judge's attributes as fit into a byte that is not `NOT_JUDGED`."""


@dataclass(frozen=True)
class Layout:
    """The prompts of all runs, once each, and where every run's own pictures stand among them.

    Place = prompt × draws + draw. A text that stands twice in one run is two prompts, as it has two seeds.
    """

    texts: tuple[str, ...]
    draws: int
    """Pictures a prompt, at most."""
    own: dict[str, NDArray[np.int32]]
    """Run's name -> (places,) its index of the picture at each place, -1 where it has none."""

    @property
    def places(self) -> int:
        return len(self.texts) * self.draws


@dataclass(frozen=True)
class PictureColumns:
    """What is known of each picture; (cells, places) throughout."""

    index: NDArray[np.int32]
    """The picture's index in its own cell; -1 where the cell has none there."""
    present: NDArray[np.bool_]
    """Its file is where the sweep puts it."""
    clip: NDArray[np.float32]
    """CLIP score; NaN where unknown."""
    judge: NDArray[np.uint8]
    """One bit an attribute that is wrong; `NOT_JUDGED` where unknown."""
    attributes: tuple[str, ...]
    """The judge's, lowest bit first; one alone, "whole picture", where there are too many for a byte."""


def layout(run: Run) -> Layout:
    """The prompts of the run, or of all that were merged into it, in their order."""
    plans = run.plans or {"": run.plan}
    named = {name: _numbered(plan) for name, plan in plans.items()}
    prompts = list(dict.fromkeys(each for found in named.values() for each in found))
    draws = max((plan.prompts.seeds_per_prompt for plan in plans.values()), default=1)
    place = {prompt: i * draws for i, prompt in enumerate(prompts)}
    own = {}
    for run_name, plan in plans.items():
        column = np.full(len(prompts) * draws, -1, np.int32)
        each = plan.prompts.seeds_per_prompt
        for i, prompt in enumerate(named[run_name]):
            column[place[prompt] : place[prompt] + each] = range(i * each, (i + 1) * each)
        own[run_name] = column
    return Layout(tuple(text for text, _ in prompts), draws, own)


def _numbered(plan: Plan) -> list[tuple[str, int]]:
    """Each prompt with how many equal ones stand before it."""
    seen: dict[str, int] = {}
    found = []
    for text in plan.prompts.texts:
        seen[text] = seen.get(text, -1) + 1
        found.append((text, seen[text]))
    return found


def run_of(cell: Cell, plan: Layout) -> str:
    """The name under which the cell's run stands in the layout."""
    return cell.run if isinstance(cell, PlacedCell) and cell.run in plan.own else next(iter(plan.own), "")


def picture_columns(run: Run, plan: Layout, present: Mapping[str, set[int]]) -> PictureColumns:
    """The columns of all cells, in the run's order; a failed cell's are empty.

    Args:
        present: cell key -> indices of the pictures whose files are there.
    """
    shape = (len(run.results), plan.places)
    found = PictureColumns(
        np.full(shape, -1, np.int32),
        np.zeros(shape, np.bool_),
        np.full(shape, np.nan, np.float32),
        np.full(shape, NOT_JUDGED, np.uint8),
        _attributes(row for rows in run.images.values() for row in rows),
    )
    places = {
        name: {int(own): i for i, own in enumerate(column) if own >= 0} for name, column in plan.own.items()
    }
    for i, result in enumerate(run.results):
        key, name = result.cell.key, run_of(result.cell, plan)
        found.index[i] = plan.own[name] if result.error is None else -1
        _fill(found, i, run.images.get(key, ()), places[name], present.get(key, set()), plan)
    return found


def _fill(
    found: PictureColumns,
    cell: int,
    rows: Sequence[ImageRow],
    places: Mapping[int, int],
    present: set[int],
    plan: Layout,
) -> None:
    for row in rows:
        place = places.get(row.index)
        if place is None or plan.texts[place // plan.draws] != row.prompt:
            continue  # a picture of another prompt is not shown under this one
        found.present[cell, place] = row.index in present
        found.clip[cell, place] = np.nan if row.clip_score is None else row.clip_score
        found.judge[cell, place] = _wrong(row, found.attributes)


def _attributes(rows: Iterable[ImageRow]) -> tuple[str, ...]:
    names = dict.fromkeys(name for row in rows for name in row.judge or ())
    return tuple(names) if len(names) <= MAX_ATTRIBUTES else ("whole picture",)


def _wrong(row: ImageRow, attributes: Sequence[str]) -> int:
    if not row.judge:
        return NOT_JUDGED
    if set(row.judge) <= set(attributes):
        return sum((not row.judge.get(name, True)) << bit for bit, name in enumerate(attributes))
    return int(not all(row.judge.values()))


def cells_first(cells: Sequence[Cell], chosen: str | None) -> list[int]:
    """Places of the cells, those first that the page shows first: the chosen one's line over steps, then
    the others at its guidance, then the rest."""
    keys = [cell.key for cell in cells]
    lead = cells[keys.index(chosen)] if chosen in keys else next(iter(cells), None)
    if lead is None:
        return []
    return sorted(
        range(len(cells)),
        key=lambda i: (
            keys[i] != lead.key,
            (cells[i].series, cells[i].guidance) != (lead.series, lead.guidance),
            cells[i].guidance != lead.guidance,
        ),
    )


def telling_prompts(found: PictureColumns, plan: Layout, chosen: int | None, most: int) -> list[int]:
    """At most `most` prompts for a page that cannot show all: half of them spread over the file, the others
    those on which the chosen cell does worst (wrong by the judge, then furthest below the best)."""
    count = len(plan.texts)
    if count <= most:
        return list(range(count))
    spread = {round(i * (count - 1) / max(most // 2 - 1, 1)) for i in range(max(most // 2, 1))}
    if chosen is None:
        spread |= {round(i * (count - 1) / max(most - 1, 1)) for i in range(most)}
        return sorted(spread)[:most]
    clip = found.clip[:, :: plan.draws]
    known = np.where(np.isnan(clip), -np.inf, clip)
    behind = np.nan_to_num(known.max(axis=0) - clip[chosen], nan=-1.0, posinf=-1.0, neginf=-1.0)
    judged = found.judge[chosen, :: plan.draws]
    wrong = (judged != 0) & (judged != NOT_JUDGED)
    for prompt in np.lexsort((-behind, ~wrong)):
        if len(spread) < most:
            spread.add(int(prompt))
    return sorted(spread)


def packed(values: NDArray[Any]) -> str:
    """The array as base64 of its little-endian bytes, row by row; booleans eight to a byte."""
    if values.dtype == np.bool_:
        return base64.b64encode(np.packbits(values.ravel(), bitorder="little").tobytes()).decode("ascii")
    return base64.b64encode(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()).decode(
        "ascii"
    )
