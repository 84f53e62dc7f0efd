"""What was measured on each device, as figures with their words. Pure; what nobody measured is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from eval.records import CellResult, Run
from eval.reporting import axes
from eval.reporting.costs import joules_of, memory_of
from eval.reporting.device_figures import MAX_BARS, Getter, along_steps, batch_curves, stage_split
from eval.reporting.panels import Panel

_OVER = (
    "A point is the median over guidance scales; its bar is no error: it reaches from the lowest of them to the "
    "highest."
)


@dataclass(frozen=True)
class DevicePanels:
    """The figures of one device."""

    device: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class _Measure:
    anchor: str
    title: str
    axis: str
    of: Getter
    factor: float
    words: str


def _timing(name: str) -> Getter:
    return lambda result: getattr(result.timing, name, None)


MEASURES = (
    _Measure(
        "latency",
        "Latency of one picture",
        "Latency p50 (ms)",
        _timing("latency_p50_s"),
        1e3,
        "How long one picture takes alone. Guidance above 1 doubles the work of every step.",
    ),
    _Measure(
        "throughput",
        "Throughput",
        "Pictures a second",
        _timing("images_per_s"),
        1.0,
        "How many pictures a second come out in batches; higher is better.",
    ),
    _Measure(
        "memory",
        "Peak memory",
        "Peak memory (GB)",
        memory_of,
        1e-9,
        "Reserved on the GPU; without one, the process’s peak, in which counts what it held before.",
    ),
    _Measure(
        "energy", "Energy", "Joules a picture", joules_of, 1.0, "By the GPU’s own counter; lower is better."
    ),
)


def device_panels(run: Run) -> tuple[DevicePanels, ...]:
    """One group a device, in the cells' order; a device of which nothing was measured has none."""
    by_device: dict[str, list[CellResult]] = {}
    for result in axes.separated(run.results):
        if result.error is None and result.measured is not None:
            by_device.setdefault(result.device, []).append(result)
    groups = (
        DevicePanels(device, _panels(found, run.plan.grid.series, place))
        for place, (device, found) in enumerate(by_device.items())
    )
    return tuple(group for group in groups if group.panels)


def _panels(results: Sequence[CellResult], samplers: Sequence[str], place: int) -> tuple[Panel, ...]:
    found = [
        _panel(
            each.anchor,
            each.title,
            f"{_OVER} {each.words}{_doubts(results, each.anchor)}",
            along_steps(results, samplers, each.axis, each.of, each.factor),
        )
        for each in MEASURES
    ]
    few = len(results) > MAX_BARS
    found += [
        _panel(
            "stages",
            "Where the time goes",
            "Text encoding, denoising, decoding and the rest of one picture’s share of a batch, quickest setting first."
            + (f" {MAX_BARS} settings are shown, evenly spread." if few else "")
            + _doubts(results, "throughput"),
            stage_split(results),
        ),
        _panel(
            "batches",
            "Throughput over the batch",
            "Batches grow in powers of two until they gain no more or memory ends. The large mark is the best batch.",
            batch_curves(results),
        ),
    ]
    return tuple(replace(panel, anchor=f"{panel.anchor}-{place}") for panel in found if panel is not None)


def _panel(anchor: str, title: str, caption: str, figure: go.Figure | None) -> Panel | None:
    return None if figure is None else Panel(f"device-{anchor}", title, caption, figure)


def _doubts(results: Sequence[CellResult], measure: str) -> str:
    """How many of these times must not be relied on, and the first reason; empty where all may."""
    field = {"latency": "latency_unreliable", "throughput": "throughput_unreliable"}.get(measure)
    field = "throughput_unreliable" if measure == "energy" else field
    if field is None:
        return ""
    why = [reason for result in results if (reason := getattr(result.timing, field, None))]
    if not why:
        return ""
    return f" Unreliable for {len(why)} of {len(results)} settings, marked in the table; for one, {why[0]}."
