"""On the bundled world scores rank settings as the judge does: from the committed run, by an independent formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from scipy import stats

from eval.scoring import benchmarks
from eval.scoring.benchmarks.truth import BAR, JUDGE, MUST, agreements, direction, disagreements, main

FOLDER = Path(str(benchmarks.__file__)).parent


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "truth.csv")


def test_the_committed_run_is_the_default_grid(cells: pd.DataFrame) -> None:
    grid = OmegaConf.load(FOLDER.parents[2] / "conf" / "grid" / "default.yaml")
    asked = {(s, n, float(g)) for s in grid["sampler"] for n in grid["steps"] for g in grid["guidance"]}
    there = {(s, n, float(g)) for s, n, g in zip(cells.sampler, cells.steps, cells.guidance, strict=True)}
    assert there == asked
    assert set(cells["images"]) == {1024}


@pytest.mark.parametrize("name", MUST)
def test_the_scores_that_must_agree_with_the_judge_do(cells: pd.DataFrame, name: str) -> None:
    expected = stats.spearmanr(direction(name) * cells[name], cells[JUDGE]).statistic
    found = next(each.spearman for each in agreements(cells) if each.score == name)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found >= BAR


def test_the_committed_table_says_what_the_numbers_say(cells: pd.DataFrame) -> None:
    text = (FOLDER / "truth.md").read_text(encoding="utf-8")
    for each in agreements(cells):
        assert f"| `{each.score}` | {each.spearman:.3f} | {each.cells} |" in text


def test_a_score_that_ranks_at_random_fails_the_bar(tmp_path: Path, cells: pd.DataFrame) -> None:
    cells = cells.copy()
    cells["clip_score"] = np.random.default_rng(0).permutation(cells["clip_score"].to_numpy())
    cells.to_csv(tmp_path / "cells.csv", index=False)
    assert main([str(tmp_path), "--out", str(tmp_path)]) == 1


def test_the_farthest_apart_come_first() -> None:
    frame = pd.DataFrame(
        {
            "sampler": list("abcdef"),
            "steps": 4,
            "guidance": 1.0,
            "clip_score": [1.0, 2.0, 3.0, 4.0, 5.0, 0.0],
            JUDGE: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        }
    )
    assert disagreements(frame, "clip_score")["sampler"].iloc[0] == "f"
