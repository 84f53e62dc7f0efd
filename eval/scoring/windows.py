"""Scores held against published ranges, each as one sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from eval.identity import Score
from eval.records import CellResult, Window


def window_lines(results: Sequence[CellResult], windows: Sequence[Window]) -> tuple[str, ...]:
    """For each cell and each window, whether the score lies inside, or why that is not known."""
    return tuple(
        f"{result.cell.label}: {_verdict(result.score(window.score), window, result.error)}"
        for result in results
        for window in windows
    )


def _verdict(score: Score | None, window: Window, error: str | None) -> str:
    published = f"{window.low:g} to {window.high:g} ({window.source})"
    if score is None or score.value is None:
        why = error or (score.reason if score else f"metrics.scores does not ask for {window.score}")
        return f"{window.score} is not known, because {why}; published window {published}"
    lies = "inside" if window.low <= score.value <= window.high else "OUTSIDE"
    label = f"; unreliable: {score.unreliable}" if score.unreliable else ""
    return f"{window.score} {score.value:.6g} lies {lies} the published window {published}{label}"
