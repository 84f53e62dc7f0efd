"""The decision: the cheapest of those level with the best, and honest where nothing can be known."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from eval.records import Cell, CellResult, ImageRow, Score, Timing
from eval.reporting import axes
from eval.reporting.decide import Decision, decide, gap_between
from eval.reporting.ranking import pareto_front, winners

RNG = np.random.default_rng(5)
PROMPTS = RNG.normal(30, 3, 96)


class Sweep:
    """Cells with per-picture CLIP scores, built one by one."""

    def __init__(self) -> None:
        self.results: list[CellResult] = []
        self.images: dict[str, tuple[ImageRow, ...]] = {}

    def add(
        self,
        sampler: str,
        scores: Sequence[float] | None,
        latency_s: float | None = 1.0,
        *,
        steps: int = 10,
        error: str | None = None,
        extra: tuple[Score, ...] = (),
    ) -> CellResult:
        cell = Cell("f00d", sampler, steps, 4.0, "p", len(PROMPTS), 0, 64, 64, "float32", "cpu")
        timing = (
            None if latency_s is None else Timing(1, (), (), None, latency_s, latency_s, None, None, None)
        )
        clip = ()
        if scores is not None:
            clip = (Score("clip_score", float(np.mean(scores)), len(scores), True, "encoder"),)
            self.images[cell.key] = tuple(
                ImageRow(cell.key, i, i, f"prompt {i}", "x.png", float(score))
                for i, score in enumerate(scores)
            )
        self.results.append(CellResult(cell, "CPU", steps, clip + extra, timing, error=error))
        return self.results[-1]

    def decide(self) -> Decision:
        return decide(self.results, self.images)


def noisy(shift: float, spread: float = 0.5) -> list[float]:
    """The prompts' scores, moved by exactly `shift` on average."""
    noise = RNG.normal(0, spread, len(PROMPTS))
    return list(PROMPTS + noise - noise.mean() + shift)


def brute_force_front(
    costs: Sequence[float | None], values: Sequence[float | None], rising: bool
) -> set[int]:
    both = enumerate(zip(costs, values, strict=True))
    points = [(c, v if rising else -v, i) for i, (c, v) in both if c is not None and v is not None]
    return {
        i for c, v, i in points if not any(oc <= c and ov >= v and (oc < c or ov > v) for oc, ov, _ in points)
    }


@pytest.mark.parametrize("rising", [True, False])
def test_the_pareto_front_is_what_brute_force_finds(rising: bool) -> None:
    rng = random.Random(3)
    for _ in range(500):
        count = rng.randrange(0, 14)
        # Few distinct values, so that ties and duplicates are common.
        costs = [rng.choice([None, 1.0, 2.0, 3.0, 4.0]) for _ in range(count)]
        values = [rng.choice([None, -1.0, 0.0, 1.0, 2.0]) for _ in range(count)]
        front = pareto_front(costs, values, higher_is_better=rising)
        assert set(front) == brute_force_front(costs, values, rising)
        assert len(set(front)) == len(front)
        assert [costs[i] for i in front] == sorted(costs[i] for i in front)


def test_the_cheapest_setting_level_with_the_best_is_chosen() -> None:
    sweep = Sweep()
    sweep.add("slow best", noisy(0.05), 4.0)
    level = sweep.add("level", noisy(0.0), 2.0)
    sweep.add("worse", noisy(-2.0), 0.5)
    decision = sweep.decide()
    assert decision.chosen is not None
    assert decision.chosen.cell == level.cell
    assert decision.best is not None
    assert decision.best.cell.sampler == "slow best"
    assert any("2.0 times less" in sentence for sentence in decision.evidence)


def test_a_small_gap_is_told_apart_when_it_is_the_same_on_every_picture() -> None:
    sweep = Sweep()
    best = sweep.add("best", list(PROMPTS + 0.1), 2.0)
    sweep.add("always a little lower", list(PROMPTS), 1.0)
    assert sweep.decide().chosen == best


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    sweep = Sweep()
    first, second = noisy(0.2), noisy(0.0)
    gap = gap_between(sweep.add("a", first), sweep.add("b", second), sweep.images)
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert gap is not None
    np.testing.assert_allclose((gap.low, gap.high), (expected.low, expected.high), rtol=1e-9)
    assert gap.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert gap.n == len(PROMPTS)


