"""The committed example: small, of no particular machine, and its decision held against the exact judge."""

from __future__ import annotations

import json

import pandas as pd
from browsing import visit
from playwright.sync_api import Browser

from eval.reporting.example import LINKED, ROOT

EXAMPLE = ROOT / "reports" / "example"
TRUTH = ROOT / "eval" / "scoring" / "benchmarks" / "truth.csv"
POINTS = 0.02
"""How far below the best setting's judge accuracy the choice may lie."""


def chosen() -> dict[str, object]:
    decision = json.loads((EXAMPLE / "decision.json").read_text(encoding="utf-8"))
    assert decision["status"] == "chosen"
    found: dict[str, object] = decision["setting"]
    return found


def row_of(table: pd.DataFrame, setting: dict[str, object]) -> pd.Series:
    same = [table[name] == setting[name] for name in ("sampler", "steps", "guidance")]
    found = table[same[0] & same[1] & same[2]]
    assert len(found) == 1
    return found.iloc[0]


def test_the_choice_of_the_default_sweep_is_within_two_points_of_the_judges_best_and_cheaper() -> None:
    cells = pd.read_csv(EXAMPLE / "cells.csv")
    assert len(cells) == 36
    best, own = cells.loc[cells["judge_all"].idxmax()], row_of(cells, chosen())
    assert own["judge_all"] >= best["judge_all"] - POINTS
    assert own["latency_p50_s"] < best["latency_p50_s"]


def test_so_it_is_by_the_judge_at_eight_times_as_many_captions() -> None:
    truth = pd.read_csv(TRUTH)
    best, own = truth.loc[truth["judge_all"].idxmax()], row_of(truth, chosen())
    assert (best["images"], own["images"]) == (1024, 1024)
    assert own["judge_all"] >= best["judge_all"] - POINTS
    assert own["steps"] < best["steps"]


def test_the_example_is_complete_and_small() -> None:
    sizes = {file.name: file.stat().st_size for file in EXAMPLE.iterdir()}
    assert sizes.keys() == {*LINKED, "summary.md", "report.png"}
    assert sum(sizes.values()) < 5_000_000


def test_the_example_opens_by_itself(browser: Browser) -> None:
    with visit(browser, EXAMPLE / "report.html") as seen:
        setting = chosen()
        said = seen.page.locator("#decision").inner_text()
        assert f"{setting['steps']} steps" in said
        assert str(setting["sampler"]) in said
        seen.page.locator("#pictures-table img").first.wait_for()
