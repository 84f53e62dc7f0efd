"""What a race has dropped, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.records import Run
from eval.reporting import axes
from eval.reporting.quality import Part


@dataclass(frozen=True)
class DroppedCell:
    """A setting that left the race."""

    label: str
    why: str
    """"dropped at n = 32: CLIP score 1.2 to 2.3 worse than ddim · 4 steps · g 2, 95 %"."""


def dropped_cells(run: Run) -> tuple[DroppedCell, ...]:
    """Every setting that was dropped and has no result, in the order in which they left."""
    sure = run.race.confidence if run.race else 0.0
    return tuple(DroppedCell(drop.label, drop.why(sure)) for drop in run.dropped)


def race_cautions(run: Run, parts: Sequence[Part]) -> list[str]:
    """What a decision among the rest of a race leaves open; nothing where nothing was dropped.

    Args:
        parts: scores that the decision rests on.
    """
    if run.race is None or not run.dropped:
        return []
    left = sum(result.error is None for result in run.results)
    told = [
        f"{len(run.dropped)} settings were dropped on the way, by CLIP score with a margin of {run.race.margin}; the "
        f"decision and its bounds are about the {left} that have all {run.race.total} pictures. That rests on prompts "
        "in no order, since the first ones spoke for all."
    ]
    above = max((-drop.low for drop in run.dropped if drop.kind == "dearer"), default=0.0)
    if above > 0:
        told.append(
            "Those that were dropped as dearer than one which is good enough may lie up to "
            f"{axes.text_of_difference(axes.CLIP, above)} in CLIP score above that one."
        )
    others = [axes.score_title(part.name) for part in parts if part.name != run.race.score]
    if others:
        told.append(f"{' and '.join(others)} had no part in dropping settings.")
    return told
