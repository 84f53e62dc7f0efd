"""A comparison of runs as compare.csv, one row a setting and measure, and as compare.json. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from eval.reporting.accelerated import COLUMNS as ACCELERATED
from eval.reporting.accelerated import accelerated, fields
from eval.reporting.before_after import Against, BeforeAfter
from eval.reporting.changes import Change, Overall
from eval.reporting.gates import Outcome
from eval.reporting.worst_prompts import WorstPrompt

VERSION = 1
"""Raised when compare.json can no longer be read as before."""
COLUMNS = {
    "run": "str", "name": "str", "cell_key": "str", "other_cell_key": "str",
    "sampler": "str", "steps": "Int64", "guidance": "Float64", "width": "Int64", "height": "Int64",
    "measure": "str", "unit": "str", "higher_is_better": "boolean", "before": "Float64", "after": "Float64",
    "difference": "Float64", "difference_low": "Float64", "difference_high": "Float64",
    "ratio": "Float64", "ratio_low": "Float64", "ratio_high": "Float64",
    "verdict": "str", "n": "Int64", "method": "str", "caution": "str", "reason": "str",
    "gates": "str", "gates_broken": "str",
}  # fmt: skip
"""Behind them stand a setting's accelerations, where some setting has any."""


def compare_frame(compared: BeforeAfter) -> pd.DataFrame:
    """One row a run, a setting that both have, and a measure; what is not known is missing (NA), never 0."""
    rows: list[dict[str, object]] = []
    for against in compared.others:
        broken = [(each, {id(change) for change in each.broken}) for each in against.outcomes]
        rows += [_row(against, change, broken) for change in against.changes]
    cells = [pair.before.cell for against in compared.others for pair in against.pairs.pairs]
    columns = COLUMNS | (ACCELERATED if accelerated(cells) else {})
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def compare_json(compared: BeforeAfter) -> bytes:
    """The whole comparison but for the rows of compare.csv, as UTF-8 JSON."""
    found = {
        "version": VERSION,
        "passes": compared.passes,
        "rule": compared.rule,
        "baseline": {"run": compared.baseline.letter, "name": compared.baseline.name},
        "others": [_against(each) for each in compared.others],
    }
    return (json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(
        errors="backslashreplace"
    )


def _row(against: Against, change: Change, broken: Sequence[tuple[Outcome, set[int]]]) -> dict[str, object]:
    """One row of the CSV.

    Args:
        broken: each gate's outcome, with the ids of the changes that break it.
    """
    cell, measure, ratio = change.pair.before.cell, change.measure, change.ratio
    gates = [each.gate.text for each, _ in broken if each.gate.covers(measure)]
    fails = [each.gate.text for each, ids in broken if id(change) in ids]
    return {
        "run": against.after.letter, "name": against.after.name,
        "cell_key": cell.key, "other_cell_key": change.pair.after.cell.key,
        "sampler": cell.sampler, "steps": cell.steps, "guidance": cell.guidance, **fields(cell),
        "width": cell.width, "height": cell.height,
        "measure": measure.name, "unit": measure.unit, "higher_is_better": measure.higher_is_better,
        "before": change.before, "after": change.after, "difference": change.difference,
        "difference_low": change.low, "difference_high": change.high,
        "ratio": ratio.value if ratio else None, "ratio_low": ratio.low if ratio else None,
        "ratio_high": ratio.high if ratio else None,
        "verdict": change.verdict, "n": change.n, "method": change.method, "caution": change.caution,
        "reason": change.reason,
        "gates": " ".join(gates) or None,
        "gates_broken": " ".join(fails) or None,
    }  # fmt: skip


def _against(against: Against) -> dict[str, Any]:
    worst = against.worst
    return {
        "run": against.after.letter,
        "name": against.after.name,
        "passes": against.passes,
        "settings": len(against.pairs.pairs),
        "notes": list(against.notes),
        "gates": [_outcome(each) for each in against.outcomes],
        "measures": [_overall(each) for each in against.overalls],
        "regressions": [_change(each) for each in against.regressions],
        "improvements": [_change(each) for each in against.improvements],
        "only_in_one": [
            {"run": each.letter, "setting": each.label, "why": each.why} for each in against.pairs.alone
        ],
        "differs": [
            {"what": each.label, "before": each.before, "after": each.after} for each in against.facts
        ],
        "worst_prompts": {
            "measure": worst.measure.name if worst.measure else None,
            "settings": worst.settings,
            "only_settings_that_got_worse": worst.only_worse,
            "prompts": [_prompt(each) for each in worst.prompts],
        },
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "gate": outcome.gate.text,
        "outcome": outcome.kind,
        "sentence": outcome.sentence,
        "broken": [_change(each) for each in outcome.broken],
        "broken_by_mean_of": [each.measure.name for each in outcome.together],
        "not_known": list(outcome.unknown),
        "reaches_beyond": [each.pair.label for each in outcome.near],
    }


def _overall(overall: Overall) -> dict[str, Any]:
    mean, measure = overall.mean, overall.measure
    counts = {
        verdict: overall.count(verdict)
        for verdict in ("worse", "better", "level", "moved", "open", "unknown")
    }
    return {
        "measure": measure.name,
        "title": measure.title,
        "unit": measure.unit,
        "higher_is_better": measure.higher_is_better,
        "settings": counts,
        "mean_difference": mean.value if mean else None,
        "low": mean.low if mean else None,
        "high": mean.high if mean else None,
        "mean_ratio": overall.mean_ratio,
        "mean_verdict": overall.together,
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "setting": change.pair.label,
        "cell_key": change.pair.before.cell.key,
        "measure": change.measure.name,
        "before": change.before,
        "after": change.after,
        "difference": change.difference,
        "low": change.low,
        "high": change.high,
        "ratio": change.ratio.value if change.ratio else None,
    }


def _prompt(worst: WorstPrompt) -> dict[str, Any]:
    return {
        "prompt": worst.prompt,
        "seed": worst.seed,
        "mean_loss": worst.loss,
        "setting": worst.change.pair.label,
        "before": worst.value_before,
        "after": worst.value_after,
        "picture_before": worst.before.path,
        "picture_after": worst.after.path,
    }
