"""One scorer a sweep: captions encoded once, the reference first, then pictures to scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from eval.records import MetricsPlan, Score, digest
from eval.scoring.encoders import Array, ClipEncoder, ImageEncoder, load_clip
from eval.scoring.metrics import Moments, clip_score, clip_scores, fid, judge_all, moments, no_fid
from eval.scoring.references import Reference
from eval.scoring.weights import SHAPES

if TYPE_CHECKING:
    from torch import Tensor

    from sdkit.shapes.world import Scene

SHAPES_CLIP = "shapes-clip"
EXTRACTORS = (SHAPES_CLIP, "inception")
JUDGE = "sdkit.shapes.judge, no learned part; share of pictures with every attribute right"


class Cache(Protocol):
    """Where the reference's moments are kept between runs."""

    def read_moments(self, key: str) -> dict[str, Array] | None: ...
    def write_moments(self, key: str, moments: dict[str, Array]) -> None: ...


@dataclass(frozen=True)
class Scored:
    """What was found about some pictures, in their order."""

    clip_image: Array
    """(N, D) float32, unnormalised."""
    fid_features: Array | None
    """(N, D) float32; None where there is no reference."""
    clip: tuple[float, ...]
    verdicts: tuple[dict[str, bool], ...] | None
    """Attribute -> right; None where the prompts are not the world's."""


@dataclass(frozen=True)
class FidSource:
    """What FID compares: whose features, and the reference's moments in them."""

    extractor: ImageEncoder
    reference: Moments
    identity: str


@dataclass(frozen=True)
class Scorer:
    """Everything that turns the grid's pictures into scores; the same for every cell."""

    clip: ClipEncoder
    fid: FidSource | None
    """None where there is no reference, so that no weights are fetched in vain."""
    fid_name: str
    texts: Array
    """(number of prompts, D) float32, unnormalised."""
    scenes: tuple[Scene, ...] | None
    """What each prompt asks for, where all are the world's."""
    batch: int

    @property
    def digest(self) -> str:
        """Changes with anything that would give the same pictures other scores."""
        judged = JUDGE if self.scenes is not None else None
        return digest([self.clip_identity, self.fid_name, self.fid.identity if self.fid else None, judged])

    @property
    def clip_identity(self) -> str:
        return f"{self.clip.identity}; 100*cos, unclipped"

    @property
    def device_bytes(self) -> int:
        """What the encoders' weights hold on the GPU that they share with the generator; 0 on a CPU."""
        encoders = (self.clip, self.fid.extractor) if self.fid else (self.clip,)
        models = {id(each.model): each.model for each in encoders}.values()
        weights = (parameter for model in models for parameter in model.parameters())
        return sum(each.numel() * each.element_size() for each in weights if each.is_cuda)

    def look(self, pixels: Tensor, first: int) -> Scored:
        """Features, CLIP scores and verdicts of pictures (N, 3, H, W) uint8; row 0 is prompt `first`."""
        parts = [pixels[start : start + self.batch] for start in range(0, len(pixels), self.batch)]
        clip_image = np.concatenate([self.clip.images(part) for part in parts])
        features = None
        if self.fid is not None:
            shared, encode = self.fid.extractor is self.clip, self.fid.extractor.images
            features = clip_image if shared else np.concatenate([encode(part) for part in parts])
        scores = clip_scores(clip_image, self.texts[first : first + len(pixels)])
        return Scored(
            clip_image, features, tuple(float(score) for score in scores), self._judge(pixels, first)
        )

    def scores(self, scored: Scored) -> tuple[Score, ...]:
        """The metrics over all pictures of a cell."""
        found = [clip_score(scored.clip, identity=self.clip_identity)]
        if self.fid is None or scored.fid_features is None:
            found.append(no_fid(len(scored.clip), name=self.fid_name))
        else:
            source = self.fid
            found.append(
                fid(scored.fid_features, source.reference, name=self.fid_name, identity=source.identity)
            )
        if scored.verdicts is not None:
            found.append(judge_all(scored.verdicts, identity=JUDGE))
        return tuple(found)

    def _judge(self, pixels: Tensor, first: int) -> tuple[dict[str, bool], ...] | None:
        if self.scenes is None:
            return None
        from sdkit.shapes import judge

        readings = judge.read(pixels)
        scenes = self.scenes[first : first + len(pixels)]
        return tuple(judge.verdict(reading, scene) for reading, scene in zip(readings, scenes, strict=True))


def gather(parts: Sequence[Scored]) -> Scored:
    """Several batches, in order, as one."""
    verdicts = [part.verdicts for part in parts if part.verdicts is not None]
    features = [part.fid_features for part in parts if part.fid_features is not None]
    return Scored(
        np.concatenate([part.clip_image for part in parts]),
        np.concatenate(features) if features else None,
        tuple(score for part in parts for score in part.clip),
        tuple(each for part in verdicts for each in part) if verdicts else None,
    )


def load_scorer(
    plan: MetricsPlan,
    prompts: Sequence[str],
    reference: Reference | None,
    *,
    device: str,
    size_px: tuple[int, int],
    cache: Cache,
    on_reference: Callable[[int], object] | None = None,
) -> Scorer:
    """Load the encoders, encode the captions and take the reference's moments, before any picture is made.

    Args:
        size_px: width and height of the pictures to come; the judge reads the world's own size only.
        on_reference: called after each batch of reference pictures with their number.

    Raises:
        SdkitError: weights or reference pictures are missing, broken or out of reach.
    """
    clip = load_clip(plan.clip, device)
    return Scorer(
        clip=clip,
        fid=_fid_source(plan, clip, reference, cache, on_reference) if reference else None,
        fid_name=f"fid[{plan.fid}]",
        texts=clip.texts(prompts),
        scenes=_scenes(prompts, size_px),
        batch=plan.batch,
    )


def _load_extractor(plan: MetricsPlan, clip: ClipEncoder) -> ImageEncoder:
    if plan.fid == SHAPES_CLIP:
        return clip if plan.clip == SHAPES else load_clip(SHAPES, clip.device)
    from eval.scoring.inception import load_inception

    return load_inception(plan.inception_weights, clip.device)


def _fid_source(
    plan: MetricsPlan,
    clip: ClipEncoder,
    reference: Reference,
    cache: Cache,
    on_reference: Callable[[int], object] | None,
) -> FidSource:
    extractor = _load_extractor(plan, clip)
    identity = f"{extractor.identity}; moments float64; reference: {reference.identity}"
    key = digest(identity)
    if (kept := cache.read_moments(key)) is not None:
        return FidSource(extractor, Moments(int(kept["n"]), kept["mean"], kept["covariance"]), identity)
    features: list[Array] = []
    for pixels in reference.batches(plan.batch):
        features.append(extractor.images(pixels))
        if on_reference is not None:
            on_reference(len(pixels))
    found = moments(np.concatenate(features))
    cache.write_moments(key, {"n": np.array(found.n), "mean": found.mean, "covariance": found.covariance})
    return FidSource(extractor, found, identity)


def _scenes(prompts: Sequence[str], size_px: tuple[int, int]) -> tuple[Scene, ...] | None:
    from sdkit.shapes import world

    if size_px != (world.SIZE_PX, world.SIZE_PX):
        return None
    scenes = [world.parse(prompt) for prompt in prompts]
    return tuple(scene for scene in scenes if scene is not None) if all(scenes) else None
