"""The decision: the cheapest of those level with the best, and honest where nothing can be known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from eval.identity import Column, EncoderKey, Score, ScoreKey
from eval.measured import Measured, Timing
from eval.records import Cell, CellResult, ImageRow
from eval.reporting import axes
from eval.reporting.decide import Decision, decide, gaps_to
from eval.reporting.ranking import best_by, pareto_front, winners
from eval.reporting.terminal import winners_text
from eval.scoring.catalogue import title_of
from eval.scoring.uncertainty import paired_difference

RNG = np.random.default_rng(5)
PROMPTS = RNG.normal(30, 3, 96)


def score(
    name: str,
    value: float | None,
    rising: bool | None = True,
    *,
    n: int = len(PROMPTS),
    encoder: str = "encoder",
    unreliable: str | None = None,
) -> Score:
    key = ScoreKey(name, n, "unit", EncoderKey(encoder, "sha256:0", "none", "none", "last", ()))
    return Score(key, value, rising, unreliable=unreliable)


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
        seeds_per_prompt: int = 1,
    ) -> CellResult:
        cell = Cell("f00d", sampler, steps, 4.0, "p", len(PROMPTS), 0, 64, 64, "float32", "cpu")
        measured = (
            None
            if latency_s is None
            else Measured(Timing(1, (), (), None, latency_s, latency_s, None, None, None))
        )
        clip = ()
        if scores is not None:
            clip = (score("clip_score", float(np.mean(scores)), n=len(scores)),)
            self.images[cell.key] = tuple(
                ImageRow(
                    cell.key, i, i, f"prompt {i // seeds_per_prompt}", "x.png", {"clip_score": float(each)}
                )
                for i, each in enumerate(scores)
            )
        self.results.append(CellResult(cell, "CPU", steps, clip + extra, measured, error=error))
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
        if all(value is None for value in values):
            continue
        column = Column.of([None if value is None else score("fid[x]", value, rising) for value in values])
        front = pareto_front(costs, column)
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


def test_the_interval_of_two_settings_is_that_of_a_paired_t_test() -> None:
    sweep = Sweep()
    first, second = noisy(0.2), noisy(0.0)
    best = sweep.add("a", first)
    other = sweep.add("b", second)
    gap = gaps_to(best, sweep.results, sweep.images).by_key[other.cell.key]
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    # One pair only: Bonferroni's bound is Student's t, which max-T's critical value cannot pass on either side.
    np.testing.assert_allclose((gap.low, gap.high), (expected.low, expected.high), rtol=1e-9)
    assert gap.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert gap.n == len(PROMPTS)


def test_intervals_widen_with_the_number_of_settings_tried() -> None:
    sweep = Sweep()
    best, other = sweep.add("best", noisy(1.0)), sweep.add("other", noisy(0.0))
    alone = gaps_to(best, sweep.results, sweep.images).by_key[other.cell.key]
    for place in range(20):
        sweep.add(f"further {place}", noisy(-1.0))
    among = gaps_to(best, sweep.results, sweep.images)
    gap = among.by_key[other.cell.key]
    assert among.pairs == 22 * 21 // 2
    assert gap.high - gap.low > 1.2 * (alone.high - alone.low)
    assert gap.mean == alone.mean


def test_the_evidence_says_for_how_many_comparisons_the_intervals_hold() -> None:
    sweep = Sweep()
    for place in range(4):
        sweep.add(f"s{place}", noisy(0.0))
    assert any("all 6 comparisons between 4 settings (max-T)" in each for each in sweep.decide().evidence)
    pair = Sweep()
    pair.add("a", noisy(0.0))
    pair.add("b", noisy(0.0))
    assert any("one comparison" in each for each in pair.decide().evidence)


def test_pictures_of_one_prompt_are_one_cluster() -> None:
    sweep = Sweep()
    shift = np.repeat(RNG.normal(0, 1, 24), 4)  # what a prompt does to all its pictures, in one cell alone
    first, second = list(PROMPTS + shift), list(PROMPTS)
    best = sweep.add("a", first, seeds_per_prompt=4)
    other = sweep.add("b", second, seeds_per_prompt=4)
    gaps = gaps_to(best, sweep.results, sweep.images)
    gap = gaps.by_key[other.cell.key]
    prompts = [row.prompt for row in sweep.images[best.cell.key]]
    expected = paired_difference(first, second, clusters=prompts)
    assert expected.low is not None
    assert expected.high is not None
    np.testing.assert_allclose((gap.low, gap.high), (expected.low, expected.high), rtol=1e-9)
    naive = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert gap.high - gap.low > 1.5 * (naive.high - naive.low)
    assert gaps.prompts == 24
    assert any("clustered by the 24 prompts" in each for each in sweep.decide().evidence)


def test_one_prompt_alone_decides_nothing_and_says_so() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(1.0), seeds_per_prompt=len(PROMPTS))
    sweep.add("b", noisy(0.0), seeds_per_prompt=len(PROMPTS))
    decision = sweep.decide()
    assert decision.chosen is None
    assert decision.reason is not None
    assert "single prompt" in decision.reason


def test_pictures_are_paired_by_prompt_and_seed_and_not_by_their_place() -> None:
    sweep = Sweep()
    a, b = sweep.add("a", list(PROMPTS + 1.0)), sweep.add("b", list(PROMPTS))
    sweep.images[b.cell.key] = tuple(reversed(sweep.images[b.cell.key]))
    gap = gaps_to(a, sweep.results, sweep.images).by_key[b.cell.key]
    assert gap.n == len(PROMPTS)
    assert (gap.low, gap.high) == (pytest.approx(1.0), pytest.approx(1.0))


def test_a_setting_that_shares_only_part_of_the_pictures_is_left_out_and_counted() -> None:
    sweep = Sweep()
    best = sweep.add("best", noisy(0.1), 4.0)
    part = sweep.add("part", noisy(0.0), 0.1)
    level = sweep.add("level", noisy(0.0), 2.0)
    sweep.images[part.cell.key] = sweep.images[part.cell.key][:40]
    decision = sweep.decide()
    assert decision.best == best
    assert decision.chosen == level
    assert any("not sharing all scored pictures" in s and "1 of 3 cells" in s for s in decision.evidence)


def test_a_different_count_of_pictures_is_another_score_and_does_not_compete() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0))
    sweep.add("b", noisy(-1.0))
    sweep.add("few pictures", noisy(9.0)[:40])
    decision = sweep.decide()
    assert decision.best is not None
    assert decision.best.cell.sampler == "a"
    assert any("1 of 3 cells" in sentence for sentence in decision.evidence)


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
    other = score("clip_score", 99.0, encoder="another encoder")
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
        extra = (score("fid[shapes-clip]", fid, False), score("judge_all", judge))
        sweep.add(sampler, noisy({"a": 1.0}.get(sampler, 0.0)), latency_s, extra=extra)
    found = {winner.title: winner.result.cell.sampler for winner in winners(sweep.results)}
    assert found == {
        "Best CLIP score": "a",
        f"Best {title_of('fid[shapes-clip]')}": "b",
        "Best by the judge": "c",
        "Fastest": "b",
    }


def test_no_winner_where_neither_direction_is_better() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0), extra=(score("saturation", 0.3, None),))
    sweep.add("b", noisy(0.0), extra=(score("saturation", 0.6, None),))
    assert best_by(sweep.results, "saturation") is None
    with pytest.raises(ValueError, match="neither direction"):
        pareto_front([1.0, 2.0], axes.column(sweep.results, "saturation"))


def test_an_unreliable_value_says_so_as_winner_in_the_evidence_and_in_the_terminal() -> None:
    sweep = Sweep()
    for sampler, fid in (("a", 3.0), ("b", 1.0)):
        extra = (score("fid[shapes-clip]", fid, False, unreliable="96 pictures, of 2048 needed"),)
        sweep.add(sampler, noisy({"a": 1.0}.get(sampler, 0.0)), extra=extra)
    winner = best_by(sweep.results, "fid[shapes-clip]")
    assert winner is not None
    assert winner.unreliable == "96 pictures, of 2048 needed"
    (sentence,) = [each for each in sweep.decide().evidence if each.startswith("Beside the choice")]
    assert sentence.count("unreliable: 96 pictures, of 2048 needed") == 2
    run = SimpleNamespace(results=tuple(sweep.results), images=sweep.images)
    line = next(line for line in winners_text(run).splitlines() if "FID" in line)
    assert line.endswith("1 (unreliable: 96 pictures, of 2048 needed)")


def test_an_unreliable_clip_score_is_said_where_the_best_setting_is_named() -> None:
    sweep = Sweep()
    best = sweep.add("a", noisy(0.0))
    doubted = replace(best, scores=(replace(best.scores[0], unreliable="few captions"),))
    assert decide([doubted], sweep.images).evidence[0].endswith("(unreliable: few captions).")
