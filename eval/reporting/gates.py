"""Limits on what may get worse between two runs, for CI: `gate.clip_score=-0.3 gate.latency=+10%`. Pure.

A gate is held against every setting that both runs have. By the rule `sure`, the default, a setting breaks it when
its change lies beyond the limit and its interval wholly beyond 0, so that there is a change beyond doubt, and the best
guess at its size is too much; where no interval is known the change alone decides. The intervals hold for all settings
at once, so noise breaks a build of many settings no more often than one of a single setting. The mean over all
settings is held against the gate in the same way: a loss that every setting shares is beyond doubt there long before
it is in any one. What the pictures are too few to tell is not passed over: the outcome says in how many settings the
interval reaches beyond the limit. By the rule `point` the change alone decides everywhere: nothing slips through, and
noise breaks builds.

What cannot be told (a score is missing, another encoder, no timing, a setting not made yet) breaks the gate, with its
reason. A setting that failed in the baseline had nothing to lose and is left out.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from eval.reporting.change_words import change_text, one_line, overall_text
from eval.reporting.changes import Change, Measure, Overall
from eval.reporting.cost_changes import COSTS
from eval.reporting.run_pairs import Alone
from eval.scoring.catalogue import CATALOGUE, base_name
from sdkit._errors import InvalidRequest

RULES = ("sure", "point")
HOLDS, BROKEN, NOT_KNOWN = "holds", "broken", "not known"
_LIMIT = re.compile(r"([+-])(\d+(?:\.\d+)?|\.\d+)(%?)")


@dataclass(frozen=True)
class Gate:
    """How far a measure may move in its bad direction."""

    text: str
    """As it was given: "gate.clip_score=-0.3"."""
    measure: str
    """As it was given: "clip_score", "fid[inception]", "latency"."""
    limit: float
    """0 or more; in the measure's unit, or as a share of the baseline."""
    relative: bool
    rises: bool
    """True where up is the bad direction."""

    def covers(self, measure: Measure) -> bool:
        """Whether it is of this measure: by its name, without the extractor, or by a cost's short name."""
        if measure.cost:
            return self.measure in (measure.name, measure.gate)
        return self.measure in (measure.name, base_name(measure.name))

    def allowed(self, change: Change) -> float | None:
        """The limit in the measure's unit; None where a share of nothing would be needed."""
        if not self.relative:
            return self.limit
        return self.limit * abs(change.before) if change.before else None


@dataclass(frozen=True)
class Outcome:
    """What became of a gate in one comparison of two runs."""

    gate: Gate
    broken: tuple[Change, ...]
    """Worst first."""
    unknown: tuple[str, ...]
    """`setting: why`, of those that cannot be told."""
    near: tuple[Change, ...]
    """Settings that hold it, whose intervals reach beyond the limit all the same."""
    held: int
    """Settings that hold it, those that are near too."""
    together: tuple[Overall, ...] = ()
    """Measures whose mean over all settings breaks it."""

    @property
    def kind(self) -> str:
        """One of `HOLDS`, `BROKEN`, `NOT_KNOWN`; only the first lets a build pass."""
        return (
            BROKEN if self.broken or self.together else NOT_KNOWN if self.unknown or not self.held else HOLDS
        )

    @property
    def sentence(self) -> str:
        """What became of it, in words."""
        total = self.held + len(self.broken) + len(self.unknown)
        parts = []
        if self.broken:
            worst = self.broken[0]
            parts.append(
                f"broken in {len(self.broken)} of {total} settings; worst: {worst.pair.label}, {change_text(worst)}"
            )
        for overall in self.together:
            parts.append(f"broken by the mean over {len(overall.known)} settings, {overall_text(overall)}")
        if self.unknown:
            parts.append(_not_known(self.unknown, total))
        if not total:
            parts.append("not known, because no setting of the two runs can be held against it")
        if not parts:
            parts.append(f"holds in {'the one setting' if total == 1 else f'all {total} settings'}")
        if self.near:
            parts.append(
                f"in {len(self.near)} of those that hold it the interval reaches beyond the limit, so more pictures "
                "or samples would tell"
            )
        return "; ".join(parts)


def parse_gate(argument: str) -> Gate:
    """The gate of `gate.<measure>=<limit>`.

    Raises:
        InvalidRequest: an unknown measure, a limit that is none, or the sign of the good direction.
    """
    name, _, limit = argument.removeprefix("gate.").partition("=")
    rises = _bad_direction(name)
    found = _LIMIT.fullmatch(limit)
    example = f"gate.{name}={'-' if rises is False else '+'}"
    if found is None:
        size = limit.lstrip("+-") or "10%"
        shown = size if _LIMIT.fullmatch(f"+{size}") else "10%"
        raise InvalidRequest(
            f"gate.{name} must be a sign and a number, with % for a share of the baseline, got "
            f"{one_line(limit, 40)!r}; write {example}{shown}"
        )
    sign, number, percent = found.groups()
    up = sign == "+"
    if rises is not None and up != rises:
        better, worse = ("lower", "rise") if rises else ("higher", "fall")
        raise InvalidRequest(
            f"gate.{name} must say how far it may {worse}, as {better} is better, got {limit}; "
            f"write {example}{number}{percent}"
        )
    size_ = float(number) / 100 if percent else float(number)
    return Gate(argument, name, size_, bool(percent), up)


