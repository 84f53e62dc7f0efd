"""Cells and pictures as pandas frames, and as CSV files that a spreadsheet can open safely."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from eval.identity import Score
from eval.measured import Curve, Measured
from eval.records import CellResult, ImageRow
from eval.reporting.axes import score_names, separated
from eval.reporting.comparisons import Comparison
from eval.reporting.merging import PlacedCell
from eval.running.atomic import write_atomic

# Seeds stay Python integers: they may exceed 64 bits signed.
_CELL_COLUMNS = {
    "key": "str", "sampler": "str", "steps": "Int64", "guidance": "Float64", "model_evals": "Int64",
    "images": "Int64", "seed": "object", "width": "Int64", "height": "Int64", "device": "str", "dtype": "str",
}  # fmt: skip
_PLACE_COLUMNS = {"model": "str", "run": "str"}
"""Of merged runs only."""
_TIMING_COLUMNS = {
    "images_per_s": "Float64", "throughput_unreliable": "str", "throughput_spread": "Float64", "batch": "Int64",
    "latency_p50_s": "Float64", "latency_p95_s": "Float64", "latency_p99_s": "Float64", "latency_unreliable": "str",
    "latency_spread": "Float64", "cold_s": "Float64", "evals_per_s": "Float64",
    "text_s": "Float64", "denoise_s": "Float64", "decode_s": "Float64", "rest_s": "Float64",
}  # fmt: skip
_MEMORY_COLUMNS = {
    "gpu_allocated_bytes": "Int64", "gpu_reserved_bytes": "Int64", "gpu_driver_bytes": "Int64",
    "process_peak_rss_bytes": "Int64", "memory_unreliable": "str",
}  # fmt: skip
_DEVICE_COLUMNS = {
    "gpu_utilisation": "Float64", "sm_clock_mhz": "Float64", "memory_clock_mhz": "Float64",
    "temperature_c": "Float64", "throttle": "str", "other_processes": "Int64", "other_cpu_share": "Float64",
    "cpu": "str", "cores": "Int64", "threads": "Int64",
    "joules": "Float64", "joules_per_image": "Float64", "mean_power_w": "Float64",
    "flops_per_image": "Int64", "peak_flops_per_s": "Float64", "mfu": "Float64",
    "cost_per_1000_images": "Float64", "currency": "str", "batch_curve": "str",
}  # fmt: skip
_COST_COLUMNS = {
    **_TIMING_COLUMNS, **_MEMORY_COLUMNS, **_DEVICE_COLUMNS,
    "generate_s": "Float64", "error": "str", "reasons": "str", "identity": "str",
}  # fmt: skip
_SCORE_COLUMNS = {"": "Float64", "_low": "Float64", "_high": "Float64", "_unreliable": "str"}
_IMAGE_COLUMNS = {
    "cell_key": "str", "index": "Int64", "seed": "object", "prompt": "str", "path": "str",
    "clip_score": "Float64",
}  # fmt: skip
_COMPARISON_COLUMNS = {
    "metric": "str", "cell": "str", "best": "str", "difference": "Float64", "low": "Float64", "high": "Float64",
    "method": "str", "n": "Int64", "unreliable": "str", "reason": "str", "cell_key": "str", "best_key": "str",
}  # fmt: skip
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def cells_frame(results: Sequence[CellResult]) -> pd.DataFrame:
    """One row a cell, failed ones too; whatever is not known is missing (NA), never 0.

    Scores are columns by name with `<name>_low` and `<name>_high`, the ends of the 95 % interval, and
    `<name>_unreliable`, why the value must not be relied on. Seconds end in `_s`, bytes in `_bytes`. A name
    that bears a second key is a column of its own. Cells of merged runs also say their model and their run.
    """
    results = separated(results)
    names = score_names(results)
    columns = _place_columns(results) | _CELL_COLUMNS | _score_columns(names) | _COST_COLUMNS
    return pd.DataFrame([_cell_row(result, names) for result in results], columns=list(columns)).astype(
        columns
    )


def scores_frame(scores: Sequence[Score]) -> pd.DataFrame:
    """One row: the scores of pictures that are no cell's, in the same columns as `cells_frame` has for them."""
    row: dict[str, object] = {"images": max((score.n for score in scores), default=None)}
    for score in scores:
        row |= _score_fields(score)
    row |= {"reasons": _reasons(scores), "identity": _identity(scores)}
    names = dict.fromkeys(score.name for score in scores)
    columns = {"images": "Int64"} | _score_columns(names) | {"reasons": "str", "identity": "str"}
    return pd.DataFrame([row], columns=list(columns)).astype(columns)


