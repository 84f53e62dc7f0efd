"""A score knows what it is: what differs there can be neither subtracted, sorted nor put in one column."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.identity import Column, EncoderKey, Incomparable, Score, ScoreKey
from sdkit._errors import SdkitError

ENCODER = EncoderKey("open_clip B/32", "sha256:0", "224x224 bicubic", "none", "embedding 512", ("torch 2",))
KEY = ScoreKey("clip_score", 8, "100*cos", ENCODER, "captions 1", ("numpy 2",))
OTHERS = [
    *(replace(KEY, **{name: other}) for name, other in [
        ("metric", "fid[x]"), ("n", 9), ("scale", "0..1"), ("encoder", None), ("reference", None),
        ("versions", ()),
    ]),
    *(replace(KEY, encoder=replace(ENCODER, **{name: other})) for name, other in [
        ("name", "another"), ("weights", "sha256:1"), ("resize", "none"), ("crop", "centre"), ("layer", "pool"),
        ("versions", ("torch 3",)),
    ]),
]  # fmt: skip
"""One key for each field that may differ, and for each of the encoder's."""


def score(value: float | None, key: ScoreKey = KEY, rising: bool | None = True, **more: Any) -> Score:
    return Score(key, value, rising, **more)


def test_every_field_of_a_key_is_tried() -> None:
    assert len(OTHERS) == len(fields(ScoreKey)) + len(fields(EncoderKey))
    assert len(set(OTHERS)) == len(OTHERS)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(
    "operation",
    [
        lambda a, b: a - b,
        lambda a, b: a < b,
        lambda a, b: a > b,
        lambda a, b: a <= b,
        lambda a, b: a >= b,
        max,
        lambda a, b: sorted([a, b]),
        lambda a, b: Column.of([a, None, b]),
    ],
)
def test_scores_that_differ_in_any_part_of_their_identity_refuse_each_other(
    other: ScoreKey, operation: Callable[[Score, Score], object]
) -> None:
    with pytest.raises(Incomparable):
        operation(score(1.0), score(2.0, other))


@pytest.mark.parametrize(
    "operation",
    [
        lambda a: a - 1.0,
        lambda a: a < 1.0,
        lambda a: a > 1.0,
        lambda a: a <= 1.0,
        lambda a: a >= 1.0,
        float,
        np.float64,
    ],
)
def test_a_score_does_not_pass_for_a_plain_number(operation: Callable[[Score], object]) -> None:
    with pytest.raises(TypeError):
        operation(score(1.0))


def test_the_refusal_names_what_differs_on_both_sides_and_is_ours() -> None:
    with pytest.raises(SdkitError, match=r"n: 8 against 9; encoder\.crop: none against centre$"):
        score(1.0) - score(1.0, replace(KEY, n=9, encoder=replace(ENCODER, crop="centre")))


def test_what_is_not_set_on_one_side_is_named_too() -> None:
    differences = replace(KEY, encoder=None, reference=None).differences(KEY)
    assert "reference: none against captions 1" in differences
    assert "encoder.weights: none against sha256:0" in differences


def test_a_missing_value_cannot_be_compared_and_says_why() -> None:
    with pytest.raises(Incomparable, match="no value to compare: too few pictures"):
        sorted([score(1.0), score(None, reason="too few pictures")])


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_scores_of_one_identity_compare_as_their_numbers(a: float, b: float) -> None:
    first, second = score(a), score(b)
    assert first - second == a - b
    assert (first < second, first > second, first <= second, first >= second) == (
        a < b,
        a > b,
        a <= b,
        a >= b,
    )
    assert [each.value for each in sorted([first, second])] == sorted([a, b])


def test_a_key_says_all_that_it_holds_in_one_line() -> None:
    for word in (
        "n 8",
        "100*cos",
        "open_clip B/32",
        "sha256:0",
        "bicubic",
        "512",
        "torch 2",
        "captions 1",
        "numpy 2",
    ):
        assert word in KEY.text
    assert KEY.differences(pickle.loads(pickle.dumps(KEY))) == ()


def test_a_column_keeps_its_gaps_and_finds_the_best_in_its_direction() -> None:
    rising = Column.of([None, score(1.0), score(3.0), score(None, reason="r"), score(3.0)])
    assert rising.values == (None, 1.0, 3.0, None, 3.0)
    assert rising.known == (1.0, 3.0, 3.0)
    assert rising.best == 2, "the first of equals"
    assert rising.best_of([0, 1, 3]) == 1
    assert rising.best_of([0, 3]) is None
    falling = Column.of([score(2.0, rising=False), score(1.0, rising=False), None])
    assert falling.best == 1
    assert falling.merit(1) > falling.merit(0) > falling.merit(2) == float("-inf")


def test_a_column_without_direction_has_no_best_and_refuses_to_rank() -> None:
    column = Column.of([score(1.0, rising=None), score(2.0, rising=None)])
    assert column.best is None
    with pytest.raises(ValueError, match="neither direction is better"):
        column.best_of([0, 1])


def test_one_identity_declared_with_two_directions_is_refused() -> None:
    with pytest.raises(Incomparable, match="two directions"):
        Column.of([score(1.0), score(1.0, rising=False)])


def test_a_column_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        Column.of([None, None])


def test_a_column_holds_every_reason_to_doubt_its_values_once() -> None:
    doubts = ["few pictures", None, "few pictures", "low rank"]
    column = Column.of([score(1.0, unreliable=doubt) for doubt in doubts])
    assert column.unreliable == "few pictures; low rank"
    assert Column.of([score(1.0)]).unreliable is None
