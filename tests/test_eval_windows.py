"""Scores against published ranges."""

from __future__ import annotations

from eval.identity import Score, ScoreKey
from eval.records import Cell, CellResult, Window
from eval.scoring.windows import window_lines

CELL = Cell("f00d", "euler_leading", 20, 8.0, "p", 5000, 0, 1024, 1024, "float32", "cuda")
WINDOW = Window("clip_score", 31.68631873, 31.81331801, "MLPerf")


def _lines(value: float | None, **more: str) -> tuple[str, ...]:
    score = Score(ScoreKey("clip_score", 5000, "100*cos"), value, True, **more)
    return window_lines([CellResult(CELL, "GPU", 20, (score,))], [WINDOW])


def test_a_value_is_inside_or_outside_its_window() -> None:
    (inside,), (outside,) = _lines(31.75), _lines(31.6863)
    assert "clip_score 31.75 lies inside the published window 31.6863 to 31.8133 (MLPerf)" in inside
    assert "lies OUTSIDE" in outside
    assert inside.startswith("euler_leading · 20 steps · g 8: ")


def test_both_ends_belong_to_the_window() -> None:
    assert "inside" in _lines(31.68631873)[0]
    assert "inside" in _lines(31.81331801)[0]


def test_what_is_not_known_says_why() -> None:
    assert "not known, because too few" in _lines(None, reason="too few")[0]
    failed = window_lines([CellResult(CELL, "GPU", 20, error="out of memory")], [WINDOW])
    assert "not known, because out of memory" in failed[0]
    missing = window_lines([CellResult(CELL, "GPU", 20)], [WINDOW])
    assert "metrics.scores does not ask for clip_score" in missing[0]


def test_an_unreliable_value_stays_labelled() -> None:
    assert _lines(31.75, unreliable="128 pictures")[0].endswith("; unreliable: 128 pictures")
