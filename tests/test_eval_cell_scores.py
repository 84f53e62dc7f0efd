"""From what was seen to scores: each asked-for score is there, with its identity, its label or its reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from eval.identity import EncoderKey, Incomparable, Score
from eval.records import ConvergedPlan
from eval.scoring.catalogue import CATALOGUE
from eval.scoring.cell_scores import (
    NO_PICTURES,
    NO_REFERENCE,
    Against,
    Converged,
    Rules,
    Scored,
    Seen,
    cell_scores,
    gather,
)
from eval.scoring.kernels import kid_values
from eval.scoring.moments import moments
from eval.scoring.uncertainty import mean_interval, wilson

KEY = EncoderKey("open_clip tiny", "sha256:00", "64x64 bicubic", "none", "image embedding 8", ("torch 2",))
rng = np.random.default_rng(0)
REFERENCE = rng.normal(size=(300, 8)).astype(np.float32)
AGAINST = Against("shapes-clip", KEY, "300 pictures, sha256:11", moments(REFERENCE), REFERENCE)
EVERY = tuple(CATALOGUE)
RULES = Rules(
    scores=EVERY,
    extractors=("shapes-clip",),
    clip=KEY,
    captions="captions, sha256:22",
    distractors=9,
    against=(AGAINST,),
    logits={},
    encoders={"shapes-clip": KEY},
    clusters=None,
    converged=ConvergedPlan("heun", 64, 4),
)


def seen(n: int = 40, *, judged: bool = True, shift: float = 0.0) -> Seen:
    made = np.random.default_rng(n)
    features = (made.normal(size=(n, 8)) + shift).astype(np.float32)
    values = {
        "clip_score": made.normal(30, 2, n),
        "zero_shot": (made.random(n) < 0.8).astype(float),
        "saturation": made.random(n),
        "contrast": made.random(n) / 2,
        "clipped": made.random(n),
    }
    verdicts = (
        tuple({"shape": bool(made.random() < 0.9), "colour": True} for _ in range(n)) if judged else None
    )
    return Seen({"shapes-clip": features}, values, verdicts, features)


def by_name(found: Scored) -> dict[str, Score]:
    return {each.name: each for each in found.scores}


def test_every_score_that_is_asked_for_is_there_once_in_that_order() -> None:
    found = cell_scores(
        seen(), RULES, Converged({"latent_rmse": np.ones(4), "ssim": np.ones(4)}, "heun 64")
    ).scores
    assert [each.name.split("[")[0] for each in found] == list(EVERY)
    for each in found:
        assert (each.value is None) <= (each.reason is not None), "what is missing has its reason"


def test_narrow_features_are_scored_on_one_thread_of_blas() -> None:
    counted = []

    def logits(features: np.ndarray) -> np.ndarray:
        counted.extend(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
        return features

    cell_scores(seen(), replace(RULES, logits={"shapes-clip": logits}))
    assert set(counted) == {1}


def test_scores_carry_encoder_reference_and_count() -> None:
    found = by_name(cell_scores(seen(), RULES))
    fid = found["fid[shapes-clip]"]
    assert (fid.key.encoder, fid.key.reference, fid.n) == (KEY, AGAINST.key, 40)
    assert found["clip_score"].key.reference == "captions, sha256:22"
    assert "9 distractors" in str(found["zero_shot"].key.reference)
    other = replace(AGAINST, key="300 other pictures")
    moved = by_name(cell_scores(seen(), replace(RULES, against=(other,))))
    with pytest.raises(Incomparable, match="reference: 300 pictures"):
        _ = fid - moved["fid[shapes-clip]"]
    assert found["clip_score"] - moved["clip_score"] == 0


def test_fid_below_2048_pictures_is_labelled_and_fid_below_full_rank_still_has_a_value() -> None:
    enough, few = by_name(cell_scores(seen(40), RULES)), by_name(cell_scores(seen(6), RULES))
    for each in (enough["fid[shapes-clip]"], enough["fid_inf[shapes-clip]"], few["fid[shapes-clip]"]):
        assert each.value is not None
        assert each.unreliable is not None
        assert each.unreliable.endswith("of 2048 needed")
    assert few["fid_inf[shapes-clip]"].value is None
    assert "at least 9 pictures" in str(few["fid_inf[shapes-clip]"].reason)
    assert enough["kid[shapes-clip]"].unreliable is None


def test_without_a_reference_each_of_its_scores_says_so() -> None:
    found = by_name(cell_scores(seen(), replace(RULES, against=())))
    for name in ("fid", "fid_inf", "kid", "cmmd", "precision", "coverage"):
        assert (found[f"{name}[shapes-clip]"].value, found[f"{name}[shapes-clip]"].reason) == (
            None,
            NO_REFERENCE,
        )


def test_moments_alone_give_fid_and_say_why_not_the_others() -> None:
    found = by_name(cell_scores(seen(), replace(RULES, against=(replace(AGAINST, features=None),))))
    whole = by_name(cell_scores(seen(), RULES))
    assert found["fid[shapes-clip]"] == whole["fid[shapes-clip]"]
    assert found["kid[shapes-clip]"].reason == NO_PICTURES
    assert found["recall[shapes-clip]"].reason == NO_PICTURES


def test_shares_have_wilsons_interval_and_means_students() -> None:
    what = seen()
    found = by_name(cell_scores(what, RULES))
    hits = wilson(int(what.values["zero_shot"].sum()), 40)
    assert (found["zero_shot"].low, found["zero_shot"].high) == (hits.low, hits.high)
    mean = mean_interval(what.values["clip_score"].tolist())
    assert (found["clip_score"].value, found["clip_score"].low) == (mean.value, mean.low)


def test_several_pictures_a_prompt_count_by_prompt() -> None:
    what = seen()
    clusters = tuple(index // 4 for index in range(40))
    found = by_name(cell_scores(what, replace(RULES, clusters=clusters)))
    expected = mean_interval(what.values["clip_score"].tolist(), clusters=clusters)
    assert (found["clip_score"].low, found["clip_score"].high) == (expected.low, expected.high)
    assert found["judge_all"].low is not None
    assert 0 <= found["judge_all"].low <= found["judge_all"].high <= 1


@pytest.mark.parametrize("clusters", [None, tuple(index // 4 for index in range(40))])
def test_scores_that_are_means_over_pictures_say_each_pictures_part_and_have_its_interval(
    clusters: tuple[int, ...] | None,
) -> None:
    what = seen(shift=1.0)
    scored = cell_scores(what, replace(RULES, clusters=clusters))
    found = by_name(scored)
    for name in ("clip_score", "kid[shapes-clip]", "cmmd[shapes-clip]", "density[shapes-clip]"):
        expected = mean_interval(scored.values[name].tolist(), clusters=clusters)
        assert (found[name].value, found[name].low, found[name].high) == (
            expected.value,
            expected.low,
            expected.high,
        )
        assert found[name].reason is None
    np.testing.assert_array_equal(
        scored.values["kid[shapes-clip]"], kid_values(what.features["shapes-clip"], REFERENCE)
    )
    inside = scored.values["precision[shapes-clip]"]
    assert set(inside) == {0.0, 1.0}
    assert found["precision[shapes-clip]"].value == pytest.approx(inside.mean())
    if clusters is None:
        assert found["precision[shapes-clip]"].low == wilson(int(inside.sum()), 40).low
    for name in ("recall[shapes-clip]", "coverage[shapes-clip]"):
        assert found[name].low is None
        assert "whole set" in str(found[name].reason)
        assert name not in scored.values


def test_what_cannot_be_had_says_why() -> None:
    found = by_name(cell_scores(seen(judged=False), RULES, Converged({}, "", "euler_a draws noise")))
    assert "bundled world" in str(found["judge_all"].reason)
    assert found["latent_rmse"].reason == "euler_a draws noise"
    assert "metrics.extractors=[inception]" in str(found["inception_score"].reason)
    assert by_name(cell_scores(seen(), RULES))["ssim"].reason == "no converged run was made"


def test_batches_gather_to_the_whole_in_order() -> None:
    whole = seen()
    parts = [
        Seen(
            {name: rows[a:b] for name, rows in whole.features.items()},
            {name: rows[a:b] for name, rows in whole.values.items()},
            whole.verdicts[a:b] if whole.verdicts else None,
            whole.clip_image[a:b],
        )
        for a, b in ((0, 7), (7, 8), (8, 40))
    ]
    again = gather(parts)
    assert cell_scores(again, RULES).scores == cell_scores(whole, RULES).scores


def test_the_rules_identity_follows_everything_that_moves_a_score() -> None:
    changes = [
        replace(RULES, captions="x"),
        replace(RULES, clip=replace(KEY, weights="sha256:33")),
        replace(RULES, against=(replace(AGAINST, key="x"),)),
        replace(RULES, scores=("fid",)),
        replace(RULES, clusters=(0,) * 40),
        replace(RULES, converged=None),
        replace(RULES, distractors=8),
    ]
    assert all(change.identity != RULES.identity for change in changes)
    assert replace(RULES).identity == RULES.identity
