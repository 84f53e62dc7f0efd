"""What can be laid along an axis: the scores that may be compared, and the one cost of a whole report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from eval.identity import Column, Score, ScoreKey
from eval.records import CellResult
from eval.scoring.catalogue import base_name, title_of

CLIP = "clip_score"
SHARES = ("zero_shot", "precision", "recall", "coverage", "clipped")
"""Read in per cent, as are the judge's."""


@dataclass(frozen=True)
class Cost:
    """One measure of what a picture costs; lower is cheaper."""

    label: str
    """Axis title, with its unit."""
    noun: str
    """The measure inside a sentence."""
    unit: str
    """Appended to a value; empty for counts."""
    of: Callable[[CellResult], float | None]
    mixed: str = ""
    """Why its values are not of one kind: different devices or models; empty where they are."""

    def text(self, value: float) -> str:
        """The value as people read it, with its unit."""
        if self.unit != "s":
            return f"{value:g} {self.noun}"
        return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def _latency(result: CellResult) -> float | None:
    return result.timing.latency_p50_s if result.timing else None


def _seconds_a_picture(result: CellResult) -> float | None:
    per_second = result.timing.images_per_s if result.timing else None
    return 1 / per_second if per_second else None


def _evaluations(result: CellResult) -> float | None:
    return None if result.model_evals is None else float(result.model_evals)


LATENCY = Cost("Latency of one picture, p50 (s)", "latency (p50, one picture)", "s", _latency)
THROUGHPUT = Cost("Seconds a picture, in batches (s)", "time a picture (in batches)", "s", _seconds_a_picture)
EVALUATIONS = Cost(
    "Denoiser evaluations a picture (guidance not doubled)", "denoiser evaluations", "", _evaluations
)


def cost_of(results: Sequence[CellResult]) -> Cost:
    """The cost that the whole report uses: measured latency, else throughput, else evaluations.

    The first of the three that at least half of the cells without an error have. Two measures are never
    mixed on one axis: a cell that lacks the one in use is left out of what rests on cost. Where one measure
    was taken on different devices, it says so.
    """
    done = [result for result in results if result.error is None]
    costs = (LATENCY, THROUGHPUT, EVALUATIONS)
    usual = (cost for cost in costs if 2 * sum(cost.of(result) is not None for result in done) >= len(done))
    return with_mixture(next(usual, EVALUATIONS), results)


def with_mixture(cost: Cost, results: Sequence[CellResult]) -> Cost:
    """The cost, which says so where its values are not of one kind."""
    mixed = _mixed([r for r in results if r.error is None and cost.of(r) is not None], cost)
    return replace(cost, mixed=mixed) if mixed else cost


def _mixed(priced: Sequence[CellResult], cost: Cost) -> str:
    if cost is EVALUATIONS:
        models = {result.cell.model_fingerprint for result in priced}
        return "of different models, whose evaluations cost differently" if len(models) > 1 else ""
    devices = dict.fromkeys(result.device for result in priced)
    return f"measured on different devices: {', '.join(devices)}" if len(devices) > 1 else ""


def separated(results: Sequence[CellResult]) -> tuple[CellResult, ...]:
    """The results with one key under each score name.

    Scores that share a name but not a key (another encoder, other weights, another count of pictures) must
    not be compared: the key that most cells have keeps the name, others become `name #2`, `name #3`.
    """
    counts: dict[str, Counter[ScoreKey]] = {}
    for score in (score for result in results for score in result.scores):
        counts.setdefault(score.name, Counter())[score.key] += 1
    rank = {name: [key for key, _ in found.most_common()] for name, found in counts.items()}

    def renamed(score: Score) -> Score:
        place = rank[score.name].index(score.key)
        name = f"{score.name} #{place + 1}"
        return score if place == 0 else replace(score, key=replace(score.key, metric=name))

    return tuple(replace(result, scores=tuple(map(renamed, result.scores))) for result in results)


def score_names(results: Sequence[CellResult]) -> tuple[str, ...]:
    """Every score's name, once, in the order in which the cells carry them."""
    return tuple(dict.fromkeys(score.name for result in results for score in result.scores))


def known_names(results: Sequence[CellResult]) -> tuple[str, ...]:
    """The names of which at least one cell without an error has a value."""
    return tuple(
        name for name in score_names(results) if any(score_of(result, name) is not None for result in results)
    )


def fid_name(results: Sequence[CellResult]) -> str | None:
    """The first FID among the scores: `fid[<features>]`, or None."""
    return next((name for name in score_names(results) if name.startswith("fid[")), None)


def judge_name(results: Sequence[CellResult]) -> str | None:
    """The judge's verdict on whole pictures where there is one, else its first attribute, else None."""
    names = [name for name in score_names(results) if name.startswith("judge")]
    return "judge_all" if "judge_all" in names else next(iter(names), None)


def score_of(result: CellResult, name: str | None) -> Score | None:
    """The cell's score, if it has a value; None where the cell failed, lacks it, or could not compute it."""
    score = result.score(name) if name and result.error is None else None
    return score if score is not None and score.value is not None else None


def column(results: Sequence[CellResult], name: str) -> Column:
    """The values of one score, one a cell, which may be ranked and drawn on one axis.

    Raises:
        Incomparable: two keys meet under the name; see `separated`.
        ValueError: no cell has a value.
    """
    return Column.of([score_of(result, name) for result in results])


def is_share(name: str) -> bool:
    """True for scores that are shares of pictures, 0 to 1, and read in per cent."""
    return base_name(name) in SHARES or name.startswith("judge")


def score_title(name: str) -> str:
    """A score's name as a heading, as the catalogue has it; the judge's attributes by their own names."""
    if name.startswith("judge_") and base_name(name) != "judge_all":
        return "Judge: " + name[6:].replace("_", " ")
    return title_of(name)


def text(name: str, score: float) -> str:
    """A score's value as people read it: shares in per cent, CLIP score with two decimals."""
    if is_share(name) and 0 <= score <= 1:
        return f"{score:.1%}".replace("%", " %")
    return f"{score:.2f}" if base_name(name) == CLIP else f"{score:.4g}"


def text_of_difference(name: str, difference: float) -> str:
    """A difference of two values: shares in percentage points, others with three digits that count."""
    if is_share(name):
        return f"{100 * difference:.1f} points"
    return f"{difference:#.3g}".rstrip(".") if abs(difference) < 1000 else f"{difference:.0f}"


def direction(higher_is_better: bool | None) -> str:
    """Which way is better, in words."""
    if higher_is_better is None:
        return "neither direction is better"
    return "higher is better" if higher_is_better else "lower is better"


def doubt(unreliable: str | None) -> str:
    """Why a value must not be relied on, beginning with "unreliable"; empty for others."""
    if not unreliable or unreliable.startswith("unreliable"):
        return unreliable or ""
    return f"unreliable: {unreliable}"


def doubt_beside(unreliable: str | None) -> str:
    """The same in brackets, with a space before them, to stand behind a value in running text."""
    return f" ({doubt(unreliable)})" if unreliable else ""
