"""What must be known before settings of different runs are compared, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from eval.hardware_plan import HardwarePlan
from eval.records import CellResult, Plan, ReferencePlan


def merge_notes(plans: Mapping[str, Plan], results: Sequence[CellResult], once: int) -> tuple[str, ...]:
    """The sentences; none for runs that differ in nothing but their grids.

    Args:
        plans: run's name -> its plan.
        results: those that were kept.
        once: how many were left out as another's double.
    """
    found = []
    if differ := _differ(plans, lambda plan: plan.prompts.digest, _prompts):
        found.append(
            f"The runs drew different prompts ({differ}): scores against captions stand in columns of their own, and "
            "what else is compared across those runs may differ by the prompts alone."
        )
    if differ := _differ(plans, lambda plan: (plan.grid.seed, plan.grid.shared_seed), _seeds):
        found.append(
            f"The runs drew from different seeds ({differ}), so their settings are not compared with intervals."
        )
    if differ := _differ(
        plans, lambda plan: replace(plan.reference, cache=None), lambda plan: _reference(plan.reference)
    ):
        found.append(
            f"The runs have different references ({differ}): FID and its relatives stand in columns of their own."
        )
    devices = dict.fromkeys(result.device for result in results)
    if len(devices) > 1:
        found.append(
            f"Speed and memory were measured on different devices ({', '.join(devices)}): every setting says on which."
        )
    if differ := _differ(plans, lambda plan: repr(plan.hardware), lambda plan: _hardware(plan.hardware)):
        found.append(f"Speed was measured in different ways ({differ}).")
    raced = [name for name, plan in plans.items() if plan.search.kind == "racing"]
    if raced:
        found.append(
            f"Settings may have been dropped on the way ({', '.join(raced)}): a run's own report says which, and why."
        )
    if once:
        found.append(f"Taken once, as two runs hold the same: {once} {'cell' if once == 1 else 'cells'}.")
    return tuple(found)


def same_pictures(plans: Mapping[str, Plan]) -> bool:
    """Whether all runs drew the same prompts from the same seeds."""
    asked = {(plan.prompts.digest, plan.grid.seed, plan.grid.shared_seed) for plan in plans.values()}
    return len(asked) < 2


def _differ(plans: Mapping[str, Plan], what: Callable[[Plan], object], text: Callable[[Plan], str]) -> str:
    """`run: text; run: text` where the runs differ; empty where they do not."""
    if len({what(plan) for plan in plans.values()}) < 2:
        return ""
    return "; ".join(f"{name}: {text(plan)}" for name, plan in plans.items())


def _prompts(plan: Plan) -> str:
    each = plan.prompts.seeds_per_prompt
    return f"{len(plan.prompts.texts)} of {plan.prompts.name}" + (
        f", {each} pictures each" if each > 1 else ""
    )


def _seeds(plan: Plan) -> str:
    return f"{plan.grid.seed}, shared" if plan.grid.shared_seed else f"from {plan.grid.seed}"


def _reference(reference: ReferencePlan) -> str:
    count = "all" if reference.count == 0 and reference.kind != "none" else str(reference.count or "")
    parts = (count, reference.kind, reference.path, None if reference.crop == "none" else reference.crop)
    return " ".join(part for part in parts if part)


def _hardware(hardware: HardwarePlan) -> str:
    timed = hardware.timing_batch or hardware.batch
    threads = "" if hardware.threads is None else f", {hardware.threads} threads"
    return f"batch {timed}, {hardware.latency_repeats} single pictures, {hardware.throughput_repeats} batches{threads}"
