"""The report's page of a run that is in memory, or of one on disk, by the way that a sweep goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from eval.records import Run
from eval.reporting.findings import Findings, findings
from eval.reporting.html import render
from eval.running.loading import load_features, load_reference


def found_in(run: Run, folder: Path | None = None) -> Findings:
    """What follows from a run; without a folder from one that keeps no features."""
    if folder is None:
        return findings(run, lambda key: {}, lambda extractor: None)
    return findings(run, partial(load_features, folder), partial(load_reference, folder))


def page_of(
    run: Run,
    folder: Path,
    *,
    folders: Mapping[str, Path] | None = None,
    pictures: str = "beside",
) -> str:
    """The page as text; of merged runs nothing is read but their pictures."""
    merged = bool(run.plans) or not folder.exists()
    plan = replace(run.plan, report=replace(run.plan.report, pictures=pictures))
    return render(replace(run, plan=plan), found_in(run, None if merged else folder), folder, folders)
