"""Where the choice fails, and what would make the decision surer, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.records import CellResult, ImageRow, Run
from eval.reporting import axes
from eval.reporting.decide import MOST_MORE, Decision
from eval.reporting.findings import Findings
from eval.scoring.catalogue import RELIABLE_FID_N

NAMED = 5
"""Prompts or settings that are named; of more their number is told."""
REPEATS = 20
"""Timed pictures that give p95, and a median that can be relied on."""


@dataclass(frozen=True)
class WorstPrompt:
    """One prompt that the choice does badly on."""

    prompt: str
    seed: int | None
    why: str


@dataclass(frozen=True)
class Failings:
    """What to know before the choice is shipped."""

    lead: str | None
    """How many pictures fail, by whom."""
    prompts: tuple[WorstPrompt, ...]
    settings: tuple[str, ...]
    """Sentences on settings to keep away from."""
    surer: tuple[str, ...]
    """What would make the decision surer, each with what to say on the command line."""


def failings(run: Run, found: Findings) -> Failings:
    """Of the choice where there is one; else of the best setting measured."""
    decision = found.decision
    shown = decision.chosen or decision.best
    lead, prompts = _prompts(run, shown) if shown else (None, ())
    return Failings(lead, prompts, tuple(_settings(run, decision)), tuple(_surer(run, found)))


def _prompts(run: Run, shown: CellResult) -> tuple[str | None, tuple[WorstPrompt, ...]]:
    rows = run.images.get(shown.cell.key, ())
    wrong = [row for row in rows if row.judge and not all(row.judge.values())]
    judged = sum(row.judge is not None for row in rows)
    if judged:
        lead = f"{shown.cell.label}: by the judge {len(wrong)} of {judged} pictures are not all right"
        told = sorted(wrong, key=lambda row: sum(row.judge.values()) if row.judge else 0)[:NAMED]
        end = "." if len(wrong) <= NAMED else f"; the {len(told)} worst:"
        return lead + (":" if 0 < len(wrong) <= NAMED else end), tuple(_judged(run, row) for row in told)
    scored = sorted(
        (row for row in rows if row.clip_score is not None), key=lambda row: row.clip_score or 0.0
    )
    if not scored:
        return None, ()
    lead = f"{shown.cell.label}: the {min(NAMED, len(scored))} pictures of the lowest CLIP score, of {len(scored)}:"
    return lead, tuple(
        WorstPrompt(row.prompt, row.seed, f"CLIP score {axes.text(axes.CLIP, row.clip_score or 0.0)}")
        for row in scored[:NAMED]
    )


def _judged(run: Run, row: ImageRow) -> WorstPrompt:
    """What is wrong, and whether it is so for all settings: then it is the model that fails."""
    verdicts = [
        other.judge
        for rows in run.images.values()
        for other in rows[row.index : row.index + 1]
        if other.prompt == row.prompt and other.seed == row.seed and other.judge is not None
    ]
    right = sum(all(verdict.values()) for verdict in verdicts)
    wrong = ", ".join(name.replace("_", " ") for name, good in (row.judge or {}).items() if not good)
    return WorstPrompt(row.prompt, row.seed, f"{wrong} wrong; right for {right} of {len(verdicts)} settings")


def _settings(run: Run, decision: Decision) -> Iterator[str]:
    """Steps and guidance that are surely worse for every sampler, then the others that are."""
    worse = {key for key, verdict in decision.verdicts.items() if verdict.kind == "worse"}
    groups: dict[tuple[int, float], list[CellResult]] = {}
    for result in run.results:
        groups.setdefault((result.cell.steps, result.cell.guidance), []).append(result)
    whole = {
        place: cells
        for place, cells in groups.items()
        if len(cells) > 1 and all(each.cell.key in worse for each in cells)
    }
    if whole:
        places = [f"{steps} steps at guidance {guidance:g}" for steps, guidance in whole]
        yield f"Keep away, whatever the sampler, from {_some(places)}: surely worse by more than the margin."
    taken = {each.cell.key for cells in whole.values() for each in cells}
    single = [r.cell.label for r in run.results if r.cell.key in worse - taken]
    if single:
        yield f"{'And surely' if whole else 'Surely'} worse by more than the margin: {_some(single)}."


def _surer(run: Run, found: Findings) -> Iterator[str]:
    decision, pictures = found.decision, found.quality.pictures
    if decision.more_pictures:
        yield _count(
            run, f"For a decision, {decision.more_pictures} pictures more a setting", decision.more_pictures
        )
    cheaper = _nearly(run, decision)
    if cheaper is not None:
        label, more = cheaper
        yield _count(run, f"For {label}, which costs less, {more} pictures more", more)
    if pictures and pictures < RELIABLE_FID_N and axes.fid_name(run.results):
        yield _count(run, f"For FID, {RELIABLE_FID_N:,} pictures", RELIABLE_FID_N - pictures)
    repeats = run.plan.hardware.latency_repeats
    timed = any(result.timing and result.timing.latency_p50_s is not None for result in run.results)
    if timed and repeats < REPEATS:
        yield (
            f"For the cost, more repeats than {repeats} on a machine that does nothing else: "
            f"hardware.latency_repeats={REPEATS}; that gives the 95th percentile, too."
        )


def _nearly(run: Run, decision: Decision) -> tuple[str, int] | None:
    """The setting that costs less than the choice and would be shown to be good enough soonest."""
    least = decision.cost.of(decision.chosen) if decision.chosen else None
    found: list[tuple[int, str]] = []
    for result in run.results:
        verdict, spent = decision.verdicts.get(result.cell.key), decision.cost.of(result)
        more = verdict.more_pictures if verdict else None
        if (
            least is not None
            and spent is not None
            and spent < least
            and more is not None
            and more <= MOST_MORE
        ):
            found.append((more, result.cell.label))
    more, label = min(found, default=(0, ""))
    return (label, more) if label else None


def _count(run: Run, what: str, more: int) -> str:
    """How to ask for so many pictures more a setting."""
    if run.plans:
        return f"{what}, in every run."
    prompts = run.plan.prompts
    total = len(prompts.rows) + more
    each = prompts.seeds_per_prompt
    return f"{what}: prompts.count={-(-total // each)}."


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - NAMED
    return ", ".join(texts[:NAMED]) + (f" and {more} more" if more > 0 else "")
