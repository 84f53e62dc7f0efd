"""The decision: the cheapest of those shown to be near the best, and honest where nothing can be known."""

from __future__ import annotations

import ast
import base64
import inspect
import json
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from asking import ask_for
from scipy import stats

from eval.decide_plan import DecidePlan, Guard, Limits, RuleScore
from eval.identity import Column, EncoderKey, Score, ScoreKey
from eval.measured import Measured, Timing
from eval.records import Cell, CellResult, ImageRow, Run
from eval.reporting import axes
from eval.reporting.decide import MOST_MORE, Decision, decide
from eval.reporting.decision_json import decision_json, page_json, to_json
from eval.reporting.evidence import code, evidence, sentence
from eval.reporting.quality import Quality, quality_of
from eval.reporting.ranking import best_by, pareto_front, winners
from eval.reporting.terminal import winners_text
from eval.scoring.catalogue import title_of
from eval.scoring.moments import moments
from eval.scoring.uncertainty import paired_difference
from sdkit import generate
from sdkit._errors import InvalidRequest
from sdkit._sampler_names import find_sampler

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


def points(margin: float) -> DecidePlan:
    """A rule by CLIP score alone, with a margin in its points."""
    return DecidePlan(scores=(RuleScore("clip_score", margin=str(margin)),))


CLIP_ONLY = points(0.5)


class Sweep:
    """Cells with per-picture CLIP scores, built one by one."""

    def __init__(self) -> None:
        self.results: list[CellResult] = []
        self.images: dict[str, tuple[ImageRow, ...]] = {}
        self.features: dict[str, dict[str, np.ndarray]] = {}
        self.reference = None

    def add_fid(self, mean: float) -> None:
        """A reference for cells that are added with `fid_shift`."""
        self.drawn = np.random.default_rng(1).normal(mean, 1, (len(PROMPTS), 4))
        self.reference = moments(np.random.default_rng(2).normal(mean, 1, (4000, 4)))

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
        fid_shift: float | None = None,
        fid_doubt: str | None = None,
    ) -> CellResult:
        cell = Cell("f00d", sampler, steps, 4.0, "p", len(PROMPTS), 0, 64, 64, "float32", "cpu")
        measured = (
            None
            if latency_s is None
            else Measured(Timing(1, (), (), 1 / latency_s, latency_s, latency_s, None, None, None))
        )
        if fid_shift is not None:
            self.features[cell.key] = {"simulated": self.drawn + fid_shift}
            extra = (*extra, score("fid[simulated]", 4 * fid_shift**2, False, unreliable=fid_doubt))
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

    def quality(self, plan: DecidePlan = CLIP_ONLY) -> Quality:
        run = Run(None, tuple(self.results), self.images, {}, "")  # type: ignore[arg-type]
        return quality_of(run, plan, lambda key: self.features[key], lambda _: self.reference)

    def decide(self, plan: DecidePlan = CLIP_ONLY) -> Decision:
        return decide(self.results, self.quality(plan), plan)

    def evidence(self, plan: DecidePlan = CLIP_ONLY) -> tuple[str, ...]:
        quality = self.quality(plan)
        return evidence(decide(self.results, quality, plan), quality, self.results)


def noisy(shift: float, spread: float = 1.0) -> list[float]:
    return list(PROMPTS + shift + RNG.normal(0, spread, len(PROMPTS)))


def kind(decision: Decision, result: CellResult) -> str:
    return decision.verdicts[result.cell.key].kind


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


def test_the_cheapest_setting_shown_to_be_within_the_margin_is_chosen() -> None:
    sweep = Sweep()
    best = sweep.add("slow best", noisy(0.1, 0.1), 4.0)
    near = sweep.add("near", noisy(0.0, 0.1), 2.0)
    far = sweep.add("far", noisy(-1.0, 0.1), 1.0)
    decision = sweep.decide(points(0.5))
    assert decision.status == "chosen"
    assert (decision.chosen, decision.best) == (near, best)
    assert [kind(decision, each) for each in (best, near, far)] == ["dearer", "chosen", "worse"]
    assert "2.0 times as much" in decision.verdicts[best.cell.key].sentence
    assert any("2.0 times less" in each for each in sweep.evidence(points(0.5)))


