"""TensorBoard: event files in the run's folder, below `tensorboard/`.

Figures have the cell's place in the grid as their step. Each cell has a folder of its own beside, with its
settings and figures for the HPARAMS tab.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.records import CellResult, ImageRow, Plan, TrackingPlan
from eval.tracking.kept import KeptRun
from eval.tracking.readings import (
    Picture,
    accelerated,
    figures,
    named,
    pictures,
    remarks,
    settings,
    short_name,
    valid_text,
)
from eval.tracking.tracker import client

FOLDER = "tensorboard"


class TensorboardTracker:
    """Writes event files; nothing leaves the machine."""

    name = "tensorboard"
    place = FOLDER

    def __init__(self, plan: TrackingPlan, folder: Path) -> None:
        client("tensorboard", self.name)
        self._summaries = client("torch.utils.tensorboard.summary", self.name)
        self._writers = client("torch.utils.tensorboard.writer", self.name)
        self._proto = client("tensorboard.compat.proto.summary_pb2", self.name)
        self._images = plan.images
        self._logs = folder / FOLDER
        self._writer: Any = None

    def started(
        self, plan: Plan, config_yaml: str, environment: Mapping[str, str], earlier: KeptRun | None
    ) -> KeptRun:
        whole = earlier is not None and any(self._logs.glob("events.out.tfevents.*"))
        self._writer = self._writers.FileWriter(self._logs)
        self._text("settings", _table(settings(config_yaml)), 0)
        self._text("environment", _table(environment), 0)
        self._writer.flush()
        return earlier if earlier is not None and whole else KeptRun(self.place, FOLDER)

    def cell_done(self, result: CellResult, rows: Sequence[ImageRow], folder: Path, step: int) -> None:
        name = short_name(result.cell)
        values = named(figures(result))
        for tag, value in values.items():
            self._writer.add_summary(self._scalar(tag, value), step)
        if said := remarks(result):
            kind = "failed" if result.error is not None else "remarks"
            self._text(f"{kind}/{name}", _table(said), step)
        shown = pictures(rows, folder, self._images)
        for picture in shown:
            self._writer.add_summary(self._image(f"{name}/{picture.index:05d}", picture), step)
        if shown:
            self._text(
                f"captions/{name}", _table({f"{each.index:05d}": each.caption for each in shown}), step
            )
        self._writer.flush()
        if result.error is None:
            self._compare(result, values)

    def finished(self, folder: Path, exit_code: int) -> str | None:
        self._text("exit code", _table({"exit code": str(exit_code)}), 0)
        self._writer.close()  # cells.csv, the report and the rest lie in the folder above
        return None

    def _compare(self, result: CellResult, values: Mapping[str, float]) -> None:
        """The cell as a session of the HPARAMS tab, which wants a folder for each."""
        cell = result.cell
        asked = {"sampler": cell.sampler, "steps": cell.steps, "guidance": cell.guidance}
        asked |= accelerated(cell)
        writer = self._writers.FileWriter(self._logs / short_name(cell))
        try:
            for summary in self._summaries.hparams(asked, dict(values)):
                writer.add_summary(summary)
            for tag, value in values.items():
                writer.add_summary(self._scalar(tag, value), 0)
        finally:
            writer.close()

    def _scalar(self, tag: str, value: float) -> Any:
        return self._proto.Summary(value=[self._proto.Summary.Value(tag=tag, simple_value=value)])

    def _image(self, tag: str, picture: Picture) -> Any:
        """The PNG's own bytes: nothing is encoded again."""
        from PIL import Image

        with Image.open(picture.path) as opened:
            width, height = opened.size
        image = self._proto.Summary.Image(
            width=width, height=height, colorspace=3, encoded_image_string=picture.path.read_bytes()
        )
        return self._proto.Summary(value=[self._proto.Summary.Value(tag=tag, image=image)])

    def _text(self, tag: str, markdown: str, step: int) -> None:
        self._writer.add_summary(self._summaries.text(tag, markdown), step)


def _table(values: Mapping[str, str]) -> str:
    """As Markdown's indented code, in which nothing is markup: a picture's address in it is not fetched."""
    lines = (f"    {name}: {' '.join(valid_text(text).split())}" for name, text in values.items())
    return "\n".join(lines)
