"""Races on recorded scores: whether a race ends with the grid's choice, and which share of its pictures it makes.

python -m eval.running.benchmarks.racing [FOLDER ...] --write

A FOLDER is a run's, such as `python eval/sweep.py prompts.count=512` leaves, or reports/example, whose page holds the
CLIP score of every picture. Each repetition draws prompts: all in another order, or a part of them, or, where more are
asked for than were recorded, with replacement. Then the grid is decided over all of them, a race is run on them, and
the rest of the race is decided by the same rule. What a setting costs is its denoiser rows, so that no clock has a part
in it.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from eval.decide_plan import DecidePlan, RuleScore
from eval.measured import Measured, Timing
from eval.records import Cell, CellResult
from eval.reporting.decide import decide
from eval.reporting.quality import Part, Quality
from eval.running.grid import denoiser_rows
from eval.running.loading import load_run
from eval.scoring.best import bounds
from eval.scoring.moments import Array
from eval.scoring.racing import SEED, Race, Terms, step_sizes
from eval.search_plan import RACED, SearchPlan

ROOT = Path(__file__).resolve().parents[3]
RULE = DecidePlan(scores=(RuleScore(RACED),))
GOAL = 0.35
"""Share of the grid's pictures that a race may make."""


@dataclass(frozen=True)
class Recorded:
    """Scores of a grid whose every cell is whole."""

    name: str
    values: Array
    """CLIP scores, (cells, pictures)."""
    rows: Array
    """Denoiser rows a picture, (cells,)."""


@dataclass(frozen=True)
class Outcome:
    """One race held against its grid."""

    same: bool
    """It chose what the grid chose."""
    within: bool
    """Its choice is measured within the margin of the best of the whole grid."""
    truly: bool | None
    """Its choice lies within the margin of the best by all that was recorded; None where no more is drawn than that."""
    rows: float | None
    """Denoiser rows of its choice over those of the grid's; None where one of them chose nothing."""
    pictures: float
    """Share of the grid's pictures that were made."""
    work: float
    """Share of the grid's denoiser rows."""


def of_run(folder: Path) -> Recorded:
    """The scores of a run's whole cells. Raises RunFolderError where `folder` is no run's."""
    run = load_run(folder)
    whole = [result for result in run.results if result.error is None and result.model_evals is not None]
    values = [[row.values[RACED] for row in run.images[result.cell.key]] for result in whole]
    rows = [denoiser_rows(each.cell, each.model_evals or 0) / each.cell.count for each in whole]
    return Recorded(run.plan.model.name, np.array(values), np.array(rows))


def of_page(folder: Path) -> Recorded:
    """The scores that a report's page holds, as reports/example keeps it, with the table beside it."""
    import base64

    page = (folder / "report.html").read_text(encoding="utf-8")
    found = re.search(r'id="pictures-data">(.*?)</script>', page, re.S)
    assert found is not None, f"{folder}/report.html must hold its pictures' scores"
    columns = json.loads(found[1])
    with (folder / "cells.csv").open(encoding="utf-8", newline="") as file:
        table = {row["key"]: row for row in csv.DictReader(file)}
    cells = [table[key] for key in columns["keys"]]
    values = np.frombuffer(base64.b64decode(columns["clip"]), "<f4").reshape(len(cells), -1)
    rows = [float(row["model_evals"]) * (1 if float(row["guidance"]) == 1 else 2) for row in cells]
    return Recorded(folder.name, values.astype(np.float64), np.array(rows))


def drawn(recorded: Recorded, pictures: int, rng: np.random.Generator) -> Array:
    """Scores over so many prompts, (cells, pictures)."""
    known = recorded.values.shape[1]
    places = rng.permutation(known)[:pictures] if pictures <= known else rng.integers(0, known, size=pictures)
    found: Array = recorded.values[:, places]
    return found


def choice(table: Array, rows: Array, places: Sequence[int]) -> int | None:
    """What the decision's own rule chooses among these cells; None where it shows none to be good enough."""
    values = table[list(places)]
    means = values.mean(axis=1)
    margin = RULE.scores[0].size(float(means.max())) or 0.0
    known = bounds((values - means[:, None]) / margin, seed=SEED, level=RULE.confidence)
    results = tuple(_result(place, float(rows[place])) for place in places)
    part = Part(RACED, 1.0, margin, "", True)
    quality = Quality(results, means / margin, known, (part,), pictures=table.shape[1])
    chosen = decide(results, quality, RULE).chosen
    return None if chosen is None else chosen.cell.steps


def _result(place: int, rows: float) -> CellResult:
    """A cell that is known by its place, and costs its rows."""
    cell = Cell("f", "recorded", place, 1.0, "p", 1, 0, 8, 8, "float32", "cpu")
    timing = Timing(1, (), (), None, rows, None, None, None, None)
    return CellResult(cell, "recorded", 1, (), Measured(timing))