def parse_rule(text: str) -> str:
    """The rule of `gate.rule=`. Raises InvalidRequest where there is none of that name."""
    if text not in RULES:
        raise InvalidRequest(f"gate.rule must be one of {', '.join(RULES)}, got {one_line(text, 40)!r}")
    return text


def hold(
    gates: Sequence[Gate], overalls: Sequence[Overall], alone: Sequence[Alone], rule: str
) -> tuple[Outcome, ...]:
    """What becomes of each gate.

    Args:
        overalls: every measure with its change in every setting.
        alone: settings that only one of the runs has.
        rule: one of `RULES`.
    """
    unfinished = tuple(
        f"{each.label}: {each.why}" for each in alone if each.unfinished and each.letter == "a"
    )
    return tuple(_hold(gate, _covered(gate, overalls), unfinished, rule) for gate in gates)


def _hold(gate: Gate, overalls: Sequence[Overall], unfinished: tuple[str, ...], rule: str) -> Outcome:
    broken, near, unknown, held = [], [], list(unfinished), 0
    if not overalls:
        unknown.append("every setting: neither run has it")
    for change in (each for overall in overalls for each in overall.changes):
        if change.pair.before.error is not None:
            continue
        allowed = gate.allowed(change)
        if change.difference is None or allowed is None:
            why = (
                change.reason
                if change.difference is None
                else "its baseline is 0, of which there is no share"
            )
            unknown.append(f"{change.pair.label}: {why}")
        elif _breaks(gate, change, allowed, rule):
            broken.append(change)
        else:
            held += 1
            end = change.high if gate.rises else change.low
            if end is not None and _beyond(gate, end, allowed):
                near.append(change)
    broken.sort(key=lambda each: (each.difference or 0.0) * (-1 if gate.rises else 1))
    together = tuple(each for each in overalls if _breaks_together(gate, each, rule))
    return Outcome(gate, tuple(broken), tuple(unknown), tuple(near), held, together)


def _breaks_together(gate: Gate, overall: Overall, rule: str) -> bool:
    """Whether the mean over several settings breaks the gate; of costs the mean ratio, where the limit is one."""
    known = overall.known
    if len(known) < 2:
        return False
    if gate.relative and overall.mean_ratio is not None:
        return _beyond(gate, overall.mean_ratio - 1, gate.limit)
    if overall.mean is None or overall.measure.cost:
        return False
    allowed = gate.limit
    if gate.relative:
        allowed *= abs(sum(each.before or 0.0 for each in known) / len(known))
    if not _beyond(gate, overall.mean.value, allowed):
        return False
    return rule == "point" or overall.mean.low is None or overall.mean.excludes_zero


def _breaks(gate: Gate, change: Change, allowed: float, rule: str) -> bool:
    if change.difference is None or not _beyond(gate, change.difference, allowed):
        return False
    return rule == "point" or change.low is None or change.excludes_zero


def _beyond(gate: Gate, difference: float, allowed: float) -> bool:
    """Whether the difference lies beyond the limit, by more than rounding."""
    return (difference if gate.rises else -difference) > allowed + 1e-9 * abs(allowed)


def _covered(gate: Gate, overalls: Sequence[Overall]) -> list[Overall]:
    """The measures that the gate is of; of those that share a short name (memory) the first that is known."""
    found = [each for each in overalls if gate.covers(each.measure)]
    if len(found) > 1 and found[0].measure.cost:
        return [next((each for each in found if each.known), found[0])]
    return found


def _not_known(unknown: Sequence[str], total: int) -> str:
    """`not known in 3 of 36 settings, because …`: the commonest reason, with a setting's name where it is one's own."""
    reasons = Counter(each.partition(": ")[2] for each in unknown)
    why, count = reasons.most_common(1)[0]
    rest = f" (and {len(unknown) - count} for other reasons)" if count < len(unknown) else ""
    return f"not known in {len(unknown)} of {total} settings, because {one_line(why, 300)}{rest}"


def _bad_direction(name: str) -> bool | None:
    """True where up is bad, None where neither direction is. Raises InvalidRequest for a measure there is not."""
    costs = {key: each.measure for each in COSTS for key in (each.measure.name, each.measure.gate) if key}
    if name in costs:
        return not costs[name].higher_is_better
    base = base_name(name)
    if base.startswith("judge_"):
        return False
    if base in CATALOGUE:
        better = CATALOGUE[base].higher_is_better
        return None if better is None else not better
    known = [*(each.measure.gate or each.measure.name for each in COSTS), *CATALOGUE]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise InvalidRequest(
        f"gate.{one_line(name, 40)} is of no measure that there is; nearest: {', '.join(near) or 'none'}; "
        f"there are {', '.join(dict.fromkeys(known))}"
    )
