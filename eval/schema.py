"""The configuration's schema: what `conf/*.yaml` compose. Mutable, because OmegaConf fills it; never passed on.

Every key is explained beside its default in `conf/`, or by the frozen record of `eval.records` that it becomes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class ModelConfig:
    name: str | None = MISSING
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
    objects: str = "both"
    captions: str = "first"
    where: dict[str, str] = field(default_factory=dict)
    contains: str | None = None
    min_words: int | None = None
    max_words: int | None = None
    subset_seed: int | None = None
    duplicates: str = "keep"
    seeds_per_prompt: int = 1


@dataclass
class ReferenceConfig:
    kind: str = MISSING
    count: int = 0
    path: str | None = None
    images: str | None = None
    crop: str = "none"
    cache: str | None = None


@dataclass
class ConvergedConfig:
    sampler: str = "dpmpp_2m_karras"
    steps: int = 64
    count: int = 8


@dataclass
class MetricsConfig:
    clip: str = MISSING
    extractors: list[str] = MISSING
    scores: list[str] = MISSING
    weights: dict[str, str] = field(default_factory=dict)
    batch: int | None = None
    converged: ConvergedConfig = field(default_factory=ConvergedConfig)


@dataclass
class WindowConfig:
    score: str = MISSING
    low: float = MISSING
    high: float = MISSING
    source: str = MISSING


@dataclass
class GridConfig:
    sampler: list[str] = MISSING
    steps: list[int] = MISSING
    guidance: list[float] = MISSING
    seed: int = 0
    shared_seed: bool = False
    guidance_interval: Any = None
    precision: list[str] | None = None


@dataclass
class HardwareConfig:
    device: str = MISSING
    dtype: str = MISSING
    batch: int | str = MISSING
    timing_batch: int | None = None
    max_batch: int = MISSING
    latency_repeats: int = MISSING
    throughput_repeats: int = MISSING
    threads: int | None = None
    devices: Any = None
    noise_bound: float = MISSING
    price_per_hour: float | None = None
    currency: str = "USD"
    compile: str | None = None


@dataclass
class ExecutorConfig:
    kind: str = MISSING
    workers: int | None = None
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None
    address: str | None = None


@dataclass
class EngineConfig:
    kind: str = MISSING
    rows: int | None = None
    share_first_calls: bool = True
    lanes: int | None = None


@dataclass
class MlflowConfig:
    uri: str | None = None
    experiment: str = "sdkit"


@dataclass
class WandbConfig:
    project: str = "sdkit"
    entity: str | None = None
    mode: str = "offline"


@dataclass
class TrackingConfig:
    use: list[str] = field(default_factory=list)
    images: int = 8
    mlflow: MlflowConfig = field(default_factory=MlflowConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)


@dataclass
class RuleScoreConfig:
    weight: float = 1.0
    margin: str = MISSING


@dataclass
class GuardConfig:
    low: float | None = None
    high: float | None = None


@dataclass
class DecideConfig:
    scores: dict[str, RuleScoreConfig | None] = field(default_factory=dict)
    margin: float = 1.0
    confidence: float = 0.95
    cost: str | None = None
    use_unreliable: bool = False
    max_latency_s: float | None = None
    max_latency_p95_s: float | None = None
    max_memory_bytes: float | None = None
    min_images_per_s: float | None = None
    max_joules: float | None = None
    max_cost_per_1000: float | None = None
    max_model_evals: float | None = None
    guards: dict[str, GuardConfig] = field(default_factory=dict)


@dataclass
class SearchConfig:
    kind: str = MISSING
    first: int = 16
    growth: float = 2.0
    confidence: float = 0.95


@dataclass
class ReportConfig:
    filmstrips: int = 1
    frames: int = 8
    pictures: str = "beside"


@dataclass
class SweepConfig:
    """What `conf/sweep.yaml` composes. Mutable, because OmegaConf fills it; never passed on."""

    model: ModelConfig = field(default_factory=ModelConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    grid: GridConfig = field(default_factory=GridConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    decide: DecideConfig = field(default_factory=DecideConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    windows: list[WindowConfig] = field(default_factory=list)
    """Published ranges that scores are held against at the end."""
    out: str | None = None
    """The run's folder; None makes a name from the plan."""
    store: str | None = None
    """Folder of other runs whose whole cells are taken over; None is the one that the run's folder lies in."""
    plan: bool = False
    """True says what would be done, what is done already, and what it will take; and stops."""


@dataclass
class ScoreConfig:
    """What `conf/score.yaml` composes."""

    images: str | None = None
    """Folder of the pictures."""
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    device: str = "cpu"
    out: str | None = None


def register() -> None:
    """Make the schemas known to Hydra, under the names that the files in conf/ begin with."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    ConfigStore.instance().store(name="score_schema", node=ScoreConfig)
