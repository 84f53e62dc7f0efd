"""The committed table of coverage holds what it must, and its script makes such tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eval.scoring import benchmarks
from eval.scoring.benchmarks.coverage import BAR, EXPERIMENTS, MUST, SIZES, measure, table

TABLE = (Path(str(benchmarks.__file__)).parent / "coverage.md").read_text(encoding="utf-8")


def _covers(name: str, n: int) -> float:
    row = re.search(rf"^\| {re.escape(name)} \| {n} \| ([0-9.]+) \|", TABLE, re.MULTILINE)
    assert row is not None, f"{name} at N = {n} is not in the table"
    return float(row[1]) / 100


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", MUST)
def test_the_intervals_that_must_cover_do(name: str, n: int) -> None:
    assert BAR[0] <= _covers(name, n) <= BAR[1]


def test_each_figure_rests_on_a_thousand_sweeps_at_least() -> None:
    sweeps = re.search(r"--sweeps ([0-9]+)", TABLE)
    assert sweeps is not None
    assert int(sweeps[1]) >= 1000


def test_a_few_sweeps_make_rows_of_the_same_kind() -> None:
    rows = [row for each in EXPERIMENTS for row in measure(each, 256, 4, 1)]
    assert {row.name for row in rows} >= set(MUST)
    for row in rows:
        assert f"| {row.name} | 256 |" in TABLE
    assert table(rows).startswith("| interval | N | covers, % |")
