"""FID of a setting after less before, at N = infinity over the same prompts and seeds, with what each picture adds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from eval.reporting.run_pairs import CellPair, Side
from eval.reporting.shared_rows import SEED, Array, Place, clusters_of
from eval.scoring.frechet_interval import FidSample, FidTarget, difference_of, fid_sample, fid_target
from sdkit._errors import SdkitError


@dataclass(frozen=True)
class FidChange:
    """A difference that has an interval."""

    difference: float
    influences: Array
    """Of each picture or prompt, (units,)."""
    places: tuple[Place, ...]


@dataclass
class FidChanges:
    """The changes of two runs; what each costs is kept, for FID and its limit ask for the same."""

    before: Side
    after: Side
    _samples: dict[tuple[str, str, str], FidSample | str] = field(default_factory=dict)
    """(run, extractor, cell key) -> sample, or why there is none."""
    _targets: dict[str, FidTarget | str] = field(default_factory=dict)
    """Extractor -> the baseline's reference, or why there is none."""

    def of(self, pair: CellPair, extractor: str) -> FidChange | str:
        """The change of one setting; why it has no interval, where it has none.

        Reference and encoder must be known to be the same in both runs.
        """
        places = tuple((row.index, row.seed, row.prompt) for row in pair.rows_before)
        if places != tuple((row.index, row.seed, row.prompt) for row in pair.rows_after):
            return "no interval: its pictures are not the baseline's"
        target = self._target(extractor)
        if isinstance(target, str):
            return target
        width = len(target.mean)
        if len(places) <= width:
            return f"no interval: full rank needs {width + 1} pictures, got {len(places)}"
        ours = self._sample(self.before, pair.before.cell.key, extractor, places, target)
        theirs = self._sample(self.after, pair.after.cell.key, extractor, places, target)
        if isinstance(ours, str) or isinstance(theirs, str):
            return ours if isinstance(ours, str) else str(theirs)
        return FidChange(difference_of(theirs, ours).value, theirs.scores - ours.scores, places)

    def _target(self, extractor: str) -> FidTarget | str:
        if extractor not in self._targets:
            try:
                moments = self.before.reference(extractor)
            except SdkitError as error:
                self._targets[extractor] = f"no interval: {error}"
            else:
                missing = f"no interval: no moments of the reference for {extractor}"
                self._targets[extractor] = missing if moments is None else fid_target(moments)
        return self._targets[extractor]

    def _sample(
        self, side: Side, key: str, extractor: str, places: tuple[Place, ...], target: FidTarget
    ) -> FidSample | str:
        where = (side.letter, extractor, key)
        if where not in self._samples:
            self._samples[where] = _sampled(side, key, extractor, places, target)
        return self._samples[where]


def _sampled(
    side: Side, key: str, extractor: str, places: tuple[Place, ...], target: FidTarget
) -> FidSample | str:
    """One cell's FID with its influences, or why not."""
    try:
        features = side.features(key).get(extractor)
    except SdkitError as error:
        return f"no interval: {error}"
    if features is None or features.shape != (len(places), len(target.mean)):
        return f"no interval: run {side.letter} keeps no features of {extractor} that fit"
    if not np.isfinite(features).all():
        return f"no interval: run {side.letter}'s features are not finite"
    clusters = clusters_of([prompt for _, _, prompt in places])
    return fid_sample(features, target, seed=SEED, clusters=clusters)
