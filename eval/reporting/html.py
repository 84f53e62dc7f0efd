"""A run as one HTML file that opens offline: everything that it shows or runs is inside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from eval.records import Run
from eval.reporting.cautions import cautions
from eval.reporting.decision_json import page_json
from eval.reporting.device_panels import device_panels
from eval.reporting.dropped import dropped_cells
from eval.reporting.facts import facts, holds_for, tally
from eval.reporting.failings import failings
from eval.reporting.findings import Findings
from eval.reporting.gallery import gallery
from eval.reporting.glossary import cost_entries, score_entries
from eval.reporting.merge_notes import same_pictures
from eval.reporting.page_data import limit_fields, page_data
from eval.reporting.panels import panels
from eval.reporting.ranking import winners
from eval.reporting.sheet import sheet
from eval.reporting.templating import TEMPLATES, environment, script_json
from eval.running.atomic import write_atomic

PLOTLY = TEMPLATES / "vendor" / "plotly-cartesian.min.js"
"""plotly.js without maps and 3-d, a third of the whole, of the version that plotly.py writes for."""


def write_report(
    run: Run,
    found: Findings,
    folder: Path,
    folders: Mapping[str, Path] | None = None,
) -> Path:
    """Write `report.html` of the run into `folder`; its path.

    Args:
        found: what follows from the run.
        folder: where its pictures lie.
        folders: run's name -> its folder, where runs were merged.

    Raises:
        RunFolderError: it cannot be written.
    """
    path = folder / "report.html"
    write_atomic(path, render(run, found, folder, folders).encode())
    return path


def render(
    run: Run,
    found: Findings,
    folder: Path,
    folders: Mapping[str, Path] | None = None,
) -> str:
    """The report as HTML text; thumbnails of large pictures are written into `folder`. Arguments as `write_report`."""
    decision = found.decision
    choice = page_json(run, decision, found.quality)
    # Quality against cost is drawn by the page itself, where axes and limits can be moved.
    drawn = [panel for panel in panels(run) if not panel.anchor.startswith("cost-")]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            plan=run.plan,
            facts=facts(run),
            tally=tally(run),
            decision=decision,
            choice=choice,
            choice_json=script_json(json.dumps(choice, allow_nan=False)),
            page_json=script_json(json.dumps(page_data(run, decision), allow_nan=False)),
            limits=limit_fields(run, decision),
            cautions=cautions(run, found),
            failings=failings(run, found),
            holds_for=holds_for(run, found),
            winners=winners(run.results),
            panels=drawn,
            measured=device_panels(run),
            gallery=gallery(
                run,
                folder,
                decision.chosen.cell.key if decision.chosen else None,
                folders,
                run.plan.report.pictures,
            ),
            notes=run.notes,
            merged=bool(run.plans),
            one_draw=same_pictures(run.plans),
            sheet=sheet(run.results, decision.verdicts),
            dropped=dropped_cells(run),
            failed=tuple(result for result in run.results if result.error is not None),
            entries=score_entries(run),
            costs=cost_entries(run),
            environment=run.environment,
            config_yaml=run.config_yaml,
            plotly_js=Markup(_closed(PLOTLY.read_text(encoding="utf-8"))) if run.results else "",
        )
    )


def _closed(script: str) -> str:
    """The script with no closing tag inside; `<\\/` means the same to JavaScript."""
    return script.replace("</script", "<\\/script")
