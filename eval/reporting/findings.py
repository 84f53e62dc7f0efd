"""What follows from a run: differences, quality and the decision, computed once for all that show them."""

from __future__ import annotations

from dataclasses import dataclass

from eval.records import Run
from eval.reporting.comparisons import Comparison, Features, Reference, compare
from eval.reporting.decide import Decision, decide
from eval.reporting.fid_rows import Kept
from eval.reporting.quality import Quality, quality_of


@dataclass(frozen=True)
class Findings:
    """The decision on a run and what it rests on."""

    comparisons: tuple[Comparison, ...]
    quality: Quality
    decision: Decision


def findings(run: Run, features: Features, reference: Reference) -> Findings:
    """All comparisons of the run's cells, and the decision by its plan.

    Raises:
        InvalidRequest: a margin of the plan is neither a number above 0 nor a percentage.
        SdkitError: the reference's moments cannot be read.
    """
    plan = run.plan.decide
    kept: Kept = {}
    compared = compare(run, features, reference, kept)
    quality = quality_of(run, plan, features, reference, kept)
    return Findings(compared, quality, decide(run.results, quality, plan))