def test_pictures_are_paired_by_prompt_and_seed_and_not_by_their_place() -> None:
    sweep = Sweep()
    a, b = sweep.add("a", list(PROMPTS + 1.0)), sweep.add("b", list(PROMPTS))
    sweep.images[b.cell.key] = tuple(reversed(sweep.images[b.cell.key]))[:40]
    gap = gap_between(a, b, sweep.images)
    assert gap is not None
    assert gap.n == 40
    assert (gap.low, gap.high) == (pytest.approx(1.0), pytest.approx(1.0))


def test_between_equal_costs_the_higher_score_is_chosen() -> None:
    sweep = Sweep()
    sweep.add("best", noisy(0.05), 5.0)
    sweep.add("a hair cheaper", noisy(-0.03), 1.00)
    higher = sweep.add("a hair dearer", noisy(0.0), 1.03)
    assert sweep.decide().chosen == higher


def test_the_best_setting_is_chosen_when_it_is_also_the_cheapest() -> None:
    sweep = Sweep()
    best = sweep.add("best", noisy(1.0), 1.0)
    sweep.add("worse", noisy(0.0), 2.0)
    decision = sweep.decide()
    assert decision.chosen == best
    assert decision.gap is None


def test_without_scores_there_is_no_decision_but_a_reason() -> None:
    sweep = Sweep()
    sweep.add("broken", None, error="out of memory")
    decision = sweep.decide()
    assert decision.chosen is None
    assert decision.reason == "no cell has a CLIP score (1 of 1 failed)"
    assert decide([], {}).reason == "no cell is whole yet"


def test_without_pictures_in_common_nothing_is_chosen() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0))
    sweep.add("b", noisy(1.0))
    decision = decide(sweep.results, {})
    assert decision.chosen is None
    assert decision.reason is not None
    assert "compared" in decision.reason


def test_a_failed_cell_is_never_chosen_and_is_counted() -> None:
    sweep = Sweep()
    sweep.add("fine", noisy(0.0), 3.0)
    sweep.add("broken", None, 0.1, error="NaN")
    decision = sweep.decide()
    assert decision.chosen is not None
    assert decision.chosen.cell.sampler == "fine"
    assert any("1 of 2 cells" in sentence for sentence in decision.evidence)


def test_scores_of_another_encoder_do_not_compete() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0))
    sweep.add("b", noisy(-3.0))
    other = Score("clip_score", 99.0, 96, True, "another encoder")
    sweep.add("foreign", None, extra=(other,))
    decision = sweep.decide()
    assert decision.best is not None
    assert decision.best.cell.sampler == "a"


def test_cost_is_latency_then_throughput_then_evaluations_and_never_mixed() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0), 1.0)
    assert axes.cost_of(sweep.results) is axes.LATENCY
    sweep.add("b", noisy(0.0), None)
    sweep.add("c", noisy(0.0), None)
    assert axes.cost_of(sweep.results) is axes.EVALUATIONS
    assert sweep.decide().cost is axes.EVALUATIONS


def test_a_setting_of_unknown_cost_is_not_chosen_and_is_counted() -> None:
    sweep = Sweep()
    sweep.add("best", noisy(0.05), None)
    timed = sweep.add("level", noisy(0.0), 1.0)
    decision = sweep.decide()
    assert decision.chosen == timed
    assert any("known cost: 1 of 2 cells" in sentence for sentence in decision.evidence)


def test_few_pictures_are_warned_about() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0)[:8])
    sweep.add("b", noisy(0.0)[:8])
    assert any("8 pictures a cell" in sentence for sentence in sweep.decide().evidence)


def test_winners_follow_the_direction_of_each_score() -> None:
    sweep = Sweep()
    for sampler, fid, judge, latency_s in (("a", 3.0, 0.5, 2.0), ("b", 1.0, 0.4, 1.0), ("c", 2.0, 0.9, 3.0)):
        extra = (Score("fid[shapes-clip]", fid, 96, False, "f"), Score("judge_all", judge, 96, True, "j"))
        sweep.add(sampler, noisy({"a": 1.0}.get(sampler, 0.0)), latency_s, extra=extra)
    found = {winner.title: winner.result.cell.sampler for winner in winners(sweep.results)}
    assert found == {
        "Best CLIP score": "a",
        "Best fid[shapes-clip]": "b",
        "Best by the judge": "c",
        "Fastest": "b",
    }
