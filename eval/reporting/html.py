"""A run as one HTML file that opens offline: everything that it shows or runs is inside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.records import Plan, Run
from eval.reporting.decide import decide
from eval.reporting.gallery import gallery
from eval.reporting.glossary import COSTS, score_entries
from eval.reporting.merge_notes import same_pictures
from eval.reporting.panels import Panel, panels
from eval.reporting.ranking import winners
from eval.reporting.sheet import sheet
from eval.running.atomic import write_atomic
from eval.running.store import load_run

TEMPLATES = Path(__file__).parent / "templates"


def write_report(folder: Path) -> Path:
    """Write `report.html` of the run in `folder` from what is on disk; its path.

    Raises:
        RunFolderError: it is no run's folder, or it cannot be written.
    """
    path = folder / "report.html"
    write_atomic(path, render(load_run(folder), folder).encode())
    return path


def write_merged_report(run: Run, folder: Path, folders: Mapping[str, Path]) -> Path:
    """Write `report.html` of merged runs into `folder`, with their pictures from `folders`; its path.

    Raises:
        RunFolderError: it cannot be written.
    """
    path = folder / "report.html"
    write_atomic(path, render(run, folder, folders).encode())
    return path


def render(run: Run, folder: Path, folders: Mapping[str, Path] | None = None) -> str:
    """The report as HTML text.

    Args:
        folder: the run's folder, where the pictures lie.
        folders: run's name -> its folder, where runs were merged.
    """
    from plotly.offline import get_plotlyjs

    decision = decide(run.results, run.images)
    drawn = panels(run)
    failed = tuple(result for result in run.results if result.error is not None)
    template = _environment().get_template("report.html.j2")
    return template.render(
        plan=run.plan,
        facts=_facts(run),
        tally=_tally(run),
        decision=decision,
        winners=winners(run.results),
        panels=drawn,
        figures=[_script_json(panel) for panel in drawn],
        gallery=gallery(run, folder, decision.chosen, folders),
        notes=run.notes,
        merged=bool(run.plans),
        one_draw=same_pictures(run.plans),
        sheet=sheet(run.results),
        failed=failed,
        entries=score_entries(run),
        costs=COSTS,
        environment=run.environment,
        config_yaml=run.config_yaml,
        plotly_js=Markup(_closed(get_plotlyjs())) if drawn else "",
    )


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _script_json(panel: Panel) -> Markup:
    """The figure as JSON that nothing in it can end the script element it stands in."""
    text: str = panel.figure.to_json()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _closed(script: str) -> str:
    """The script with no closing tag inside; `<\\/` means the same to JavaScript."""
    return script.replace("</script", "<\\/script")


def _facts(run: Run) -> list[tuple[str, str]]:
    """What was swept, as label and value, for the head of the page; of merged runs each value once."""
    cells = [result.cell for result in run.results]
    sizes = sorted({(cell.width, cell.height) for cell in cells})
    devices = dict.fromkeys(result.device for result in run.results)
    found = {"Runs": dict.fromkeys(run.plans)}
    for plan in run.plans.values() or (run.plan,):
        for label, value in _plan_facts(plan):
            found.setdefault(label, {})[value] = None
    facts = {label: "; ".join(filter(None, values)) for label, values in found.items()}
    facts["Device"] = f"{', '.join(devices) or run.plan.model.device}, {run.plan.model.dtype}"
    facts["Size"] = ", ".join(f"{width} × {height}" for width, height in sizes)
    return [(label, value) for label, value in facts.items() if value]


def _plan_facts(plan: Plan) -> list[tuple[str, str]]:
    """One plan's; what is read from the cells stands there empty, in its place."""
    model = plan.model
    return [
        ("Model", model.name if model.name == model.source else f"{model.name} ({model.source})"),
        ("Device", ""),
        ("Size", ""),
        ("Prompts", f"{len(plan.prompts.texts)}, {plan.prompts.name}"),
        ("About the prompts", "; ".join(plan.prompts.notes)),
        ("Seeds", _seeds(plan)),
        ("Reference", _reference(plan)),
        ("Batch", f"{plan.hardware.batch}"),
    ]


def _seeds(plan: Plan) -> str:
    each = plan.prompts.seeds_per_prompt
    many = "" if each == 1 else f"; {each} pictures a prompt"
    if plan.grid.shared_seed:
        return f"{plan.grid.seed} for every picture, which so start from one first noise{many}"
    last = plan.grid.seed + max(len(plan.prompts.rows) - 1, 0)
    return f"{plan.grid.seed} to {last}, one a picture{many}"


def _reference(plan: Plan) -> str:
    reference = plan.reference
    count = "all" if reference.count == 0 else f"the first {reference.count}"
    crop = "" if reference.crop == "none" else f", cropped: {reference.crop}"
    texts = {
        "none": "none, so no FID",
        "shapes": f"{reference.count} fresh renders of the shapes world",
        "moments": f"moments from {reference.path}",
        "list": f"{count} pictures named in {reference.path}{crop}",
        "coco": f"{count} pictures of {reference.images} that {reference.path} names{crop}",
        "folder": f"{count} pictures of {reference.path}{crop}",
    }
    return texts.get(reference.kind, reference.kind)


def _tally(run: Run) -> dict[str, int]:
    """Counts of cells: planned, done, failed, and not on disk yet; and of pictures."""
    grid = run.plan.grid
    asked = run.planned or len(grid.samplers) * len(grid.steps) * len(grid.guidances)
    planned = max(asked, len(run.results))
    failed = sum(result.error is not None for result in run.results)
    return {
        "planned": planned,
        "done": len(run.results) - failed,
        "failed": failed,
        "waiting": planned - len(run.results),
        "pictures": sum(len(rows) for rows in run.images.values()),
    }
