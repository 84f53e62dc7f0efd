"""Two or more runs compared with the first: changes, gates, worst prompts, and what else differs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.records import Run
from eval.reporting.changes import Change, Overall, improvements, regressions
from eval.reporting.cost_changes import cost_changes
from eval.reporting.gates import HOLDS, Gate, Outcome, hold
from eval.reporting.run_pairs import RunPairs, Side, pair_runs
from eval.reporting.score_changes import score_changes
from eval.reporting.worst_prompts import WorstPrompts, worst_prompts
from sdkit._errors import InvalidRequest

_LEFT_OUT = ("grid", "windows", "prompts.texts", "reference.cache")
"""Parts of the plan that are told elsewhere, or decide no figure."""
ABSENT = "none"


@dataclass(frozen=True)
class Fact:
    """Something that is not alike in the two runs."""

    label: str
    """A package, or a key of the configuration."""
    before: str
    after: str


@dataclass(frozen=True)
class Against:
    """One run against the baseline."""

    before: Side
    after: Side
    pairs: RunPairs
    overalls: tuple[Overall, ...]
    """Scores first, then costs, each with its change in every setting."""
    outcomes: tuple[Outcome, ...]
    worst: WorstPrompts
    facts: tuple[Fact, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """One a measure and a setting."""
        return tuple(each for overall in self.overalls for each in overall.changes)

    @property
    def regressions(self) -> tuple[Change, ...]:
        return regressions(self.changes)

    @property
    def improvements(self) -> tuple[Change, ...]:
        return improvements(self.changes)

    @property
    def passes(self) -> bool:
        """True where every gate holds."""
        return all(each.kind == HOLDS for each in self.outcomes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known before any number is believed, each a sentence."""
        found = []
        devices = [
            {pair.before.device for pair in self.pairs.pairs},
            {pair.after.device for pair in self.pairs.pairs},
        ]
        if devices[0] != devices[1]:
            ours, theirs = (", ".join(sorted(each)) for each in devices)
            found.append(
                f"Speed, memory and energy were measured on different devices: {ours} before, {theirs} after."
            )
        if self.pairs.sizes_differ:
            found.append(
                "The two models draw pictures of different sizes: pairs share prompt and seed, and no noise."
            )
        failed = sum(pair.after.error is not None and pair.before.error is None for pair in self.pairs.pairs)
        if failed:
            found.append(f"{failed} of {len(self.pairs.pairs)} settings failed that did not fail before.")
        return tuple(found)


@dataclass(frozen=True)
class BeforeAfter:
    """Every other run against the baseline."""

    baseline: Side
    others: tuple[Against, ...]
    rule: str
    """By which gates are held."""

    @property
    def passes(self) -> bool:
        return all(each.passes for each in self.others)


def compare_runs(sides: Sequence[Side], gates: Sequence[Gate], rule: str) -> BeforeAfter:
    """The first run against each of the others.

    Raises:
        InvalidRequest: one of them has no setting in common with the first.
    """
    baseline, *others = sides
    return BeforeAfter(baseline, tuple(_against(baseline, other, gates, rule) for other in others), rule)


def _against(before: Side, after: Side, gates: Sequence[Gate], rule: str) -> Against:
    pairs = pair_runs(before, after)
    if not pairs.pairs:
        why = "; ".join(dict.fromkeys(each.why for each in pairs.alone)) or "there is no setting in either"
        raise InvalidRequest(
            f"runs {before.letter} ({before.name}) and {after.letter} ({after.name}) must have a setting in common, "
            f"got none: {why}"
        )
    overalls = (*score_changes(before, after, pairs.pairs), *cost_changes(pairs.pairs))
    return Against(
        before=before,
        after=after,
        pairs=pairs,
        overalls=overalls,
        outcomes=hold(gates, overalls, pairs.alone, rule),
        worst=worst_prompts(overalls),
        facts=facts(before.run, after.run),
    )


def facts(before: Run, after: Run) -> tuple[Fact, ...]:
    """Model, configuration, packages and machine, wherever the two differ."""
    ours, theirs = _told(before), _told(after)
    labels = dict.fromkeys((*ours, *theirs))
    return tuple(
        Fact(label, ours.get(label, ABSENT), theirs.get(label, ABSENT))
        for label in labels
        if ours.get(label) != theirs.get(label)
    )


def _told(run: Run) -> dict[str, str]:
    prints = dict.fromkeys(result.cell.model_fingerprint for result in run.results)
    found = {"model's contents": ", ".join(prints)}
    for label, value in _flat(run.plan.asked).items():
        if not any(label == part or label.startswith(f"{part}.") for part in _LEFT_OUT):
            found[label] = value
    return found | run.environment


def _flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Leaves that are set, by dotted name, as text."""
    found: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            found[prefix + name] = ", ".join(map(str, value))
        elif value is not None:
            found[prefix + name] = str(value)
    return found
