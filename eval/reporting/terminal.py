"""The winners and the Pareto front as plain text, for the end of a sweep. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from eval.records import CellResult, Run
from eval.reporting import axes
from eval.reporting.decide import Decision
from eval.reporting.evidence import code, sentence
from eval.reporting.ranking import pareto_front, winners

Row = tuple[str, ...]


def winners_text(run: Run, decision: Decision) -> str:
    """Tables of the winners and of the front of quality against cost, and the decision with its code."""
    results = axes.separated(run.results)
    if not any(result.error is None for result in results):
        return "no cell has a result"
    rows: list[Row] = [
        (winner.title, winner.result.cell.label, winner.value + axes.doubt_beside(winner.unreliable))
        for winner in winners(results)
    ]
    parts = [_table(("winner", "setting", "value"), rows)]
    quality = axes.judge_name(results) or axes.CLIP
    if front := _front(results, quality):
        cost = axes.cost_of(results)
        title = f"Pareto front: {axes.score_title(quality)} against {cost.noun}, cheapest first"
        parts.append(f"{title}\n{_table(('setting', cost.noun, axes.score_title(quality)), front)}")
    parts.append(_choice(run, decision))
    return "\n\n".join(parts)


def _front(results: Sequence[CellResult], quality: str) -> list[Row]:
    cost = axes.cost_of(results)
    done = [result for result in results if result.error is None]
    column = axes.column(done, quality) if quality in axes.known_names(done) else None
    if column is None or column.higher_is_better is None:
        return []
    costs = [cost.of(result) for result in done]
    rows: list[Row] = []
    for index in pareto_front(costs, column):
        spent, score = costs[index], axes.score_of(done[index], quality)
        if spent is not None and score is not None and score.value is not None:
            value = axes.text(quality, score.value) + axes.doubt_beside(score.unreliable)
            rows.append((done[index].cell.label, cost.text(spent), value))
    return rows


def _choice(run: Run, decision: Decision) -> str:
    snippet = code(decision, run.plan, run.plans)
    return sentence(decision) + (f"\n    {snippet}" if snippet else "")


def _table(head: Row, rows: Sequence[Row]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rule = tuple("-" * width for width in widths)
    lines = (
        (text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in (head, rule, *rows)
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)
