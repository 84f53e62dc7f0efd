"""CLIP score and zero-shot accuracy from features, and which captions distract."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from eval.scoring.clip_score import clip_scores, pick_distractors, zero_shot_hits

TEXTS = [f"caption {index}" for index in range(30)]


def test_clip_scores_are_a_hundred_cosines_and_are_not_clipped() -> None:
    images = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    texts = np.array([[5.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
    assert clip_scores(images, texts) == pytest.approx([100, -100, 100 / np.sqrt(2)])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3))
def test_clip_scores_are_scikit_learns_cosines_whatever_the_length(seed: int, scale: float) -> None:
    draws = np.random.default_rng(seed)
    images, texts = draws.normal(size=(9, 6)), draws.normal(size=(9, 6))
    expected = 100 * np.diagonal(cosine_similarity(images, texts))
    np.testing.assert_allclose(clip_scores(images * scale, texts), expected, atol=1e-10)


def test_clip_scores_refuse_unequal_counts_and_rows_without_a_direction() -> None:
    with pytest.raises(ValueError, match="its caption"):
        clip_scores(np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="no direction"):
        clip_scores(np.zeros((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="no direction"):
        clip_scores(np.full((1, 2), np.nan), np.ones((1, 2)))


def test_the_own_caption_must_be_nearer_than_every_distractor() -> None:
    images = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    captions = np.array([[1.0, 0.1], [1.0, 0.5], [1.0, 0.5]])
    distractors = np.array([[[1.0, 0.3], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.3]], [[1.0, 0.5], [0.0, 1.0]]])
    assert zero_shot_hits(images, captions, distractors).tolist() == [True, False, False], "a tie is a miss"
    with pytest.raises(ValueError, match=r"\(N, K, D\)"):
        zero_shot_hits(images, captions, distractors[:2])


def test_distractors_read_differently_from_the_caption_and_from_each_other() -> None:
    texts = [*TEXTS, TEXTS[0], TEXTS[3]]
    chosen = pick_distractors(texts, 10, seed=0)
    assert chosen.shape == (32, 10)
    for own, others in zip(texts, chosen, strict=True):
        read = [texts[i] for i in others]
        assert own not in read
        assert len(set(read)) == 10


def test_distractors_follow_the_texts_not_their_places() -> None:
    order = np.random.default_rng(0).permutation(len(TEXTS))
    there = pick_distractors(TEXTS, 5, seed=0)
    moved = [TEXTS[i] for i in order]
    back = pick_distractors(moved, 5, seed=0)
    for place, index in enumerate(order):
        assert [moved[i] for i in back[place]] == [TEXTS[i] for i in there[index]]
    assert not np.array_equal(pick_distractors(TEXTS, 5, seed=1), there)


@pytest.mark.parametrize("k", [0, 30, 99])
def test_more_distractors_than_there_are_captions_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match=r"distractors must be 1\.\.29"):
        pick_distractors(TEXTS, k, seed=0)