def test_a_setting_that_only_seems_near_is_not_chosen() -> None:
    sweep = Sweep()
    best = sweep.add("best", noisy(0.2, 0.05), 4.0)
    sweep.add("as good", noisy(0.2, 0.05), 3.9)
    vague = sweep.add("vague", noisy(-1.0, 3.0), 1.0)
    decision = sweep.decide(points(0.9))
    assert decision.chosen is not None
    assert decision.chosen.cell.sampler in ("best", "as good")
    assert decision.best is not None
    assert kind(decision, vague) == "unsure"
    assert decision.verdicts[vague.cell.key].upper is not None
    assert decision.verdicts[best.cell.key].kind in ("chosen", "dearer")


def test_too_few_pictures_are_an_answer_and_the_number_it_asks_for_would_do() -> None:
    sweep = Sweep()
    first, second = noisy(0.0, 1.0), noisy(0.0, 1.0)
    sweep.add("a", first)
    sweep.add("b", second, 2.0)
    plan = points(0.05)
    decision = sweep.decide(plan)
    assert decision.status == "too_few"
    assert decision.chosen is None
    assert decision.more_pictures is not None
    assert decision.more_pictures > 0
    assert f"{decision.more_pictures} more would do" in sentence(decision)
    # The same values in as many pictures more: what was asked for is enough, and a tenth less is not.
    gap = abs(float(np.mean(np.subtract(first, second))))
    assert gap < 0.05 or decision.best is not None
    whole = (len(PROMPTS) + decision.more_pictures) / len(PROMPTS)
    quality = sweep.quality(plan)
    assert quality.bounds is not None
    assert quality.bounds.uppers(quality.values, 1 / np.sqrt(whole)).min() <= 1 + 1e-9
    assert quality.bounds.uppers(quality.values, 1 / np.sqrt(0.9 * whole)).min() > 1


def test_limits_leave_out_first_and_the_best_is_looked_for_among_the_rest() -> None:
    sweep = Sweep()
    slow = sweep.add("slow best", noisy(5.0, 0.1), 4.0)
    quick = sweep.add("quick", noisy(0.0, 0.1), 1.0)
    plan = replace(points(0.5), limits=Limits(max_latency_s=2.0))
    decision = sweep.decide(plan)
    assert (decision.chosen, decision.best) == (quick, quick)
    assert kind(decision, slow) == "over_limit"
    assert "latency p50 at most 2 s: it has 4 s" in decision.verdicts[slow.cell.key].sentence
    assert any("of those within the limits" in each for each in sweep.evidence(plan))


def test_under_limits_the_choice_is_held_against_the_best_of_all_as_well() -> None:
    sweep = Sweep()
    slow = sweep.add("slow best", noisy(5.0, 0.1), 4.0)
    sweep.add("quick", noisy(0.0, 0.1), 1.0)
    plan = replace(points(0.5), limits=Limits(max_latency_s=2.0))
    everyone = sweep.decide(plan).unlimited
    assert everyone is not None
    assert everyone.best == slow
    assert everyone.gap == pytest.approx(10, abs=0.2)
    assert everyone.upper > everyone.gap
    (said,) = [each for each in sweep.evidence(plan) if each.startswith("Without limits")]
    assert "more than the margin" in said
    assert sweep.decide(points(0.5)).unlimited is None


