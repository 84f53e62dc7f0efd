"""What `python eval/score.py` writes and prints: the same columns as a sweep's, without a cell's settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval.config import ScorePlan
from eval.identity import Score
from eval.records import ImageRow
from eval.reporting.axes import doubt_beside, score_title, text
from eval.reporting.frames import images_frame, scores_frame
from eval.reporting.tables import write_csv
from eval.running.atomic import probe, write_atomic
from eval.running.serial import encode
from eval.scoring.cell_scores import Scored, Seen
from eval.scoring.pairing import Pairing


def write_scored(plan: ScorePlan, pairing: Pairing, seen: Seen, scored: Scored) -> Path:
    """Write scores.csv, images.csv and scores.json into the plan's folder; the folder.

    Raises:
        RunFolderError: it cannot be written.
    """
    folder = Path(plan.folder)
    probe(folder)
    write_atomic(folder / "scores.json", encode(scored.scores))
    write_csv(scores_frame(scored.scores), folder / "scores.csv")
    write_csv(images_frame(_rows(plan, pairing, seen, scored)), folder / "images.csv")
    return folder


def scores_text(scores: Sequence[Score]) -> str:
    """One line a score: value, interval, number of pictures, and what there is to know about it."""
    return "\n".join(_line(score) for score in scores)


def _line(score: Score) -> str:
    if score.value is None:
        return f"{score_title(score.name)}: not known, because {score.reason}"
    span = ""
    if score.low is not None and score.high is not None:
        span = f" ({text(score.name, score.low)} to {text(score.name, score.high)})"
    shown = f"{score_title(score.name)}: {text(score.name, score.value)}{span}, {score.n} pictures"
    return shown + doubt_beside(score.unreliable)


def _rows(plan: ScorePlan, pairing: Pairing, seen: Seen, scored: Scored) -> tuple[ImageRow, ...]:
    """One row a picture; nobody knows its seed."""
    root = Path(plan.images).expanduser()
    verdicts = seen.verdicts or (None,) * seen.n
    return tuple(
        ImageRow(
            "",
            index,
            None,
            prompt,
            str(file.relative_to(root)),
            {name: float(column[index]) for name, column in scored.values.items()},
            verdict,
        )
        for index, (file, prompt, verdict) in enumerate(
            zip(pairing.files, pairing.prompts.rows, verdicts, strict=True)
        )
    )
