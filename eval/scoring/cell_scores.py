"""From what was seen in a cell's pictures to its scores: one function a kind of metric. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from eval.identity import EncoderKey, Score
from eval.records import ConvergedPlan
from eval.scoring.catalogue import CATALOGUE, unreliable_fid
from eval.scoring.frechet import frechet_distance, frechet_distance_of_features
from eval.scoring.frechet_interval import FidTarget, fid_sample, fid_target, infinity_of
from eval.scoring.inception_score import inception_score
from eval.scoring.kernels import cmmd_own, cmmd_values, kid_own, kid_values
from eval.scoring.manifold import NEAREST_K, PRDC, prdc, radii
from eval.scoring.metric import Metric, Needs
from eval.scoring.moments import Moments, moments
from eval.scoring.threads import threads_for
from eval.scoring.uncertainty import Interval, mean_interval, wilson

Array = np.ndarray[Any, np.dtype[Any]]

NO_REFERENCE = "no reference pictures were given (reference=none)"
NO_PICTURES = "the reference is given as moments; this score needs its pictures"
FID_NO_INTERVAL = "no interval: resampling biases FID upwards; fid_inf has one, and so have differences"
WHOLE_SET = "no interval: it is of the whole set, no mean over pictures"
SEED = 0
"""Of everything that is drawn here: subsets of an extrapolation, splits of the Inception score."""


@dataclass(frozen=True)
class Seen:
    """What was found in some pictures of a cell, in their order."""

    features: Mapping[str, Array]
    """Extractor -> (N, D) float32."""
    values: Mapping[str, Array]
    """Metric -> (N,) float64: what is known of each picture alone."""
    verdicts: tuple[dict[str, bool], ...] | None
    """Attribute -> right; None where the prompts are not the world's."""
    clip_image: Array
    """(N, D) float32, unnormalised."""

    @property
    def n(self) -> int:
        return len(self.clip_image)


@dataclass(frozen=True)
class Against:
    """The reference, as one extractor sees it."""

    extractor: str
    encoder: EncoderKey
    key: str
    moments: Moments
    features: Array | None
    """(N, D) float32; None where only moments are known, or no score needs more."""

    @cached_property
    def target(self) -> FidTarget:
        """The root of the reference's covariance, computed once for all cells, as are the three below."""
        return fid_target(self.moments)

    @cached_property
    def kid_own(self) -> float:
        return kid_own(self._rows)

    @cached_property
    def cmmd_own(self) -> float:
        return cmmd_own(self._rows)

    @cached_property
    def radii(self) -> Array:
        """(N,) of the balls around the reference's pictures."""
        return radii(self._rows)

    @property
    def _rows(self) -> Array:
        assert self.features is not None
        return self.features


@dataclass(frozen=True)
class Rules:
    """What is scored, and against what: the same for every cell."""

    scores: tuple[str, ...]
    extractors: tuple[str, ...]
    clip: EncoderKey
    captions: str
    """The captions' hash: what a CLIP score is measured against."""
    distractors: int | None
    against: tuple[Against, ...]
    logits: Mapping[str, Callable[[Array], Array]]
    """Extractor -> features to class logits, for those that have classes."""
    encoders: Mapping[str, EncoderKey]
    clusters: tuple[int, ...] | None
    """For each picture its prompt, where prompts have several pictures."""
    converged: ConvergedPlan | None

    @property
    def identity(self) -> list[object]:
        """All of it, as plain values to be hashed."""
        against = [[each.extractor, asdict(each.encoder), each.key] for each in self.against]
        encoders = {name: asdict(key) for name, key in self.encoders.items()}
        converged = asdict(self.converged) if self.converged else None
        plain = [self.scores, self.extractors, asdict(self.clip), self.captions, self.distractors]
        return [*plain, against, encoders, self.clusters, converged]


@dataclass(frozen=True)
class Converged:
    """How far the cell's first pictures are from their converged ones; or why that is not known."""

    values: Mapping[str, Array]
    """"latent_rmse" and "ssim": (K,) float64 each."""
    key: str
    """What they were measured against."""
    reason: str | None = None


