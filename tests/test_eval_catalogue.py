"""What every score declares of itself."""

from __future__ import annotations

import pytest

from eval.scoring.catalogue import CATALOGUE, metric, title_of, unreliable_fid
from eval.scoring.metric import Metric
from sdkit import InvalidRequest


@pytest.mark.parametrize("found", CATALOGUE.values(), ids=lambda each: each.name)
def test_every_score_says_what_it_is_and_what_it_is_not(found: Metric) -> None:
    assert CATALOGUE[found.name] is found
    for text in (found.title, found.scale, found.meaning, found.warning, found.source):
        assert text.strip() == text != ""
    assert found.least_n >= 1
    if found.lowest is not None and found.highest is not None:
        assert found.lowest < found.highest


def test_a_value_outside_its_bounds_is_a_mistake_of_ours_and_is_raised() -> None:
    with pytest.raises(ValueError, match=r"clip_score must be -100\.\.100"):
        CATALOGUE["clip_score"].score(101.0, 4)
    with pytest.raises(ValueError, match="fid must be 0"):
        CATALOGUE["fid"].score(-1.0, 4)
    with pytest.raises(ValueError, match="needs its reason"):
        CATALOGUE["fid"].score(None, 4)
    with pytest.raises(ValueError, match="must be"):
        CATALOGUE["fid"].score(float("nan"), 4)


def test_a_label_belongs_to_a_value() -> None:
    labelled = CATALOGUE["fid"].score(3.0, 4, extractor="x", unreliable="few")
    missing = CATALOGUE["fid"].score(None, 4, extractor="x", reason="none", unreliable="few")
    assert (labelled.name, labelled.unreliable) == ("fid[x]", "few")
    assert missing.unreliable is None


def test_an_unknown_score_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match="nearest: clip_score") as caught:
        metric("clip_scor")
    assert "\n" not in str(caught.value)
    assert metric("fid[inception] #2").name == "fid"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("clip_score", "CLIP score"),
        ("clip_score #2", "CLIP score #2"),
        ("fid[inception]", "FID (Inception)"),
        ("fid[inception-clean-fid]", "FID (Inception, as clean-fid)"),
        ("fid[dinov2-vit-l-14]", "FD-DINOv2 (ViT-L/14)"),
        ("fid_inf[dinov2-vit-l-14] #3", "FD∞-DINOv2 (ViT-L/14) #3"),
        ("kid[shapes-clip]", "KID (shapes-clip)"),
        ("judge_all", "Judge: all right"),
        ("mine", "mine"),
    ],
)
def test_titles_name_the_features(name: str, title: str) -> None:
    assert title_of(name) == title


@pytest.mark.parametrize(
    ("n", "width", "reference_n", "said"),
    [
        (2047, 64, 5000, "2047 pictures, of 2048 needed"),
        (2048, 64, 5000, None),
        (2048, 2048, 5000, "2048 pictures, of 2049 needed"),
        (5000, 2048, None, None),
        (5000, 2048, 100, "100 reference pictures, of 2049 needed"),
        (10, 64, 10, "10 pictures and 10 reference pictures, of 2048 needed"),
    ],
)
def test_fid_below_2048_pictures_or_below_rank_is_labelled(
    n: int, width: int, reference_n: int | None, said: str | None
) -> None:
    assert unreliable_fid(n, width, reference_n) == said
