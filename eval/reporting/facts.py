"""What was swept and how far it came, as label and value for the head of the page. Pure."""

from __future__ import annotations

from eval.records import Plan, Run
from eval.reporting import axes
from eval.reporting.findings import Findings
from eval.reporting.merging import PlacedCell
from eval.scoring.catalogue import base_name, metric


def facts(run: Run) -> list[tuple[str, str]]:
    """What was swept, as label and value, for the head of the page; of merged runs each value once."""
    cells = [result.cell for result in run.results]
    sizes = sorted({(cell.width, cell.height) for cell in cells})
    devices = dict.fromkeys(result.device for result in run.results)
    found = {"Runs": dict.fromkeys(run.plans)}
    for plan in run.plans.values() or (run.plan,):
        for label, value in _plan_facts(plan):
            found.setdefault(label, {})[value] = None
    joined = {label: "; ".join(filter(None, values)) for label, values in found.items()}
    formats = ", ".join(run.plan.grid.precisions) or run.plan.model.dtype
    joined["Device"] = f"{', '.join(devices) or run.plan.model.device}, {formats}"
    joined["Size"] = ", ".join(f"{width} × {height}" for width, height in sizes)
    return [(label, value) for label, value in joined.items() if value]


def holds_for(run: Run, found: Findings) -> str:
    """What the decision is about, in one line: the model, the size, the device, and what quality means in it."""
    shown = found.decision.chosen or found.decision.best
    if shown is None:
        return ""
    cell = shown.cell
    model = cell.model if isinstance(cell, PlacedCell) else run.plan.model.name
    parts = [f"Holds for the model {model} at {cell.width} × {cell.height} on {shown.device}, {cell.dtype}."]
    for part in found.quality.parts:
        title, meaning = axes.score_title(part.name), metric(base_name(part.name)).meaning
        parts.append(f"Quality here is {title}: {meaning[0].lower()}{meaning[1:]}")
    return " ".join(parts)


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


def tally(run: Run) -> dict[str, int]:
    """Counts of cells: planned, done, failed, dropped by a race, and not on disk yet; and of pictures."""
    asked = run.planned or len(run.plan.grid.points)
    planned = max(asked, len(run.results))
    failed = sum(result.error is not None for result in run.results)
    return {
        "planned": planned,
        "done": len(run.results) - failed,
        "failed": failed,
        "dropped": len(run.dropped),
        "waiting": planned - len(run.results) - len(run.dropped),
        "pictures": sum(len(rows) for rows in run.images.values()),
    }
