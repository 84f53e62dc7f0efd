"""One scorer a sweep: captions encoded once, the reference first, then pictures to what is seen in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from eval.records import MetricsPlan, PromptSet, digest
from eval.scoring.batching import Array
from eval.scoring.catalogue import CATALOGUE
from eval.scoring.cell_scores import Against, Rules, Seen
from eval.scoring.clip_score import clip_scores, pick_distractors, zero_shot_hits
from eval.scoring.encoders import ClipEncoder, ImageEncoder, load_clip
from eval.scoring.extractors import SHAPES_CLIP, load_extractor
from eval.scoring.guards import clipped, contrast, saturation
from eval.scoring.metric import Needs
from eval.scoring.reference_cache import ReferenceCache
from eval.scoring.references import Reference, reference_features
from eval.scoring.threads import threads_for
from eval.scoring.weights import SHAPES

if TYPE_CHECKING:
    from torch import Tensor

    from sdkit.shapes.world import Scene

DISTRACTORS = 99
"""Other captions that a picture's own must beat, or all others where there are fewer."""
_GUARDS = {"saturation": saturation, "contrast": contrast, "clipped": clipped}


@dataclass(frozen=True)
class Scorer:
    """Everything that turns the grid's pictures into scores; the same for every cell."""

    clip: ClipEncoder
    extractors: Mapping[str, ImageEncoder]
    """By name; empty where there is no reference and no score that needs none."""
    rules: Rules
    texts: Array
    """(number of prompts, D) float32, unnormalised: one row a prompt, not a picture."""
    distractors: Array | None
    """(number of prompts, K) indices of other prompts; None where zero-shot accuracy is not asked for."""
    scenes: tuple[Scene, ...] | None
    """What each prompt asks for, where all are the world's."""
    prompts: PromptSet
    notes: tuple[str, ...] = field(default=())
    """What was odd about the reference."""

    @property
    def digest(self) -> str:
        """Changes with anything that would give the same pictures other scores."""
        return digest([self.rules.identity, self.scenes is not None])

    @property
    def device_bytes(self) -> int:
        """What the encoders' weights hold on the GPU that they share with the generator; 0 on a CPU."""
        models = {id(each.model): each.model for each in (self.clip, *self.extractors.values())}.values()
        weights = (parameter for model in models for parameter in model.parameters())
        return sum(each.numel() * each.element_size() for each in weights if each.is_cuda)

    def look(self, pixels: Tensor, first: int) -> Seen:
        """What is seen in pictures (N, 3, H, W) uint8; the first of them is picture `first` of the cell."""
        clip_image = self.clip.images(pixels)
        features = {
            name: clip_image if extractor.model is self.clip.model else extractor.images(pixels)
            for name, extractor in self.extractors.items()
        }
        return Seen(features, self._values(clip_image, pixels, first), self._judge(pixels, first), clip_image)

    def _values(self, clip_image: Array, pixels: Tensor, first: int) -> dict[str, Array]:
        """What is known of each picture alone, by metric: (N,) float64."""
        own = np.array([(first + i) // self.prompts.seeds_per_prompt for i in range(len(pixels))])
        found: dict[str, Array] = {}
        if "clip_score" in self.rules.scores:
            found["clip_score"] = clip_scores(clip_image, self.texts[own])
        if self.distractors is not None:
            others = self.texts[self.distractors[own]]
            found["zero_shot"] = zero_shot_hits(clip_image, self.texts[own], others).astype(np.float64)
        found |= {name: guard(pixels) for name, guard in _GUARDS.items() if name in self.rules.scores}
        return found

    def _judge(self, pixels: Tensor, first: int) -> tuple[dict[str, bool], ...] | None:
        if self.scenes is None:
            return None
        from sdkit.shapes import judge

        with threads_for(3):  # it fits a plane of colour to every picture
            readings = judge.read(pixels)
        scenes = [self.scenes[(first + i) // self.prompts.seeds_per_prompt] for i in range(len(pixels))]
        return tuple(judge.verdict(reading, scene) for reading, scene in zip(readings, scenes, strict=True))


def load_scorer(
    plan: MetricsPlan,
    prompts: PromptSet,
    reference: Reference | None,
    *,
    device: str,
    size_px: tuple[int, int] | None,
    cache: ReferenceCache,
    on_reference: Callable[[int], object] | None = None,
) -> Scorer:
    """Load the encoders, encode the captions and take the reference's features, before any picture is made.

    Args:
        size_px: width and height of the pictures to come; the judge reads the world's own size only.
        on_reference: called after each batch of reference pictures with their number.

    Raises:
        SdkitError: weights or reference pictures are missing, broken or out of reach.
    """
    clip = load_clip(plan.clip, device, batch=plan.batch)
    wanted = {CATALOGUE[name].needs for name in plan.scores}
    compared = reference if wanted & {Needs.REFERENCE, Needs.REFERENCE_FEATURES} else None
    extractors = _extractors(plan, clip) if compared or Needs.LOGITS in wanted else {}
    against: list[Against] = []
    notes: list[str] = []
    for name, extractor in extractors.items() if compared else ():
        assert compared is not None
        found = reference_features(
            compared,
            extractor,
            features=Needs.REFERENCE_FEATURES in wanted,
            on_batch=on_reference,
            cache=cache,
        )
        against.append(Against(name, extractor.key, found.key, found.moments, found.features))
        notes.extend(found.notes)
    distractors = _distractors(plan, prompts)
    return Scorer(
        clip=clip,
        extractors=extractors,
        rules=_rules(plan, prompts, clip, extractors, against, distractors),
        texts=clip.texts(prompts.texts),
        distractors=distractors,
        scenes=_scenes(prompts.texts, size_px) if "judge_all" in plan.scores else None,
        prompts=prompts,
        notes=tuple(dict.fromkeys(notes)),
    )


def _rules(
    plan: MetricsPlan,
    prompts: PromptSet,
    clip: ClipEncoder,
    extractors: Mapping[str, ImageEncoder],
    against: Sequence[Against],
    distractors: Array | None,
) -> Rules:
    return Rules(
        scores=plan.scores,
        extractors=plan.extractors,
        clip=clip.key,
        captions=f"{len(prompts.texts)} captions, sha256:{digest(prompts.texts)[:16]}",
        distractors=None if distractors is None else distractors.shape[1],
        against=tuple(against),
        logits={name: each.logits for name, each in extractors.items() if hasattr(each, "logits")},
        encoders={name: each.key for name, each in extractors.items()},
        clusters=_clusters(prompts),
        converged=plan.converged,
    )


def _distractors(plan: MetricsPlan, prompts: PromptSet) -> Array | None:
    """(number of prompts, K) places of other prompts; None where nobody asks, or there are no others."""
    distinct = len(set(prompts.texts))
    if "zero_shot" not in plan.scores or distinct < 2:
        return None
    return pick_distractors(prompts.texts, min(DISTRACTORS, distinct - 1), seed=0)


def _extractors(plan: MetricsPlan, clip: ClipEncoder) -> dict[str, ImageEncoder]:
    """By name, in the plan's order; the bundled scorer is loaded once where it serves twice."""
    found: dict[str, ImageEncoder] = {}
    for name in plan.extractors:
        if name == SHAPES_CLIP and plan.clip == SHAPES:
            found[name] = clip
        else:
            found[name] = load_extractor(name, clip.device, weights=plan.weights.get(name), batch=plan.batch)
    return found


def _clusters(prompts: PromptSet) -> tuple[int, ...] | None:
    """For each picture the first place of its prompt's text; None where no text comes twice."""
    first: dict[str, int] = {}
    clusters = tuple(first.setdefault(text, index) for index, text in enumerate(prompts.rows))
    return None if len(first) == len(clusters) else clusters


def _scenes(prompts: Sequence[str], size_px: tuple[int, int] | None) -> tuple[Scene, ...] | None:
    from sdkit.shapes import world

    if size_px != (world.SIZE_PX, world.SIZE_PX):
        return None
    scenes = [world.parse(prompt) for prompt in prompts]
    return tuple(scene for scene in scenes if scene is not None) if all(scenes) else None
