"""One number for how good a cell is, in margins of the rule's scores, with the errors of all differences. Pure.

Q = Σ weight · (± score / margin) / Σ weight. One margin is what may be given away for a lower cost, so scores of
different units add up, and a cell that lies one below another has lost as much as one margin of every score.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eval.decide_plan import DecidePlan, RuleScore
from eval.records import CellResult, Run
from eval.reporting import axes
from eval.reporting.comparisons import FIDS, Features, Reference, is_mean_of
from eval.reporting.fid_rows import Kept, fid_samples
from eval.reporting.shared_rows import SEED, Array, Images, clusters_of, places_of, shared_rows, values_of
from eval.scoring.best import Bounds, bounds
from eval.scoring.catalogue import base_name
from eval.scoring.uncertainty import Units, unit_scores, units
from sdkit._errors import SdkitError


@dataclass(frozen=True)
class Part:
    """One score of the rule, as far as it could be used."""

    name: str
    weight: float
    margin: float
    """In the score's unit."""
    margin_text: str
    """"0.5 % of the best", or the margin itself."""
    higher_is_better: bool

    @property
    def scale(self) -> float:
        """What a score is multiplied by to be a quality in margins."""
        return (1 if self.higher_is_better else -1) * self.weight / self.margin


@dataclass(frozen=True)
class Quality:
    """The cells that can be compared, with what their comparison takes."""

    results: tuple[CellResult, ...] = ()
    values: Array = field(default_factory=lambda: np.empty(0))
    """(C,) in margins; higher is better. Only differences mean something."""
    bounds: Bounds | None = None
    """None where there is nothing to compare."""
    parts: tuple[Part, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    """Title and reason of scores of the rule that are no part of it."""
    apart: dict[str, str] = field(default_factory=dict)
    """Cell key -> why it cannot be compared."""
    pictures: int = 0
    prompts: int | None = None
    """Independent clusters, where prompts have several pictures; None where pictures stand for themselves."""
    reason: str | None = None
    """Why no cell can be compared."""

    @property
    def units(self) -> int:
        """What was drawn independently: pictures, or prompts."""
        return self.pictures if self.prompts is None else self.prompts

    def text(self, gap: float) -> str:
        """A difference of quality as people read it: in the score's unit where there is one score alone."""
        if len(self.parts) == 1:
            size = gap * self.parts[0].margin
            return f"{axes.text_of_difference(self.parts[0].name, size)} in {axes.score_title(self.parts[0].name)}"
        text = f"{gap:#.3g}".rstrip(".") if abs(gap) < 1000 else f"{gap:.0f}"
        return "1 margin" if text == "1.00" else f"{text} margins"


@dataclass(frozen=True)
class _Shares:
    """One score over the cells that have it: values (C,) at which cells are ranked, influences (C, units)."""

    name: str
    keys: tuple[str, ...]
    values: Array
    influences: Array


def quality_of(
    run: Run, plan: DecidePlan, features: Features, reference: Reference, kept: Kept | None = None
) -> Quality:
    """The quality of every cell that has all of the rule's scores over the same prompts and seeds.

    A score that no cell has, that is marked as unreliable, whose direction is unknown or whose differences have no
    interval is left out of the rule, and the reason kept. FID counts at N = infinity, as its differences do.

    Args:
        features: cell key -> extractor -> (N, D); reference: extractor -> its moments, as `comparisons.compare`.
        kept: samples of FID that are there already; new ones are added.

    Raises:
        InvalidRequest: a margin is neither a number above 0 nor a percentage.
    """
    results = axes.separated(run.results)
    wanted = {name: each for each in plan.scores if (name := _resolved(each.name, results)) is not None}
    left_out = [(each.name, "no setting has it") for each in plan.scores if not _resolved(each.name, results)]
    usable = {}
    for name, each in wanted.items():
        why = _why_not(name, results, plan.use_unreliable)
        if why is None:
            usable[name] = each
        else:
            left_out.append((axes.score_title(name), why))
    if not usable:
        return Quality(left_out=tuple(left_out), reason=_why_nothing(results, left_out))
    base = _base(results, list(usable))
    if base is None:
        return Quality(left_out=tuple(left_out), reason="no setting has all scores of the rule")
    prompts = [prompt for _, _, prompt in places_of(run.images.get(base.cell.key, ()))]
    by = units(len(prompts), clusters_of(prompts))
    found: dict[str, _Shares] = {}
    for name in usable:
        shares = _shares(
            name, base, results, run.images, by, features, reference, {} if kept is None else kept
        )
        if isinstance(shares, str):
            left_out.append((axes.score_title(name), shares))
        else:
            found[name] = shares
    return _joined(
        results, {name: (usable[name], shares) for name, shares in found.items()}, by, left_out, plan
    )


def _resolved(name: str, results: Sequence[CellResult]) -> str | None:
    """The score's full name among those that some cell has a value of; "fid" is the first FID."""
    known = axes.known_names(results)
    if name in known:
        return name
    return next((each for each in known if base_name(each) == name), None)


def _why_not(name: str, results: Sequence[CellResult], use_unreliable: bool) -> str | None:
    column = axes.column(results, name)
    if column.higher_is_better is None:
        return "neither direction of it is better"
    return axes.doubt(column.unreliable) if column.unreliable and not use_unreliable else None


def _base(results: Sequence[CellResult], names: Sequence[str]) -> CellResult | None:
    """The cell whose pictures are the ones that are compared: the best one by the rule's first score."""
    complete = [r for r in results if all(axes.score_of(r, name) is not None for name in names)]
    if not complete:
        return None
    place = axes.column(complete, names[0]).best
    return complete[0 if place is None else place]


def _shares(
    name: str,
    base: CellResult,
    results: Sequence[CellResult],
    images: Images,
    by: Units,
    features: Features,
    reference: Reference,
    kept: Kept,
) -> _Shares | str:
    """The score's values and influences; or why it has no paired interval."""
    scored = [result for result in results if axes.score_of(result, name) is not None]
    if base_name(name) in FIDS:
        return _fid_shares(name, base, scored, images, features, reference, kept)
    if not values_of(images.get(base.cell.key, ()), name):
        return "no picture has a value of its own, so no difference has an interval"
    shared = shared_rows(base, scored, images, name)
    if shared is None or not is_mean_of(shared, name) or shared.pictures != by.rows:
        return "it is not a mean over the pictures, so its differences have no interval"
    keys = tuple(each.cell.key for each in shared.results)
    return _Shares(name, keys, shared.values.mean(axis=1), unit_scores(shared.values.T, by).T)


def _fid_shares(
    name: str,
    base: CellResult,
    scored: Sequence[CellResult],
    images: Images,
    features: Features,
    reference: Reference,
    kept: Kept,
) -> _Shares | str:
    extractor = name.partition("[")[2].partition("]")[0]
    try:
        moments = reference(extractor)
    except SdkitError as error:
        return str(error)
    if moments is None:
        return f"the run keeps no moments of the reference for {extractor}"
    keys = [base.cell.key, *(each.cell.key for each in scored if each is not base)]
    samples, reasons = fid_samples(keys, extractor, moments, images, features, kept)
    if base.cell.key not in samples:
        return reasons[base.cell.key]
    if not len(samples[base.cell.key].scores):
        return f"its differences have no interval below {moments.width + 1} pictures"
    values = np.array([each.infinity for each in samples.values()])
    return _Shares(name, tuple(samples), values, np.stack([each.scores for each in samples.values()]))


def _joined(
    results: Sequence[CellResult],
    found: dict[str, tuple[RuleScore, _Shares]],
    by: Units,
    left_out: list[tuple[str, str]],
    plan: DecidePlan,
) -> Quality:
    """All scores of the rule in one, over the cells that have them all."""
    common = set.intersection(set(by_key(results)), *(set(shares.keys) for _, shares in found.values()))
    kept = tuple(result for result in results if result.cell.key in common)
    parts = []
    for name, (score, _) in found.items():
        part = _part(score, name, kept)
        if part is None:
            left_out.append(
                (axes.score_title(name), "its best value is 0, of which no percentage is a margin")
            )
        else:
            parts.append(part)
    nothing = Quality(left_out=tuple(left_out), apart=_apart(results, common, list(found)))
    if not parts:
        return replace(nothing, reason=_why_nothing(results, left_out))
    if len(kept) < 2 < 1 + sum(result.error is None for result in results):
        why = "no setting has the same scored pictures as the best one, so none can be compared with it"
        return replace(nothing, reason=why)
    if by.count < 2 <= len(kept):
        why = "settings cannot be compared over a single picture, nor over a single prompt: use more prompts"
        return replace(nothing, reason=why)
    total = sum(part.weight for part in parts)
    values, influences = np.zeros(len(kept)), np.zeros((len(kept), max(by.count, 2)))
    for part in parts:
        shares = found[part.name][1]
        places = [shares.keys.index(result.cell.key) for result in kept]
        values += part.scale / total * shares.values[places]
        influences += part.scale / total * shares.influences[places]
    return replace(
        nothing,
        results=kept,
        values=values,
        bounds=bounds(influences, seed=SEED, level=plan.confidence),
        parts=tuple(parts),
        pictures=by.rows,
        prompts=None if by.count == by.rows else by.count,
    )


def by_key(results: Sequence[CellResult]) -> dict[str, CellResult]:
    return {result.cell.key: result for result in results}


def _apart(results: Sequence[CellResult], common: Collection[str], names: Sequence[str]) -> dict[str, str]:
    return {key: _why_apart(result, names) for key, result in by_key(results).items() if key not in common}


def _part(score: RuleScore, name: str, results: Sequence[CellResult]) -> Part | None:
    """None where the margin is a percentage of nothing."""
    column = axes.column(results, name)
    size = score.size(0.0 if column.best is None else column.values[column.best] or 0.0)
    if size is None:
        return None
    words = score.margin.strip() if score.share is None else f"{100 * score.share:g} % of the best"
    return Part(name, score.weight, size, words, bool(column.higher_is_better))


def _why_apart(result: CellResult, names: Sequence[str]) -> str:
    if result.error is not None:
        return f"it failed: {result.error}"
    for name in names:
        if axes.score_of(result, name) is None:
            score = result.score(name)
            why = (score.reason if score else None) or "it was not scored so, or under another identity"
            return f"{axes.score_title(name)} is not known: {why}"
    return "its scored pictures are not those of the others"


def _why_nothing(results: Sequence[CellResult], left_out: Sequence[tuple[str, str]]) -> str:
    if not results:
        return "no cell is whole yet"
    failed = sum(result.error is not None for result in results)
    if failed == len(results):
        return f"all {failed} settings failed"
    said = "; ".join(f"{title}: {why}" for title, why in left_out)
    return f"no score of the rule can be used ({said})"
