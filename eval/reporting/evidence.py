"""The decision in words: the sentence, the code to paste, and the evidence with its numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from eval.accelerations import in_words
from eval.identity import Score
from eval.records import CellResult, Plan
from eval.reporting import axes
from eval.reporting.decide import TIE, Decision
from eval.reporting.merging import PlacedCell
from eval.reporting.quality import Part, Quality
from eval.reporting.ranking import best_by

FEW_IMAGES = 64
"""Below this many pictures a cell, a warning stands beside the decision."""


def sentence(decision: Decision) -> str:
    """The decision in one sentence; where there is none, why not."""
    chosen = decision.chosen
    if chosen is None:
        return f"No decision: {decision.reason}."
    spent = decision.cost.of(chosen)
    price = "" if spent is None else f", {decision.cost.text(spent)} a picture"
    mark = (
        "".join(f"{value}, " for _, value in chosen.cell.marks) if isinstance(chosen.cell, PlacedCell) else ""
    )
    which = "the cheapest setting that is shown"
    if decision.count("tied"):
        which = (
            f"the best of the cheapest settings (costs within {100 * TIE:g} % count as equal) that are shown"
        )
    within = " of those within the limits" if decision.unlimited else ""
    cell = chosen.cell
    how = in_words(cell.guidance_interval, cell.precision)
    return (
        f"Use {mark}{cell.sampler} with {cell.steps} steps at guidance {cell.guidance:g}{how}{price}: "
        f"{which} to be as good as the best{within} to within the margin."
    )


def code(decision: Decision, plan: Plan, plans: dict[str, Plan] | None = None) -> str | None:
    """The call of the SDK that makes pictures by the choice; None where nothing is chosen.

    Args:
        plan: of the run, or of the merged runs together.
        plans: of merged runs, by name.
    """
    chosen = decision.chosen
    if chosen is None:
        return None
    cell = chosen.cell
    model = plan.model
    if isinstance(cell, PlacedCell) and plans and cell.run in plans:
        model = plans[cell.run].model
    given = {
        "model": None if model.source == "shapes" else model.source,
        "negative_prompt": cell.negative_prompt or None,
        "sampler": cell.sampler,
        "steps": cell.steps,
        "guidance_scale": float(cell.guidance),
        "guidance_interval": cell.guidance_interval,
        "width": cell.width if model.width else None,
        "height": cell.height if model.height else None,
        "quantise": "fp8" if cell.precision == "fp8" else None,
        "dtype": None if cell.dtype == "float32" and cell.device_type == "cpu" else cell.dtype,
    }
    words = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
    return f"generate(prompt, {words})"


def evidence(decision: Decision, quality: Quality, results: Sequence[CellResult]) -> tuple[str, ...]:
    """Sentences with numbers, in the order in which they should be read."""
    results = axes.separated(results)
    told = [*_rule(decision, quality)]
    if decision.best is not None:
        told.append(_lead(decision, quality))
    if decision.chosen is not None:
        told += [*_comparison(decision, quality), *_unlimited(decision, quality), *_mixed(decision)]
        told += _beside(decision.chosen, results)
    return (*told, *_field(decision, quality), *_cautions(decision, quality, len(results)))


def _rule(decision: Decision, quality: Quality) -> list[str]:
    """What quality is here, and which scores of the rule are no part of it."""
    said = []
    if quality.parts:
        parts = " and ".join(
            _part(part, len({each.weight for each in quality.parts}) > 1) for part in quality.parts
        )
        said.append(f"Quality is measured by {parts}. The margin is what may be given away for a lower cost.")
    if decision.plan.margin != 1:
        said.append(f"The choice may lie {decision.plan.margin:g} margins below the best.")
    said += [f"{title} is no part of that: {why}." for title, why in quality.left_out]
    return said


def _part(part: Part, weighed: bool) -> str:
    of = f", {part.margin_text}" if part.margin_text.endswith("best") else ""
    weight = f"; weight {part.weight:g}" if weighed else ""
    return f"{axes.score_title(part.name)} (margin {part.margin:.3g}{of}{weight})"


def _lead(decision: Decision, quality: Quality) -> str:
    """Which setting leads, and how well its score is known."""
    best = decision.best
    assert best is not None
    within = " of those within the limits" if decision.count("over_limit", "guarded") else ""
    shown = "; ".join(
        f"{axes.score_title(part.name)} {_shown(axes.score_of(best, part.name), part.name)}"
        for part in quality.parts
    )
    return f"{best.cell.label} has the highest quality{within}: {shown}."


def _comparison(decision: Decision, quality: Quality) -> list[str]:
    """How the chosen setting compares with the best one in quality, and in cost."""
    chosen, best = decision.chosen, decision.best
    assert chosen is not None
    verdict = decision.verdicts[chosen.cell.key]
    sure = f"at {100 * decision.plan.confidence:g} % confidence"
    if chosen is best:
        beaten = f"whichever is truly the best, it lies at most {quality.text(verdict.upper or 0)} below it, {sure}"
        return [f"No cheaper setting is shown to be as good, so it is the choice; {beaten}."]
    assert best is not None
    shown = "; ".join(
        f"{axes.score_title(part.name)} {_shown(axes.score_of(chosen, part.name), part.name)}"
        for part in quality.parts
    )
    told = [
        f"The choice, {chosen.cell.label}, has {shown}. Measured, that is {quality.text(verdict.gap or 0)} below the "
        f"best; whichever setting is truly the best, it lies at most {quality.text(verdict.upper or 0)} "
        f"below it, {sure}."
    ]
    ours, theirs = decision.cost.of(chosen), decision.cost.of(best)
    if ours and theirs:
        ratio = f": {theirs / ours:.1f} times less" if theirs / ours >= 1.1 else ", about the same"
        told.append(
            f"It costs {decision.cost.text(ours)} a picture against {decision.cost.text(theirs)}{ratio}."
        )
    return told


def _unlimited(decision: Decision, quality: Quality) -> list[str]:
    """How the choice stands among all settings, where limits leave some out."""
    everyone = decision.unlimited
    if everyone is None:
        return []
    end = "more than the margin" if everyone.upper > decision.plan.margin else "within the margin"
    return [
        f"Without limits and guards {everyone.best.cell.label} is the best: the choice lies "
        f"{quality.text(everyone.gap)} below it, and at most {quality.text(everyone.upper)} below the best of all, "
        f"{end}."
    ]


def _field(decision: Decision, quality: Quality) -> list[str]:
    """What became of the settings, counted."""
    if decision.best is None:
        return []
    counts = [
        (
            decision.count("chosen", "tied", "dearer", "uncosted"),
            "shown to lie within the margin of the best",
        ),
        (decision.count("worse"), "surely worse by more than it"),
        (decision.count("unsure"), "not to be told with this many pictures"),
        (decision.count("over_limit"), "outside the limits"),
        (decision.count("guarded"), "left out by a guard"),
        (decision.count("failed"), "failed"),
        (decision.count("unscored"), "not comparable"),
    ]
    parts = [f"{number} {'is' if number == 1 else 'are'} {what}" for number, what in counts if number]
    said = [f"Of {len(decision.verdicts)} settings {', '.join(parts)}."]
    near = decision.count("tied")
    if near:
        said.append(
            f"{near + 1} of the good ones lie within {100 * TIE:g} % of the lowest {decision.cost.noun}, too "
            "close to rank; of these the choice has the highest quality."
        )
    return said


def _mixed(decision: Decision) -> list[str]:
    """What to know of the costs where they are not of one kind."""
    if not decision.cost.mixed or decision.chosen is None:
        return []
    return [
        f"Costs are {decision.cost.mixed}; that of the choice is of {decision.chosen.device}. Elsewhere another may be "
        "the cheapest."
    ]


def _beside(chosen: CellResult, results: Sequence[CellResult]) -> list[str]:
    """FID and the judge for the chosen setting, each beside the best of the sweep."""
    told = []
    for name in (axes.fid_name(results), axes.judge_name(results)):
        top = best_by(results, name) if name else None
        if name is None or top is None:
            continue
        own = _shown(axes.score_of(chosen, name), name)
        other = f"the best is {top.value}{axes.doubt_beside(top.unreliable)}, by {top.result.cell.label}"
        rest = "the best of the sweep" if top.result.cell.key == chosen.cell.key else other
        told.append(f"For comparison, {axes.score_title(name)} of the choice is {own}; {rest}.")
    return told


def _cautions(decision: Decision, quality: Quality, cells: int) -> list[str]:
    """What was left out, whether there are enough pictures, and what the bounds hold for."""
    told = []
    costless = decision.count("uncosted")
    if costless:
        told.append(f"Left out of the choice for want of a known cost: {costless} of {cells} settings.")
    if not quality.pictures:
        return told
    if quality.pictures < FEW_IMAGES:
        told.append(f"{quality.pictures} pictures a setting hide many real differences: use more prompts.")
    by = "" if quality.prompts is None else f", clustered by the {quality.prompts} prompts"
    return [
        *told,
        f"Settings are compared picture by picture over the same {quality.pictures} prompts and seeds{by}. The bounds "
        f"hold for all {len(quality.results)} settings at once, so that the best may be picked from the same pictures.",
    ]


def _shown(score: Score | None, name: str) -> str:
    """The score's value as text with its own interval and what there is to doubt about it."""
    if score is None or score.value is None:
        return "unknown"
    span = ""
    if score.low is not None and score.high is not None:
        span = f" (95 % interval {axes.text(name, score.low)} to {axes.text(name, score.high)})"
    return axes.text(name, score.value) + span + axes.doubt_beside(score.unreliable)
