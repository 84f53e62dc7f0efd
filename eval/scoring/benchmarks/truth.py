"""Do the scores rank settings as the truth does? On the bundled world the judge knows it.

    python eval/sweep.py prompts.count=1024 hardware.latency_repeats=0 hardware.throughput_repeats=0 out=reports/truth
    python -m eval.scoring.benchmarks.truth reports/truth --out eval/scoring/benchmarks

Spearman's rank correlation of every score with the judge's share of right pictures, over the cells of the run, each
score turned so that more is better; then the cells on which a score and the judge disagree most. Writes truth.csv
(what the ranks come from) and truth.md (the tables).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

JUDGE = "judge_all"
MUST = ("clip_score", "fid[shapes-clip]", "zero_shot")
"""Scores that have to agree with the judge: at least `BAR`."""
BAR = 0.8
_SHOWN = 4
_LOWER_IS_BETTER = ("fid", "kid", "cmmd", "latent_rmse", "clipped")
_NO_DIRECTION = ("saturation", "contrast")


@dataclass(frozen=True)
class Agreement:
    """How one score ranks the cells beside the judge."""

    score: str
    spearman: float
    cells: int
    """Cells that have both."""


def agreements(cells: pd.DataFrame) -> tuple[Agreement, ...]:
    """Every score's rank correlation with the judge, the score turned so that more is better.

    Args:
        cells: a run's cells.csv. Source: Spearman 1904; ties share their mean rank.
    """
    found = []
    for name in score_columns(cells):
        both = cells[[name, JUDGE]].dropna()
        if len(both) < 3 or both[name].nunique() < 2:
            continue
        ranks = both.rank()
        rho = float(np.corrcoef(direction(name) * ranks[name], ranks[JUDGE])[0, 1])
        found.append(Agreement(name, rho, len(both)))
    return tuple(found)


def disagreements(cells: pd.DataFrame, name: str) -> pd.DataFrame:
    """The cells whose rank by the score and by the judge lie farthest apart, the farthest first."""
    both = cells[["sampler", "steps", "guidance", name, JUDGE]].dropna().copy()
    both["rank by score"] = (direction(name) * both[name]).rank(ascending=False)
    both["rank by judge"] = both[JUDGE].rank(ascending=False)
    apart = (both["rank by score"] - both["rank by judge"]).abs()
    return both.loc[apart.sort_values(ascending=False, kind="stable").index[:_SHOWN]]


def direction(name: str) -> int:
    """1 where more is better, -1 where less is."""
    return -1 if name.split("[")[0].removesuffix("_inf") in _LOWER_IS_BETTER else 1


def score_columns(cells: pd.DataFrame) -> list[str]:
    """The columns of a cells.csv that are scores with a direction, without the judge itself."""
    ends = ("_low", "_high", "_unreliable")
    named = [name.removesuffix("_low") for name in cells.columns if name.endswith("_low")]
    return [name for name in named if name != JUDGE and name not in _NO_DIRECTION and not name.endswith(ends)]


def markdown(cells: pd.DataFrame, found: Sequence[Agreement], pictures: int) -> str:
    """The tables as Markdown."""
    lines = [
        "# Do the scores rank settings as the judge does?",
        "",
        f"{len(cells)} settings of the default grid, {pictures} held-out captions each, one seed a caption; by the two",
        "commands in `truth.py`, numbers in `truth.csv`. Each score is turned so that more is better.",
        "",
        "| score | Spearman with the judge | cells |",
        "|---|---|---|",
        *(f"| `{each.score}` | {each.spearman:.3f} | {each.cells} |" for each in found),
    ]
    for name in MUST:
        lines += [
            "",
            f"Farthest apart, `{name}`:",
            "",
            "| setting | value | judge | rank by it | rank by the judge |",
        ]
        lines.append("|---|---|---|---|---|")
        for row in disagreements(cells, name).to_dict("records"):
            setting = f"{row['sampler']}, {row['steps']} steps, guidance {row['guidance']:g}"
            ranks = f"{row['rank by score']:g} | {row['rank by judge']:g}"
            lines.append(f"| {setting} | {row[name]:.4g} | {row[JUDGE]:.1%} | {ranks} |".replace("%", " %"))
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the tables; 1 where a score that must agree does not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="where truth.csv and truth.md go"
    )
    given = parser.parse_args(arguments)
    cells = pd.read_csv(given.run / "cells.csv")
    found = agreements(cells)
    kept = ["sampler", "steps", "guidance", "images", JUDGE, *score_columns(cells)]
    kept += [f"{name}_low" for name in score_columns(cells)]
    cells[kept].to_csv(given.out / "truth.csv", index=False, float_format="%.6g")
    (given.out / "truth.md").write_text(markdown(cells, found, int(cells["images"].max())), encoding="utf-8")
    by_name = {each.score: each.spearman for each in found}
    for name in MUST:
        sys.stdout.write(f"{name}: {by_name[name]:.3f} (bar {BAR})\n")
    return 0 if all(by_name[name] >= BAR for name in MUST) else 1


if __name__ == "__main__":
    sys.exit(main())
