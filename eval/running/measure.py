"""Speed, memory, energy and cost of one cell, measured apart from the pictures that are scored.

Each figure has a pass of its own: memory first, which warms the device up at the same step count, then batches, then
single pictures, then the count of operations. The device is synchronised before every reading of the clock; raw
samples are kept. Nothing here raises for what a device does not tell, nor when memory runs out: the figure is None
with its reason, and the cell stands.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.hardware_plan import HardwarePlan
from eval.measured import (
    Conditions,
    Curve,
    CurvePoint,
    Energy,
    Measured,
    Memory,
    Price,
    Timing,
    because,
)
from eval.records import Cell
from eval.running.curve import find_batch
from eval.running.flops import compute_of, no_compute
from eval.running.generator import Generator
from eval.running.noise import doubt, needed, percentile, spread
from eval.running.nvml import Driver, open_driver
from eval.running.peaks import no_memory, peak_memory
from eval.running.stopwatch import Failure, Timed, attempt, clock, middle, time_batch
from eval.running.watch import Watch, no_energy, unwatched

__all__ = ["clock", "measure_cell"]


def measure_cell(
    generator: Generator[Any],
    prompts: Sequence[str],
    cell: Cell,
    hardware: HardwarePlan,
    *,
    cold: float | Failure,
    beside_bytes: int = 0,
    driver: Driver | Failure | None = None,
) -> Measured:
    """All figures of one cell on the generator's device; with both repeats at 0 none, and why.

    Args:
        prompts: the sweep's; timed pictures have these texts, and seeds that no scored picture has.
        cold: what `ColdCalls.first` said before the cell's first picture.
        beside_bytes: what the scorer and other precisions of the model hold on the same GPU, taken off its peaks.
        driver: the GPU's; None asks NVML.
    """
    if not hardware.timed:
        return _unmeasured(hardware, "hardware.latency_repeats and hardware.throughput_repeats are 0")
    told = open_driver(generator.device) if driver is None else driver
    try:
        return _Passes(generator, prompts, cell, hardware, told, beside_bytes).measured(cold)
    finally:
        if driver is None and not isinstance(told, Failure):
            told.close()


@dataclass(frozen=True)
class _Sampled:
    """One timed pass."""

    samples: tuple[Timed, ...]
    seen: Conditions
    energy: Energy

    @property
    def wholes_s(self) -> tuple[float, ...]:
        return tuple(sample.whole_s for sample in self.samples)


@dataclass(frozen=True)
class _Passes:
    """The passes of one cell."""

    generator: Generator[Any]
    prompts: Sequence[str]
    cell: Cell
    hardware: HardwarePlan
    driver: Driver | Failure
    beside_bytes: int

    def measured(self, cold: float | Failure) -> Measured:
        curve = find_batch(self._point, self.hardware.max_batch) if self.hardware.search_batch else None
        given = self.hardware.timing_batch or self.hardware.batch
        batch = given if curve is None else curve.best_batch
        if batch is None:
            assert curve is not None
            return _unmeasured(self.hardware, curve.stopped, curve)
        memory = self._memory(batch)
        throughput = self._throughput(batch)
        timing = self._timing(batch, throughput, self._latency(), cold)
        return Measured(
            timing=timing,
            memory=memory,
            conditions=_conditions(throughput),
            energy=_energy(throughput),
            compute=compute_of(self.generator, self.prompts, self.cell, timing.images_per_s),
            price=_price(self.hardware, timing.images_per_s),
            curve=curve,
        )

    def _batch(self, count: int) -> Timed:
        return time_batch(self.generator, self.prompts, self.cell, count)

    def _memory(self, batch: int) -> Memory:
        return peak_memory(
            self.generator, self.prompts, self.cell, batch, self.driver, beside_bytes=self.beside_bytes
        )

    def _throughput(self, batch: int) -> _Sampled | Failure:
        if not self.hardware.throughput_repeats:
            return Failure("hardware.throughput_repeats is 0")
        return self._timed(batch, self.hardware.throughput_repeats)

    def _latency(self) -> _Sampled | Failure:
        if not self.hardware.latency_repeats:
            return Failure("hardware.latency_repeats is 0")
        warm = attempt(lambda: self._batch(1))
        return warm if isinstance(warm, Failure) else self._timed(1, self.hardware.latency_repeats)

    def _timed(self, batch: int, repeats: int) -> _Sampled | Failure:
        with Watch(self.generator.device, self.driver) as watch:
            samples = attempt(lambda: tuple(self._batch(batch) for _ in range(repeats)))
        if isinstance(samples, Failure):
            return samples
        return _Sampled(samples, watch.conditions(), watch.energy(batch * repeats))

    def _point(self, batch: int) -> CurvePoint:
        """One point of the curve: its memory pass warms it up."""
        memory = self._memory(batch)
        peak = (
            memory.process_peak_rss_bytes if self.cell.device_type != "cuda" else memory.gpu_allocated_bytes
        )
        repeats = max(1, self.hardware.throughput_repeats)
        samples = attempt(lambda: [self._batch(batch).whole_s for _ in range(repeats)])
        if isinstance(samples, Failure):
            return CurvePoint(batch, None, peak, samples.reason)
        return CurvePoint(
            batch, batch / statistics.median(samples), peak, memory.reason if peak is None else None
        )

    def _timing(
        self, batch: int, throughput: _Sampled | Failure, latency: _Sampled | Failure, cold: float | Failure
    ) -> Timing:
        batches = () if isinstance(throughput, Failure) else throughput.samples
        singles = () if isinstance(latency, Failure) else latency.wholes_s
        mid = middle(batches) if batches else None
        evals = batch * self.generator.model_evals(self.cell.sampler, self.cell.steps)
        rate = evals / mid.denoise_s if mid is not None and mid.denoise_s > 0 else None
        wholes = tuple(each.whole_s for each in batches)
        return Timing(
            batch=batch,
            batch_samples_s=wholes,
            latency_samples_s=singles,
            images_per_s=None if mid is None else batch / mid.whole_s,
            latency_p50_s=percentile(singles, 50),
            latency_p95_s=percentile(singles, 95),
            latency_p99_s=percentile(singles, 99),
            text_s=None if mid is None else mid.text_s / batch,
            denoise_s=None if mid is None else mid.denoise_s / batch,
            decode_s=None if mid is None else mid.decode_s / batch,
            rest_s=None if mid is None else mid.rest_s / batch,
            evals_per_s=rate,
            cold_s=None if isinstance(cold, Failure) else cold,
            throughput_spread=spread(wholes),
            latency_spread=spread(singles),
            throughput_unreliable=self._doubt(throughput),
            latency_unreliable=self._doubt(latency),
            reason=because(_why_untimed(throughput, latency, cold, evaluated=rate is not None)),
        )

    def _doubt(self, found: _Sampled | Failure) -> str | None:
        if isinstance(found, Failure):
            return None
        return doubt(found.wholes_s, self.hardware.noise_bound, found.seen, self.cell.device_type)


_BATCH_FIGURES = ("images_per_s", "text_s", "denoise_s", "decode_s", "rest_s", "evals_per_s")


def _why_untimed(
    throughput: _Sampled | Failure, latency: _Sampled | Failure, cold: float | Failure, *, evaluated: bool
) -> dict[str, str | None]:
    """Why each figure of Timing that is None is None."""
    why: dict[str, str | None] = {}
    if isinstance(throughput, Failure):
        why |= dict.fromkeys((*_BATCH_FIGURES, "throughput_spread"), throughput.reason)
    else:
        if not evaluated:
            why["evals_per_s"] = "denoising took no measurable time"
        if spread(throughput.wholes_s) is None:
            why["throughput_spread"] = f"{len(throughput.samples)} timed batch, of 2 needed"
    for percent in (50, 95, 99):
        if isinstance(latency, Failure):
            why[f"latency_p{percent}_s"] = latency.reason
        elif len(latency.samples) < needed(percent):
            why[f"latency_p{percent}_s"] = (
                f"{len(latency.samples)} timed pictures, of {needed(percent)} needed"
            )
    if isinstance(latency, Failure):
        why["latency_spread"] = latency.reason
    elif spread(latency.wholes_s) is None:
        why["latency_spread"] = f"{len(latency.samples)} timed pictures, of 2 needed"
    why["cold_s"] = cold.reason if isinstance(cold, Failure) else None
    return why


def _conditions(found: _Sampled | Failure) -> Conditions:
    return unwatched(found.reason) if isinstance(found, Failure) else found.seen


def _energy(found: _Sampled | Failure) -> Energy:
    return no_energy(found.reason) if isinstance(found, Failure) else found.energy


def _price(hardware: HardwarePlan, images_per_s: float | None) -> Price:
    if hardware.price_per_hour is None:
        return Price(
            None, hardware.currency, because({"per_1000_images": "hardware.price_per_hour is not given"})
        )
    if images_per_s is None:
        return Price(None, hardware.currency, because({"per_1000_images": "throughput is not known"}))
    return Price(hardware.price_per_hour / 3600 / images_per_s * 1000, hardware.currency)


def _unmeasured(hardware: HardwarePlan, reason: str, curve: Curve | None = None) -> Measured:
    """Nothing is known, and why."""
    off = Failure(reason)
    batch = hardware.timing_batch or hardware.batch
    why = because(_why_untimed(off, off, off, evaluated=False))
    return Measured(
        timing=Timing(batch, (), (), None, None, None, None, None, None, why),
        memory=no_memory(reason),
        conditions=unwatched(reason),
        energy=no_energy(reason),
        compute=no_compute(reason),
        price=_price(hardware, None),
        curve=curve,
    )
