"""Scores of two runs, setting by setting: paired by prompt and seed, with intervals for all settings at once. Pure.

Means over pictures are compared by max-T over the pictures' differences, FID and its limit at N = infinity by the
jackknife's influences, as `eval.reporting.comparisons` does within a run. Scores whose identities differ are not
compared, and the row says in what. Library versions alone are an exception: a run before and one after an upgrade
are what this is for, so they are compared, and the row's caution says which versions read the pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.identity import Score
from eval.reporting import axes
from eval.reporting.changes import Change, Measure, Overall
from eval.reporting.comparisons import FIDS, MEAN_TOLERANCE
from eval.reporting.fid_changes import FidChanges
from eval.reporting.run_pairs import CellPair, Side
from eval.reporting.shared_rows import SEED, Array, Place, clusters_of, values_of
from eval.scoring.catalogue import base_name
from eval.scoring.joint import joint_means
from eval.scoring.uncertainty import LEVEL, Interval, mean_interval

VERSIONS = ("versions", "encoder.versions")
"""Parts of an identity that an upgrade changes; the rest decides what is measured."""
NO_PICTURE_DIFFERS = "no interval: no picture tells the two apart"


@dataclass(frozen=True)
class _Row:
    """A comparable setting: its change so far, and what its interval is made of."""

    change: Change
    values: Array
    """Difference of each picture, or influence of each unit; empty where no interval can be."""
    places: tuple[Place, ...]


def score_changes(before: Side, after: Side, pairs: Sequence[CellPair]) -> tuple[Overall, ...]:
    """Every score that either run has, in the tables' order."""
    results = [result for pair in pairs for result in (pair.before, pair.after)]
    fids = FidChanges(before, after)
    return tuple(_overall(name, pairs, fids) for name in axes.score_names(results))


def _overall(name: str, pairs: Sequence[CellPair], fids: FidChanges) -> Overall:
    measure = _measure(name, pairs)
    found: dict[int, Change] = {}
    rows: dict[int, _Row] = {}
    for place, pair in enumerate(pairs):
        change = _opened(name, measure, pair)
        if change.difference is None:
            found[place] = change
        elif base_name(name) in FIDS:
            rows[place] = _by_fid(name, change, fids)
        else:
            rows[place] = _by_values(name, change)
    mean = _mean(list(rows.values()))
    found |= dict(zip(rows, _with_intervals(list(rows.values()), name), strict=True))
    return Overall(measure, tuple(found[place] for place in range(len(pairs))), mean)


def _measure(name: str, pairs: Sequence[CellPair]) -> Measure:
    scores = (score for pair in pairs for each in (pair.before, pair.after) if (score := each.score(name)))
    first = next(scores)
    return Measure(name, axes.score_title(name), first.key.scale, first.higher_is_better)


def _opened(name: str, measure: Measure, pair: CellPair) -> Change:
    """The two values and their plain difference; or why they cannot be compared."""
    empty = Change(pair, measure)
    if pair.failed is not None:
        return replace(empty, reason=pair.failed)
    ours, theirs = pair.before.score(name), pair.after.score(name)
    for score, whose in ((ours, "the baseline"), (theirs, "the other run")):
        if score is None or score.value is None:
            why = (score.reason if score else None) or "not scored so"
            return replace(empty, reason=f"{whose} has no value: {why}")
    assert ours is not None
    assert theirs is not None
    differ = ours.key.differences(theirs.key)
    hard = [part for part in differ if part.partition(":")[0] not in VERSIONS]
    if hard or ours.higher_is_better != theirs.higher_is_better:
        return replace(
            empty, reason=f"not the same score: {'; '.join(hard) or 'another direction is better'}"
        )
    assert ours.value is not None
    assert theirs.value is not None
    return replace(
        empty,
        before=ours.value,
        after=theirs.value,
        difference=theirs.value - ours.value,
        n=ours.n,
        caution=_caution(ours, theirs, differ),
        method="plain difference",
    )


def _caution(ours: Score, theirs: Score, versions: Sequence[str]) -> str | None:
    said = dict.fromkeys(axes.doubt(each.unreliable) for each in (ours, theirs) if each.unreliable)
    if versions:
        said[
            f"read by other library versions ({'; '.join(versions)}): they may move the score by themselves"
        ] = None
    return "; ".join(said) or None


