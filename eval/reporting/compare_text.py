"""A comparison of runs as plain text for the end of a command, and as Markdown for a pull request. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from eval.reporting.before_after import Against, BeforeAfter
from eval.reporting.change_words import change_text, one_line, overall_text, value_text
from eval.reporting.changes import LEVEL, MOVED, UNKNOWN, WORSE, Change, Overall
from eval.reporting.gates import HOLDS
from eval.reporting.markdown import escaped, grid

FEW = 10
"""Regressions, improvements and lone settings that are listed; the rest is counted."""
EACH = 3
"""Of them of one measure, so that one measure does not hide the others."""
Row = tuple[str, ...]


def headline(against: Against) -> str:
    """What became of the run, in a sentence."""
    settings = len(against.pairs.pairs)
    over = f"{settings} setting{'s' if settings != 1 else ''} compared"
    if against.outcomes:
        failed = sum(each.kind != HOLDS for each in against.outcomes)
        count = len(against.outcomes)
        if failed:
            told = "the gate is broken" if count == 1 else f"{failed} of {count} gates broken"
            return f"{told}; {over}"
        return f"{'the gate holds' if count == 1 else f'all {count} gates hold'}; {over}"
    worse, better = len(against.regressions), len(against.improvements)
    lost = [each.measure.title for each in against.overalls if each.together == WORSE]
    if lost and not worse:
        return f"no setting got worse beyond doubt by itself, but all together did: {', '.join(lost)}; {over}"
    if not worse and not better:
        return f"nothing got worse or better beyond doubt; {over}"
    return f"{worse} regression{'s' if worse != 1 else ''} and {better} improvement{'s' if better != 1 else ''}; {over}"


def compare_text(compared: BeforeAfter) -> str:
    """Tables for a terminal: gates, measures, regressions, improvements, and what only one run has."""
    return "\n\n".join(_terminal(compared, each) for each in compared.others)


def compare_markdown(compared: BeforeAfter) -> str:
    """The same, short and escaped, for a comment on a pull request."""
    return "\n\n".join(_markdown(compared, each) for each in compared.others) + "\n"


def measure_row(overall: Overall) -> Row:
    """Measure, mean change, counts by verdict, worst setting."""
    worst = overall.worst
    lost = worst is not None and (worst.loss or 0) > 0
    return (
        overall.measure.title,
        overall_text(overall),
        str(overall.worse),
        str(overall.better),
        str(len(overall.known) - overall.worse - overall.better),
        str(overall.count(UNKNOWN)),
        f"{worst.pair.label}: {change_text(worst)}" if worst is not None and lost else "none",
    )


MEASURE_HEAD = (
    "measure",
    "mean change",
    "worse",
    "better",
    "no clear change",
    "not compared",
    "largest loss",
)


def change_row(change: Change) -> Row:
    """Measure, setting, before, after, change."""
    return (
        change.measure.title,
        change.pair.label,
        value_text(change.measure, change.before),
        value_text(change.measure, change.after),
        change_text(change) + ("" if change.low is not None else ", no interval"),
    )


CHANGE_HEAD = ("measure", "setting", "before", "after", "change")


def leading(found: Sequence[Change]) -> list[Change]:
    """The first few, and of each measure the first `EACH`."""
    taken: dict[str, int] = {}
    shown = []
    for change in found:
        name = change.measure.name
        taken[name] = taken.get(name, 0) + 1
        if taken[name] <= EACH:
            shown.append(change)
    return shown[:FEW]


def _terminal(compared: BeforeAfter, against: Against) -> str:
    title = (
        f"{against.after.letter} ({against.after.name}) against {compared.baseline.letter} "
        f"({compared.baseline.name}): {headline(against)}"
    )
    parts = [one_line(each, 400) for each in (title, *against.notes)]
    if against.outcomes:
        rows = [(each.gate.text, each.kind, each.sentence) for each in against.outcomes]
        parts.append(_table(("gate", "outcome", "why"), rows))
    parts.append(_table(MEASURE_HEAD, [measure_row(each) for each in against.overalls]))
    for name, found in (("regressions", against.regressions), ("improvements", against.improvements)):
        if found:
            shown = leading(found)
            listed = _table(CHANGE_HEAD, [change_row(each) for each in shown])
            parts.append(f"{name}, {_of(found, shown)}\n{listed}")
    parts.extend(_prompts(against))
    parts.extend(_lone(against))
    return "\n\n".join(parts)


def _prompts(against: Against) -> list[str]:
    measure = against.worst.measure
    if measure is None or not against.worst.prompts:
        return []
    rows = [
        (
            one_line(each.prompt, 60),
            each.change.pair.label,
            value_text(measure, each.value_before),
            value_text(measure, each.value_after),
        )
        for each in against.worst.prompts
    ]
    return [
        f"prompts that lost most, by {measure.title}\n{_table(('prompt', 'setting', 'before', 'after'), rows)}"
    ]


def _lone(against: Against) -> list[str]:
    alone = against.pairs.alone
    if not alone:
        return []
    rows = [(each.letter, each.label, each.why) for each in alone[:FEW]]
    return [f"only in one run, {_of(alone, rows)}\n{_table(('run', 'setting', 'why'), rows)}"]


def _of(found: Sequence[object], shown: Sequence[object]) -> str:
    return f"{len(found)}" if len(found) == len(shown) else f"{len(shown)} of {len(found)}"


def _table(head: Row, rows: Sequence[Row]) -> str:
    """Columns as wide as their texts, as the end of a sweep has them."""
    shown = [tuple(one_line(text, 200) for text in row) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(head))]
    shown.insert(1, tuple("-" * width for width in widths))
    lines = (tuple(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in shown)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _markdown(compared: BeforeAfter, against: Against) -> str:
    names = f"{escaped(compared.baseline.name)} → {escaped(against.after.name)}"
    mark = "" if not against.outcomes else "✅ " if against.passes else "❌ "
    parts = [f"### {mark}{names}: {escaped(headline(against))}"]
    parts.extend(escaped(note) for note in against.notes)
    if against.outcomes:
        rows = [(each.gate.text, each.kind, each.sentence) for each in against.outcomes]
        parts.append(grid(("gate", "outcome", "why"), rows))
    told = [each for each in against.overalls if _is_told(each)]
    if told:
        parts.append(grid(MEASURE_HEAD, [measure_row(each) for each in told]))
    if len(told) < len(against.overalls):
        shown = [each.measure for each in told]
        level = ", ".join(
            escaped(each.measure.title) for each in against.overalls if each.measure not in shown
        )
        parts.append(f"Nothing worse or better in any setting: {level}.")
    if found := against.regressions:
        first = leading(found)
        parts.append(f"Regressions, {_of(found, first)}:")
        parts.append(grid(CHANGE_HEAD, [change_row(each) for each in first]))
    if against.pairs.alone:
        parts.append(f"Settings that only one run has: {len(against.pairs.alone)}.")
    return "\n\n".join(parts)


def _is_told(overall: Overall) -> bool:
    """Whether the measure moved at all, or could not be compared."""
    moved = overall.worse or overall.better or overall.together != LEVEL
    return bool(moved or overall.count(MOVED, UNKNOWN))
