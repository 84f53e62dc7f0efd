"""What can be laid along an axis: the scores that may be compared, and the one cost of a whole report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from eval.records import CellResult, Score

CLIP = "clip_score"


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
    mixed on one axis: a cell that lacks the one in use is left out of what rests on cost.
    """
    done = [result for result in results if result.error is None]
    costs = (LATENCY, THROUGHPUT, EVALUATIONS)
    usual = (cost for cost in costs if 2 * sum(cost.of(result) is not None for result in done) >= len(done))
    return next(usual, EVALUATIONS)


def separated(results: Sequence[CellResult]) -> tuple[CellResult, ...]:
    """The results with one identity under each score name.

    Scores that share a name but not an identity (another encoder, other weights, another library) must
    not be compared: the identity that most cells have keeps the name, others become `name #2`, `name #3`.
    """
    counts: dict[str, Counter[str]] = {}
    for score in (score for result in results for score in result.scores):
        counts.setdefault(score.name, Counter())[score.identity] += 1
    rank = {name: [identity for identity, _ in found.most_common()] for name, found in counts.items()}

    def renamed(score: Score) -> Score:
        place = rank[score.name].index(score.identity)
        return score if place == 0 else replace(score, name=f"{score.name} #{place + 1}")

    return tuple(replace(result, scores=tuple(map(renamed, result.scores))) for result in results)


def score_names(results: Sequence[CellResult]) -> tuple[str, ...]:
    """Every score's name, once, in the order in which the cells carry them."""
    return tuple(dict.fromkeys(score.name for result in results for score in result.scores))


def fid_name(results: Sequence[CellResult]) -> str | None:
    """The first FID among the scores: `fid[<features>]`, or None."""
    return next((name for name in score_names(results) if name.startswith("fid[")), None)


def judge_name(results: Sequence[CellResult]) -> str | None:
    """The judge's verdict on whole pictures where there is one, else its first attribute, else None."""
    names = [name for name in score_names(results) if name.startswith("judge")]
    return "judge_all" if "judge_all" in names else next(iter(names), None)


def value(result: CellResult, name: str | None) -> float | None:
    """The value of a cell's score; None where the cell failed, lacks it, or could not compute it."""
    score = result.score(name) if name and result.error is None else None
    return score.value if score else None


def higher_is_better(results: Sequence[CellResult], name: str) -> bool:
    """The direction that the score itself declares."""
    found = (score.higher_is_better for result in results for score in result.scores if score.name == name)
    return next(found)


def score_title(name: str) -> str:
    """A score's name as a heading: "CLIP score", "fid[shapes-clip]", "Judge: all right"."""
    if name.startswith("judge_"):
        return "Judge: " + name[6:].replace("_", " ").replace("all", "all right", 1)
    return name.replace(CLIP, "CLIP score")


def in_sentence(name: str) -> str:
    """A score's name in running text: "CLIP score", "fid[shapes-clip]", "judge"."""
    return "judge" if name.startswith("judge") else name.replace(CLIP, "CLIP score")


def text(name: str, score: float) -> str:
    """A score's value as people read it: shares in per cent, CLIP score with two decimals."""
    if name.startswith("judge") and 0 <= score <= 1:
        return f"{score:.1%}".replace("%", " %")
    return f"{score:.2f}" if name.startswith(CLIP) else f"{score:.4g}"