def _by_values(name: str, change: Change) -> _Row:
    """Differences of the pictures, where the score is their mean; else the plain difference, and why."""
    ours, theirs = values_of(change.pair.rows_before, name), values_of(change.pair.rows_after, name)
    if not ours or not theirs:
        return _bare(change, "no paired interval is known for this score")
    if ours.keys() != theirs.keys():
        return _bare(change, "no interval: its scored pictures are not the baseline's")
    places = tuple(ours)
    first, second = (np.array([each[place] for place in places]) for each in (ours, theirs))
    means = [change.before, change.after]
    if not (np.isfinite(first).all() and np.isfinite(second).all()) or not np.allclose(
        [first.mean(), second.mean()],
        np.asarray(means, dtype=np.float64),
        rtol=MEAN_TOLERANCE,
        atol=MEAN_TOLERANCE,
    ):
        return _bare(change, "no paired interval is known for this score")
    between = second - first
    named = replace(change, difference=float(between.mean()), n=len(places))
    return _Row(named, between, places)


def _by_fid(name: str, change: Change, fids: FidChanges) -> _Row:
    """Influences of the pictures at N = infinity; the plain difference, and why, where there are none."""
    found = fids.of(change.pair, name.partition("[")[2].partition("]")[0])
    if isinstance(found, str):
        return _bare(change, found)
    named = replace(change, difference=found.difference, n=len(found.places), method="at N = infinity")
    return _Row(named, found.influences, found.places)


def _bare(change: Change, reason: str) -> _Row:
    return _Row(replace(change, reason=reason), np.empty(0), ())


def _with_intervals(rows: Sequence[_Row], name: str) -> Iterator[Change]:
    """Every row's change, with the interval that holds together with all others."""
    groups: dict[tuple[Place, ...], list[int]] = {}
    for place, row in enumerate(rows):
        if row.values.size:
            groups.setdefault(row.places, []).append(place)
    total = sum(map(len, groups.values()))
    halves: dict[int, tuple[float | None, str]] = {}
    for places, members in groups.items():
        labels = clusters_of([prompt for _, _, prompt in places])
        by = None if len(rows[members[0]].values) != len(places) else labels
        level = 1 - (1 - LEVEL) * len(members) / total
        joint = joint_means(
            np.stack([rows[each].values for each in members]), clusters=by, seed=SEED, level=level
        )
        units = "pictures" if labels is None else f"{len(set(labels))} prompts"
        method = f"paired over {units}; max-T over {total} setting{'s' if total > 1 else ''}"
        for at, each in enumerate(members):
            reach = None if joint.critical is None else joint.critical * float(joint.errors[at])
            halves[each] = (reach, method)
    for place, row in enumerate(rows):
        yield _spanned(row.change, *halves[place], name) if place in halves else row.change


def _spanned(change: Change, half: float | None, method: str, name: str) -> Change:
    if half is None or change.difference is None:
        return replace(change, reason="no interval from a single picture or a single prompt")
    if half == 0 and axes.is_share(name):
        return replace(change, reason=NO_PICTURE_DIFFERS)
    prefix = f"{change.method}, " if base_name(name) in FIDS else ""
    return replace(
        change,
        low=change.difference - half,
        high=change.difference + half,
        method=prefix + method,
    )


def _mean(rows: Sequence[_Row]) -> Interval | None:
    """Mean of the settings' differences; with an interval where all share their pictures."""
    known = [row.change.difference for row in rows if row.change.difference is not None]
    if not known:
        return None
    value = float(np.mean(known))
    first = rows[0]
    if not first.values.size or any(row.places != first.places for row in rows):
        return Interval(value, None, None)
    averaged = np.mean([row.values for row in rows], axis=0)
    labels = clusters_of([prompt for _, _, prompt in first.places])
    own = mean_interval(averaged, clusters=labels if len(averaged) == len(first.places) else None)
    if own.low is None or own.high is None:
        return Interval(value, None, None)
    half = (own.high - own.low) / 2
    return Interval(value, value - half, value + half)