def repetition(recorded: Recorded, pictures: int, search: SearchPlan, rng: np.random.Generator) -> Outcome:
    """One grid and one race over the same prompts."""
    table, rows = drawn(recorded, pictures, rng), recorded.rows
    cells, total = table.shape
    sizes = step_sizes(total, search.first, search.growth)
    race = Race(rows.tolist(), Terms(total, len(sizes), search.confidence, RULE.scores[0], RULE))
    made = np.full(cells, total)
    for n in sizes:
        for fate in race.step({place: table[place, :n] for place in race.racing}):
            made[fate.place] = n
    ours, theirs = choice(table, rows, race.racing), choice(table, rows, range(cells))
    more = pictures > recorded.values.shape[1]
    return Outcome(
        same=ours == theirs,
        within=_near(table, ours),
        truly=_near(recorded.values, ours) if more else None,
        rows=None if ours is None or theirs is None else float(rows[ours] / rows[theirs]),
        pictures=float(made.sum()) / (cells * total),
        work=float(made @ rows) / (total * float(rows.sum())),
    )


def _near(table: Array, place: int | None) -> bool:
    """Whether a choice is measured within the margin of the best."""
    means = table.mean(axis=1)
    margin = RULE.scores[0].size(float(means.max()))
    return place is not None and margin is not None and bool(means.max() - means[place] <= margin)


def table_of(recorded: Recorded, counts: Sequence[int], search: SearchPlan, repeats: int, seed: int) -> str:
    """Markdown: one row a number of pictures."""
    lines = [
        "| pictures a setting | prompts | within the margin of the best | ... and truly so | the grid's own choice "
        "| as many rows | fewer | more | pictures made, mean | most | denoiser rows, mean "
        f"| within the margin, at most {GOAL:.0%} made |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for count in counts:
        found = [
            repetition(recorded, count, search, np.random.default_rng([seed, count, i]))
            for i in range(repeats)
        ]
        lines.append(_line(count, recorded.values.shape[1], found))
        sys.stderr.write(lines[-1] + "\n")
    return "\n".join(lines)


def _line(count: int, known: int, found: Sequence[Outcome]) -> str:
    how = "in another order" if count == known else "a part of them" if count < known else "with replacement"
    pictures = [each.pictures for each in found]
    others = [each.rows for each in found if not each.same and each.rows is not None]
    truly = [each.truly for each in found if each.truly is not None]
    cells = (
        f"{count:,}",
        how,
        f"{sum(each.within for each in found)} of {len(found)}",
        f"{sum(truly)}" if truly else "",
        f"{sum(each.same for each in found)}",
        f"{sum(each == 1 for each in others)}",
        f"{sum(each < 1 for each in others)}",
        f"{sum(each > 1 for each in others)}",
        f"{np.mean(pictures):.1%}",
        f"{max(pictures):.1%}",
        f"{np.mean([each.work for each in found]):.1%}",
        f"{sum(each.within and each.pictures <= GOAL for each in found)}",
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    """Race, and print the table, or write it with what it was made by."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = SearchPlan()
    parser.add_argument(
        "folders", metavar="FOLDER", type=Path, nargs="*", default=[ROOT / "reports" / "example"]
    )
    parser.add_argument(
        "--pictures",
        type=int,
        nargs="+",
        help="prompts a repetition; else all that were recorded, and of the first folder 2, 4 and 8 times as many",
    )
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=default.first)
    parser.add_argument("--growth", type=float, default=default.growth)
    parser.add_argument("--confidence", type=float, default=default.confidence)
    parser.add_argument(
        "--write", action="store_true", help="racing.md beside this file; else standard output"
    )
    given = parser.parse_args(arguments)
    search = SearchPlan("racing", given.first, given.growth, given.confidence)
    sections = []
    for place, folder in enumerate(given.folders):
        recorded = (of_run if (folder / "plan.json").is_file() else of_page)(folder)
        known = recorded.values.shape[1]
        counts = given.pictures or [known * times for times in ((1, 2, 4, 8) if place == 0 else (1,))]
        table = table_of(recorded, counts, search, given.repeats, given.seed)
        sections.append(
            f"{len(recorded.values)} settings x {known} pictures, of `{recorded.name}`:\n\n{table}\n"
        )
    text = report(sections, search, given.repeats, given.seed)
    if given.write:
        Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def report(sections: Sequence[str], search: SearchPlan, repeats: int, seed: int) -> str:
    """The tables as Markdown, with what they were made by."""
    tables = "\n".join(sections)
    what = (__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].strip()
    asked = (
        f"search.first={search.first} search.growth={search.growth:g} search.confidence={search.confidence:g}"
    )
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "scipy"))
    return f"""# Races on recorded scores

`python -m eval.running.benchmarks.racing reports/example FOLDER --write`

{what}

{asked}; margin {RULE.scores[0].margin}; {repeats}
repetitions a row, seed {seed}; {versions}. "... and truly so": by the means of all that was recorded, where
more prompts are drawn than that. "as many rows", "fewer" and "more": choices other than the grid's, by what they cost.

{tables}"""


if __name__ == "__main__":
    sys.exit(main())