@pytest.mark.parametrize(
    ("below", "hope"),
    [(0.6, "lie beyond the margin"), (0.499, "too near the margin"), (0.3, "pictures more would show it")],
)
def test_what_more_pictures_would_do_is_told(below: float, hope: str) -> None:
    sweep = Sweep()
    sweep.add("best", list(PROMPTS), 2.0)
    jitter = np.where(np.arange(len(PROMPTS)) % 2, 1.5, -1.5)
    near = sweep.add("near", list(PROMPTS - below + jitter), 1.0)
    verdict = sweep.decide(points(0.5)).verdicts[near.cell.key]
    assert verdict.kind == "unsure"
    assert hope in verdict.sentence
    assert (verdict.more_pictures is None) == (below > 0.5)
    assert (verdict.more_pictures or 0) > MOST_MORE or below != 0.499


def test_a_limit_on_what_is_not_known_is_not_met() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0), 1.0)
    decision = sweep.decide(replace(points(1.0), limits=Limits(max_joules=5.0)))
    assert decision.status == "no_cell_meets_limits"
    assert "no setting of the 1 that have a result meets the limits" in sentence(decision)
    assert "not known for it" in next(iter(decision.verdicts.values())).sentence


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (Limits(max_latency_s=1.5), ["a"]),
        (Limits(min_images_per_s=0.8), ["a"]),
        (Limits(max_model_evals=15), ["a"]),
        (Limits(max_latency_s=2.0), ["a", "b"]),
    ],
)
def test_each_limit_binds_on_its_own_measure(limits: Limits, kept: list[str]) -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0), 1.0, steps=10)
    sweep.add("b", noisy(0.0), 2.0, steps=20)
    decision = sweep.decide(replace(points(9.0), limits=limits))
    over = [r.cell.sampler for r in sweep.results if kind(decision, r) == "over_limit"]
    assert [each for each in ("a", "b") if each not in over] == kept


def test_a_guard_leaves_out_what_breaks_it_or_cannot_be_checked() -> None:
    sweep = Sweep()
    burnt = sweep.add("burnt", noisy(1.0, 0.1), 1.0, extra=(score("clipped", 0.3, False),))
    fine = sweep.add("fine", noisy(0.9, 0.1), 2.0, extra=(score("clipped", 0.01, False),))
    unknown = sweep.add("unknown", noisy(0.9, 0.1), 0.5)
    decision = sweep.decide(replace(points(0.5), guards=(Guard("clipped", high=0.02),)))
    assert decision.chosen == fine
    assert [kind(decision, each) for each in (burnt, unknown)] == ["guarded", "guarded"]
    assert "at most 0.02" in decision.verdicts[burnt.cell.key].sentence
    assert "cannot be checked" in decision.verdicts[unknown.cell.key].sentence


def test_quality_is_clip_score_and_fid_in_margins_by_weight() -> None:
    sweep = Sweep()
    sweep.add_fid(0.0)
    a = sweep.add("a", noisy(0.0, 0.1), fid_shift=0.0)
    b = sweep.add("b", noisy(0.3, 0.1), fid_shift=0.4)
    one = DecidePlan(scores=(RuleScore("clip_score", 1, "0.1"), RuleScore("fid", 0.001, "1")))
    other = DecidePlan(scores=(RuleScore("clip_score", 0.001, "0.1"), RuleScore("fid", 1, "1")))
    assert sweep.decide(one).best == b
    assert sweep.decide(other).best == a
    parts = sweep.quality(one).parts
    assert [(part.name, part.margin, part.higher_is_better) for part in parts] == [
        ("clip_score", 0.1, True),
        ("fid[simulated]", 1.0, False),
    ]


def test_the_error_of_quality_is_that_of_the_weighed_sum_picture_by_picture() -> None:
    sweep = Sweep()
    first, second = noisy(0.2), noisy(0.0)
    sweep.add("a", first, extra=(score("saturation_like", 0.0),))
    sweep.add("b", second)
    quality = sweep.quality(points(0.5))
    assert quality.bounds is not None
    expected = np.std(np.subtract(first, second), ddof=1) / np.sqrt(len(PROMPTS)) / 0.5
    assert quality.bounds.errors[0, 1] == pytest.approx(expected)
    assert quality.values[0] - quality.values[1] == pytest.approx(np.mean(np.subtract(first, second)) / 0.5)


