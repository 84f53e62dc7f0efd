"""The one conversion of a composed configuration to a frozen Plan; below this room no DictConfig lives.

Everything that can be known to be wrong without loading a weight is said here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from eval.accelerations import PRECISIONS, Interval
from eval.deciding import to_decide, to_report
from eval.execution_plan import EnginePlan, ExecutionPlan
from eval.hardware_plan import HardwarePlan
from eval.records import (
    ConvergedPlan,
    GridPlan,
    MetricsPlan,
    ModelPlan,
    Plan,
    PromptSet,
    ReferencePlan,
    Window,
    digest,
)
from eval.schema import (
    ConvergedConfig,
    EngineConfig,
    GridConfig,
    HardwareConfig,
    MetricsConfig,
    ModelConfig,
    PromptsConfig,
    ReferenceConfig,
    ScoreConfig,
    SweepConfig,
    WindowConfig,
)
from eval.searching import to_search
from eval.tracking.options import to_tracking
from sdkit._checks import MAX_BATCH, MAX_SEED, check_guidance, check_prompts, check_range, check_side
from sdkit._compile import pick_mode
from sdkit._errors import InvalidRequest
from sdkit._guidance import check_interval
from sdkit._sampler_names import find_sampler

if TYPE_CHECKING:
    from eval.scoring.prompts import PromptSource

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
DTYPES = ("float32", "float16", "bfloat16")
AUTO_BATCH = 16
"""Pictures made together where `hardware.batch=auto`: the search is a cell's own, and comes after its pictures."""
PROMPT_KINDS = ("shapes", "file")
EXECUTORS = ("local", "ray")
ENGINES = ("shared", "percell")
CONVERGED_SCORES = {"latent_rmse", "ssim"}
T = TypeVar("T")


@dataclass(frozen=True)
class ScorePlan:
    """Everything that one scoring of pictures does."""

    images: str
    source: PromptSource
    reference: ReferencePlan
    metrics: MetricsPlan
    device: str
    folder: str


def to_score_plan(composed: DictConfig) -> ScorePlan:
    """The plan of `python eval/score.py`. Raises InvalidRequest as `to_plan`."""
    config: Any = OmegaConf.to_object(composed)
    if not isinstance(config, ScoreConfig):
        raise InvalidRequest(
            f"the configuration must be made by conf/score.yaml, got {type(config).__name__}"
        )
    if not config.images:
        raise InvalidRequest("images must be a folder of pictures, got nothing; give images=DIR")
    if config.prompts.kind != "file":
        raise InvalidRequest(
            f"prompts must be a file for score.py, got the kind {config.prompts.kind!r}; prompts=FILE"
        )
    source, reference = to_source(config.prompts), to_reference(config.reference)
    metrics = replace(to_metrics(config.metrics), converged=None)
    asked = digest([config.images, asdict(source), asdict(reference), asdict(metrics)])[:8]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(config.images).name).strip("-.") or "pictures"
    folder = config.out or str(ROOT / "reports" / f"scores-{name}-{asked}")
    return ScorePlan(config.images, source, reference, metrics, config.device, str(Path(folder).expanduser()))


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
    grid, metrics, decide = _grid(config.grid), to_metrics(config.metrics), to_decide(config.decide)
    plan = Plan(
        model=_model(config.model, config.hardware),
        prompts=to_prompts(config.prompts),
        reference=to_reference(config.reference),
        metrics=metrics,
        grid=grid,
        hardware=_hardware(config.hardware),
        folder="",
        windows=tuple(_window(each) for each in config.windows),
        execution=_execution(config),
        tracking=to_tracking(config.tracking),
        decide=decide,
        report=to_report(config.report),
        search=to_search(config.search, decide, metrics.scores),
    )
    # Timed pictures have the seeds after the scored ones.
    check_range("grid.seed", grid.seed, 0, MAX_SEED - len(plan.prompts.rows) - MAX_BATCH)
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
        name=model.name or Path(model.source).name or Path(model.source).resolve().name,
        source=model.source,
        device=hardware.device,
        dtype=hardware.dtype,
        width=None if model.width is None else check_side("model.width", model.width),
        height=None if model.height is None else check_side("model.height", model.height),
        negative_prompt=model.negative_prompt,
    )


