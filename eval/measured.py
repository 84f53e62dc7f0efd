"""What a cell costs in time, memory, energy and money, as frozen records.

A figure that is None has its field's name and the cause in the record's `reason`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


def because(reasons: Mapping[str, str | None]) -> str | None:
    """Why figures are missing, as `one, other: why; third: why`; None where nothing is."""
    grouped: dict[str, list[str]] = {}
    for what, why in reasons.items():
        if why:
            grouped.setdefault(why, []).append(what)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in grouped.items()) or None


@dataclass(frozen=True)
class Timing:
    """Measured apart from the pictures that are scored, after a warm-up at the same step count.

    A sample runs from the prompts' text to pixels in the host's memory.
    """

    batch: int
    """Pictures in a timed batch: the configured number, or the best one that was found."""
    batch_samples_s: tuple[float, ...]
    """Raw seconds of each timed batch, in order."""
    latency_samples_s: tuple[float, ...]
    """Raw seconds of each timed single picture, in order."""
    images_per_s: float | None
    """`batch` over the median of `batch_samples_s`."""
    latency_p50_s: float | None
    """As all percentiles None where fewer than 1 / (1 - q) samples carry it: 2 for p50, 20 for p95, 100 for p99."""
    latency_p95_s: float | None
    denoise_s: float | None
    """Seconds a picture at the batch, in the middle one of the timed batches: text, denoise, decode and rest
    add up to 1 / `images_per_s`."""
    decode_s: float | None
    text_s: float | None
    reason: str | None = None
    latency_p99_s: float | None = None
    rest_s: float | None = None
    """What is none of the three: schedules, checks, copies between the stages."""
    evals_per_s: float | None = None
    """Denoiser evaluations of single pictures a second of denoising: batch x evaluations / its seconds. Guidance
    is not doubled."""
    cold_s: float | None = None
    """Seconds of the process's first picture with this model, size and device, alone, before any other; told by
    the cell that made it."""
    throughput_spread: float | None = None
    """Interquartile range of the batch samples over their median."""
    latency_spread: float | None = None
    """The same of the single pictures."""
    throughput_unreliable: str | None = None
    """Why throughput, stages and energy must not be relied on; None where they may."""
    latency_unreliable: str | None = None


@dataclass(frozen=True)
class Memory:
    """Peaks in bytes over one batch, in a pass of its own that is not timed."""

    gpu_allocated_bytes: int | None
    """By torch's allocator, tensors only; the scorer's weights and other precisions' are taken off."""
    gpu_reserved_bytes: int | None
    """By torch's allocator, with what it keeps for later; the scorer's weights and other precisions' are taken off."""
    process_peak_rss_bytes: int | None
    """Peak resident memory of the process during the pass, what it held before included; never a GPU's figure."""
    reason: str | None = None
    gpu_driver_bytes: int | None = None
    """In use on the whole GPU as its driver says: contexts, libraries and other processes included."""
    batch: int | None = None
    """Pictures in the pass."""
    unreliable: str | None = None
    """Why the driver's figure, or the process's, must not be relied on; None where they may."""


@dataclass(frozen=True)
class Conditions:
    """The state of the machine while the batches were timed."""

    watched_s: float | None
    gpu_utilisation: float | None
    """Mean share of the time in which a kernel ran, 0..1, as NVML samples it."""
    sm_clock_mhz: float | None
    """Median."""
    memory_clock_mhz: float | None
    """Median."""
    temperature_c: float | None
    """Highest."""
    throttle: tuple[str, ...] | None
    """What held the clocks down, in words; empty where nothing did."""
    other_processes: int | None
    """Most other processes that computed on the GPU at once."""
    other_cpu_share: float | None
    """Share of the cores' time that other processes took, 0..1."""
    cpu: str
    """The processor's name."""
    cores: int
    """Logical ones that this process may use."""
    threads: int
    """torch's own within an operation."""
    reason: str | None = None


@dataclass(frozen=True)
class Energy:
    """What the GPU drew while the batches were timed, by its own counter; never the whole machine's."""

    joules: float | None
    images: int | None
    joules_per_image: float | None
    mean_power_w: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Compute:
    """Arithmetic that a picture takes, and the share of the device's peak that this is."""

    flops_per_image: int | None
    """Matrix products, convolutions and attention of one whole call with one picture, a multiply-add as two."""
    peak_flops_per_s: float | None
    """The device's published dense peak for the number format."""
    mfu: float | None
    """flops_per_image x images_per_s / peak, 0..1."""
    peak_source: str | None
    reason: str | None = None


@dataclass(frozen=True)
class Price:
    """What pictures cost at the measured throughput, the device fully used."""

    per_1000_images: float | None
    currency: str
    reason: str | None = None


@dataclass(frozen=True)
class CurvePoint:
    """Throughput and memory at one batch."""

    batch: int
    images_per_s: float | None
    peak_bytes: int | None
    """On a GPU what torch allocated, on a CPU the process's resident memory; in a pass of its own."""
    reason: str | None = None


@dataclass(frozen=True)
class Curve:
    """Throughput over the batch, in powers of two."""

    points: tuple[CurvePoint, ...]
    best_batch: int | None
    """The largest batch that still gained; None where not even one picture could be made."""
    stopped: str
    """Why no larger batch was tried."""


@dataclass(frozen=True)
class Measured:
    """All that was measured of one cell on one device."""

    timing: Timing
    memory: Memory | None = None
    conditions: Conditions | None = None
    energy: Energy | None = None
    compute: Compute | None = None
    price: Price | None = None
    curve: Curve | None = None
    """None unless it was asked for by `hardware.batch=auto`."""