def test_a_score_marked_as_unreliable_is_left_out_unless_asked_for() -> None:
    sweep = Sweep()
    sweep.add_fid(0.0)
    for name in "ab":
        sweep.add(name, noisy(0.0), fid_shift=0.1, fid_doubt="96 pictures, of 2048 needed")
    assert [part.name for part in sweep.quality(DecidePlan()).parts] == ["clip_score"]
    assert any(
        "is no part of that: unreliable: 96 pictures, of 2048 needed" in each
        for each in sweep.evidence(DecidePlan())
    )
    assert len(sweep.quality(DecidePlan(use_unreliable=True)).parts) == 2


def test_a_rule_without_a_usable_score_decides_nothing_and_says_why() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0))
    decision = sweep.decide(DecidePlan(scores=(RuleScore("fid"), RuleScore("saturation"))))
    assert decision.status == "unknown"
    assert decision.reason is not None
    assert "fid: no setting has it" in decision.reason


@pytest.mark.parametrize("margin", ["x", "0", "-1", "0%", "nan", "1 %%"])
def test_a_margin_that_is_none_is_refused(margin: str) -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0))
    sweep.add("b", noisy(0.0))
    with pytest.raises(InvalidRequest, match=r"decide\.scores\.clip_score\.margin must be"):
        sweep.decide(DecidePlan(scores=(RuleScore("clip_score", margin=margin),)))


def test_a_percentage_of_zero_is_no_margin_and_the_score_is_left_out() -> None:
    sweep = Sweep()
    sweep.add("a", [0.0] * 8)
    sweep.add("b", [0.0] * 8)
    plan = DecidePlan(scores=(RuleScore("clip_score", margin="1%"),))
    assert "of which no percentage is a margin" in sentence(sweep.decide(plan))


def test_pictures_of_one_prompt_are_one_cluster() -> None:
    sweep = Sweep()
    shift = np.repeat(RNG.normal(0, 1, 24), 4)  # what a prompt does to all its pictures, in one cell alone
    first, second = list(PROMPTS + shift), list(PROMPTS)
    sweep.add("a", first, seeds_per_prompt=4)
    sweep.add("b", second, seeds_per_prompt=4)
    quality = sweep.quality(points(1.0))
    prompts = [f"prompt {i // 4}" for i in range(len(PROMPTS))]
    expected = paired_difference(first, second, clusters=prompts)
    assert expected.high is not None
    assert quality.bounds is not None
    half = quality.bounds.errors[0, 1] * stats.t.ppf(0.975, 23)
    assert half == pytest.approx(expected.high - expected.value)
    assert (quality.prompts, quality.pictures) == (24, 96)
    assert any("clustered by the 24 prompts" in each for each in sweep.evidence(points(1.0)))


def test_one_prompt_alone_decides_nothing_and_says_so() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(1.0), seeds_per_prompt=len(PROMPTS))
    sweep.add("b", noisy(0.0), seeds_per_prompt=len(PROMPTS))
    assert "single prompt" in sentence(sweep.decide())


def test_pictures_are_paired_by_prompt_and_seed_and_not_by_their_place() -> None:
    sweep = Sweep()
    sweep.add("a", list(PROMPTS + 1.0))
    b = sweep.add("b", list(PROMPTS))
    sweep.images[b.cell.key] = tuple(reversed(sweep.images[b.cell.key]))
    quality = sweep.quality(points(1.0))
    assert quality.bounds is not None
    assert quality.bounds.errors[0, 1] == pytest.approx(0, abs=1e-9)
    assert quality.values[0] - quality.values[1] == pytest.approx(1.0)


