"""Every cell against the best one, score by score, with intervals that hold for all pairs of cells at once. Pure.

Scores that are means over pictures, KID and CMMD by the jackknife's pseudo-values among them, are compared by
max-T over the pictures' values. FID and its limit are compared at N = infinity over the same prompts and seeds,
as `eval.scoring.frechet_interval` has it. Where a difference or its interval is not known, the row says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.records import CellResult, Run
from eval.reporting import axes
from eval.reporting.fid_rows import FidRows, Kept, fid_rows
from eval.reporting.shared_rows import Array, Images, SharedRows, shared_rows
from eval.scoring.catalogue import base_name
from eval.scoring.moments import Moments
from eval.scoring.uncertainty import Interval

Features = Callable[[str], Mapping[str, Array]]
"""Cell key -> extractor -> (N, D) float32. Raises SdkitError where they cannot be read."""
Reference = Callable[[str], Moments | None]
"""Extractor -> the reference's moments; None where there is none. Raises SdkitError likewise."""

FIDS = ("fid", "fid_inf")
NO_PAIRS = "no paired interval is known for this score"
MEAN_TOLERANCE = 1e-6
"""A score is the mean of its pictures' values to float64's rounding, or to float32's where those are rounded."""


@dataclass(frozen=True)
class Comparison:
    """One score of one cell, less that of the best cell."""

    metric: str
    cell: str | None
    """Label of the cell; None where the score allows no comparison of any cell."""
    best: str | None
    difference: float | None
    """cell − best, in the score's unit; for FID between the two limits at N = infinity."""
    low: float | None
    """Ends of an interval that holds at 95 % together with those of all other pairs."""
    high: float | None
    method: str | None
    n: int | None
    """Pictures of each of the two."""
    unreliable: str | None
    """Why the scores of either must not be relied on."""
    reason: str | None
    """Why there is no difference, or no interval of it."""
    cell_key: str | None = None
    best_key: str | None = None


def compare(
    run: Run, features: Features, reference: Reference, kept: Kept | None = None
) -> tuple[Comparison, ...]:
    """Each cell against the best one, for every score of the run, in the order of the tables.

    Args:
        kept: samples of FID that are there already; new ones are added.
    """
    results = axes.separated(run.results)
    kept = {} if kept is None else kept
    return tuple(
        row
        for name in axes.score_names(results)
        for row in _compare(name, results, run.images, features, reference, kept)
    )


def _compare(
    name: str,
    results: Sequence[CellResult],
    images: Images,
    features: Features,
    reference: Reference,
    kept: Kept,
) -> Iterator[Comparison]:
    place = axes.column(results, name).best if name in axes.known_names(results) else None
    if place is None:
        known = name in axes.known_names(results)
        yield _refused(name, "neither direction is better" if known else "no cell has a value")
        return
    best = results[place]
    scored = [result for result in results if axes.score_of(result, name) is not None]
    for result in results:
        if axes.score_of(result, name) is None:
            yield _row(name, result, best, reason=_why_missing(result, name))
    if base_name(name) in FIDS:
        yield from _by_fid(
            name, best, scored, fid_rows(name, best, scored, images, features, reference, kept)
        )
        return
    shared = shared_rows(best, scored, images, name)
    if shared is None or not is_mean_of(shared, name):
        yield _refused(name, NO_PAIRS)
        return
    yield from _by_values(name, best, shared)


def _by_values(name: str, best: CellResult, shared: SharedRows) -> Iterator[Comparison]:
    by = "pictures" if shared.clusters is None else f"{len(set(shared.prompts))} prompts"
    method = f"paired mean over {by}; max-T over {shared.pairs} pairs of {len(shared.results)} cells"
    found = shared.differences()
    for place, result in enumerate(shared.results[1:], start=1):
        between, reason = found.difference(place, 0), None
        if between.low is None:
            reason = "no interval from a single picture or a single prompt"
        elif axes.is_share(name) and between.low == between.high:
            # Verdicts that all agree say that the two are near, not that they are equal.
            between, reason = (
                Interval(between.value, None, None),
                "no interval: no picture tells the two apart",
            )
        yield _row(name, result, best, between, method, shared.pictures, reason)
    for result in shared.apart:
        yield _row(name, result, best, reason="its scored pictures are not the best cell's")


def _by_fid(name: str, best: CellResult, scored: Sequence[CellResult], rows: FidRows) -> Iterator[Comparison]:
    for result in scored:
        if result.cell.key == best.cell.key:
            continue
        between = rows.differences.get(result.cell.key)
        reason = rows.reasons.get(result.cell.key)
        method = rows.method if between is not None else None
        yield _row(name, result, best, between, method, rows.n if between is not None else None, reason)


def is_mean_of(shared: SharedRows, name: str) -> bool:
    """Whether the best cell's score is what its pictures' values average to, so that differences are, too."""
    score = axes.score_of(shared.results[0], name)
    if score is None or score.value is None:
        return False
    return bool(np.isclose(shared.values[0].mean(), score.value, rtol=MEAN_TOLERANCE, atol=MEAN_TOLERANCE))


def _why_missing(result: CellResult, name: str) -> str:
    if result.error is not None:
        return f"the cell failed: {result.error}"
    score = result.score(name)
    return (score.reason if score else None) or "the cell was not scored so, or under another identity"


def _refused(name: str, reason: str) -> Comparison:
    return Comparison(name, None, None, None, None, None, None, None, None, reason)


def _row(
    name: str,
    result: CellResult,
    best: CellResult,
    between: Interval | None = None,
    method: str | None = None,
    n: int | None = None,
    reason: str | None = None,
) -> Comparison:
    scores = (axes.score_of(result, name), axes.score_of(best, name))
    doubts = dict.fromkeys(score.unreliable for score in scores if score and score.unreliable)
    return Comparison(
        metric=name,
        cell=result.cell.label,
        best=best.cell.label,
        difference=between.value if between else None,
        low=between.low if between else None,
        high=between.high if between else None,
        method=method,
        n=n,
        unreliable="; ".join(doubts) or None,
        reason=reason,
        cell_key=result.cell.key,
        best_key=best.cell.key,
    )
