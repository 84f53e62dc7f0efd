"""The prompts whose pictures lost most between two runs, each with its picture before and after. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.records import ImageRow
from eval.reporting.axes import CLIP
from eval.reporting.changes import WORSE, Change, Measure, Overall
from eval.reporting.shared_rows import values_of
from eval.scoring.catalogue import base_name

MOST = 8
"""Prompts that are shown."""
PREFERRED = (CLIP, "judge_all", "zero_shot")
"""Scores of single pictures that say most of one; others follow in the tables' order."""
_PARTS = ("kid", "cmmd", "density", "precision")
"""A single picture's part in these says little of the picture."""


@dataclass(frozen=True)
class WorstPrompt:
    """One prompt, and the setting in which its picture lost most."""

    prompt: str
    seed: int | None
    loss: float
    """Mean loss of the prompt's pictures over the settings looked at, in the measure's unit."""
    change: Change
    """Of the setting whose pictures are shown."""
    before: ImageRow
    after: ImageRow
    value_before: float
    value_after: float


@dataclass(frozen=True)
class WorstPrompts:
    """The prompts that lost most, by one score."""

    measure: Measure | None
    """None where no score of single pictures can be compared."""
    prompts: tuple[WorstPrompt, ...]
    """Worst first; prompts that lost nothing are not among them."""
    settings: int
    """How many settings were looked at."""
    only_worse: bool
    """True where those are the ones that got worse beyond doubt; else all are."""


def worst_prompts(overalls: Sequence[Overall]) -> WorstPrompts:
    """By CLIP score where it can be compared, else by the next score of single pictures."""
    overall = _chosen(overalls)
    if overall is None:
        return WorstPrompts(None, (), 0, only_worse=False)
    sure = [each for each in overall.known if each.verdict == WORSE]
    looked = sure or list(overall.known)
    by_prompt: dict[str, list[WorstPrompt]] = {}
    for change in looked:
        for each in _losses(change):
            by_prompt.setdefault(each.prompt, []).append(each)
    found = [_worst_of(group) for group in by_prompt.values()]
    lost = sorted((each for each in found if each.loss > 0), key=lambda each: -each.loss)
    return WorstPrompts(overall.measure, tuple(lost[:MOST]), len(looked), bool(sure))


def _chosen(overalls: Sequence[Overall]) -> Overall | None:
    usable = [
        each
        for each in overalls
        if not each.measure.cost
        and each.measure.higher_is_better is not None
        and base_name(each.measure.name) not in _PARTS
        and any(_losses(change) for change in each.known[:1])
    ]
    ranked = [each for name in PREFERRED for each in usable if each.measure.name == name]
    return next(iter([*ranked, *usable]), None)


def _losses(change: Change) -> list[WorstPrompt]:
    """Of every picture that both runs have a value for."""
    pair, name = change.pair, change.measure.name
    ours, theirs = values_of(pair.rows_before, name), values_of(pair.rows_after, name)
    rows = {(row.index, row.seed, row.prompt): row for row in pair.rows_after}
    sign = 1 if change.measure.higher_is_better else -1
    found = []
    for row in pair.rows_before:
        place = (row.index, row.seed, row.prompt)
        if place in ours and place in theirs:
            loss = sign * (ours[place] - theirs[place])
            found.append(
                WorstPrompt(row.prompt, row.seed, loss, change, row, rows[place], ours[place], theirs[place])
            )
    return found


def _worst_of(group: Sequence[WorstPrompt]) -> WorstPrompt:
    """The picture that lost most, with the mean loss of all."""
    worst = max(group, key=lambda each: each.loss)
    mean = sum(each.loss for each in group) / len(group)
    return WorstPrompt(
        worst.prompt, worst.seed, mean, worst.change, worst.before, worst.after, worst.value_before, worst.value_after
    )  # fmt: skip
