"""What a sweep asks for and what it finds, as frozen records; the ground floor of `eval`.

Whatever is missing is None and has a reason beside it; nothing here is ever 0 for "not known".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

SCHEMA_VERSION = 1
"""Raised when a stored cell can no longer be read as it was written; stored with every cell."""


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
    """The prompts of a sweep, in order; prompt i is drawn with seed `GridPlan.seed + i`."""

    name: str
    texts: tuple[str, ...]

    @property
    def digest(self) -> str:
        return digest(self.texts)


@dataclass(frozen=True)
class ReferencePlan:
    """Where the reference pictures of FID come from."""

    kind: str
    """"shapes" (fresh renders of the world), "folder" (pictures below `path`) or "none"."""
    count: int
    """How many renders; for a folder, 0 takes all of it."""
    path: str | None = None


@dataclass(frozen=True)
class MetricsPlan:
    """Which encoder scores, and which one feeds FID."""

    clip: str
    """"shapes", or open_clip's "architecture/pretrained tag", or "architecture/path of a weights file"."""
    fid: str
    """"shapes-clip" or "inception"."""
    inception_weights: str | None = None
    """Local file of the TF-Inception weights; None downloads them, checked by hash."""
    batch: int = 64


@dataclass(frozen=True)
class GridPlan:
    """The axes of the sweep: every sampler with every step count and every guidance scale."""

    samplers: tuple[str, ...]
    steps: tuple[int, ...]
    guidances: tuple[float, ...]
    seed: int


@dataclass(frozen=True)
class HardwarePlan:
    """How the pictures are batched and how speed is measured."""

    batch: int
    """Pictures made together; with guidance the denoiser sees twice as many rows."""
    latency_repeats: int
    """Timed single pictures a cell, for p50 and p95; 0 measures no latency."""
    throughput_repeats: int
    """Timed batches a cell; 0 takes throughput from no measurement (None, with a reason)."""
    threads: int | None = None
    """CPU threads; None leaves torch's own number."""
    timing_batch: int | None = None
    """Pictures in a timed batch, where `batch` would take too long; None is `batch`."""


@dataclass(frozen=True)
class Plan:
    """Everything that one sweep does. Equal plans write to one folder and reuse its cells."""

    model: ModelPlan
    prompts: PromptSet
    reference: ReferencePlan
    metrics: MetricsPlan
    grid: GridPlan
    hardware: HardwarePlan
    folder: str
    """The run's folder."""


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

    @property
    def key(self) -> str:
        """Sixteen hex digits; the same for the same pixels."""
        return digest([SCHEMA_VERSION, asdict(self)])[:16]

    @property
    def label(self) -> str:
        """ "sampler · steps · guidance", for people."""
        return f"{self.sampler} · {self.steps} steps · g {self.guidance:g}"


@dataclass(frozen=True)
class Score:
    """One metric's value over the pictures of a cell, with all that tells it apart from its namesakes."""

    name: str
    """"clip_score", "fid[shapes-clip]", "fid[inception]", "judge_all" ..."""
    value: float | None
    n: int
    """Pictures it was computed from."""
    higher_is_better: bool
    identity: str
    """Encoder, weights' hash, resize, reference's hash, library versions: one readable line."""
    low: float | None = None
    """Lower end of the 95 % interval of `value`, where one is known."""
    high: float | None = None
    reason: str | None = None
    """Why `value` is None, or why there is no interval."""


@dataclass(frozen=True)
class Timing:
    """Measured apart from the pictures that are scored, after a warm-up at the same step count."""

    batch: int
    batch_samples_s: tuple[float, ...]
    """Raw seconds of each timed batch, text encoding left out, decoding included."""
    latency_samples_s: tuple[float, ...]
    """Raw seconds of each timed single picture, likewise."""
    images_per_s: float | None
    """`batch` over the median of `batch_samples_s`."""
    latency_p50_s: float | None
    latency_p95_s: float | None
    denoise_s: float | None
    """Seconds a picture at the batch, median."""
    decode_s: float | None
    text_s: float | None
    """Seconds to encode the prompt set once, over its number of prompts."""
    reason: str | None = None
    """Why figures are None."""


@dataclass(frozen=True)
class Memory:
    """Peaks in bytes, in a pass of their own on a GPU; None where the device does not tell."""

    gpu_allocated_bytes: int | None
    gpu_reserved_bytes: int | None
    process_peak_rss_bytes: int | None
    """Peak resident memory of the whole process so far; never a GPU's figure."""
    reason: str | None = None


@dataclass(frozen=True)
class CellResult:
    """What became of a cell: its scores and costs, or its error."""

    cell: Cell
    device: str
    """The device's own name, e.g. "NVIDIA H200" or the CPU's model name."""
    model_evals: int | None
    """Denoiser calls a picture, guidance not doubled: Heun's 2N-1, PLMS's N+1."""
    scores: tuple[Score, ...] = ()
    timing: Timing | None = None
    memory: Memory | None = None
    generate_s: float | None = None
    """Wall seconds of generating the scored pictures."""
    error: str | None = None
    """Why the cell has no scores, as the user should read it."""
    reused: bool = field(default=False, compare=False)
    """True when this run read the cell from disk; never stored as true."""

    def score(self, name: str) -> Score | None:
        return next((score for score in self.scores if score.name == name), None)


@dataclass(frozen=True)
class ImageRow:
    """One picture of one cell: what was asked, where it lies, and what it scored."""

    cell_key: str
    index: int
    seed: int
    prompt: str
    path: str
    """Relative to the run's folder; never derived from the prompt."""
    clip_score: float | None
    judge: dict[str, bool] | None = None
    """Attribute -> right; on `shapes` only."""


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


def digest(value: object) -> str:
    """SHA-256 of the value as canonical JSON, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
