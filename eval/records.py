"""What a sweep asks for and what it finds, as frozen records; the ground floor of `eval`.

Whatever is missing is None and has a reason beside it; nothing here is ever 0 for "not known".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property

from eval.accelerations import Interval, Point, accelerated, counted, grid_points, series_text
from eval.decide_plan import DecidePlan
from eval.execution_plan import ExecutionPlan
from eval.hardware_plan import HardwarePlan
from eval.identity import Score
from eval.measured import Measured, Memory, Timing
from eval.search_plan import Drop, RaceRecord, SearchPlan

SCHEMA_VERSION = 3
"""Raised when a stored cell can no longer be read as it was written; stored with every cell."""
PIXELS_VERSION = 2
"""Raised when the same cell would have other pixels: a part of its key."""


@dataclass(frozen=True)
class ModelPlan:
    """Which model makes the pictures, and how it is run."""

    name: str
    """Label in tables; "shapes", "sd15", "sdxl" or the user's own."""
    source: str
    """What `sdkit.Session(model=...)` takes: "shapes", a folder, or a hub id."""
    device: str
    """"cpu", "cuda", "cuda:0" ..."""
    dtype: str
    """"float32", "float16" or "bfloat16"."""
    width: int | None = None
    """Pixels; None is the model's own size."""
    height: int | None = None
    negative_prompt: str = ""


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a sweep, in order, each drawn `seeds_per_prompt` times.

    Picture i belongs to `rows[i]`; its seed is `GridPlan.seed + i`, or `GridPlan.seed` where all share one.
    """

    name: str
    texts: tuple[str, ...]
    """As they were loaded; the same text may stand there twice."""
    seeds_per_prompt: int = 1
    notes: tuple[str, ...] = ()
    """What was odd about the source, each a sentence with its count: duplicates, empty lines."""

    @property
    def rows(self) -> tuple[str, ...]:
        """One prompt a picture: all pictures of a prompt stand together."""
        return tuple(text for text in self.texts for _ in range(self.seeds_per_prompt))

    @property
    def digest(self) -> str:
        """The manifest's hash: over the texts, their order and the seeds a prompt; not over the name."""
        return digest([self.texts, self.seeds_per_prompt])


@dataclass(frozen=True)
class ReferencePlan:
    """Where the reference pictures of FID and its relatives come from."""

    kind: str
    """"shapes" (fresh renders of the world), "folder" (pictures below `path`), "list" (a text file of paths),
    "coco" (the images that an annotations file names), "moments" (an .npz) or "none"."""
    count: int
    """How many pictures, the first ones; 0 takes all. For "shapes", how many renders."""
    path: str | None = None
    """Folder, list file, annotations file or .npz, by kind."""
    images: str | None = None
    """For "coco": the folder with the images."""
    crop: str = "none"
    """"none" or "centre": the largest centred square, before an encoder resizes."""
    cache: str | None = None
    """Folder of kept moments and features; None is the user's cache folder."""


@dataclass(frozen=True)
class ConvergedPlan:
    """The picture that a cell's own is measured against: the same seed, many steps of a deterministic solver."""

    sampler: str
    steps: int
    count: int
    """How many of the first pictures are measured so; 0 measures none."""


@dataclass(frozen=True)
class MetricsPlan:
    """Which encoder reads captions, which ones feed FID and its relatives, and which scores are computed."""

    clip: str
    """"shapes", a folder, or open_clip's "architecture/tag" or "architecture/weights file"."""
    extractors: tuple[str, ...]
    """"shapes-clip", "inception", "inception-pytorch-fid", "dinov2-vit-l-14" ..."""
    scores: tuple[str, ...]
    """Names from `eval.scoring.catalogue`, in the order in which they are reported."""
    weights: dict[str, str] = field(default_factory=dict)
    """Extractor -> local weights file; what is not named is downloaded, checked by hash."""
    batch: int | None = None
    """Pictures encoded together; None finds a batch by trying."""
    converged: ConvergedPlan | None = None