def images_frame(rows: Iterable[ImageRow], results: Sequence[CellResult] = ()) -> pd.DataFrame:
    """One row a picture: whose it is, what was asked, its values by metric, one `judge_<attribute>` each.

    Args:
        results: the cells of merged runs, whose model and run then stand beside each picture.
    """
    rows = tuple(rows)
    places = {result.cell.key: _place(result) for result in results}
    valued = {name: "Float64" for row in rows for name in row.values}
    judged = {f"judge_{name}": "boolean" for row in rows for name in row.judge or {}}
    columns = _place_columns(results) | _IMAGE_COLUMNS | valued | judged
    placed = [places.get(row.cell_key, {}) | _image_row(row) for row in rows]
    return pd.DataFrame(placed, columns=list(columns)).astype(columns)


def write_cells_csv(results: Sequence[CellResult], path: Path) -> None:
    """Write `cells_frame` to `path`, whole or not at all. Raises RunFolderError where the disk refuses."""
    write_atomic(path, to_csv(cells_frame(results)))


def comparisons_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """One row a score and a cell: its difference from the best cell, with the interval or why there is none."""
    return pd.DataFrame([asdict(each) for each in comparisons], columns=list(_COMPARISON_COLUMNS)).astype(
        _COMPARISON_COLUMNS
    )


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as Parquet: the CSV's columns with their types, and text as it is. Raises as `write_cells_csv`."""
    buffer = io.BytesIO()
    seeds = {"seed": "UInt64"} if "seed" in frame else {}
    frame.astype(seeds).to_parquet(buffer, index=False)
    write_atomic(path, buffer.getvalue())


def write_comparisons_csv(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write `comparisons_frame`, whole or not at all. Raises RunFolderError where the disk refuses."""
    write_atomic(path, to_csv(comparisons_frame(comparisons)))


def write_images_csv(rows: Iterable[ImageRow], path: Path, results: Sequence[CellResult] = ()) -> None:
    """Write `images_frame` to `path`, whole or not at all. Raises RunFolderError where the disk refuses."""
    write_atomic(path, to_csv(images_frame(rows, results)))


def _cell_row(result: CellResult, names: Iterable[str]) -> dict[str, object]:
    cell = result.cell
    row: dict[str, object] = _place(result) | {
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
    names = _TIMING_COLUMNS | _DEVICE_COLUMNS
    row: dict[str, object] = {
        name: getattr(part, name) for part in parts for name in names if hasattr(part, name)
    }
    row |= {name: getattr(found.memory, name) for name in _MEMORY_COLUMNS if hasattr(found.memory, name)}
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


def _place(result: CellResult) -> dict[str, object]:
    cell = result.cell
    return {"model": cell.model, "run": cell.run} if isinstance(cell, PlacedCell) else {}


def _place_columns(results: Sequence[CellResult]) -> dict[str, str]:
    return _PLACE_COLUMNS if any(isinstance(result.cell, PlacedCell) for result in results) else {}


def _image_row(row: ImageRow) -> dict[str, object]:
    judged = {f"judge_{name}": right for name, right in (row.judge or {}).items()}
    return {name: getattr(row, name) for name in _IMAGE_COLUMNS} | row.values | judged


def _score_columns(names: Iterable[str]) -> dict[str, str]:
    return {f"{name}{end}": kind for name in names for end, kind in _SCORE_COLUMNS.items()}


def _score_fields(score: Score) -> dict[str, object]:
    parts = (score.value, score.low, score.high, score.unreliable)
    return {f"{score.name}{end}": part for end, part in zip(_SCORE_COLUMNS, parts, strict=True)}


def _reasons(scores: Iterable[Score], measured: Measured | None = None) -> str | None:
    """Why something is missing from the row, as `what: why; what: why`."""
    found = {score.name: score.reason for score in scores}
    for what in ("timing", "memory", "conditions", "energy", "compute", "price"):
        found[what] = getattr(getattr(measured, what, None), "reason", None)
    return "; ".join(f"{what}: {why}" for what, why in found.items() if why) or None


def _identity(scores: Iterable[Score]) -> str | None:
    return " | ".join(f"{score.name}: {score.key.text}" for score in scores) or None


def to_csv(frame: pd.DataFrame) -> bytes:
    """UTF-8 CSV: missing is an empty field, numbers keep every digit, text cannot become a formula."""
    guarded = frame.rename(columns=_guard)
    for name in guarded.columns[guarded.dtypes == "str"]:
        guarded[name] = guarded[name].map(_guard, na_action="ignore")
    # RFC 4180's line ends: with a bare "\n", a carriage return inside text goes unquoted and splits its row.
    return guarded.to_csv(index=False, na_rep="", lineterminator="\r\n").encode()


def _guard(text: str) -> str:
    """Spreadsheets run text that starts like a formula; an apostrophe before it keeps it text."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
