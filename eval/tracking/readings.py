"""What trackers are told of a cell, in no client's words: figures, remarks, pictures, settings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from eval.accelerations import setting
from eval.records import Cell, CellResult, ImageRow

_CAPTION_LENGTH = 1000


@dataclass(frozen=True)
class Picture:
    """One picture on disk, and what was asked for."""

    path: Path
    index: int
    caption: str
    """The prompt on one line, cut at 1,000 characters; not escaped for anything."""


def figures(result: CellResult) -> dict[str, float]:
    """Every number that is known of the cell, by name: "scores/...", "timing/...", "energy/...", "cost/...".

    What has no value is left out. The ends of a score's interval are `<name>_low` and `<name>_high`.
    """
    found: dict[str, float] = {}
    for score in result.scores:
        ends = {"": score.value, "_low": score.low, "_high": score.high}
        found |= {f"scores/{score.name}{end}": value for end, value in ends.items() if value is not None}
    for group, record in _measured(result).items():
        found |= _numbers(record, f"{group}/")
    cost = {"model_evals": result.model_evals, "generate_s": result.generate_s}
    found |= {f"cost/{name}": float(value) for name, value in cost.items() if value is not None}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def remarks(result: CellResult) -> dict[str, str]:
    """What must stand beside the figures, by name: why one is missing, or must not be relied on; the error."""
    found: dict[str, str] = {}
    if result.error is not None:
        found["failed"] = result.error
    for score in result.scores:
        if score.value is None:
            found[f"scores/{score.name}"] = f"no value: {score.reason or 'no reason given'}"
        elif score.unreliable:
            found[f"scores/{score.name}"] = score.unreliable
    for group, record in _measured(result).items():
        for part in fields(record):
            said = getattr(record, part.name)
            if isinstance(said, str) and (part.name == "reason" or part.name.endswith("unreliable")):
                found[group if part.name == "reason" else f"{group}/{part.name}"] = said
    return {name: valid_text(text) for name, text in found.items()}


def _measured(result: CellResult) -> dict[str, Any]:
    """What was measured, by group: "timing", "memory", "energy" ..., without the curve."""
    if result.measured is None:
        return {}
    groups = {part.name: getattr(result.measured, part.name) for part in fields(result.measured)}
    return {name: record for name, record in groups.items() if record is not None and name != "curve"}


def pictures(rows: Sequence[ImageRow], folder: Path, count: int) -> tuple[Picture, ...]:
    """The first `count` pictures, as far as their files are there."""
    first = [(row, folder / row.path) for row in rows[:count]]
    return tuple(
        Picture(path, row.index, valid_text(" ".join(row.prompt.split()))[:_CAPTION_LENGTH])
        for row, path in first
        if path.is_file()
    )


def short_name(cell: Cell) -> str:
    """ "ddim-4-g3": the cell among those of its grid, of characters that every client takes."""
    limited = "" if cell.guidance_interval is None else "-s{:g}-{:g}".format(*cell.guidance_interval)
    precision = "" if cell.precision is None else f"-{cell.precision}"
    return plain(f"{cell.sampler}-{cell.steps}-g{cell.guidance:g}{limited}{precision}")


def accelerated(cell: Cell) -> dict[str, str]:
    """Its guidance interval and precision as text, by name; empty where it has neither."""
    return {name: str(value) for name, value in setting(cell.guidance_interval, cell.precision).items()}


def settings(config_yaml: str) -> dict[str, str]:
    """The configuration, flat: "grid.steps" -> "[4, 8]"."""
    from omegaconf import OmegaConf

    return dict(_flat(OmegaConf.to_container(OmegaConf.create(config_yaml)), ""))


def plain(name: str, kept: str = r"A-Za-z0-9_.\-") -> str:
    """A name that a client takes: brackets become a dot, anything else outside `kept` and "/" an underscore."""
    dotted = name.replace("[", ".").replace("]", "")
    parts = (re.sub(f"[^{kept}]+", "_", part).lstrip(".") for part in dotted.split("/"))
    return "/".join(part or "_" for part in parts)[:250]


def named(values: Mapping[str, float], kept: str = r"A-Za-z0-9_.\-") -> dict[str, float]:
    """The values under plain names, all different: a second one of the same name ends in "_2"."""
    found: dict[str, float] = {}
    for name, value in values.items():
        wanted = unique = plain(name, kept)
        count = 1
        while unique in found:
            count += 1
            unique = f"{wanted[:240]}_{count}"
        found[unique] = value
    return found


def valid_text(text: str) -> str:
    """The text with what UTF-8 cannot hold, and control characters but line ends and tabs, as "?"."""
    encodable = text.encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "?", encodable)


def _numbers(record: object, prefix: str) -> dict[str, float]:
    """The numbers of a record and of the records in it; raw samples, texts and flags are left out."""
    found: dict[str, float] = {}
    if not is_dataclass(record):
        return found
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            found |= _numbers(value, f"{prefix}{field.name}_")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + field.name] = float(value)
    return found


def _flat(value: object, prefix: str) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [
            pair
            for key, each in value.items()
            for pair in _flat(each, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [(prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))]
