"""What was measured of several models on one device, as a Markdown page. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from eval.measured import Measured
from eval.records import CellResult

ROWS: tuple[tuple[str, str, str], ...] = (
    ("pictures/s at the best batch", "timing.images_per_s", ".3f"),
    ("best batch", "timing.batch", "d"),
    ("spread of the batches (interquartile range over median)", "timing.throughput_spread", ".2%"),
    ("marked: throughput, stages, energy", "timing.throughput_unreliable", "s"),
    ("latency of one picture, p50, s", "timing.latency_p50_s", ".4f"),
    ("latency, p95, s", "timing.latency_p95_s", ".4f"),
    ("latency, p99, s", "timing.latency_p99_s", ".4f"),
    ("spread of the single pictures", "timing.latency_spread", ".2%"),
    ("marked: latency", "timing.latency_unreliable", "s"),
    ("first picture of the process, s", "timing.cold_s", ".3f"),
    ("text, s a picture at the batch", "timing.text_s", ".5f"),
    ("denoising, s", "timing.denoise_s", ".5f"),
    ("decoding, s", "timing.decode_s", ".5f"),
    ("the rest, s", "timing.rest_s", ".5f"),
    ("evaluations/s", "timing.evals_per_s", ".2f"),
    ("GPU memory allocated, MB", "memory.gpu_allocated_bytes", "MB"),
    ("GPU memory reserved, MB", "memory.gpu_reserved_bytes", "MB"),
    ("GPU memory by the driver, MB", "memory.gpu_driver_bytes", "MB"),
    ("process memory, MB", "memory.process_peak_rss_bytes", "MB"),
    ("marked: memory", "memory.unreliable", "s"),
    ("GPU utilisation", "conditions.gpu_utilisation", ".0%"),
    ("SM clock, MHz", "conditions.sm_clock_mhz", ".0f"),
    ("memory clock, MHz", "conditions.memory_clock_mhz", ".0f"),
    ("temperature, °C", "conditions.temperature_c", ".0f"),
    ("what held the clocks down", "conditions.throttle", "words"),
    ("other processes on the GPU", "conditions.other_processes", "d"),
    ("other processes' share of the cores", "conditions.other_cpu_share", ".1%"),
    ("energy of the timed batches, J", "energy.joules", ".1f"),
    ("energy, J a picture", "energy.joules_per_image", ".2f"),
    ("mean power, W", "energy.mean_power_w", ".0f"),
    ("TFLOP a picture", "compute.flops_per_image", "T"),
    ("published peak, TFLOP/s", "compute.peak_flops_per_s", "T"),
    ("MFU", "compute.mfu", ".1%"),
    ("peak's source", "compute.peak_source", "s"),
    ("cost of 1,000 pictures", "price.per_1000_images", ".4f"),
)


def page(
    results: Sequence[CellResult], titles: Sequence[str], environment: Mapping[str, str], command: str
) -> str:
    """Settings, one table of all figures, the curves, and the reasons for what is empty."""
    found = [(title, each.cell, each.measured) for title, each in zip(titles, results, strict=True)]
    known = [(title, measured) for title, _, measured in found if measured is not None]
    lines = [
        f"# Measured on {results[0].device}\n",
        f"`{command}`\n",
        "Architectures with random weights: how fast a model is does not hang on their values. Times run from the "
        "prompt's text to pixels. An empty field was not measured; the reasons stand below. Raw samples are in "
        "`measured.json`.\n",
    ]
    for title, cell, _ in found:
        lines.append(f"- {title}: {cell.width}x{cell.height} px, {cell.label}, {cell.dtype}")
    lines += ["", f"| | {' | '.join(title for title, _ in known)} |", "|---|" + "---|" * len(known)]
    for name, where, form in ROWS:
        lines.append(f"| {name} | {' | '.join(_shown(measured, where, form) for _, measured in known)} |")
    for title, measured in known:
        lines += ["", f"## {title}\n", *_curve(measured), *_reasons(measured)]
    lines += ["", "## Where it ran\n", *(f"- {label}: {value}" for label, value in environment.items())]
    return "\n".join(lines) + "\n"


def _shown(measured: Measured, where: str, form: str) -> str:
    part, _, name = where.partition(".")
    value = getattr(getattr(measured, part), name, None)
    if value is None:
        return "no" if name.endswith("unreliable") else ""
    if form == "words":
        return ", ".join(value) or "nothing"
    if form in ("MB", "T"):
        return f"{value / (1e6 if form == 'MB' else 1e12):,.{0 if form == 'MB' else 4}f}"
    return f"{value:{form}}"


def _curve(measured: Measured) -> list[str]:
    if measured.curve is None:
        return []
    lines = ["| batch | pictures/s | peak memory, MB | |", "|---|---|---|---|"]
    for point in measured.curve.points:
        speed = "" if point.images_per_s is None else f"{point.images_per_s:.3f}"
        peak = "" if point.peak_bytes is None else f"{point.peak_bytes / 1e6:,.0f}"
        lines.append(f"| {point.batch} | {speed} | {peak} | {point.reason or ''} |")
    return [*lines, "", f"No larger batch was tried: {measured.curve.stopped}."]


def _reasons(measured: Measured) -> list[str]:
    """Why fields are empty, record by record."""
    parts = [(field.name, getattr(measured, field.name)) for field in fields(measured)]
    told = [(name, part.reason) for name, part in parts if getattr(part, "reason", None)]
    return ["", *(f"- {name}: {reason}" for name, reason in told)] if told else []
