"""The configuration's schema, and its one conversion to a frozen Plan; below this room no DictConfig lives.

Everything that can be known to be wrong without loading a weight is said here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf

from eval.records import (
    GridPlan,
    HardwarePlan,
    MetricsPlan,
    ModelPlan,
    Plan,
    PromptSet,
    ReferencePlan,
    digest,
)
from sdkit._checks import MAX_BATCH, MAX_SEED, check_guidance, check_prompts, check_range, check_side
from sdkit._errors import InvalidRequest
from sdkit._sampler_names import find_sampler

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
DTYPES = ("float32", "float16", "bfloat16")
PROMPT_KINDS = ("shapes", "file")
T = TypeVar("T")


@dataclass
class ModelConfig:
    name: str = MISSING
    source: str | None = None
    width: int | None = None
    height: int | None = None
    negative_prompt: str = ""


@dataclass
class PromptsConfig:
    name: str = MISSING
    kind: str = MISSING
    count: int | None = None
    path: str | None = None
    column: str | None = None
    split: str = "held_out"


@dataclass
class ReferenceConfig:
    kind: str = MISSING
    count: int = 0
    path: str | None = None


@dataclass
class MetricsConfig:
    clip: str = MISSING
    fid: str = MISSING
    inception_weights: str | None = None
    batch: int = 64


@dataclass
class GridConfig:
    sampler: list[str] = MISSING
    steps: list[int] = MISSING
    guidance: list[float] = MISSING
    seed: int = 0


@dataclass
class HardwareConfig:
    device: str = MISSING
    dtype: str = MISSING
    batch: int = MISSING
    timing_batch: int | None = None
    latency_repeats: int = MISSING
    throughput_repeats: int = MISSING
    threads: int | None = None


@dataclass
class SweepConfig:
    """What `conf/sweep.yaml` composes. Mutable, because OmegaConf fills it; never passed on."""

    model: ModelConfig = field(default_factory=ModelConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    grid: GridConfig = field(default_factory=GridConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    out: str | None = None
    """The run's folder; None makes a name from the plan."""


def register() -> None:
    """Make the schema known to Hydra, under the name that `conf/sweep.yaml` begins with."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)


def to_plan(composed: DictConfig) -> Plan:
    """The plan that a composed configuration asks for.

    Raises:
        InvalidRequest: a value is out of its range, or something that it names does not exist.
    """
    config: Any = OmegaConf.to_object(composed)
    if not isinstance(config, SweepConfig):
        raise InvalidRequest(
            f"the configuration must be made by conf/sweep.yaml, got {type(config).__name__}"
        )
    grid = _grid(config.grid)
    plan = Plan(
        model=_model(config.model, config.hardware),
        prompts=_prompts(config.prompts),
        reference=_reference(config.reference),
        metrics=_metrics(config.metrics),
        grid=grid,
        hardware=_hardware(config.hardware),
        folder="",
    )
    check_range("grid.seed", grid.seed, 0, MAX_SEED - 2 * len(plan.prompts.texts))
    folder = config.out or str(ROOT / "reports" / _folder_name(plan))
    return replace(plan, folder=str(Path(folder).expanduser()))


def to_yaml(composed: DictConfig) -> str:
    """The resolved configuration, as the run's folder keeps it."""
    return OmegaConf.to_yaml(composed, resolve=True)


def _model(model: ModelConfig, hardware: HardwareConfig) -> ModelPlan:
    if not model.source:
        raise InvalidRequest(
            "model.source must be a folder or a hub id, got nothing; give model.source=FOLDER"
        )
    if hardware.dtype not in DTYPES:
        raise InvalidRequest(f"hardware.dtype must be one of {', '.join(DTYPES)}, got {hardware.dtype!r}")
    return ModelPlan(
        name=model.name,
        source=model.source,
        device=hardware.device,
        dtype=hardware.dtype,
        width=None if model.width is None else check_side("model.width", model.width),
        height=None if model.height is None else check_side("model.height", model.height),
        negative_prompt=model.negative_prompt,
    )


def _prompts(prompts: PromptsConfig) -> PromptSet:
    from eval.scoring.prompts import file_prompts, shapes_prompts

    _one_of("prompts.kind", prompts.kind, PROMPT_KINDS)
    if prompts.kind == "shapes":
        if prompts.count is None:
            raise InvalidRequest("prompts.count must be a number for prompts=shapes, got nothing")
        found = shapes_prompts(prompts.name, prompts.count, split=prompts.split)
    elif prompts.path is None:
        raise InvalidRequest(f"prompts.path must be a file for prompts={prompts.name}, got nothing")
    else:
        found = file_prompts(prompts.name, prompts.path, column=prompts.column, count=prompts.count)
    check_prompts(found.texts)
    return found


def _reference(reference: ReferenceConfig) -> ReferencePlan:
    from eval.scoring.references import KINDS, reference_files

    _one_of("reference.kind", reference.kind, KINDS)
    plan = ReferencePlan(reference.kind, reference.count, reference.path)
    if plan.kind == "shapes":
        check_range("reference.count", plan.count, 2, 50_000)
    if plan.kind == "folder":
        check_range("reference.count", plan.count, 0, 10_000_000)
        reference_files(plan)
    return plan


def _metrics(metrics: MetricsConfig) -> MetricsPlan:
    from eval.scoring.scorer import EXTRACTORS

    _one_of("metrics.fid", metrics.fid, EXTRACTORS)
    batch = check_range("metrics.batch", metrics.batch, 1, MAX_BATCH)
    return MetricsPlan(metrics.clip, metrics.fid, metrics.inception_weights, batch)


def _grid(grid: GridConfig) -> GridPlan:
    found = [find_sampler(name) for name in _filled("grid.sampler", grid.sampler)]
    steps = list(dict.fromkeys(_filled("grid.steps", grid.steps)))
    guidances = [check_guidance(scale) for scale in _filled("grid.guidance", grid.guidance)]
    for sampler in found:
        for count in steps:
            sampler.check_steps(count)
    return GridPlan(
        samplers=tuple(dict.fromkeys(sampler.name for sampler in found)),
        steps=tuple(steps),
        guidances=tuple(dict.fromkeys(guidances)),
        seed=grid.seed,
    )


def _hardware(hardware: HardwareConfig) -> HardwarePlan:
    def positive(name: str, value: int | None) -> int | None:
        return None if value is None else check_range(f"hardware.{name}", value, 1, MAX_BATCH)

    return HardwarePlan(
        batch=check_range("hardware.batch", hardware.batch, 1, MAX_BATCH),
        latency_repeats=check_range("hardware.latency_repeats", hardware.latency_repeats, 0, 10_000),
        throughput_repeats=check_range("hardware.throughput_repeats", hardware.throughput_repeats, 0, 10_000),
        threads=positive("threads", hardware.threads),
        timing_batch=positive("timing_batch", hardware.timing_batch),
    )


def _folder_name(plan: Plan) -> str:
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", plan.model.name).strip("-.") or "model"
    return f"{safe}-{digest(asdict(plan))[:8]}"


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidRequest(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _filled(name: str, values: Sequence[T]) -> Sequence[T]:
    if not values:
        raise InvalidRequest(f"{name} must hold at least one value, got []; for example {name}=[...]")
    return values
