"""The world of `shapes`: captions that can be said, and pictures that are drawn for them.

A scene is one object ("a small red star at the left on a blue background") or two in a relation
("a green ring above a yellow square on a black background"), drawn 64 x 64 from signed distance
functions, with gentle light and a jitter of place, size and turn. The same seed gives the same
scene and the same picture, whatever stands beside it in the batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sdkit.shapes._forms import SHAPES as SHAPES
from sdkit.shapes._forms import SIZE_PX as SIZE_PX
from sdkit.shapes._forms import coverage

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "orange": (245, 135, 25),
    "yellow": (250, 222, 60),
    "green": (45, 160, 70),
    "cyan": (65, 210, 220),
    "blue": (45, 75, 210),
    "purple": (130, 55, 175),
    "pink": (250, 150, 195),
    "white": (242, 242, 242),
    "black": (24, 24, 24),
}
COLOURS = tuple(PALETTE)
SIZES = ("small", "large")
PLACES = ("at the left", "at the right", "at the top", "at the bottom", "in the centre")
RELATIONS = ("above", "below", "left of", "right of")

# Directions in pixels, y downwards: where a place lies, and where the first object of a relation lies.
DIRECTION = {
    "at the left": (-1, 0), "at the right": (1, 0), "at the top": (0, -1), "at the bottom": (0, 1),
    "in the centre": (0, 0), "above": (0, -1), "below": (0, 1), "left of": (-1, 0), "right of": (1, 0),
}  # fmt: skip
OFFSET_PX = 14.0
RADIUS_PX = {"small": 9.0, "large": 14.5, "paired": 11.5}
JITTER_PX, JITTER_SIZE, JITTER_TURN_DEG, JITTER_LIGHT = 1.5, 0.06, 12.0, 0.10

Split = Literal["train", "held_out", "all"]
_HELD_OUT_EVERY = 10


@dataclass(frozen=True)
class Scene:
    """What a caption says. One object has a size and a place; two have a relation instead."""

    shapes: tuple[str, ...]
    colours: tuple[str, ...]
    background: str
    size: str | None = None
    place: str | None = None
    relation: str | None = None

    @property
    def caption(self) -> str:
        """The caption, in the only wording the model was trained on."""
        ground = f"on {_article(self.background)} background"
        if self.relation is None:
            return f"a {self.size} {self.colours[0]} {self.shapes[0]} {self.place} {ground}"
        first, second = (f"{_article(c)} {s}" for c, s in zip(self.colours, self.shapes, strict=True))
        return f"{first} {self.relation} {second} {ground}"

    @property
    def held_out(self) -> bool:
        """True for the tenth of all whole captions, spread by rule, that training never sees."""
        total = sum(SHAPES.index(s) for s in self.shapes) + COLOURS.index(self.background)
        total += sum((3 + 4 * i) * COLOURS.index(c) for i, c in enumerate(self.colours))
        if self.relation is not None:
            return (total + RELATIONS.index(self.relation)) % _HELD_OUT_EVERY == 0
        layout = SIZES.index(self.size or "") + 2 * PLACES.index(self.place or "")
        return (total + layout) % _HELD_OUT_EVERY == 0


@dataclass(frozen=True)
class Sample:
    """Scenes with the pictures drawn for them. `images` is (N, 3, 64, 64) uint8, 0-255."""

    scenes: tuple[Scene, ...]
    images: Tensor

    @property
    def captions(self) -> list[str]:
        return [scene.caption for scene in self.scenes]


def vocabulary() -> list[str]:
    """Every word that a caption can hold, once each, in a fixed order."""
    phrases = (*SHAPES, *COLOURS, *SIZES, *PLACES, *RELATIONS, "a an on background")
    return list(dict.fromkeys(word for phrase in phrases for word in phrase.split()))


def parse(caption: str) -> Scene | None:
    """The scene of a caption in the world's own wording; None for any other text."""
    colour, shape = f"({'|'.join(COLOURS)})", f"({'|'.join(SHAPES)})"
    ground = f"on an? {colour} background"
    one = rf"a ({'|'.join(SIZES)}) {colour} {shape} ({'|'.join(PLACES)}) {ground}"
    two = rf"an? {colour} {shape} ({'|'.join(RELATIONS)}) an? {colour} {shape} {ground}"
    if match := re.fullmatch(one, caption):
        size, paint, form, place, background = match.groups()
        return Scene((form,), (paint,), background, size=size, place=place)
    if match := re.fullmatch(two, caption):
        paint, form, relation, paint2, form2, background = match.groups()
        return Scene((form, form2), (paint, paint2), background, relation=relation)
    return None


