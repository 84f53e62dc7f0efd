"""A plan to the pool that does it: this process, one process a device, or Ray's actors."""

from __future__ import annotations

from pathlib import Path

from eval.records import Plan
from eval.running.pool import Pool
from sdkit._errors import InvalidRequest


def make_pool(plan: Plan, root: Path) -> Pool:
    """The pool that the plan asks for, over the run's folder.

    Raises:
        SdkitError: a device is not there, Ray is not installed, or, in this process, as `prepare`.
    """
    execution = plan.execution
    if execution.executor == "ray":
        from eval.running.ray_pool import ray_pool

        return ray_pool(plan, root)
    devices = visible_gpus() if execution.devices == ("all",) else execution.devices
    if len(devices) > 1:
        from eval.running.processes import ProcessPool

        return ProcessPool(plan, root, devices)
    from dataclasses import replace

    from eval.running.lanes import in_lanes
    from eval.running.pool import local_pool

    if devices:
        plan = replace(plan, model=replace(plan.model, device=devices[0]))
    return in_lanes(local_pool(plan, root).worker)


def visible_gpus() -> tuple[str, ...]:
    """Every GPU of this machine that the process may use.

    Raises:
        InvalidRequest: there is none.
    """
    import torch

    found = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    if not found:
        raise InvalidRequest(
            "hardware.devices=all needs a GPU, got a machine without one; hardware.devices=[cpu]"
        )
    return found
