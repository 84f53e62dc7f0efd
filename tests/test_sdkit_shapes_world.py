"""The world of `shapes`: what can be said, what is held out, and that a seed is a picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdkit.shapes import world
from sdkit.shapes._words import CONTEXT, build_tokenizer


def test_a_seed_gives_the_same_picture_whatever_stands_beside_it() -> None:
    batch = world.sample(24, first_seed=40)
    for index in (0, 7, 23):
        alone = world.sample(1, first_seed=40 + index)
        assert alone.scenes[0] == batch.scenes[index]
        assert torch.equal(alone.images[0], batch.images[index])


def test_drawing_leaves_global_random_state_alone() -> None:
    torch.manual_seed(5)
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    world.sample(4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


def test_every_caption_reads_back_as_its_scene() -> None:
    scenes = [world.draw_scene(seed) for seed in range(500)]
    assert {len(scene.shapes) for scene in scenes} == {1, 2}
    assert [world.parse(scene.caption) for scene in scenes] == scenes


@pytest.mark.parametrize("text", ["", "a photo of a cat", "a small red star", "a red star at the left"])
def test_other_texts_are_no_scene(text: str) -> None:
    assert world.parse(text) is None


def test_a_tenth_of_captions_is_held_out_by_rule_and_never_drawn_for_training() -> None:
    held_out = [world.draw_scene(seed).held_out for seed in range(3000)]
    assert 0.08 < np.mean(held_out) < 0.12
    assert not any(world.draw_scene(seed, split="train").held_out for seed in range(300))
    assert all(world.draw_scene(seed, split="held_out").held_out for seed in range(300))


def test_an_altered_scene_differs_in_exactly_one_word_slot_and_keeps_its_colours_apart() -> None:
    rng = np.random.default_rng(3)
    for seed in range(300):
        scene = world.draw_scene(seed)
        other = world.alter(scene, rng)
        pairs = [
            *zip(scene.shapes, other.shapes, strict=True),
            *zip(scene.colours, other.colours, strict=True),
            *(
                (getattr(scene, name), getattr(other, name))
                for name in ("background", "size", "place", "relation")
            ),
        ]
        assert sum(a != b for a, b in pairs) == 1
        assert len({*other.colours, other.background}) == len(other.colours) + 1


def test_pictures_are_antialiased_bytes_with_the_background_in_the_corners() -> None:
    scene = world.Scene(("circle",), ("white",), "black", size="large", place="in the centre")
    image = world.render([scene], [0])
    assert image.shape == (1, 3, 64, 64)
    assert image.dtype == torch.uint8
    assert image[0, :, 0, 0].max() < 40
    assert image[0, :, 32, 32].min() > 200
    assert ((image > 60) & (image < 180)).any()


def test_a_seed_too_few_is_an_error_that_counts_them() -> None:
    with pytest.raises(ValueError, match="2 scenes and 1 seeds"):
        world.render([world.draw_scene(0), world.draw_scene(1)], [0])


def test_each_word_of_the_world_is_one_token_and_each_caption_fits() -> None:
    tokenizer = build_tokenizer()
    assert all(len(tokenizer(word).input_ids) == 3 for word in world.vocabulary())
    captions = [world.draw_scene(seed).caption for seed in range(500)]
    assert max(len(ids) for ids in tokenizer(captions).input_ids) <= CONTEXT


def test_any_other_text_becomes_byte_tokens_and_none_is_unknown() -> None:
    tokenizer = build_tokenizer()
    ids = tokenizer("Ünïcode 猫 <b>&amp;</b>").input_ids
    assert tokenizer.eos_token_id not in ids[1:-1]
    assert len(ids) > CONTEXT