def to_prompts(prompts: PromptsConfig) -> PromptSet:
    """The prompts that the configuration asks for. Raises InvalidRequest as `to_plan`."""
    from eval.scoring.prompts import load_prompts, shapes_prompts

    _one_of("prompts.kind", prompts.kind, PROMPT_KINDS)
    check_range("prompts.seeds_per_prompt", prompts.seeds_per_prompt, 1, MAX_BATCH)
    if prompts.kind == "shapes":
        if prompts.count is None:
            raise InvalidRequest("prompts.count must be a number for prompts=shapes, got nothing")
        found = shapes_prompts(
            prompts.name,
            prompts.count,
            split=prompts.split,
            objects=prompts.objects,
            seeds_per_prompt=prompts.seeds_per_prompt,
        )
    else:
        found = load_prompts(to_source(prompts))
    check_prompts(found.texts)
    return found


def to_source(prompts: PromptsConfig) -> PromptSource:
    """The prompts file that the configuration names, with its filters. Raises InvalidRequest without a path."""
    from eval.scoring.prompts import PromptSource

    if prompts.path is None:
        raise InvalidRequest(f"prompts.path must be a file for prompts={prompts.name}, got nothing")
    return PromptSource(
        name=prompts.name,
        path=prompts.path,
        column=prompts.column,
        count=prompts.count,
        subset_seed=prompts.subset_seed,
        where=dict(prompts.where),
        min_words=prompts.min_words,
        max_words=prompts.max_words,
        contains=prompts.contains,
        duplicates=prompts.duplicates,
        seeds_per_prompt=prompts.seeds_per_prompt,
        captions=prompts.captions,
    )


def to_reference(reference: ReferenceConfig) -> ReferencePlan:
    """Where the reference comes from, checked as far as no picture must be read. Raises as `to_plan`."""
    from eval.scoring.references import KINDS, check_reference

    _one_of("reference.kind", reference.kind, KINDS)
    plan = ReferencePlan(
        reference.kind,
        reference.count,
        reference.path,
        reference.images,
        reference.crop,
        reference.cache,
    )
    check_reference(plan)
    return plan


def to_metrics(metrics: MetricsConfig) -> MetricsPlan:
    """Which scores are computed, and by what. Raises as `to_plan`."""
    from eval.scoring.catalogue import metric
    from eval.scoring.extractors import EXTRACTORS

    for name in _filled("metrics.extractors", metrics.extractors):
        _one_of("metrics.extractors", name, EXTRACTORS)
    for name in metrics.weights:
        _one_of("metrics.weights", name, EXTRACTORS)
    batch = None if metrics.batch is None else check_range("metrics.batch", metrics.batch, 1, MAX_BATCH)
    scores = tuple(dict.fromkeys(metric(name).name for name in _filled("metrics.scores", metrics.scores)))
    converged = _converged(metrics.converged) if set(scores) & CONVERGED_SCORES else None
    extractors = tuple(dict.fromkeys(metrics.extractors))
    return MetricsPlan(metrics.clip, extractors, scores, dict(metrics.weights), batch, converged)


def _converged(converged: ConvergedConfig) -> ConvergedPlan:
    sampler = find_sampler(converged.sampler)
    if sampler.stochastic:
        raise InvalidRequest(
            f"metrics.converged.sampler must be deterministic, got {converged.sampler!r}; for example dpmpp_2m_karras"
        )
    check_range("metrics.converged.count", converged.count, 0, MAX_BATCH)
    return ConvergedPlan(sampler.name, sampler.check_steps(converged.steps), converged.count)


def _window(window: WindowConfig) -> Window:
    if not window.low < window.high:
        raise InvalidRequest(
            f"windows of {window.score} must have low < high, got {window.low}, {window.high}"
        )
    return Window(window.score, window.low, window.high, window.source)


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
        shared_seed=grid.shared_seed,
        guidance_intervals=_intervals(grid.guidance_interval, guidances),
        precisions=_precisions(grid.precision),
    )


def _intervals(given: object, guidances: Sequence[float]) -> tuple[Interval | None, ...]:
    """The axis of noise levels; () without one."""
    if given is None:
        return ()
    name = "grid.guidance_interval"
    if not isinstance(given, list) or not given:
        raise InvalidRequest(
            f"{name} must be a list of [low, high] and null, got {given!r}; for example {name}=[null,[0.3,5]]"
        )
    found = [None if each is None else check_interval(each, name) for each in given]
    if max(guidances) <= 1 and any(found):
        raise InvalidRequest(f"{name} must come with a guidance scale above 1, got grid.guidance=[1] alone")
    return tuple(dict.fromkeys(found))


