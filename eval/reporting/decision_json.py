"""The decision as JSON: stored as decision.json, and with the pairs' errors in the page, where limits can be moved."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import numpy as np

from eval.accelerations import setting
from eval.records import Plan, Run
from eval.reporting import axes
from eval.reporting.costs import LIMITED, cost_for, guarded
from eval.reporting.decide import TIE, Decision
from eval.reporting.evidence import code, evidence, sentence
from eval.reporting.quality import Quality

VERSION = 1
"""Raised when a field changes its meaning or goes."""


def decision_json(run: Run, decision: Decision, quality: Quality) -> dict[str, object]:
    """What was decided, by which rule, and the verdict on every setting, as plain values.

    `chosen` and `best` are cell keys, `verdicts` and `front` go by them; `gap` and `upper` are in margins.
    """
    chosen, best = decision.chosen, decision.best
    return {
        "version": VERSION,
        "status": decision.status,
        "sentence": sentence(decision),
        "reason": decision.reason,
        "chosen": chosen and chosen.cell.key,
        "best": best and best.cell.key,
        "setting": chosen and _setting(decision, run.plan),
        "code": code(decision, run.plan, run.plans),
        "evidence": list(evidence(decision, quality, run.results)),
        "confidence": decision.plan.confidence,
        "margin": decision.plan.margin,
        "tie": TIE,
        "pictures": quality.pictures,
        "by": "pictures" if quality.prompts is None else "prompts",
        "more_pictures": decision.more_pictures,
        "unlimited": _unlimited(decision),
        "scores": [
            {
                "name": part.name,
                "title": axes.score_title(part.name),
                "weight": part.weight,
                "margin": part.margin,
                "margin_text": part.margin_text,
                "higher_is_better": part.higher_is_better,
            }
            for part in quality.parts
        ],
        "left_out": [{"title": title, "reason": why} for title, why in quality.left_out],
        "cost": {"title": decision.cost.noun, "unit": decision.cost.unit, "label": decision.cost.label},
        "limits": [
            {
                "name": each.name,
                "title": each.title,
                "unit": each.unit,
                "measure": each.measure,
                "most": each.most,
                "value": getattr(decision.plan.limits, each.name),
            }
            for each in LIMITED
        ],
        "verdicts": {key: vars(verdict) for key, verdict in decision.verdicts.items()},
        "front": dict(decision.front),
    }


def page_json(run: Run, decision: Decision, quality: Quality) -> dict[str, object]:
    """The same with what it takes to decide anew when limits move: cells with their measures, and all pairs' errors.

    `errors` is the upper triangle of the pairs' standard errors, row by row without the diagonal, and `place` the
    row of a cell in it; base64 of little-endian float32.
    """
    return decision_json(run, decision, quality) | {
        "cells": _cells(run, decision, quality),
        **_pairs(quality),
    }


def _unlimited(decision: Decision) -> Mapping[str, object] | None:
    everyone = decision.unlimited
    if everyone is None:
        return None
    return {"best": everyone.best.cell.key, "gap": everyone.gap, "upper": everyone.upper}


def _setting(decision: Decision, plan: Plan) -> Mapping[str, object] | None:
    if decision.chosen is None:
        return None
    cell = decision.chosen.cell
    return {
        "label": cell.label,
        "sampler": cell.sampler,
        "steps": cell.steps,
        "guidance": cell.guidance,
        **setting(cell.guidance_interval, cell.precision),
        "cost": decision.cost.of(decision.chosen),
    }


def _cells(run: Run, decision: Decision, quality: Quality) -> list[dict[str, object]]:
    places = {result.cell.key: i for i, result in enumerate(quality.results)}
    cost = cost_for(decision.plan, run.results)
    found = []
    for result in axes.separated(run.results):
        key = result.cell.key
        place = places.get(key)
        unknown = result.error or quality.apart.get(key) or quality.reason
        found.append(
            {
                "key": key,
                "label": result.cell.label,
                "series": result.cell.series,
                "sampler": result.cell.sampler,
                "steps": result.cell.steps,
                "guidance": result.cell.guidance,
                "cost": cost.of(result),
                "quality": None if place is None else float(quality.values[place]),
                "place": place,
                "failed": result.error,
                "reason": None if place is not None else unknown or "it was not compared",
                "guarded": None if result.error else guarded(result, decision.plan.guards),
                "measures": {each.measure: each.of(result) for each in LIMITED},
            }
        )
    return found


def _pairs(quality: Quality) -> dict[str, object]:
    if quality.bounds is None:
        return {"errors": "", "critical": [], "critical_pairs": None}
    triangle = quality.bounds.errors[np.triu_indices(len(quality.results), 1)].astype("<f4")
    return {
        "errors": base64.b64encode(triangle.tobytes()).decode("ascii"),
        "critical": [float(f"{each:.6g}") for each in quality.bounds.critical],
        "critical_pairs": quality.bounds.critical_pairs,
    }


def to_json(value: Mapping[str, object]) -> bytes:
    """Readable JSON; numbers that are none are refused rather than written."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode()
