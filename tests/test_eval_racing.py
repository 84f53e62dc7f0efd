"""Who leaves a race: never more often wrongly than is said, whatever is drawn; and what cannot be judged is not."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from decided_runs import decided_run

from eval.decide_plan import DecidePlan, RuleScore
from eval.running.benchmarks.racing import ROOT, of_page, of_run, repetition
from eval.scoring.best import bounds
from eval.scoring.moments import Array
from eval.scoring.racing import Fate, Race, Terms, step_sizes
from eval.search_plan import SearchPlan

SCORE = RuleScore("clip_score", margin="1")
DECIDE = DecidePlan(scores=(SCORE,))


def terms(total: int, steps: int = 1, confidence: float = 0.95) -> Terms:
    return Terms(total, steps, confidence, SCORE, DECIDE)


def judged(table: Array, rows: list[float], total: int, confidence: float = 0.95) -> tuple[Fate, ...]:
    """The fates of one step over the values, (cells, n)."""
    return Race(rows, terms(total, 1, confidence)).step(dict(enumerate(table)))


def shown(table: Array) -> Array:
    """Which cells the decision's rule shows to be within the margin of 1."""
    means = table.mean(axis=1)
    found: Array = bounds(table - means[:, None], seed=0, level=DECIDE.confidence).uppers(means) <= 1
    return found


@dataclass(frozen=True)
class Truth:
    """A small sweep's own: how far each cell truly lies below the best, in margins, and what it costs."""

    gaps: Array
    rows: Array
    values: Array
    """(cells, pictures)"""


def small_sweep(seed: int, cells: int = 6, pictures: int = 64) -> Truth:
    rng = np.random.default_rng([5, seed])
    gaps = rng.uniform(0, 3, cells)
    gaps -= gaps.min()
    prompts = rng.normal(0, 4, pictures)
    skewed = rng.gamma(2.0, 1.0, (cells, pictures)) - 2.0
    values = 30 - gaps[:, None] + prompts - skewed * rng.uniform(0.3, 1.2, (cells, 1))
    return Truth(gaps, rng.choice([1.0, 2.0, 4.0, 8.0], cells), values)


def false_drops(sweep: Truth, confidence: float) -> tuple[bool, int]:
    """Whether the race does what it promises not to do, and how many cells leave."""
    cells, total = sweep.values.shape
    sizes = step_sizes(total, 8, 2)
    race = Race(sweep.rows.tolist(), terms(total, len(sizes), confidence))
    good = np.flatnonzero(shown(sweep.values))
    chosen = min(good, key=lambda i: (sweep.rows[i], -sweep.values[i].mean()), default=-1)
    wrong = False
    for n in sizes:
        racing = list(race.racing)
        for fate in race.step({place: sweep.values[place, :n] for place in racing}):
            best = min(sweep.gaps[place] for place in racing)
            behind = fate.kind == "behind" and fate.place == chosen
            wrong |= behind or (fate.kind == "dearer" and bool(sweep.gaps[fate.against] - best > 1))
    return wrong, cells - len(race.racing)


def test_wrong_drops_in_2000_races_are_no_more_than_the_confidence_allows() -> None:
    races = [false_drops(small_sweep(seed), 0.95) for seed in range(2000)]
    assert sum(wrong for wrong, _ in races) <= 100
    assert sum(left for _, left in races) > len(races), "races in which nobody leaves would show nothing"


def test_the_bound_of_a_lead_over_all_pictures_holds_as_often_as_it_says() -> None:
    held = 0
    for seed in range(1000):
        table = small_sweep(seed, cells=4).values
        race = Race([1.0] * 4, terms(64, 1, 0.9))
        leads = [table[fate.against].mean() - table[fate.place].mean() - fate.low
                 for fate in race.step({i: table[i, :16] for i in range(4)}) if fate.kind == "behind"]  # fmt: skip
        held += all(lead >= 0 for lead in leads)
    assert held >= 900


@pytest.mark.parametrize("seed", range(20))
def test_a_higher_confidence_drops_no_cell_that_a_lower_one_keeps(seed: int) -> None:
    sweep = small_sweep(seed, cells=8)
    dropped = [
        {fate.place for fate in judged(sweep.values[:, :32], sweep.rows.tolist(), 64, confidence)}
        for confidence in (0.5, 0.8, 0.95, 0.999)
    ]
    assert all(surer <= less for less, surer in pairwise(dropped))


@pytest.mark.parametrize("seed", range(20))
def test_moving_a_cell_further_down_does_not_save_it(seed: int) -> None:
    sweep = small_sweep(seed)
    before = [fate for fate in judged(sweep.values[:, :32], [1.0] * 6, 64) if fate.kind == "behind"]
    for fate in before:
        lower = sweep.values[:, :32].copy()
        lower[fate.place] -= 1.0
        assert fate.place in {each.place for each in judged(lower, [1.0] * 6, 64)}


def test_of_two_cells_the_worse_leaves_and_the_interval_says_by_how_much() -> None:
    rng = np.random.default_rng(0)
    prompts = rng.normal(0, 5, 32)
    table = np.stack([30 + prompts, 25 + prompts + rng.normal(0, 0.5, 32)])
    (fate,) = judged(table, [8.0, 4.0], 128)
    assert (fate.place, fate.kind, fate.against) == (1, "behind", 0)
    assert fate.low < 5 < fate.high
    assert fate.difference == pytest.approx(table[0].mean() - table[1].mean())


