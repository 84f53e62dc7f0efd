"""The tables' columns: names, kinds and order, the same whatever a run holds. `reports/README.md` says what each means.

A table is its fixed columns, with those of the run's scores in the catalogue's order between or after them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import pandas as pd

from eval.reporting.accelerated import COLUMNS as ACCELERATED
from eval.scoring.catalogue import CATALOGUE, base_name, unmarked

Table = Literal["cells", "images", "comparisons"]
Columns = dict[str, str]
"""Name -> pandas' kind."""

PLACE: Columns = {"model": "str", "run": "str"}
"""Before all others, in tables of merged runs only."""
SETTING: Columns = {"key": "str", "sampler": "str", "steps": "Int64", "guidance": "Float64"}
CELL: Columns = {
    "model_evals": "Int64",
    "images": "Int64", "seed": "UInt64", "width": "Int64", "height": "Int64", "device": "str", "dtype": "str",
}  # fmt: skip
TIMING: Columns = {
    "images_per_s": "Float64", "throughput_unreliable": "str", "throughput_spread": "Float64", "batch": "Int64",
    "latency_p50_s": "Float64", "latency_p95_s": "Float64", "latency_p99_s": "Float64", "latency_unreliable": "str",
    "latency_spread": "Float64", "cold_s": "Float64", "evals_per_s": "Float64",
    "text_s": "Float64", "denoise_s": "Float64", "decode_s": "Float64", "rest_s": "Float64",
}  # fmt: skip
MEMORY: Columns = {
    "gpu_allocated_bytes": "Int64", "gpu_reserved_bytes": "Int64", "gpu_driver_bytes": "Int64",
    "process_peak_rss_bytes": "Int64", "memory_unreliable": "str",
}  # fmt: skip
DEVICE: Columns = {
    "gpu_utilisation": "Float64", "sm_clock_mhz": "Float64", "memory_clock_mhz": "Float64",
    "temperature_c": "Float64", "throttle": "str", "other_processes": "Int64", "other_cpu_share": "Float64",
    "cpu": "str", "cores": "Int64", "threads": "Int64",
    "joules": "Float64", "joules_per_image": "Float64", "mean_power_w": "Float64",
    "flops_per_image": "Int64", "peak_flops_per_s": "Float64", "mfu": "Float64",
    "cost_per_1000_images": "Float64", "currency": "str", "batch_curve": "str",
}  # fmt: skip
COST: Columns = {
    **TIMING, **MEMORY, **DEVICE,
    "generate_s": "Float64", "error": "str", "reasons": "str", "identity": "str",
}  # fmt: skip
SCORE: Columns = {"": "Float64", "_low": "Float64", "_high": "Float64", "_unreliable": "str"}
"""A score's columns, by the end of their names."""
IMAGE: Columns = {
    "cell_key": "str", "index": "Int64", "seed": "UInt64", "prompt": "str", "path": "str",
    "clip_score": "Float64",
}  # fmt: skip
COMPARISON: Columns = {
    "metric": "str", "cell": "str", "best": "str", "difference": "Float64", "low": "Float64", "high": "Float64",
    "method": "str", "n": "Int64", "unreliable": "str", "reason": "str", "cell_key": "str", "best_key": "str",
}  # fmt: skip
FIXED: dict[Table, Columns] = {
    "cells": PLACE | SETTING | ACCELERATED | CELL | COST, "images": PLACE | IMAGE, "comparisons": COMPARISON
}  # fmt: skip


def cell_columns(names: Iterable[str], *, placed: bool, accelerated: bool = False) -> Columns:
    """Of `cells.csv`, for scores of these names.

    Args:
        placed: the cells are of merged runs.
        accelerated: some of them have a guidance interval or a precision.
    """
    setting = SETTING | (ACCELERATED if accelerated else {})
    return (PLACE if placed else {}) | setting | CELL | score_columns(names) | COST


def image_columns(values: Iterable[str], attributes: Iterable[str], *, placed: bool) -> Columns:
    """Of `images.csv`, for pictures with these values by metric and these attributes judged."""
    valued = dict.fromkeys(in_order(values), "Float64")
    judged = {f"judge_{name}": "boolean" for name in sorted(attributes)}
    return (PLACE if placed else {}) | IMAGE | valued | judged


def score_columns(names: Iterable[str]) -> Columns:
    """Four columns a score: value, both ends of its interval, and why it must not be relied on."""
    return {f"{name}{end}": kind for name in in_order(names) for end, kind in SCORE.items()}


def in_order(names: Iterable[str]) -> list[str]:
    """Scores' names as tables have them: by the catalogue, then the extractor; of others, by name; `#2` last."""
    known = list(CATALOGUE)

    def place(name: str) -> tuple[int, str, int, str]:
        base = base_name(name)
        at = known.index(base) if base in known else len(known)
        return at, unmarked(name), len(name), name

    return sorted(set(names), key=place)


def kind_of(table: Table, name: str) -> str:
    """The kind of any column of a table, scores' among them."""
    if name in FIXED[table]:
        return FIXED[table][name]
    if table == "comparisons" or (table == "cells" and name.endswith("_unreliable")):
        return "str"
    return "boolean" if table == "images" and name.startswith("judge_") else "Float64"


def framed(rows: Sequence[Mapping[str, object]], columns: Columns) -> pd.DataFrame:
    """The rows as a frame of these columns; what a row lacks is missing, and whole numbers stay exact.

    A column goes from Python's values to its kind by itself: beside a missing one, pandas would take whole
    numbers through float64, where those past 2**53 are rounded.
    """
    found = {
        name: pd.Series([_plain(row.get(name)) for row in rows], dtype="object").astype(kind)  # type: ignore[call-overload]
        for name, kind in columns.items()
    }
    return pd.DataFrame(found, columns=list(columns))


def _plain(value: object) -> object:
    """Text that can be written as UTF-8: half a surrogate pair, as in a file's odd name, becomes U+FFFD."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
