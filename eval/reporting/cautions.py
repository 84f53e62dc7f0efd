"""What must be known before the decision is relied on, in plain words, to stand beside what it touches. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eval.records import CellResult, Run
from eval.reporting.decide import Decision
from eval.reporting.dropped import race_cautions
from eval.reporting.evidence import FEW_IMAGES
from eval.reporting.findings import Findings

_CUT = re.compile(r"([1-9][0-9]*) of ([0-9]+)")
"""The value of an environment's entry on prompts that were cut; "0 of 128" is no match."""
SAME_WORK = 0.1
"""Latencies of equal work that differ by more than this share tell of a machine that was busy."""
_READERS = {
    "the model": "so the pictures do not show what stood at their ends",
    "the scorer": "so their CLIP score is that of their beginnings",
}


def cautions(run: Run, found: Findings) -> tuple[str, ...]:
    """Sentences about the pictures and prompts that the decision rests on, the gravest first."""
    raced = race_cautions(run, found.quality.parts)
    return (*_few(found), *_cut(run), *raced, *_noisy(run, found.decision))


def _few(found: Findings) -> list[str]:
    pictures = found.quality.pictures
    if not 0 < pictures < FEW_IMAGES:
        return []
    return [f"Only {pictures} pictures a setting were compared. They hide many real differences."]


def _cut(run: Run) -> list[str]:
    """Prompts longer than a text encoder reads."""
    told = []
    for label, value in run.environment.items():
        match = _CUT.match(value)
        if match is None or not label.startswith("prompts cut by"):
            continue
        reader = label.removeprefix("prompts cut by ")
        effect = next((words for who, words in _READERS.items() if reader.startswith(who)), "")
        told.append(f"{match[1]} of {match[2]} prompts were cut by {reader}{effect and ', ' + effect}.")
    return told


def _noisy(run: Run, decision: Decision) -> list[str]:
    """How many cells' times are doubted, whether the choice is one of them, and how fine the clock is."""
    timed = [r for r in run.results if r.timing is not None and r.timing.latency_p50_s is not None]
    noisy = [r for r in timed if r.timing is not None and r.timing.latency_unreliable is not None]
    told = []
    if noisy:
        touched = [
            name
            for name, cell in (("the choice", decision.chosen), ("the best one", decision.best))
            if cell is not None and any(cell.cell.key == each.cell.key for each in noisy)
        ]
        said = f"{' and '.join(touched)} among them" if touched else "the choice is not among them"
        told.append(
            f"Latency is unreliable for {len(noisy)} of {len(timed)} settings, {said}; the table marks which."
        )
    spread = _same_work(timed)
    if spread is not None and spread > SAME_WORK:
        told.append(
            f"Settings that do the same work differ by up to {100 * spread:.0f} % in latency: this machine was not "
            "quiet, and a smaller difference of cost says nothing."
        )
    return told


def _same_work(timed: Sequence[CellResult]) -> float | None:
    """Largest over smallest latency less 1, among settings of equal evaluations that guidance doubles alike."""
    groups: dict[tuple[object, ...], list[float]] = {}
    for result in timed:
        if result.timing is None or result.timing.latency_p50_s is None or result.model_evals is None:
            continue
        cell = result.cell
        place = (
            cell.model_fingerprint,
            result.device,
            cell.width,
            cell.height,
            cell.dtype,
            cell.precision,
            cell.guidance > 1,
            cell.guidance_interval,
        )
        groups.setdefault((*place, result.model_evals), []).append(result.timing.latency_p50_s)
    return max((max(each) / min(each) - 1 for each in groups.values() if len(each) > 1), default=None)
