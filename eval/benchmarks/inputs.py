"""What the ways of a sweep are given: ours its command line, the scripts a JSON of the same grid, prompts and seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.benchmarks.part import Asked
from eval.benchmarks.turns import ROOT
from eval.records import Plan
from sdkit._errors import InvalidRequest

NO_SPEED = ("hardware.latency_repeats=0", "hardware.throughput_repeats=0", "report.filmstrips=0")
"""What a script does not do either: measure speed apart, and draw the way from noise to picture."""
SCRIPTED = ("ddim", "euler_a", "dpmpp_2m", "lms")
"""The samplers that the scripts know."""
SWEEP = "eval/sweep.py"
PIPELINE = ROOT / "sdkit" / "shapes" / "weights" / "pipeline"
"""The bundled model, as diffusers reads it."""


@dataclass(frozen=True)
class Setting:
    """A point of the grid by what a script knows of it."""

    sampler: str
    steps: int
    guidance: float


@dataclass(frozen=True)
class CellScores:
    """What one way found of one cell."""

    clip_score: float
    fid: float


def compose(overrides: Sequence[str]) -> Plan:
    """The plan of a sweep's command line. Raises InvalidRequest for what that refuses."""
    from hydra import compose as composed
    from hydra import initialize_config_dir
    from hydra.errors import HydraException

    from eval.command import one_line
    from eval.config import CONF, to_plan
    from eval.schema import register

    register()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return to_plan(composed("sweep", list(overrides)))
    except HydraException as error:
        raise InvalidRequest(one_line(error)) from error


def overrides_of(asked: Asked) -> tuple[str, ...]:
    """The command line's overrides, with the number of prompts where it is scaled.

    Raises:
        InvalidRequest: a share outside 0..1.
    """
    if not 0 < asked.scale <= 1:
        raise InvalidRequest(f"--scale must be over 0 and at most 1, got {asked.scale:g}")
    if asked.scale == 1:
        return asked.overrides
    whole = len(compose(asked.overrides).prompts.texts)
    return (*asked.overrides, f"prompts.count={max(2, round(whole * asked.scale))}")


def sweep_command(out: Path, overrides: Sequence[str]) -> tuple[str, ...]:
    """Our own sweep into `out`, after "python"."""
    return (SWEEP, f"out={out}", *overrides)


def write_inputs(plan: Plan, folder: Path) -> Path:
    """The JSON of both scripts and the reference's pictures, which a script finds on disk; the JSON's path.

    Raises:
        InvalidRequest: what the scripts do not know: another model, scorer or sampler, or no reference's pictures.
    """
    from eval.scoring.weights import bundled_scorer

    for key, value in (("model.source", plan.model.source), ("metrics.clip", plan.metrics.clip)):
        if value != "shapes":
            raise InvalidRequest(f"{key} must be shapes for the scripts, got {value}")
    strange = [name for name in plan.grid.samplers if name not in SCRIPTED]
    if strange:
        raise InvalidRequest(
            f"grid.sampler must be of {', '.join(SCRIPTED)} for the scripts, got {strange[0]}"
        )
    pictures = folder / "reference"
    _write_reference(plan, pictures)
    path = folder / "inputs.json"
    given = {
        "pipeline": str(PIPELINE),
        "scorer": str(bundled_scorer()),
        "reference": str(pictures),
        "prompts": plan.prompts.rows,
        "samplers": plan.grid.samplers,
        "steps": plan.grid.steps,
        "guidances": plan.grid.guidances,
        "seed": plan.grid.seed,
        "batch": plan.hardware.batch,
        "device": plan.model.device,
        "dtype": plan.model.dtype,
    }
    path.write_text(json.dumps(given, indent=1), encoding="utf-8")
    return path


def _write_reference(plan: Plan, pictures: Path) -> None:
    from PIL import Image

    from eval.scoring.references import open_reference

    reference = open_reference(plan.reference)
    if reference is None or not reference.count:
        raise InvalidRequest(f"reference must have pictures, got reference.kind={plan.reference.kind}")
    pictures.mkdir(parents=True)
    for batch in reference.numbered(256):
        for row, picture in zip(batch.rows, batch.pixels.permute(0, 2, 3, 1).numpy(), strict=True):
            Image.fromarray(picture).save(pictures / f"{row:05d}.png")


def read_scores(folder: Path) -> dict[Setting, CellScores]:
    """What a way left: our cells.csv, or a script's scores.csv; empty where it left none."""
    for name in ("cells.csv", "scores.csv"):
        if (folder / name).is_file():
            return dict(_rows(folder / name))
    return {}


def _rows(path: Path) -> Iterator[tuple[Setting, CellScores]]:
    import pandas as pd

    table = pd.read_csv(path, dtype={"sampler": str})
    fid = next(name for name in table.columns if name.startswith("fid") and not name.startswith("fid_"))
    for row in table.dropna(subset=["clip_score", fid]).to_dict("records"):
        setting = Setting(str(row["sampler"]), int(row["steps"]), float(row["guidance"]))
        yield setting, CellScores(float(row["clip_score"]), float(row[fid]))