def _precisions(given: Sequence[str] | None) -> tuple[str, ...]:
    """The axis of precisions; () without one."""
    if given is None:
        return ()
    for name in _filled("grid.precision", given):
        _one_of("grid.precision", name, PRECISIONS)
    return tuple(dict.fromkeys(given))


def _hardware(hardware: HardwareConfig) -> HardwarePlan:
    def positive(name: str, value: int | None) -> int | None:
        return None if value is None else check_range(f"hardware.{name}", value, 1, MAX_BATCH)

    auto = hardware.batch == "auto"
    if isinstance(hardware.batch, str) and not auto:
        raise InvalidRequest(
            f'hardware.batch must be a number or "auto", got {hardware.batch!r}; for example hardware.batch=16'
        )
    most = check_range("hardware.max_batch", hardware.max_batch, 1, MAX_BATCH)
    return HardwarePlan(
        batch=min(AUTO_BATCH, most) if auto else check_range("hardware.batch", hardware.batch, 1, MAX_BATCH),
        latency_repeats=check_range("hardware.latency_repeats", hardware.latency_repeats, 0, 10_000),
        throughput_repeats=check_range("hardware.throughput_repeats", hardware.throughput_repeats, 0, 10_000),
        threads=positive("threads", hardware.threads),
        timing_batch=None if auto else positive("timing_batch", hardware.timing_batch),
        search_batch=auto,
        max_batch=most,
        noise_bound=_above_zero("hardware.noise_bound", hardware.noise_bound),
        price_per_hour=(
            None
            if hardware.price_per_hour is None
            else _above_zero("hardware.price_per_hour", hardware.price_per_hour)
        ),
        currency=hardware.currency,
        compile=_compile(hardware.compile, hardware.device),
    )


def _compile(name: str | None, device: str) -> str | None:
    """The mode, where this device and machine can do it; None leaves it to the session."""
    if name is not None:
        pick_mode(name, device.partition(":")[0], "auto")
    return name


def _above_zero(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise InvalidRequest(f"{name} must be a finite number above 0, got {value}")
    return value


def _folder_name(plan: Plan) -> str:
    """Of the model's name and the plan's digest. Who hears of the run changes nothing in it."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", plan.model.name).strip("-.") or "model"
    return f"{safe}-{digest(plan.asked)[:8]}"


def _execution(config: SweepConfig) -> ExecutionPlan:
    executor = config.executor
    _one_of("executor.kind", executor.kind, EXECUTORS)
    if executor.workers is not None:
        check_range("executor.workers", executor.workers, 1, MAX_BATCH)
    given = config.hardware.devices
    devices = [given] if isinstance(given, str) else given
    if devices is not None and (
        not isinstance(devices, list) or not devices or not all(isinstance(each, str) for each in devices)
    ):
        raise InvalidRequest(
            f"hardware.devices must be a list such as [cuda:0,cuda:1], or all, got {given!r}"
        )
    if devices and executor.kind == "ray":
        raise InvalidRequest(
            "hardware.devices is for executor=local; Ray gives each worker its own: executor.workers, "
            "executor.gpus_per_worker"
        )
    return ExecutionPlan(
        executor=executor.kind,
        devices=tuple(devices or ()),
        workers=executor.workers,
        cpus_per_worker=executor.cpus_per_worker,
        gpus_per_worker=executor.gpus_per_worker,
        address=executor.address,
        store=config.store,
        engine=_engine(config.engine),
    )


def _engine(config: EngineConfig) -> EnginePlan:
    _one_of("engine.kind", config.kind, ENGINES)
    if config.rows is not None:
        check_range("engine.rows", config.rows, 1, 2 * MAX_BATCH)
    if config.lanes is not None:
        check_range("engine.lanes", config.lanes, 1, MAX_BATCH)
    return EnginePlan(config.kind, config.rows, config.share_first_calls, config.lanes)


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidRequest(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _filled(name: str, values: Sequence[T]) -> Sequence[T]:
    if not values:
        raise InvalidRequest(f"{name} must hold at least one value, got []; for example {name}=[...]")
    return values