def test_a_setting_that_shares_only_part_of_the_pictures_is_left_out_and_counted() -> None:
    sweep = Sweep()
    sweep.add("best", noisy(0.1, 0.1), 4.0)
    part = sweep.add("part", noisy(0.0), 0.1)
    level = sweep.add("level", noisy(0.0, 0.1), 2.0)
    sweep.images[part.cell.key] = sweep.images[part.cell.key][:40]
    decision = sweep.decide(points(0.5))
    assert decision.chosen == level
    assert kind(decision, part) == "unscored"
    assert any("1 is not comparable" in each for each in sweep.evidence(points(0.5)))


def test_scores_of_another_identity_do_not_compete() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0))
    sweep.add("b", noisy(-3.0))
    few = sweep.add("few pictures", noisy(9.0)[:40])
    foreign = sweep.add("foreign", None, extra=(score("clip_score", 99.0, encoder="another encoder"),))
    decision = sweep.decide()
    assert decision.best is not None
    assert decision.best.cell.sampler == "a"
    assert [kind(decision, each) for each in (few, foreign)] == ["unscored", "unscored"]


def test_between_equal_costs_the_higher_quality_is_chosen() -> None:
    sweep = Sweep()
    sweep.add("best", noisy(0.05, 0.05), 5.0)
    sweep.add("a hair cheaper", noisy(-0.3, 0.05), 1.00)
    higher = sweep.add("a hair dearer", noisy(0.0, 0.05), 1.03)
    decision = sweep.decide(points(1.0))
    assert decision.chosen == higher
    assert [kind(decision, each) for each in sweep.results] == ["dearer", "tied", "chosen"]
    assert "costs within 5 % count as equal" in sentence(decision)
    assert any("2 of the good ones lie within 5 %" in each for each in sweep.evidence(points(1.0)))


def test_without_scores_there_is_no_decision_but_a_reason() -> None:
    sweep = Sweep()
    broken = sweep.add("broken", None, error="out of memory")
    decision = sweep.decide()
    assert decision.chosen is None
    assert decision.reason == "all 1 settings failed"
    assert kind(decision, broken) == "failed"
    assert Sweep().decide().reason == "no cell is whole yet"


def test_without_pictures_in_common_nothing_is_chosen() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0))
    sweep.add("b", noisy(1.0))
    sweep.images.clear()
    assert sweep.decide().status == "unknown"


def test_a_setting_of_unknown_cost_is_not_chosen_and_is_counted() -> None:
    sweep = Sweep()
    costless = sweep.add("best", noisy(0.05, 0.05), None)
    timed = sweep.add("level", noisy(0.0, 0.05), 1.0)
    decision = sweep.decide(points(0.5))
    assert decision.chosen == timed
    assert kind(decision, costless) == "uncosted"
    assert any("known cost: 1 of 2 settings" in each for each in sweep.evidence(points(0.5)))


def test_cost_is_latency_then_throughput_then_evaluations_and_never_mixed() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0), 1.0)
    assert axes.cost_of(sweep.results) is axes.LATENCY
    sweep.add("b", noisy(0.0), None)
    sweep.add("c", noisy(0.0), None)
    assert axes.cost_of(sweep.results) is axes.EVALUATIONS
    assert sweep.decide().cost is axes.EVALUATIONS
    assert sweep.decide(replace(CLIP_ONLY, cost="throughput")).cost is axes.THROUGHPUT


def test_few_pictures_are_warned_about() -> None:
    sweep = Sweep()
    sweep.add("a", noisy(0.0)[:8])
    sweep.add("b", noisy(0.0)[:8])
    assert any("8 pictures a setting hide" in each for each in sweep.evidence())


def test_membership_of_the_front_is_sure_only_where_all_pairs_say_so() -> None:
    sweep = Sweep()
    dear = sweep.add("dear", noisy(2.0, 0.1), 4.0)
    cheap = sweep.add("cheap", noisy(0.0, 0.1), 1.0)
    beaten = sweep.add("beaten", noisy(-1.0, 0.1), 3.0)
    vague = sweep.add("vague", noisy(0.0, 3.0), 2.0)
    front = sweep.decide().front
    assert [front[each.cell.key] for each in (dear, cheap, beaten, vague)] == ["on", "on", "off", "unsure"]


