"""Prompts from the world, and what is chosen from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.scoring.prompts import PromptSource, load_prompts, shapes_prompts
from sdkit import InvalidRequest
from sdkit.shapes import world


def test_the_worlds_prompts_are_distinct_held_out_and_half_of_each_kind() -> None:
    texts = shapes_prompts("shapes", 64).texts
    scenes = [world.parse(text) for text in texts]
    assert len(set(texts)) == 64
    assert all(scene is not None and scene.held_out for scene in scenes)
    assert sum(len(scene.shapes) == 2 for scene in scenes if scene) == 32


def test_the_default_set_is_the_one_that_published_figures_rest_on() -> None:
    # the digest of the 128 captions as they were before sets of one kind existed
    expected = "55aa9d6921fea8ecedfb564252b3f8cbc3d3ce15755ed5391c9576b5acf9aa3d"
    assert shapes_prompts("shapes", 128).digest == expected


@pytest.mark.parametrize(("objects", "number"), [("one", 1), ("two", 2)])
def test_a_set_of_one_kind_holds_that_kind_only(objects: str, number: int) -> None:
    found = shapes_prompts("s", 128, objects=objects)
    scenes = [world.parse(text) for text in found.texts]
    assert {len(scene.shapes) for scene in scenes if scene} == {number}
    assert len(set(found.texts)) == 128
    assert found.notes == ()


def test_more_prompts_begin_with_the_fewer() -> None:
    assert shapes_prompts("s", 20).texts[:8] == shapes_prompts("s", 8).texts


def test_more_prompts_than_the_world_has_captions_still_end_and_say_so() -> None:
    found = shapes_prompts("s", 2000)
    assert len(found.texts) == 2000
    repeats = 2000 - len(set(found.texts))
    assert found.notes == (f"{repeats} of 2000 prompts are repeats of an earlier one, kept",)


def test_the_digest_follows_texts_and_seeds_and_not_the_name() -> None:
    assert shapes_prompts("a", 4).digest == shapes_prompts("b", 4).digest
    assert shapes_prompts("a", 4).digest != shapes_prompts("a", 5).digest
    assert shapes_prompts("a", 4).digest != shapes_prompts("a", 4, seeds_per_prompt=2).digest


def _source(folder: Path, lines: list[str], **chosen: Any) -> PromptSource:
    path = folder / "p.txt"
    path.write_bytes("\n".join(lines).encode())
    return PromptSource("p", str(path), **chosen)


def _table(folder: Path, **chosen: Any) -> PromptSource:
    rows = [
        "prompt,Category,Level",
        "a cat,Animals,easy",
        "two dogs run,Animals,hard",
        "a red car,Vehicles,easy",
    ]
    path = folder / "p.csv"
    path.write_text("\n".join([*rows, "a pear,Food,easy"]), encoding="utf-8")
    return PromptSource("p", str(path), **chosen)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"where": {"Category": "Animals"}}, ("a cat", "two dogs run")),
        ({"where": {"Category": "Vehicles | Food"}}, ("a red car", "a pear")),
        ({"where": {"Category": "Animals", "Level": "easy"}}, ("a cat",)),
        ({"min_words": 3}, ("two dogs run", "a red car")),
        ({"max_words": 2}, ("a cat", "a pear")),
        ({"contains": "CA"}, ("a cat", "a red car")),
    ],
)
def test_filters_keep_what_passes_all_of_them_and_count_the_rest(
    tmp_path: Path, chosen: dict[str, Any], expected: tuple[str, ...]
) -> None:
    found = load_prompts(_table(tmp_path, **chosen))
    assert found.texts == expected
    assert found.notes == (f"{4 - len(expected)} of 4 prompts left out by the filters",)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (
            {"where": {"Kind": "x"}},
            r"prompts\.where\.Kind must be one of prompt, Category, Level, got 'Kind'",
        ),
        ({"where": {"Category": "Animals|Animal"}}, "must be among Animals, Vehicles, Food, got 'Animal'"),
        ({"contains": "zebra"}, "no prompt of .* passes the filters; 4 were there"),
        ({"min_words": 0}, r"prompts\.min_words must be 1\.\."),
        ({"min_words": 3, "max_words": 2}, r"prompts\.min_words must be 1\.\.2, prompts\.max_words, got 3"),
        ({"count": 0}, r"prompts\.count must be 1 or more, got 0"),
        ({"count": 5}, r"prompts\.count must be 1\.\.4 for .*got 5"),
        ({"count": 2, "where": {"Category": "Food"}}, r"prompts\.count must be 1\.\.1 for .*got 2"),
        ({"subset_seed": 1}, r"prompts\.subset_seed needs prompts\.count"),
        ({"count": 1, "subset_seed": -1}, r"prompts\.subset_seed must be 0\.\."),
        ({"duplicates": "merge"}, "prompts.duplicates must be one of keep, drop, got 'merge'"),
        ({"seeds_per_prompt": 0}, r"prompts\.seeds_per_prompt must be 1\.\."),
        ({"captions": "some"}, "prompts.captions must be one of first, all, got 'some'"),
    ],
)
def test_a_bad_choice_is_one_line(tmp_path: Path, chosen: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        load_prompts(_table(tmp_path, **chosen))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"count": 0}, "prompts.count"),
        ({"split": "test"}, "prompts.split"),
        ({"objects": "3"}, "prompts.objects"),
    ],
)
def test_a_bad_choice_of_the_world_is_one_line(chosen: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        shapes_prompts("s", **{"count": 4, **chosen})


def test_empty_lines_blanks_and_repeats_are_told_with_their_counts(tmp_path: Path) -> None:
    lines = ["a cat", "", "  a dog", " ", "a cat ", "a cat"]
    kept = load_prompts(_source(tmp_path, lines))
    assert kept.texts == ("a cat", "a dog", "a cat", "a cat")
    assert kept.notes == (
        "2 empty lines left out",
        "2 of 4 prompts had blanks around them, removed",
        "2 of 4 prompts are repeats of an earlier one, kept",
    )
    dropped = load_prompts(_source(tmp_path, lines, duplicates="drop"))
    assert dropped.texts == ("a cat", "a dog")
    assert dropped.notes[-1] == "2 of 4 prompts are repeats of an earlier one, left out"


def test_one_is_told_in_the_singular(tmp_path: Path) -> None:
    notes = load_prompts(_source(tmp_path, ["a cat", "", "a cat"])).notes
    assert notes == ("1 empty line left out", "1 of 2 prompts is a repeat of an earlier one, kept")


def test_without_a_seed_the_first_are_taken(tmp_path: Path) -> None:
    found = load_prompts(_source(tmp_path, ["a", "b", "c"], count=2))
    assert (found.texts, found.notes) == (("a", "b"), ("the first 2 of 3 prompts",))


def test_each_prompt_has_its_number_of_seeds(tmp_path: Path) -> None:
    assert load_prompts(_source(tmp_path, ["a", "b"], seeds_per_prompt=2)).rows == ("a", "a", "b", "b")


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 2**63 - 1))
def test_a_sample_is_without_replacement_in_order_and_grows_with_its_count(
    tmp_path_factory: pytest.TempPathFactory, first: int, second: int, seed: int
) -> None:
    lines = [f"p{index:02}" for index in range(50)]
    folder = tmp_path_factory.mktemp("sample")
    few, many = (
        load_prompts(_source(folder, lines, count=count, subset_seed=seed)).texts
        for count in sorted((first, second))
    )
    assert list(few) == sorted(set(few))
    assert set(few) <= set(many)
    assert len(few) == min(first, second)


def test_a_sample_is_the_same_on_every_machine_and_another_for_another_seed(tmp_path: Path) -> None:
    lines = [f"p{index}" for index in range(1000)]
    samples = [load_prompts(_source(tmp_path, lines, count=5, subset_seed=seed)).texts for seed in (0, 0, 1)]
    assert samples[0] == samples[1] != samples[2]
    # written down once: raw words of Philox are the same in every NumPy
    assert samples[0] == ("p162", "p185", "p664", "p670", "p998")


@pytest.mark.parametrize("seed", range(3))
def test_every_prompt_is_equally_likely_in_a_sample(tmp_path: Path, seed: int) -> None:
    # 200 samples of 10 in 20: each is drawn 100 times, binomial with s = 7.1; five of them bound 20 draws
    lines = [f"p{index}" for index in range(20)]
    drawn = dict.fromkeys(lines, 0)
    for trial in range(200):
        for text in load_prompts(_source(tmp_path, lines, count=10, subset_seed=1000 * seed + trial)).texts:
            drawn[text] += 1
    assert all(abs(times - 100) < 5 * 7.1 for times in drawn.values())
