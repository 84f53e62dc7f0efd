"""Each cell against the best: paired, with intervals that hold together, and a reason for every gap."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from eval.hardware_plan import HardwarePlan
from eval.identity import EncoderKey, Score, ScoreKey
from eval.records import (
    Cell,
    CellResult,
    GridPlan,
    ImageRow,
    MetricsPlan,
    ModelPlan,
    Plan,
    PromptSet,
    ReferencePlan,
    Run,
)
from eval.reporting.comparisons import Comparison, compare
from eval.reporting.shared_rows import Array
from eval.reporting.tables import write_comparisons_csv
from eval.scoring.frechet_interval import paired_fid_difference
from eval.scoring.kernels import cmmd_values, kid_values
from eval.scoring.moments import Moments, moments
from sdkit._errors import SdkitError

N, WIDTH = 120, 6
FID = "fid[shapes-clip]"
RNG = np.random.default_rng(11)
BASE = RNG.normal(30, 3, N)
FEATURES = RNG.normal(0, 1, (N, WIDTH))
REFERENCE = moments(RNG.normal(0, 1, (4000, WIDTH)))


class World:
    """Cells with values of every picture, and with features, built one by one."""

    def __init__(self, seeds_per_prompt: int = 1) -> None:
        self.results: list[CellResult] = []
        self.images: dict[str, tuple[ImageRow, ...]] = {}
        self.features: dict[str, dict[str, Array]] = {}
        self.each = seeds_per_prompt
        self.reference: Moments | None = REFERENCE

    def add(self, sampler: str, shift: float, *extra: Score, spread: float = 0.5) -> CellResult:
        cell = Cell("f00d", sampler, 10, 4.0, "p", N, 0, 64, 64, "float32", "cpu")
        clip = BASE - shift + RNG.normal(0, spread, N)
        features = FEATURES * (1 + shift) + RNG.normal(0, 0.1, FEATURES.shape)
        self.images[cell.key] = tuple(
            ImageRow(
                cell.key, i, i, f"prompt {i // self.each}", "x.png",
                {"clip_score": float(clip[i]), "zero_shot": float(clip[i] > 30)},
            )
            for i in range(N)
        )  # fmt: skip
        self.features[cell.key] = {"shapes-clip": features.astype(np.float32)}
        scores = (
            score("clip_score", float(clip.mean())),
            score("zero_shot", float((clip > 30).mean())),
            score(FID, 1.0 + shift, False, unreliable="unreliable: 120 pictures, of 2048 needed"),
        )
        self.results.append(CellResult(cell, "CPU", 10, (*scores, *extra)))
        return self.results[-1]

    def run(self) -> Run:
        plan = Plan(
            ModelPlan("shapes", "shapes", "cpu", "float32"),
            PromptSet("few", tuple(f"prompt {i}" for i in range(N // self.each)), self.each),
            ReferencePlan("shapes", 64),
            MetricsPlan("shapes", ("shapes-clip",), ("clip_score", "fid")),
            GridPlan(("a",), (10,), (4.0,), 0),
            HardwarePlan(4, 1, 1),
            "nowhere",
        )
        return Run(plan, tuple(self.results), self.images, {}, "")

    def compare(self) -> list[Comparison]:
        return list(compare(self.run(), lambda key: self.features[key], lambda extractor: self.reference))

    def rows(self, metric: str) -> dict[str | None, Comparison]:
        return {row.cell_key: row for row in self.compare() if row.metric == metric}


def score(name: str, value: float | None, rising: bool | None = True, unreliable: str | None = None) -> Score:
    encoder = EncoderKey("shapes", "sha256:0", "none", "none", "6", ())
    return Score(
        ScoreKey(name, N, "unit", encoder), value, rising, reason="too few" if value is None else None,
        unreliable=unreliable,
    )  # fmt: skip


def test_two_cells_are_compared_as_by_a_paired_t_test() -> None:
    world = World()
    best, other = world.add("best", 0.0), world.add("other", 1.0)
    row = world.rows("clip_score")[other.cell.key]
    ours, theirs = ([r.values["clip_score"] for r in world.images[each.cell.key]] for each in (other, best))
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    np.testing.assert_allclose((row.low, row.high), (expected.low, expected.high), rtol=1e-9)
    assert row.difference == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert (row.best_key, row.n, row.reason) == (best.cell.key, N, None)


def test_a_difference_of_fid_is_that_of_the_paired_jackknife() -> None:
    world = World()
    best, other = world.add("best", 0.0), world.add("other", 0.2)
    row = world.rows(FID)[other.cell.key]
    sides = [world.features[each.cell.key]["shapes-clip"] for each in (other, best)]
    expected = paired_fid_difference(sides[0], sides[1], REFERENCE, seed=0)
    assert (row.difference, row.low, row.high) == (expected.value, expected.low, expected.high)
    assert row.method is not None
    assert "N = infinity" in row.method
    assert row.unreliable == "unreliable: 120 pictures, of 2048 needed"


@pytest.mark.parametrize("metric", ["clip_score", FID])
def test_intervals_widen_with_the_number_of_cells_and_the_differences_do_not_move(metric: str) -> None:
    world = World()
    world.add("best", 0.0)
    other = world.add("other", 0.2)
    alone = world.rows(metric)[other.cell.key]
    for place in range(8):
        world.add(f"further {place}", 0.3)
    among = world.rows(metric)[other.cell.key]
    assert among.method is not None
    assert "max-T over 45 pairs of 10 cells" in among.method
    assert alone.low is not None and alone.high is not None  # noqa: PT018
    assert among.low is not None and among.high is not None  # noqa: PT018
    assert among.high - among.low > 1.1 * (alone.high - alone.low)
    assert among.difference == pytest.approx(alone.difference)


@pytest.mark.parametrize("metric", ["clip_score", FID])
def test_pictures_of_one_prompt_are_one_cluster(metric: str) -> None:
    world = World(seeds_per_prompt=4)
    world.add("best", 0.0)
    other = world.add("other", 0.2)
    method = world.rows(metric)[other.cell.key].method
    assert method is not None
    assert "over 30 prompts" in method


@pytest.mark.parametrize("values", [kid_values, cmmd_values])
def test_kid_and_cmmd_are_compared_by_the_jackknife_of_their_difference(
    values: Callable[[Array, Array], Array],
) -> None:
    world = World()
    reference = RNG.normal(0, 1, (200, WIDTH))
    name, parts = "kid[shapes-clip]", {}
    for sampler, shift in (("a", 0.0), ("b", 0.3)):
        result = world.add(sampler, shift)
        key = result.cell.key
        parts[key] = values(world.features[key]["shapes-clip"], reference)
        of_all = score(name, float(parts[key].mean()), False)
        world.results[-1] = replace(result, scores=(*result.scores, of_all))
        rows = zip(world.images[key], parts[key], strict=True)
        world.images[key] = tuple(replace(r, values=r.values | {name: float(each)}) for r, each in rows)
    (row,) = world.rows(name).values()
    assert row.cell_key is not None
    assert row.best_key is not None
    cell, best = parts[row.cell_key], parts[row.best_key]
    expected = stats.ttest_rel(cell, best).confidence_interval(0.95)
    assert row.difference == pytest.approx(cell.mean() - best.mean())
    assert row.difference > 0
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert (row.reason, row.n) == (None, N)


def test_a_share_of_pictures_is_compared_as_a_mean() -> None:
    world = World()
    world.add("a", 0.0)
    world.add("b", 4.0)
    (row,) = world.rows("zero_shot").values()
    assert row.difference is not None
    assert row.difference < 0
    assert row.low is not None


def test_shares_that_agree_on_every_picture_are_not_said_to_be_equal() -> None:
    world = World()
    for sampler in ("a", "b"):
        result = world.add(sampler, 0.0, score("judge_all", 1.0))
        key = result.cell.key
        world.images[key] = tuple(replace(row, judge={"shape": True}) for row in world.images[key])
    (row,) = world.rows("judge_all").values()
    assert (row.difference, row.low, row.high) == (0.0, None, None)
    assert row.reason == "no interval: no picture tells the two apart"


def test_a_score_that_is_not_the_mean_of_its_pictures_is_not_compared_as_one() -> None:
    world = World()
    for sampler in ("a", "b"):
        result = world.add(sampler, 0.0, score("ssim", 0.9))
        key = result.cell.key
        world.images[key] = tuple(replace(r, values=r.values | {"ssim": 0.5}) for r in world.images[key])
    (row,) = world.rows("ssim").values()
    assert (row.cell, row.difference, row.reason) == (
        None,
        None,
        "no paired interval is known for this score",
    )


def test_scores_without_paired_intervals_or_direction_are_a_row_with_its_reason() -> None:
    world = World()
    for sampler in ("a", "b"):
        world.add(
            sampler,
            0.0,
            score("recall[shapes-clip]", 0.1),
            score("saturation", 0.4, None),
            score("cmmd[x]", None),
        )
    reasons = {row.metric: row.reason for row in world.compare() if row.cell is None}
    assert reasons == {
        "recall[shapes-clip]": "no paired interval is known for this score",
        "saturation": "neither direction is better",
        "cmmd[x]": "no cell has a value",
    }


def test_a_failed_cell_and_one_of_another_identity_are_rows_with_their_reasons() -> None:
    world = World()
    world.add("best", 0.0)
    world.add("other", 0.2)
    failed = replace(world.add("failed", 0.2), error="out of memory", scores=())
    foreign = world.add("foreign", 0.2)
    foreign = replace(foreign, scores=tuple(replace(s, key=replace(s.key, n=9)) for s in foreign.scores))
    world.results[2:] = [failed, foreign]
    rows = world.rows("clip_score")
    assert rows[failed.cell.key].reason == "the cell failed: out of memory"
    assert "under another identity" in str(rows[foreign.cell.key].reason)
    assert rows[foreign.cell.key].difference is None


def refuse(key: str) -> dict[str, Array]:
    raise SdkitError(f"features of {key[:2]} cannot be read")


def test_without_moments_or_features_every_cell_has_a_row_that_says_so() -> None:
    world = World()
    world.add("best", 0.0)
    other = world.add("other", 0.2)
    world.reference = None
    assert "no moments of the reference" in str(world.rows(FID)[other.cell.key].reason)
    world.reference = REFERENCE
    world.features[other.cell.key] = {}
    assert world.rows(FID)[other.cell.key].reason == "the cell keeps no features of shapes-clip"
    world.features[other.cell.key] = {"shapes-clip": FEATURES[:50]}
    assert "must be (120, 6), got (50, 6)" in str(world.rows(FID)[other.cell.key].reason)


def test_a_best_cell_without_features_leaves_no_other_without_a_reason() -> None:
    world = World()
    best, other = world.add("best", 0.0), world.add("other", 0.2)
    world.features[best.cell.key] = {}
    row = world.rows(FID)[other.cell.key]
    assert row.difference is None
    assert str(row.reason).startswith("the best cell has none to compare with")


def test_features_that_cannot_be_read_are_a_reason_and_no_crash() -> None:
    world = World()
    world.add("best", 0.0)
    other = world.add("other", 0.2)
    rows = [row for row in compare(world.run(), refuse, lambda extractor: REFERENCE) if row.metric == FID]
    assert [row.cell_key for row in rows] == [other.cell.key]
    assert "cannot be read" in str(rows[0].reason)


def test_fewer_pictures_than_features_give_a_difference_without_interval_and_say_why() -> None:
    world = World()
    world.add("best", 0.0)
    other = world.add("other", 0.2)
    wide = {key: {"shapes-clip": RNG.normal(0, 1, (N, 2 * N))} for key in world.features}
    world.features, world.reference = wide, moments(RNG.normal(0, 1, (3 * N, 2 * N)))
    row = world.rows(FID)[other.cell.key]
    assert row.difference is not None
    assert (row.low, row.high) == (None, None)
    assert row.reason == f"no interval: full rank needs {2 * N + 1} pictures, got {N}"


def test_a_cell_of_other_pictures_is_left_out_with_its_reason() -> None:
    world = World()
    world.add("best", 0.0)
    other = world.add("other", 0.2)
    rows = world.images[other.cell.key]
    world.images[other.cell.key] = (replace(rows[0], seed=999), *rows[1:])
    for metric in ("clip_score", FID):
        row = world.rows(metric)[other.cell.key]
        assert row.difference is None
        assert "not the best cell's" in str(row.reason)


def test_the_table_on_disk_has_an_empty_field_for_what_is_not_known(tmp_path: Path) -> None:
    world = World()
    world.add("=best()", 0.0)
    world.add("other", 0.2)
    world.reference = None
    write_comparisons_csv(world.compare(), tmp_path / "comparisons.csv")
    with (tmp_path / "comparisons.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[:8] == ["metric", "cell", "best", "difference", "low", "high", "method", "n"]
    known = next(row for row in rows if row["metric"] == "clip_score")
    assert float(known["low"]) < float(known["difference"]) < float(known["high"])
    assert known["best"].startswith("'=best()")
    unknown = next(row for row in rows if row["metric"] == FID)
    assert unknown["difference"] == unknown["low"] == unknown["n"] == ""
    assert unknown["reason"]