def gather(parts: Sequence[Seen]) -> Seen:
    """Several batches, in order, as one."""
    verdicts = [part.verdicts for part in parts if part.verdicts is not None]
    return Seen(
        {name: np.concatenate([part.features[name] for part in parts]) for name in parts[0].features},
        {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
        tuple(each for part in verdicts for each in part) if verdicts else None,
        np.concatenate([part.clip_image for part in parts]),
    )


@dataclass(frozen=True)
class Scored:
    """A cell's scores, and each picture's part in those that are means over pictures."""

    scores: tuple[Score, ...]
    values: Mapping[str, Array]
    """Score's name -> (K,) float64 of the first K pictures, whose mean is the score; for KID and CMMD the jackknife's
    pseudo-values."""


def cell_scores(seen: Seen, rules: Rules, converged: Converged | None = None) -> Scored:
    """Every score that was asked for, in that order; one that cannot be computed is there with its reason.

    Args:
        converged: None where nothing is measured against a converged run, as with pictures from elsewhere.
    """
    parts = _Parts(rules)
    found: list[Score] = []
    with threads_for(max((rows.shape[1] for rows in seen.features.values()), default=0)):
        for name in rules.scores:
            found.extend(_scores_of(CATALOGUE[name], seen, rules, parts, converged))
    far = converged.values if converged else {}
    return Scored(tuple(found), {**seen.values, **parts.values, **far})


def _scores_of(
    metric: Metric, seen: Seen, rules: Rules, parts: _Parts, converged: Converged | None
) -> Iterator[Score]:
    """One metric's scores: one, or one an extractor."""
    if seen.n < metric.least_n:
        reason = f"{metric.name} needs at least {metric.least_n} pictures, got {seen.n}"
        yield from _missing(metric, seen, rules, reason)
    elif metric.needs is Needs.CAPTIONS:
        yield _of_captions(metric, seen, rules)
    elif metric.needs in (Needs.REFERENCE, Needs.REFERENCE_FEATURES):
        yield from _of_reference(metric, seen, rules, parts)
    elif metric.needs is Needs.LOGITS:
        yield from _of_logits(metric, seen, rules)
    elif metric.needs is Needs.PIXELS:
        yield metric.score(_mean(seen.values[metric.name], rules), seen.n)
    elif metric.needs is Needs.CONVERGED:
        yield _of_converged(metric, seen, rules, converged)
    else:
        yield _of_judge(metric, seen, rules)


def _missing(metric: Metric, seen: Seen, rules: Rules, reason: str) -> Iterator[Score]:
    """No value, under every name that the score would have."""
    of_features = metric.needs in (Needs.REFERENCE, Needs.REFERENCE_FEATURES)
    names: tuple[str | None, ...] = rules.extractors if of_features else (None,)
    for extractor in names:
        yield metric.score(None, seen.n, extractor=extractor, reason=reason)


def _mean(values: Array, rules: Rules) -> Interval:
    clusters = None if rules.clusters is None else rules.clusters[: len(values)]
    return mean_interval([float(value) for value in values], clusters=clusters)


def _share(hits: Sequence[bool], rules: Rules) -> Interval:
    """Wilson's interval; by prompts, where one has several pictures."""
    if rules.clusters is None:
        return wilson(sum(hits), len(hits))
    found = _mean(np.asarray(hits, dtype=np.float64), rules)
    ends = [None if end is None else min(1.0, max(0.0, end)) for end in (found.low, found.high)]
    return Interval(found.value, ends[0], ends[1])


def _of_captions(metric: Metric, seen: Seen, rules: Rules) -> Score:
    if metric.name not in seen.values:
        reason = f"{metric.name} needs two different captions at least, got one"
        return metric.score(None, seen.n, encoder=rules.clip, reference=rules.captions, reason=reason)
    values, reference = seen.values[metric.name], rules.captions
    if metric.name == "zero_shot":
        found = _share([bool(hit) for hit in values], rules)
        reference = f"{rules.captions}, {rules.distractors} distractors each"
    else:
        found = _mean(values, rules)
    why = None if found.low is not None else "no interval from one picture"
    return metric.score(found, seen.n, encoder=rules.clip, reference=reference, reason=why)


def _of_reference(metric: Metric, seen: Seen, rules: Rules, parts: _Parts) -> Iterator[Score]:
    if not rules.against:
        yield from _missing(metric, seen, rules, NO_REFERENCE)
    for against in rules.against:
        features, name = seen.features[against.extractor], against.extractor
        value, reason, unreliable = _distance(metric, features, against, parts)
        yield metric.score(
            value,
            seen.n,
            extractor=name,
            encoder=against.encoder,
            reference=against.key,
            reason=reason,
            unreliable=unreliable,
        )


def _distance(
    metric: Metric, features: Array, against: Against, parts: _Parts
) -> tuple[float | Interval | None, str | None, str | None]:
    """Value, why there is none or no interval, and why it is unreliable."""
    n, reference = len(features), against.moments
    if metric.needs is Needs.REFERENCE_FEATURES:
        if against.features is None:
            return None, NO_PICTURES, None
        value = parts.value(metric, features, against, against.features)
        return value, None if isinstance(value, Interval) else WHOLE_SET, None
    label = unreliable_fid(n, reference.width, reference.n)
    if metric.name == "fid":
        return _fid(features, against), FID_NO_INTERVAL, label
    if n <= reference.width:
        return None, f"fid_inf needs at least {reference.width + 1} pictures for full rank, got {n}", None
    sample = fid_sample(features, against.target, seed=SEED, clusters=parts.rules.clusters)
    found = infinity_of(sample)
    short = f"no interval from {n} pictures: two halves of full rank need {2 * (reference.width + 1)}"
    return found, None if found.low is not None else short, label


def _fid(features: Array, against: Against) -> float:
    if len(features) <= features.shape[1] and against.features is not None:
        return frechet_distance_of_features(features, against.features)
    return frechet_distance(moments(features), against.moments, root_of_second=against.target.root)


@dataclass
class _Parts:
    """Scores of a cell's features against a reference's, with each picture's part in them."""

    rules: Rules
    values: dict[str, Array] = field(default_factory=dict)
    """Score's name -> (N,) float64, for those that are means over the cell's pictures."""
    _manifolds: dict[str, PRDC] = field(default_factory=dict)
    """By extractor: the four of one computation."""

    def value(self, metric: Metric, features: Array, against: Against, reference: Array) -> float | Interval:
        """The score; with its interval, of this reference as it is, where it is a mean over pictures."""
        own = self._own(metric.name, features, against, reference)
        if own is None:
            return float(getattr(self._manifolds[against.extractor], metric.name))
        self.values[metric.named(against.extractor)] = own
        if metric.name == "precision":
            return _share([bool(each) for each in own], self.rules)
        return _mean(own, self.rules)

    def _own(self, name: str, features: Array, against: Against, reference: Array) -> Array | None:
        if name == "kid":
            return kid_values(features, reference, own=against.kid_own)
        if name == "cmmd":
            return cmmd_values(features, reference, own=against.cmmd_own)
        if against.extractor not in self._manifolds:
            found = prdc(features, reference, radii_of_reference=against.radii)
            self._manifolds[against.extractor] = found
        balls = self._manifolds[against.extractor].balls
        if name == "precision":
            return (balls > 0).astype(np.float64)
        return balls / NEAREST_K if name == "density" else None


def _of_logits(metric: Metric, seen: Seen, rules: Rules) -> Iterator[Score]:
    if not rules.logits:
        reason = "needs an extractor with classes: metrics.extractors=[inception]"
        yield metric.score(None, seen.n, reason=reason)
    for name, logits in rules.logits.items():
        found = inception_score(logits(seen.features[name]), seed=SEED)
        reason = "no interval: ten splits share one classifier and one set of pictures"
        yield metric.score(found.value, seen.n, extractor=name, encoder=rules.encoders[name], reason=reason)


def _of_converged(metric: Metric, seen: Seen, rules: Rules, converged: Converged | None) -> Score:
    if converged is None or converged.reason is not None or rules.converged is None:
        reason = converged.reason if converged and converged.reason else "no converged run was made"
        return metric.score(None, seen.n, reason=reason)
    values = converged.values[metric.name]
    why = None if len(values) > 1 else "no interval from one picture"
    return metric.score(_mean(values, rules), len(values), reference=converged.key, reason=why)


def _of_judge(metric: Metric, seen: Seen, rules: Rules) -> Score:
    if seen.verdicts is None:
        reason = "the judge reads the bundled world's captions at 64 x 64 px only"
        return metric.score(None, seen.n, reason=reason)
    return metric.score(_share([all(each.values()) for each in seen.verdicts], rules), seen.n)
