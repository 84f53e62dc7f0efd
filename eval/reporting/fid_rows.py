"""FID of several cells less that of the best one, over the same prompts and seeds. Pure.

The critical value comes from max-T over the cells' jackknife influences, one a picture or a prompt, so the
intervals hold for all pairs of cells at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.records import CellResult
from eval.reporting.shared_rows import SEED, Array, Images, clusters_of, places_of
from eval.scoring.frechet_interval import FidSample, difference_of, fid_sample, fid_target
from eval.scoring.moments import Moments
from eval.scoring.multiple import max_t
from eval.scoring.threads import threads_for
from eval.scoring.uncertainty import LEVEL, Interval
from sdkit._errors import SdkitError

Kept = dict[tuple[str, str, tuple[object, ...] | None], FidSample]
"""(extractor, cell key, clusters) -> sample: each costs up to three eigendecompositions of (D, D)."""


@dataclass(frozen=True)
class FidRows:
    """The differences that are known, by cell key, and why others are not."""

    differences: dict[str, Interval] = field(default_factory=dict)
    """Cell − best, at N = infinity."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why there is no difference, or no interval of it."""
    method: str | None = None
    n: int | None = None


def fid_rows(
    name: str,
    best: CellResult,
    scored: Sequence[CellResult],
    images: Images,
    features: Callable[[str], Mapping[str, Array]],
    reference: Callable[[str], Moments | None],
    kept: Kept,
) -> FidRows:
    """Each scored cell's FID less the best one's.

    Args:
        name: the score's name, with the extractor in brackets.
        features: cell key -> extractor -> (N, D); read once a cell.
        kept: samples that another score of the same extractor needed before; new ones are added.
    """
    extractor = name.partition("[")[2].partition("]")[0]
    keys = [best.cell.key, *(each.cell.key for each in scored if each.cell.key != best.cell.key)]
    try:
        moments = reference(extractor)
    except SdkitError as error:
        return FidRows(reasons=dict.fromkeys(keys, str(error)))
    if moments is None:
        return FidRows(
            reasons=dict.fromkeys(keys, f"the run keeps no moments of the reference for {extractor}")
        )
    samples, reasons = fid_samples(keys, extractor, moments, images, features, kept)
    if best.cell.key not in samples:
        why = f"the best cell has none to compare with: {reasons[best.cell.key]}"
        return FidRows(reasons=dict.fromkeys(keys, why) | reasons)
    found, short = _differences(samples, best.cell.key, moments.width)
    ours = samples[best.cell.key].by
    by = "pictures" if ours.count == ours.rows else f"{ours.count} prompts"
    pairs = len(samples) * (len(samples) - 1) // 2
    method = f"paired jackknife over {by} at N = infinity; max-T over {pairs} pairs of {len(samples)} cells"
    return FidRows(found, reasons | short, method, ours.rows)


def fid_samples(
    keys: Sequence[str],
    extractor: str,
    moments: Moments,
    images: Images,
    features: Callable[[str], Mapping[str, Array]],
    kept: Kept,
) -> tuple[dict[str, FidSample], dict[str, str]]:
    """What is needed of each cell, and why it is not there; the first key is the best cell's."""
    places = places_of(images.get(keys[0], ()))
    clusters = clusters_of([prompt for _, _, prompt in places])
    named = None if clusters is None else tuple(clusters)
    samples: dict[str, FidSample] = {}
    reasons: dict[str, str] = {}
    with threads_for(moments.width):
        target = fid_target(moments)
        for key in keys:
            apart = places_of(images.get(key, ())) != places
            place = (extractor, key, named)
            if place in kept and not apart:
                samples[key] = kept[place]
                continue
            try:
                found = features(key).get(extractor)
            except SdkitError as error:
                reasons[key] = str(error)
                continue
            if found is None:
                reasons[key] = f"the cell keeps no features of {extractor}"
            elif apart:
                reasons[key] = "its pictures are not the best cell's"
            elif why := _unusable(found, len(places), moments.width):
                reasons[key] = why
            else:
                samples[key] = kept[place] = fid_sample(found, target, seed=SEED, clusters=clusters)
    return samples, reasons


def _unusable(features: Array, rows: int, width: int) -> str | None:
    """Why FID cannot be had of these features; None where it can."""
    if len(features) != rows or features.ndim != 2 or features.shape[1] != width:
        return f"its features must be ({rows}, {width}), got {features.shape}"
    if rows < 2 or not np.isfinite(features).all():
        return "its features are too few, or not finite"
    return None


def _differences(
    samples: Mapping[str, FidSample], best: str, width: int
) -> tuple[dict[str, Interval], dict[str, str]]:
    """Each cell less the best one, with simultaneous intervals; and why there are none of those."""
    level = _simultaneous([each.scores for each in samples.values()])
    found = {
        key: difference_of(each, samples[best], level=level) for key, each in samples.items() if key != best
    }
    rows = samples[best].by.rows
    few = f"no interval: full rank needs {width + 1} pictures, got {rows}"
    why = few if rows <= width else "no interval from a single prompt"
    return found, {key: why for key, between in found.items() if between.low is None}


def _simultaneous(influences: Sequence[Array]) -> float:
    """The level of a single pair's interval at which the intervals of all pairs hold together at `LEVEL`."""
    count = min(len(each) for each in influences)
    if len(influences) < 3 or count < 2:
        return LEVEL
    critical = max_t(np.stack(influences), seed=SEED).critical
    if critical is None:
        return LEVEL
    from scipy.special import stdtr

    return float(2 * stdtr(count - 1, critical) - 1)