def draw_scene(seed: int, *, objects: int | None = None, split: Split = "all") -> Scene:
    """The scene of a seed: uniform over captions of one object (half of the time) or two.

    Args:
        seed: any integer from 0.
        objects: 1 or 2 to ask for that kind only.
        split: "train" and "held_out" redraw until the caption belongs to that side of the rule.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    while True:
        kind = objects or int(rng.integers(1, 3))
        colours = [COLOURS[i] for i in rng.permutation(len(COLOURS))[: kind + 1]]
        shapes = tuple(SHAPES[i] for i in rng.integers(len(SHAPES), size=kind))
        scene = Scene(shapes, tuple(colours[:kind]), colours[kind], **_layout(kind, rng))
        if split == "all" or scene.held_out == (split == "held_out"):
            return scene


def alter(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene that differs from the given one in exactly one attribute, drawn uniformly."""
    used = {*scene.colours, scene.background}
    colour = [name for name in COLOURS if name not in used][rng.integers(len(COLOURS) - len(used))]
    slot = int(rng.integers(len(scene.shapes)))
    attributes = ["shapes", "colours", "background", *(["relation"] if scene.relation else ["size", "place"])]
    match attributes[rng.integers(len(attributes))]:
        case "shapes":
            return replace(scene, shapes=_put(scene.shapes, slot, _other(SHAPES, scene.shapes[slot], rng)))
        case "colours":
            return replace(scene, colours=_put(scene.colours, slot, colour))
        case "background":
            return replace(scene, background=colour)
        case "relation":
            return replace(scene, relation=_other(RELATIONS, scene.relation, rng))
        case "size":
            return replace(scene, size=_other(SIZES, scene.size, rng))
        case _:
            return replace(scene, place=_other(PLACES, scene.place, rng))


def sample(count: int, *, first_seed: int = 0, objects: int | None = None, split: Split = "all") -> Sample:
    """Scenes and pictures of `count` consecutive seeds; picture i depends on `first_seed + i` alone."""
    seeds = range(first_seed, first_seed + count)
    scenes = tuple(draw_scene(seed, objects=objects, split=split) for seed in seeds)
    return Sample(scenes, render(scenes, seeds))


def render(scenes: Sequence[Scene], seeds: Sequence[int]) -> Tensor:
    """Pictures of the scenes, (N, 3, 64, 64) uint8; `seeds` decide jitter and light, one each."""
    if len(scenes) != len(seeds):
        raise ValueError(f"render needs one seed a scene, got {len(scenes)} scenes and {len(seeds)} seeds")
    jitter = torch.from_numpy(np.stack([_jitter(seed) for seed in seeds])) if scenes else torch.zeros(0, 10)
    palette = torch.tensor(list(PALETTE.values()), dtype=torch.float32)
    canvas = palette[[COLOURS.index(s.background) for s in scenes]][:, :, None, None].repeat(
        1, 1, SIZE_PX, SIZE_PX
    )
    for slot in (0, 1):
        rows = [i for i, scene in enumerate(scenes) if len(scene.shapes) > slot]
        if rows:
            _paint(
                canvas, [scenes[i] for i in rows], rows, slot, jitter[rows, 4 * slot : 4 * slot + 4], palette
            )
    return _lit(canvas, jitter[:, 8:]).round().clamp(0, 255).to(torch.uint8)


def _other(names: Sequence[str], name: str | None, rng: np.random.Generator) -> str:
    left = [other for other in names if other != name]
    return left[rng.integers(len(left))]


def _put(names: tuple[str, ...], slot: int, name: str) -> tuple[str, ...]:
    return (*names[:slot], name, *names[slot + 1 :])


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _layout(kind: int, rng: np.random.Generator) -> dict[str, str]:
    if kind == 2:
        return {"relation": RELATIONS[rng.integers(len(RELATIONS))]}
    return {"size": SIZES[rng.integers(len(SIZES))], "place": PLACES[rng.integers(len(PLACES))]}


def _jitter(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Ten uniforms in -1..1: dx, dy, size, turn for each of two objects; light's strength and angle."""
    uniform = np.random.Generator(np.random.Philox(key=[seed, 1])).random(10, dtype=np.float32)
    return np.asarray(uniform * 2 - 1, dtype=np.float32)


def _paint(
    canvas: Tensor, scenes: Sequence[Scene], rows: list[int], slot: int, jitter: Tensor, palette: Tensor
) -> None:
    """Lay object `slot` of every scene over its row of the canvas (N, 3, 64, 64), in place."""
    layouts = [scene.relation or scene.place for scene in scenes]
    sign = 1.0 if slot == 0 else -1.0
    toward = torch.tensor([DIRECTION[layout] for layout in layouts if layout], dtype=torch.float32)
    centre = SIZE_PX / 2 + sign * OFFSET_PX * toward + JITTER_PX * jitter[:, :2]
    radius = torch.tensor([RADIUS_PX[scene.size or "paired"] for scene in scenes]) * (
        1 + JITTER_SIZE * jitter[:, 2]
    )
    turn = math.radians(JITTER_TURN_DEG) * jitter[:, 3]
    colour = palette[[COLOURS.index(scene.colours[slot]) for scene in scenes]][:, :, None, None]
    for shape in SHAPES:
        pick = [i for i, scene in enumerate(scenes) if scene.shapes[slot] == shape]
        if pick:
            alpha = coverage(shape, centre[pick], radius[pick], turn[pick])[:, None]
            target = [rows[i] for i in pick]
            canvas[target] = canvas[target] * (1 - alpha) + colour[pick] * alpha


def _lit(canvas: Tensor, jitter: Tensor) -> Tensor:
    """Brightness that rises gently across the picture: at most 10 % at the edge, either way."""
    strength = JITTER_LIGHT * (jitter[:, 0] + 1) / 2
    angle = math.pi * jitter[:, 1]
    span = torch.linspace(-1, 1, SIZE_PX)
    slope = (
        torch.cos(angle)[:, None, None] * span[None, None, :]
        + torch.sin(angle)[:, None, None] * span[None, :, None]
    )
    return canvas * (1 + (strength[:, None, None] * slope / math.sqrt(2))[:, None])
