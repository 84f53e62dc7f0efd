"""How a sweep's device is used: pictures at once, threads, and what is timed."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class HardwarePlan:
    """How the pictures are batched and how speed is measured."""

    batch: int
    """Pictures made together; with guidance the denoiser sees twice as many rows."""
    latency_repeats: int
    """Timed single pictures a cell: 20 or more give p95, 100 give p99; 0 measures no latency."""
    throughput_repeats: int
    """Timed batches a cell; 0 measures no throughput. With both at 0 nothing at all is measured."""
    threads: int | None = None
    """CPU threads; None leaves torch's own number."""
    timing_batch: int | None = None
    """Pictures in a timed batch, where `batch` would take too long; None is `batch`."""
    search_batch: bool = False
    """`hardware.batch=auto`: throughput is measured at the best batch found, with the curve up to it."""
    max_batch: int = 64
    """Largest batch that the search tries."""
    noise_bound: float = 0.1
    """Interquartile range of the samples over their median, above which a measurement is marked."""
    price_per_hour: float | None = None
    """What the device costs; None gives no cost of pictures."""
    currency: str = "USD"
    compile: str | None = None
    """How the denoiser is compiled, by `sdkit.Session`'s names; None is its measured default for the device."""

    @property
    def timed(self) -> bool:
        """Whether anything is measured."""
        return bool(self.latency_repeats or self.throughput_repeats)

    @property
    def asked(self) -> dict[str, object]:
        """All of it, but for compiling where nobody asks for it: keys of before there was such a choice stay valid."""
        found = asdict(self)
        if self.compile is None:
            del found["compile"]
        return found
