"""Runs' folders with pictures in them: small, and with all that a picture's page must bear."""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image

from eval.hardware_plan import HardwarePlan
from eval.identity import Score, ScoreKey
from eval.measured import Measured, Timing
from eval.records import (
    Cell,
    CellResult,
    GridPlan,
    ImageRow,
    MetricsPlan,
    ModelPlan,
    Plan,
    PromptSet,
    ReferencePlan,
)
from eval.running.store import RunFolder

EVIL = "</script><script>alert(1)</script>\"'&"
HOSTILE = (EVIL, "=HYPERLINK(1)", "\u202eright to left\u202c", "x" * 10_000, "nul \x00 here", "🦊🦊🦊", "")
PROMPTS = (*HOSTILE, *(f"prompt {i}" for i in range(len(HOSTILE), 30)))
SAMPLERS, STEPS, GUIDANCES = ("ddim", "heun"), (5, 10, 20), (4.0, 9.0)


def cell(sampler: str, steps: int, guidance: float, fingerprint: str = "f00d", side: int = 8) -> Cell:
    return Cell(fingerprint, sampler, steps, guidance, "p", len(PROMPTS), 0, side, side, "float32", "cpu")


FAILED = cell("heun", 20, 9.0)
CELLS = tuple(cell(s, n, g) for s in SAMPLERS for n in STEPS for g in GUIDANCES)


def png(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format="PNG")
    return buffer.getvalue()


def clip_score(at: Cell, index: int) -> float:
    """Falls with the index at 5 steps only: prompt 29 changes most, and is worst for those cells."""
    return 30.0 - (0.1 * index if at.steps == 5 else 0.0) - (1.0 if at.sampler == "heun" else 0.0)


def row(at: Cell, index: int, prompt: str) -> ImageRow:
    right = not (at.steps == 5 and index == 3)
    path = f"cells/{at.key}/images/{index:05d}.png"
    return ImageRow(
        at.key,
        index,
        index,
        prompt,
        path,
        {"clip_score": clip_score(at, index)},
        {"shape": right, "size": True},
    )


def result(at: Cell, device: str = "CPU") -> CellResult:
    if at == FAILED:
        return CellResult(at, device, None, error="out of memory")
    score = Score(ScoreKey("clip_score", len(PROMPTS), "unit"), 30.0 - (at.sampler == "heun"), True)
    timing = Timing(3, (), (), 9.0, at.steps / 100, at.steps / 90, None, None, None)
    return CellResult(at, device, at.steps, (score,), Measured(timing))


def run_on_disk(
    root: Path, *, model: str = "shapes", fingerprint: str = "f00d", prompts: tuple[str, ...] = PROMPTS
) -> Path:
    """Twelve cells of `prompts`, one of them failed; the picture is red by its steps, green by its prompt."""
    plan = Plan(
        ModelPlan(model, model, "cpu", "float32"),
        PromptSet("few", prompts),
        ReferencePlan("none", 0),
        MetricsPlan("shapes", (), ("clip_score",)),
        GridPlan(SAMPLERS, STEPS, GUIDANCES, 0),
        HardwarePlan(3, 1, 1),
        str(root),
    )
    root.mkdir(parents=True, exist_ok=True)
    disk = RunFolder(root)
    cells = [cell(s, n, g, fingerprint) for s in SAMPLERS for n in STEPS for g in GUIDANCES]
    disk.write_head(plan, f"model: {model}\n", {"python": "3.11"}, cells)
    for at in cells:
        disk.open_cell(at)
        found = result(at)
        rows = () if found.error else tuple(row(at, i, prompt) for i, prompt in enumerate(prompts))
        for each in rows:
            (root / each.path).write_bytes(png((at.steps * 10, each.index * 8, 90)))
        disk.write_cell(found, rows, "setup")
    return root


def keep_film(root: Path, at: Cell, said: object = None) -> None:
    """A filmstrip of picture 0 in three frames, and `said` as its film.json."""
    folder = root / "cells" / at.key / "film"
    folder.mkdir(exist_ok=True)
    (folder / "00000.png").write_bytes(png((200, 20, 20), (24, 8)))
    kept = {"pictures": [0], "steps": [0, 2, 5], "frame_width": 8, "frame_height": 8}
    (folder / "film.json").write_text(json.dumps(kept if said is None else said))