def test_a_dearer_cell_leaves_for_one_that_is_good_enough_and_the_best_measured_stays() -> None:
    rng = np.random.default_rng(1)
    prompts = rng.normal(0, 5, 64)
    table = np.stack([30 + prompts + step + rng.normal(0, 0.2, 64) for step in (0.0, 0.1, 0.2, 0.0)])
    fates = judged(table, [2.0, 8.0, 8.0, 1.0], 256)
    assert [(fate.place, fate.kind, fate.against) for fate in fates] == [(0, "dearer", 3), (1, "dearer", 3)]
    assert all(-1 < fate.low < 0 for fate in fates)


def test_what_others_were_held_against_stays_though_another_leads_later() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.05, (3, 64))
    race = Race([1.0, 8.0, 8.0], terms(256, 2))
    first = 30 + noise + np.array([[0.0], [0.3], [0.2]])
    assert [fate.place for fate in race.step(dict(enumerate(first)))] == [2]
    second = first - np.array([[0.0], [0.6], [0.0]])  # the cheap one leads now
    assert race.step({place: second[place] for place in race.racing}) == ()
    assert race.racing == [0, 1]


def test_equal_cells_leave_the_cheapest_and_the_first_of_the_best() -> None:
    table = np.tile(np.random.default_rng(2).normal(30, 3, 16), (4, 1))
    race = Race([8.0, 4.0, 8.0, 4.0], terms(64))
    fates = race.step(dict(enumerate(table)))
    assert [(fate.place, fate.kind, fate.low, fate.high) for fate in fates] == [
        (2, "dearer", 0.0, 0.0),
        (3, "dearer", 0.0, 0.0),
    ]
    assert race.racing == [0, 1]


def test_pictures_of_one_prompt_are_one_piece_of_evidence() -> None:
    table = small_sweep(3).values[:, :16]
    once = judged(table, [1.0] * 6, 64)
    prompts = [index // 2 for index in range(128)]
    race = Race([1.0] * 6, terms(128), prompts)
    twice = race.step({place: np.repeat(row, 2) for place, row in enumerate(table)})
    assert once
    assert [(fate.place, fate.kind) for fate in twice] == [(fate.place, fate.kind) for fate in once]
    np.testing.assert_allclose([fate.low for fate in twice], [fate.low for fate in once], rtol=1e-9)


@pytest.mark.parametrize(
    ("table", "clusters", "score"),
    [
        (np.array([[30.0, 31.0, 29.0]]), None, SCORE),
        (np.array([[30.0], [20.0]]), None, SCORE),
        (np.array([[30.0, 31.0], [10.0, 11.0]]), ["a", "a", "a", "a"], SCORE),
        (np.zeros((2, 8)), None, RuleScore("clip_score", margin="0.5%")),
    ],
    ids=["one cell", "one picture", "one prompt", "a percentage of nothing"],
)
def test_where_nothing_can_be_compared_nobody_leaves(
    table: Array, clusters: list[str] | None, score: RuleScore
) -> None:
    race = Race([1.0] * len(table), Terms(4, 1, 0.95, score, DECIDE), clusters)
    assert race.step(dict(enumerate(table))) == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="values must be finite"):
        judged(np.array([[30.0, 31.0], [30.0, bad]]), [1.0, 1.0], 4)


def test_a_margin_is_the_rules_times_the_decisions() -> None:
    wide = Terms(8, 1, 0.95, RuleScore("clip_score", margin="2%"), DecidePlan(margin=1.5))
    assert wide.margin(30.0) == pytest.approx(0.9)
    assert wide.margin_text == "1.5 times 2%"


@pytest.mark.parametrize(
    ("total", "first", "growth", "sizes"),
    [
        (128, 16, 2.0, (16, 32, 64)),
        (130, 16, 2.0, (16, 32, 64)),
        (100, 16, 1.5, (16, 24, 36, 54)),
        (16, 16, 2.0, ()),
        (10, 16, 2.0, ()),
        (8, 4, 1.01, (4, 5, 6, 7)),
    ],
)
def test_steps_grow_as_asked_and_leave_something_to_save(
    total: int, first: int, growth: float, sizes: tuple[int, ...]
) -> None:
    assert step_sizes(total, first, growth) == sizes


def test_on_recorded_scores_a_race_ends_near_the_best_for_a_part_of_the_pictures() -> None:
    recorded = of_page(ROOT / "reports" / "example")
    assert recorded.values.shape == (36, 128)
    assert recorded.rows.min() == 2
    found = [
        repetition(recorded, 512, SearchPlan("racing"), np.random.default_rng([9, seed])) for seed in range(3)
    ]
    assert all(each.within and each.truly for each in found)
    assert all(each.pictures < 0.5 for each in found)
    again = repetition(recorded, 512, SearchPlan("racing"), np.random.default_rng([9, 0]))
    assert again == found[0]


def test_scores_of_a_runs_folder_are_those_of_its_whole_cells(tmp_path: Path) -> None:
    recorded = of_run(decided_run(tmp_path / "run"))
    assert recorded.values.shape == (11, 30)  # of twelve settings one has failed
    assert set(recorded.rows) == {10.0, 20.0, 40.0}