@dataclass(frozen=True)
class GridPlan:
    """The axes of the sweep: every sampler with every step count, every guidance scale, and so on."""

    samplers: tuple[str, ...]
    steps: tuple[int, ...]
    guidances: tuple[float, ...]
    seed: int
    shared_seed: bool = False
    """True draws every picture from one seed, and so from one first noise, as MLPerf does."""
    guidance_intervals: tuple[Interval | None, ...] = ()
    """Noise levels at which guidance is applied, None for all of them; empty is no axis, and so None alone."""
    precisions: tuple[str, ...] = ()
    """Of `eval.accelerations.PRECISIONS`; empty is no axis: `ModelPlan.dtype`."""

    @property
    def points(self) -> tuple[Point, ...]:
        """Every setting, in the order of the cells."""
        return grid_points(
            self.samplers, self.steps, self.guidances, self.guidance_intervals, self.precisions
        )

    @property
    def series(self) -> tuple[str, ...]:
        """What figures draw a line each of: the samplers, and what they are accelerated by."""
        return tuple(dict.fromkeys(point.series for point in self.points))


@dataclass(frozen=True)
class Window:
    """A published range that a score is held against."""

    score: str
    """"clip_score", "fid[inception-pytorch-fid]" ..."""
    low: float
    high: float
    source: str
    """Who published it, and where."""


@dataclass(frozen=True)
class MlflowPlan:
    """Where MLflow keeps what it is told."""

    uri: str | None = None
    """None is MLFLOW_TRACKING_URI, and without that a file in the run's folder."""
    experiment: str = "sdkit"


@dataclass(frozen=True)
class WandbPlan:
    """Where Weights & Biases keeps what it is told."""

    project: str = "sdkit"
    entity: str | None = None
    """None is the account's own."""
    mode: str = "offline"
    """"offline" writes into the run's folder; "online" sends."""


@dataclass(frozen=True)
class TrackingPlan:
    """Which trackers hear of the run; it changes no result, and so no folder's name."""

    use: tuple[str, ...] = ()
    """Of "mlflow", "wandb" and "tensorboard"."""
    images: int = 8
    """How many of a cell's first pictures are logged."""
    mlflow: MlflowPlan = MlflowPlan()
    wandb: WandbPlan = WandbPlan()


@dataclass(frozen=True)
class ReportPlan:
    """What the report shows besides figures; it changes no result, and so no folder's name."""

    filmstrips: int = 1
    """How many of a cell's first pictures are drawn once more, stage by stage; 0 makes no filmstrip."""
    frames: int = 8
    """Stages of a filmstrip, from pure noise to the picture; fewer where the denoiser is called less often."""
    pictures: str = "beside"
    """"beside" the page in a folder, "embedded" in it, or "none"."""


@dataclass(frozen=True)
class Plan:
    """Everything that one sweep does. Plans that differ by trackers, report or search alone share a folder."""

    model: ModelPlan
    prompts: PromptSet
    reference: ReferencePlan
    metrics: MetricsPlan
    grid: GridPlan
    hardware: HardwarePlan
    folder: str
    """The run's folder."""
    windows: tuple[Window, ...] = ()
    tracking: TrackingPlan = TrackingPlan()
    execution: ExecutionPlan = field(default_factory=ExecutionPlan)
    decide: DecidePlan = field(default_factory=DecidePlan)
    report: ReportPlan = ReportPlan()
    search: SearchPlan = field(default_factory=SearchPlan)

    @property
    def asked(self) -> dict[str, object]:
        """All that decides a figure, as plain values: what names the run's folder."""
        found = asdict(self)
        for own in ("decide", "execution", "tracking", "report", "search", "folder"):
            del found[own]
        return found | {"grid": counted(asdict(self.grid)), "hardware": self.hardware.asked}


