"""Cells, pictures and comparisons as pandas frames. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import pandas as pd

from eval.identity import Score
from eval.measured import Curve, Measured
from eval.records import CellResult, ImageRow
from eval.reporting.accelerated import accelerated, fields
from eval.reporting.axes import score_names, separated
from eval.reporting.columns import (
    COMPARISON,
    DEVICE,
    IMAGE,
    MEMORY,
    SCORE,
    TIMING,
    cell_columns,
    framed,
    image_columns,
    score_columns,
)
from eval.reporting.comparisons import Comparison
from eval.reporting.merging import PlacedCell


def cells_frame(results: Sequence[CellResult]) -> pd.DataFrame:
    """One row a cell, failed ones too; whatever is not known is missing (NA), never 0.

    Scores are columns by name with `<name>_low` and `<name>_high`, the ends of the 95 % interval, and
    `<name>_unreliable`, why the value must not be relied on. Seconds end in `_s`, bytes in `_bytes`. A name
    that bears a second key is a column of its own. Cells of merged runs also say their model and their run.
    """
    results = separated(results)
    names = score_names(results)
    limited = accelerated(result.cell for result in results)
    columns = cell_columns(names, placed=_placed(results), accelerated=limited)
    return framed([_cell_row(result, names) for result in results], columns)


def scores_frame(scores: Sequence[Score]) -> pd.DataFrame:
    """One row: the scores of pictures that are no cell's, in the same columns as `cells_frame` has for them."""
    row: dict[str, object] = {"images": max((score.n for score in scores), default=None)}
    for score in scores:
        row |= _score_fields(score)
    row |= {"reasons": _reasons(scores), "identity": _identity(scores)}
    names = {score.name for score in scores}
    return framed([row], {"images": "Int64"} | score_columns(names) | {"reasons": "str", "identity": "str"})


def images_frame(rows: Iterable[ImageRow], results: Sequence[CellResult] = ()) -> pd.DataFrame:
    """One row a picture: whose it is, what was asked, its values by metric, one `judge_<attribute>` each.

    Args:
        results: the cells of merged runs, whose model and run then stand beside each picture.
    """
    rows = tuple(rows)
    places = {result.cell.key: _place(result) for result in results}
    values = {name for row in rows for name in row.values}
    attributes = {name for row in rows for name in row.judge or {}}
    columns = image_columns(values, attributes, placed=_placed(results))
    return framed([places.get(row.cell_key, {}) | _image_row(row) for row in rows], columns)


def comparisons_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """One row a score and a cell: its difference from the best cell, with the interval or why there is none."""
    return framed([asdict(each) for each in comparisons], COMPARISON)


def _cell_row(result: CellResult, names: Iterable[str]) -> dict[str, object]:
    cell = result.cell
    row: dict[str, object] = _place(result) | fields(cell) | {
        "key": cell.key, "sampler": cell.sampler, "steps": cell.steps, "guidance": cell.guidance,
        "model_evals": result.model_evals, "images": cell.count, "seed": cell.seed,
        "width": cell.width, "height": cell.height, "device": result.device, "dtype": cell.dtype,
        "generate_s": result.generate_s, "error": result.error,
        "reasons": _reasons(result.scores, result.measured), "identity": _identity(result.scores),
    }  # fmt: skip
    for score in (result.score(name) for name in names):
        if score is not None:
            row |= _score_fields(score)
    return row if result.measured is None else row | _measured_fields(result.measured)


def _measured_fields(found: Measured) -> dict[str, object]:
    """What was measured, by column; throttling and the curve as text."""
    parts = (found.timing, found.conditions, found.energy, found.compute)
    names = TIMING | DEVICE
    row: dict[str, object] = {
        name: getattr(part, name) for part in parts for name in names if hasattr(part, name)
    }
    row |= {name: getattr(found.memory, name) for name in MEMORY if hasattr(found.memory, name)}
    row["memory_unreliable"] = found.memory.unreliable if found.memory else None
    if found.conditions is not None and found.conditions.throttle is not None:
        row["throttle"] = ", ".join(found.conditions.throttle) or "none"
    if found.price is not None and found.price.per_1000_images is not None:
        row |= {"cost_per_1000_images": found.price.per_1000_images, "currency": found.price.currency}
    return row if found.curve is None else row | {"batch_curve": _curve(found.curve)}


def _curve(curve: Curve) -> str:
    """`batch: images/s, MB; ...` and why it ends."""
    points = []
    for point in curve.points:
        speed = "failed" if point.images_per_s is None else f"{point.images_per_s:.4g}/s"
        peak = "" if point.peak_bytes is None else f" {point.peak_bytes / 1e6:.0f} MB"
        points.append(f"{point.batch}: {speed}{peak}")
    return f"{'; '.join(points)}. {curve.stopped}"


def _placed(results: Iterable[CellResult]) -> bool:
    return any(isinstance(result.cell, PlacedCell) for result in results)


def _place(result: CellResult) -> dict[str, object]:
    cell = result.cell
    return {"model": cell.model, "run": cell.run} if isinstance(cell, PlacedCell) else {}


def _image_row(row: ImageRow) -> dict[str, object]:
    judged = {f"judge_{name}": right for name, right in (row.judge or {}).items()}
    return {name: getattr(row, name) for name in IMAGE} | row.values | judged


def _score_fields(score: Score) -> dict[str, object]:
    parts = (score.value, score.low, score.high, score.unreliable)
    return {f"{score.name}{end}": part for end, part in zip(SCORE, parts, strict=True)}


def _reasons(scores: Iterable[Score], measured: Measured | None = None) -> str | None:
    """Why something is missing from the row, as `what: why; what: why`."""
    found = {score.name: score.reason for score in scores}
    for what in ("timing", "memory", "conditions", "energy", "compute", "price"):
        found[what] = getattr(getattr(measured, what, None), "reason", None)
    return "; ".join(f"{what}: {why}" for what, why in found.items() if why) or None


def _identity(scores: Iterable[Score]) -> str | None:
    return " | ".join(f"{score.name}: {score.key.text}" for score in scores) or None
