"""Who makes a run's pictures and in what way; it decides no figure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EnginePlan:
    """How a worker makes pictures; the ways are equal to rounding."""

    kind: str = "shared"
    """"shared", one stream of full denoiser calls for all cells, or "percell", the plain path."""
    rows: int | None = None
    """Rows of a denoiser call; None is twice `HardwarePlan.batch`, as a batch with guidance has them."""
    share_first_calls: bool = True
    """Whether first calls from the same noise and text are made once for all cells."""
    lanes: int | None = None
    """Batches that are made beside each other by threads of one process, which divide the cores; None is 2 on a CPU,
    1 elsewhere."""


@dataclass(frozen=True)
class ExecutionPlan:
    """Who does the work and where finished cells may come from. Decides no figure, so it names no folder."""

    executor: str = "local"
    """"local" or "ray"."""
    devices: tuple[str, ...] = ()
    """One process each: "cuda:0", "cpu" ...; one may come twice. Empty is `ModelPlan.device` in this process,
    ("all",) every GPU of the machine."""
    workers: int | None = None
    """Actors under Ray; None is one a GPU of the cluster."""
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None
    engine: EnginePlan = EnginePlan()
    address: str | None = None
    """Ray's head; None is the one of the environment, or a cluster of its own on this machine."""
    store: str | None = None
    """Folder of other runs whose whole cells are taken over; None is the one that the run's own folder lies in."""