def test_costs_that_are_too_close_to_rank_make_membership_unsure() -> None:
    sweep = Sweep()
    sweep.add("better and a hair dearer", noisy(2.0, 0.1), 1.03)
    low = sweep.add("lower", noisy(0.0, 0.1), 1.0)
    assert sweep.decide().front[low.cell.key] == "unsure"


def test_the_code_that_is_given_is_a_call_that_the_sdk_takes() -> None:
    sweep = Sweep()
    sweep.add("ddim", noisy(0.0, 0.1), 1.0)
    sweep.add("heun", noisy(0.0, 0.1), 9.0)
    given = code(sweep.decide(points(2.0)), ask_for())
    assert given == "generate(prompt, sampler='ddim', steps=10, guidance_scale=4.0)"
    call = ast.parse(given, mode="eval").body
    assert isinstance(call, ast.Call)
    asked = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
    assert asked.keys() <= inspect.signature(generate).parameters.keys()
    assert find_sampler(asked["sampler"]).name == "ddim"


def test_the_decision_is_json_with_every_verdict_and_no_number_that_is_none() -> None:
    sweep = Sweep()
    sweep.add("ddim", noisy(0.1, 0.1), 1.0)
    sweep.add("heun", noisy(0.0, 0.1), 9.0)
    sweep.add("broken", None, error="</script>")
    quality = sweep.quality(points(2.0))
    decision = decide(sweep.results, quality, points(2.0))
    run = Run(ask_for(), tuple(sweep.results), sweep.images, {}, "")
    stored = json.loads(to_json(decision_json(run, decision, quality)))
    assert set(stored["verdicts"]) == {each.cell.key for each in sweep.results}
    assert stored["setting"]["sampler"] == "ddim"
    page = page_json(run, decision, quality)
    triangle = np.frombuffer(base64.b64decode(str(page["errors"])), "<f4")
    assert quality.bounds is not None
    np.testing.assert_allclose(triangle, quality.bounds.errors[np.triu_indices(2, 1)], rtol=1e-6)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_missing_nothing_raises_and_nothing_impossible_is_chosen(seed: int) -> None:
    rng = random.Random(seed)
    sweep = Sweep()
    for place in range(rng.randint(0, 6)):
        scores = noisy(rng.gauss(0, 1))[: rng.choice([1, 2, 40, 96])] if rng.random() < 0.8 else None
        cost = rng.choice([None, 1.0, 1.02, 3.0])
        error = "broken" if scores is None and rng.random() < 0.5 else None
        sweep.add(f"s{place}", scores, cost, error=error)
    for cell in list(sweep.images):
        if rng.random() < 0.2:
            del sweep.images[cell]
    plan = replace(points(rng.choice([0.01, 0.5, 5])), limits=Limits(max_latency_s=rng.choice([None, 2.0])))
    decision = sweep.decide(plan)
    assert set(decision.verdicts) == {each.cell.key for each in sweep.results}
    assert (decision.chosen is None) == (decision.reason is not None)
    if decision.chosen is not None:
        assert decision.chosen.error is None
        assert decision.cost.of(decision.chosen) is not None
        assert kind(decision, decision.chosen) == "chosen"
    assert all(each.sentence for each in decision.verdicts.values())
    assert sentence(decision)


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
    (beside,) = [each for each in sweep.evidence() if each.startswith("For comparison")]
    assert beside.count("unreliable: 96 pictures, of 2048 needed") == 2
    run = Run(ask_for(), tuple(sweep.results), sweep.images, {}, "")
    line = next(line for line in winners_text(run, sweep.decide()).splitlines() if "FID" in line)
    assert line.endswith("1 (unreliable: 96 pictures, of 2048 needed)")
