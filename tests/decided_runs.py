"""A run's folder with all that a decision needs: a CLIP score that is its pictures' mean, and noise around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from picture_runs import run_on_disk

from eval.identity import Score, ScoreKey
from eval.records import CellResult, ImageRow
from eval.running.loading import load_run
from eval.running.store import RunFolder


def decided_run(root: Path, *, model: str = "shapes", fingerprint: str = "f00d") -> Path:
    """`picture_runs.run_on_disk` with scores by which its cheapest cells can be chosen; one cell has failed."""
    run_on_disk(root, model=model, fingerprint=fingerprint)
    run, disk, rng = load_run(root), RunFolder(root), np.random.default_rng(3)
    for result in run.results:
        if result.error is None:
            disk.write_cell(*_scored(result, run.images[result.cell.key], rng), "setup")
    return root


def _scored(
    result: CellResult, rows: tuple[ImageRow, ...], rng: np.random.Generator
) -> tuple[CellResult, tuple[ImageRow, ...]]:
    worse = 3.0 if result.cell.guidance > 5 else 0.0
    values = 30.0 - worse + rng.normal(0, 0.02, len(rows))
    found = tuple(
        replace(row, values={"clip_score": float(value)}) for row, value in zip(rows, values, strict=True)
    )
    mean = float(np.mean(values))
    key = ScoreKey("clip_score", len(rows), "100*cos, unclipped")
    return replace(result, scores=(Score(key, mean, True, mean - 0.1, mean + 0.1),)), found
