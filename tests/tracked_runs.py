"""A small run on disk for the tests of trackers: three cells, of which one has failed."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from eval.hardware_plan import HardwarePlan
from eval.identity import Score, ScoreKey
from eval.measured import Measured, Memory, Timing
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
    TrackingPlan,
)
from eval.tracking.trackers import Trackers, open_trackers

HOSTILE = (
    "<script>alert(1)</script> ![x](http://127.0.0.1/spy.png) [y](javascript:z)",
    "=cmd|' /C calc'!A0\n# heading\x00\x1b[31m \ud800 \u202e end",
    "'; DROP TABLE runs; -- ../../etc/passwd {{7*7}} ${jndi:ldap://x} " + "long " * 4000,
)
CONFIG = "grid:\n  steps: [4, 8]\nprompts:\n  where:\n    a[b] é/c: x\nout: null\n"
ENVIRONMENT = {"python": "CPython 3", "prompts cut by the model's text encoder": "0 of 3"}
CELLS = tuple(
    Cell("f" * 16, "ddim", 4, guidance, "d" * 64, 3, 0, 8, 6, "float32", "cpu")
    for guidance in (1.0, 2.5, 3.0)
)
FILES = ("cells.csv", "images.csv", "comparisons.csv", "report.html", "config.yaml")


@dataclass(frozen=True)
class TrackedRun:
    """A run's folder with pictures and tables, and what became of its cells."""

    folder: Path
    plan: Plan
    results: tuple[CellResult, ...]

    def rows(self, key: str) -> tuple[ImageRow, ...]:
        return tuple(
            ImageRow(key, i, i, text, f"cells/{key}/images/0000{i}.png") for i, text in enumerate(HOSTILE)
        )

    def open(self) -> Trackers:
        return open_trackers(self.plan.tracking, self.folder, self.rows)

    def go(self, results: tuple[CellResult, ...] | None = None, exit_code: int = 1) -> tuple[str, ...]:
        """A sweep with these results, by default the run's; the summary's lines."""
        trackers = self.open()
        with trackers:
            trackers.started(self.plan, CONFIG, ENVIRONMENT, CELLS)
            for result in self.results if results is None else results:
                trackers.cell_done(result)
        return trackers.finished(exit_code)

    @property
    def reused(self) -> tuple[CellResult, ...]:
        return tuple(replace(result, reused=result.error is None) for result in self.results)


def make_run(folder: Path, tracking: TrackingPlan) -> TrackedRun:
    """Write the folder, with the files that a sweep leaves at its end."""
    for cell in CELLS:
        for i in range(len(HOSTILE)):
            path = folder / "cells" / cell.key / "images" / f"0000{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(i))
    for name in FILES:
        (folder / name).write_text("cell,fid\nddim,1.5\nplms,\n")
    plan = Plan(
        model=ModelPlan("m", "m", "cpu", "float32"),
        prompts=PromptSet("p", ("a",)),
        reference=ReferencePlan("none", 0),
        metrics=MetricsPlan("shapes", ("shapes-clip",), ("clip_score",)),
        grid=GridPlan(("ddim",), (4,), (1.0, 2.5, 3.0), 0),
        hardware=HardwarePlan(2, 1, 1),
        folder=str(folder),
        tracking=tracking,
    )
    failed = CellResult(CELLS[1], "a CPU", 4, error="the picture is wholly black")
    return TrackedRun(folder, plan, (_whole(CELLS[0], 30.5), failed, _whole(CELLS[2], 31.5)))


def png(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (i, 2, 3)).save(buffer, format="PNG")
    return buffer.getvalue()


def _whole(cell: Cell, clip: float) -> CellResult:
    return CellResult(
        cell=cell,
        device="a CPU",
        model_evals=4,
        scores=(
            Score(ScoreKey("clip_score", 3, "100*cos"), clip, True, clip - 1, clip + 1),
            Score(
                ScoreKey("fid[shapes-clip]", 3, "d²"), 12.0, False, unreliable="3 pictures, of 2048 needed"
            ),
            Score(ScoreKey("fid_inf[shapes-clip]", 3, "d²"), None, False, reason="too few pictures"),
        ),
        measured=Measured(
            Timing(2, (1.0,), (), 2.0, None, None, 0.4, 0.1, None, reason="no latency was asked for"),
            Memory(None, None, 123, "the device is a CPU"),
        ),
    )
