"""`summary.md`: the decision and what it rests on, short enough for a pull request. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from eval.records import CellResult, Run
from eval.reporting import axes
from eval.reporting.axes import CLIP
from eval.reporting.cautions import cautions
from eval.reporting.decide import Decision, Membership
from eval.reporting.dropped import dropped_cells
from eval.reporting.evidence import code, evidence, sentence
from eval.reporting.findings import Findings
from eval.reporting.markdown import bullets, escaped, fenced, grid
from eval.reporting.ranking import best_by

MAX_ROWS, MAX_FAILURES = 12, 8
FILES = ("report.html", "decision.json", "cells.csv", "images.csv", "comparisons.csv")
_FRONT: dict[Membership, str] = {"on": "yes", "unsure": "perhaps", "off": "no"}


def summary(run: Run, found: Findings, files: Sequence[str] = FILES) -> str:
    """The run as Markdown that GitHub shows; every text of a user or a model stands there as plain text.

    Args:
        found: what follows from the run.
        files: names of files beside it, to link to.
    """
    results, decision = axes.separated(run.results), found.decision
    call = code(decision, run.plan, run.plans)
    warned = (*cautions(run, found), *run.notes)
    parts = [
        f"## {escaped(run.plan.model.name)}: which sampler, steps and guidance",
        f"**{escaped(sentence(decision), 600)}**",
        fenced(call) if call else "",
        f"Before relying on it:\n\n{bullets(warned)}" if warned else "",
        f"Evidence:\n\n{bullets(evidence(decision, found.quality, results))}",
        _winners(results),
        _front(results, decision),
        _failures(results),
        _dropped(run),
        "Files: " + ", ".join(f"[{name}]({name})" for name in files) if files else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _winners(results: Sequence[CellResult]) -> str:
    """The best by each main score."""
    found = [(name, best) for name in _measures(results) if (best := best_by(results, name))]
    rows = [(best.title, best.result.cell.label, _value(best.result, name)) for name, best in found]
    return f"### Best by one measure\n\n{grid(('measure', 'setting', 'value'), rows)}" if rows else ""


def _front(results: Sequence[CellResult], decision: Decision) -> str:
    """The choice and all that is, or may be, on the Pareto front of quality and cost; cheapest first."""
    chosen = decision.chosen.cell.key if decision.chosen else None
    keys = {key for key, place in decision.front.items() if place != "off"} | {chosen}
    at = {result.cell.key: result for result in results if result.cell.key in keys}
    spent = {key: value for key, result in at.items() if (value := decision.cost.of(result)) is not None}
    if not spent:
        return ""
    names, order = _measures(results), sorted(spent, key=spent.__getitem__)
    shown = (
        order[:MAX_ROWS]
        if chosen in order[:MAX_ROWS] or chosen not in order
        else [*order[: MAX_ROWS - 1], chosen]
    )
    rows = [
        (
            at[key].cell.label + (" (the choice)" if key == chosen else ""),
            decision.cost.text(spent[key]),
            *(_value(at[key], name) for name in names),
            _FRONT[decision.front[key]] if key in decision.front else "not known",
        )
        for key in shown
    ]
    head = ("setting", decision.cost.noun, *map(axes.score_title, names), "on the front")
    said = [
        "### The choice and the Pareto front, cheapest first",
        grid(head, rows),
        *_doubts(results, names),
        'In brackets: 95 % intervals. "perhaps": too few pictures to tell whether a cheaper setting is as good.',
    ]
    if more := len(order) - len(shown):
        said.append(f"{more} more are, or may be, on the front: see cells.csv and decision.json.")
    return "\n\n".join(said)


def _failures(results: Sequence[CellResult]) -> str:
    """Which cells have no result, and why."""
    failed = [f"{result.cell.label}: {result.error}" for result in results if result.error is not None]
    if not failed:
        return ""
    more = [f"{len(failed) - MAX_FAILURES} more, in cells.csv"] if len(failed) > MAX_FAILURES else []
    title = f"### {len(failed)} of {len(results)} settings failed"
    return f"{title}\n\n{bullets([*failed[:MAX_FAILURES], *more], 200)}"


def _dropped(run: Run) -> str:
    """Which cells a race has left behind, and why."""
    rows = [(each.label, each.why) for each in dropped_cells(run)]
    title = f"### {len(rows)} settings dropped on the way"
    return f"{title}\n\n{grid(('setting', 'why'), rows)}" if rows else ""


def _measures(results: Sequence[CellResult]) -> list[str]:
    """CLIP score, FID and the judge, as far as any cell has them."""
    names = (CLIP, axes.fid_name(results), axes.judge_name(results))
    return [name for name in names if name and name in axes.known_names(results)]


def _doubts(results: Sequence[CellResult], names: Sequence[str]) -> list[str]:
    """Why columns are marked with a question mark."""
    found = [(name, axes.column(results, name).unreliable) for name in names]
    return [escaped(f"{axes.score_title(name)}: {axes.doubt(why)}.") for name, why in found if why]


def _value(result: CellResult, name: str) -> str:
    """A score with its 95 % interval, and a question mark where it is unreliable."""
    score = axes.score_of(result, name)
    if score is None or score.value is None:
        return "not known"
    span = ""
    if score.low is not None and score.high is not None:
        span = f" [{axes.text(name, score.low)}, {axes.text(name, score.high)}]"
    return f"{axes.text(name, score.value)}{span}{' ?' if score.unreliable else ''}"
