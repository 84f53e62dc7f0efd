"""Measures the bundled weights against the world: `python -m sdkit.shapes.evaluate [--guidance 2 3 4]`.

The figures in this folder's README come from here. Pictures, captions and seeds are held out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdkit.shapes import judge, world
from sdkit.shapes._autoencoder import HELD_OUT_SEED, psnr_db, reconstruct
from sdkit.shapes._contrastive import first_among_ten, scorer_towers
from sdkit.shapes.train import WEIGHTS

BATCH = 64


@dataclass(frozen=True)
class Verdicts:
    """How often each attribute was right, and how often all were, over `count` pictures."""

    count: int
    all_right: float
    attributes: dict[str, float]


def judged(images: Tensor, scenes: Sequence[world.Scene]) -> Verdicts:
    """What the judge makes of pictures (N, 3, 64, 64) uint8 of these scenes."""
    verdicts = [
        judge.verdict(reading, scene) for reading, scene in zip(judge.read(images), scenes, strict=True)
    ]
    asked, right = Counter(k for v in verdicts for k in v), Counter(k for v in verdicts for k in v if v[k])
    share = sum(all(v.values()) for v in verdicts) / len(verdicts)
    return Verdicts(len(verdicts), share, {name: right[name] / asked[name] for name in asked})


def reconstructed(images: Tensor) -> Tensor:
    """The pictures through the bundled autoencoder and back, (N, 3, 64, 64) uint8."""
    from diffusers import AutoencoderKL

    return reconstruct(AutoencoderKL.from_pretrained(WEIGHTS / "pipeline" / "vae").float().eval(), images)


def first_of_ten(count: int) -> float:
    """How often the bundled scorer puts the true caption above nine that differ in one attribute, 0..1."""
    import open_clip

    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{WEIGHTS / 'scorer'}", precision="fp32")
    # open_clip gives models in training mode
    return first_among_ten(scorer_towers(model.eval()), torch.device("cpu"), count)


def default_guidance() -> float:
    """The guidance scale that ships beside the weights."""
    return float(json.loads((WEIGHTS / "pipeline" / "sdkit.json").read_text())["guidance_scale"])


def generated(
    objects: int,
    count: int,
    guidance: float,
    *,
    sampler: str = "dpmpp_2m_karras",
    steps: int = 20,
    seed: int = 0,
) -> Verdicts:
    """What the judge makes of the bundled model's pictures of held-out captions of one or two objects."""
    from sdkit import Session

    seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + count)
    scenes = [world.draw_scene(s, objects=objects, split="held_out") for s in seeds]
    session = Session("shapes", device="cpu")
    text = session.encode([scene.caption for scene in scenes])
    batches = [
        session.sample(
            text.rows(start, start + BATCH),
            sampler=sampler,
            steps=steps,
            guidance_scale=guidance,
            seeds=range(seed + start, seed + min(start + BATCH, count)),
        )
        for start in range(0, count, BATCH)
    ]
    return judged(torch.cat([batch.images for batch in batches]), scenes)


def main(arguments: list[str] | None = None) -> int:
    """Print every figure; returns the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m sdkit.shapes.evaluate", description=__doc__)
    parser.add_argument("--guidance", type=float, nargs="+", default=[2.0, 3.0, 4.0])
    parser.add_argument("--count", type=int, default=256, help="captions of one object, and as many of two")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    renders = world.sample(2000, first_seed=HELD_OUT_SEED)
    _say(f"judge on 2,000 fresh renders: {judged(renders.images, renders.scenes).all_right:.2%}")
    held_out = world.sample(512, first_seed=HELD_OUT_SEED, split="held_out")
    back = reconstructed(held_out.images)
    _say(f"autoencoder on 512 held-out renders: {psnr_db(held_out.images, back):.2f} dB")
    _say(f"judge on what it reconstructs: {judged(back, held_out.scenes).all_right:.2%}")
    _say(f"scorer, true caption first of ten, on 1,000 held-out renders: {first_of_ten(1000):.2%}")
    for guidance in options.guidance:
        for objects in (1, 2):
            found = generated(objects, options.count, guidance, seed=options.seed)
            parts = ", ".join(f"{name} {share:.1%}" for name, share in found.attributes.items())
            head = f"generator, guidance {guidance:g}, {objects} object(s), {found.count}"
            _say(f"{head}: {found.all_right:.1%} ({parts})")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
