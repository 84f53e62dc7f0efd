"""The judge reads renders right, and says so when a picture is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sdkit.shapes import judge, world
from sdkit.shapes.evaluate import judged


def test_the_judge_is_right_on_fresh_renders() -> None:
    drawn = world.sample(2000, first_seed=1_700_000_000)
    assert judged(drawn.images, drawn.scenes).all_right >= 0.995


@pytest.mark.parametrize("objects", [1, 2])
def test_one_wrong_attribute_is_found_and_named(objects: int) -> None:
    drawn = world.sample(200, first_seed=77, objects=objects)
    for reading, scene in zip(judge.read(drawn.images), drawn.scenes, strict=True):
        free = next(c for c in world.COLOURS if c not in (*scene.colours, scene.background))
        shape = next(s for s in world.SHAPES if s not in scene.shapes)
        wrong = {
            "background": replace(scene, background=free),
            "colour": replace(scene, colours=(free, *scene.colours[1:])),
            "shape": replace(scene, shapes=(shape, *scene.shapes[1:])),
        }
        if scene.relation is None:
            wrong["size"] = replace(scene, size="small" if scene.size == "large" else "large")
            wrong["place"] = replace(scene, place=next(p for p in world.PLACES if p != scene.place))
        for attribute, other in wrong.items():
            assert not judge.verdict(reading, other)[attribute]


def test_two_objects_the_wrong_way_round_are_a_wrong_relation_or_colour() -> None:
    scene = world.Scene(("star", "star"), ("red", "green"), "white", relation="above")
    swapped = replace(scene, colours=("green", "red"))
    found = judge.verdict(judge.read(world.render([scene], [1]))[0], swapped)
    assert not all(found.values())


def test_a_second_object_makes_the_count_wrong() -> None:
    two = world.Scene(("star", "ring"), ("red", "green"), "white", relation="left of")
    asked = world.Scene(("star",), ("red",), "white", size="small", place="at the left")
    assert not judge.verdict(judge.read(world.render([two], [1]))[0], asked)["count"]


def test_an_empty_picture_and_noise_show_nothing_that_was_asked() -> None:
    scene = world.Scene(("star",), ("red",), "white", size="small", place="at the left")
    flat = torch.full((1, 3, 64, 64), 242, dtype=torch.uint8)
    noise = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for picture in (flat, noise):
        found = judge.verdict(judge.read(picture)[0], scene)
        assert not found["shape"]
        assert not all(found.values())
    assert judge.read(flat)[0] == judge.Reading("white", ())


def test_pictures_of_another_size_or_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, 3, 64, 64\) uint8, got \(1, 3, 32, 32\)"):
        judge.read(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"float32"):
        judge.read(torch.zeros(1, 3, 64, 64))