@dataclass(frozen=True)
class Cell:
    """One point of the grid with all that decides its pixels; `key` names its folder."""

    model_fingerprint: str
    """Hash of the model's contents, not of its path."""
    sampler: str
    steps: int
    guidance: float
    prompts_digest: str
    count: int
    seed: int
    width: int
    height: int
    dtype: str
    device_type: str
    negative_prompt: str = ""
    shared_seed: bool = False
    guidance_interval: Interval | None = None
    """Noise levels at which guidance is applied; None is all of them."""
    precision: str | None = None
    """Its value on the grid's axis, which `dtype` then follows; None where there is no such axis."""

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits; the same for the same pixels."""
        return digest([PIXELS_VERSION, self.asked])[:16]

    @property
    def asked(self) -> dict[str, object]:
        """The fields by name, for hashes: an acceleration counts where there is one, so that older keys stay."""
        return counted(asdict(self))

    def seeds(self, start: int, stop: int) -> tuple[int, ...]:
        """Seeds of the pictures `start`..`stop - 1`: one each, or the one that all share."""
        return (
            (self.seed,) * (stop - start)
            if self.shared_seed
            else tuple(range(self.seed + start, self.seed + stop))
        )

    @property
    def series(self) -> str:
        """What one line of a figure belongs to: the sampler, and what it is accelerated by."""
        return series_text(self.sampler, self.guidance_interval, self.precision)

    @property
    def label(self) -> str:
        """ "sampler · steps · guidance", for people, and whatever accelerates it."""
        plain = f"{self.sampler} · {self.steps} steps · g {self.guidance:g}"
        return plain + accelerated(self.guidance_interval, self.precision)


@dataclass(frozen=True)
class CellResult:
    """What became of a cell: its scores and costs, or its error."""

    cell: Cell
    device: str
    """The device's own name, e.g. "NVIDIA H200" or the CPU's."""
    model_evals: int | None
    """Denoiser calls a picture, guidance not doubled: Heun's 2N-1, PLMS's N+1."""
    scores: tuple[Score, ...] = ()
    measured: Measured | None = None
    """Time, memory, energy and money; None where the cell failed."""
    generate_s: float | None = None
    """Seconds that the batches of the scored pictures took, added up; lanes and workers make some beside each other."""
    error: str | None = None
    """Why the cell has no scores, as the user should read it."""
    reused: bool = field(default=False, compare=False)
    """True when this run read the cell from disk; never stored as true."""

    @property
    def timing(self) -> Timing | None:
        return self.measured.timing if self.measured else None

    @property
    def memory(self) -> Memory | None:
        return self.measured.memory if self.measured else None

    def score(self, name: str) -> Score | None:
        return next((score for score in self.scores if score.name == name), None)


@dataclass(frozen=True)
class ImageRow:
    """One picture of one cell: what was asked, where it lies, and what it scored."""

    cell_key: str
    index: int
    seed: int | None
    """None for a picture from elsewhere, whose seed nobody knows."""
    prompt: str
    path: str
    """Relative to the run's folder; never derived from the prompt."""
    values: dict[str, float] = field(default_factory=dict)
    """Its part in each score that is a mean over pictures: "clip_score", "saturation", "kid[shapes-clip]" ..."""
    judge: dict[str, bool] | None = None
    """Attribute -> right; on `shapes` only."""

    @property
    def clip_score(self) -> float | None:
        return self.values.get("clip_score")


@dataclass(frozen=True)
class Run:
    """A run's folder, read back: what was asked, and whatever is whole of what was found."""

    plan: Plan
    results: tuple[CellResult, ...]
    """In the grid's order; a cell that is not on disk is left out."""
    images: dict[str, tuple[ImageRow, ...]]
    """Cell key -> its pictures, in the prompts' order; a failed cell has none."""
    environment: dict[str, str]
    """Python, platform, CPU, GPUs, package versions, git commit: label -> value."""
    config_yaml: str
    """The resolved configuration, as it was run."""
    plans: dict[str, Plan] = field(default_factory=dict)
    """Of the runs that this one was merged from, by their names; empty for one as it was run."""
    notes: tuple[str, ...] = ()
    """What must be known before cells of different runs are compared, each a sentence."""
    planned: int | None = None
    """How many cells were asked for; None where the plan's grid tells."""
    race: RaceRecord | None = None
    """None where cells were not raced."""

    @property
    def dropped(self) -> tuple[Drop, ...]:
        """What left the race, in that order, but for cells that have a result all the same."""
        whole = {result.cell.key for result in self.results}
        return tuple(drop for drop in (self.race.dropped if self.race else ()) if drop.key not in whole)


def digest(value: object) -> str:
    """SHA-256 of the value as canonical JSON, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
