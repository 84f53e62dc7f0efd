"""The machine's state while something is timed: looked at from a thread on a GPU, before and after on a CPU."""

from __future__ import annotations

import os
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from eval.measured import Conditions, Energy, because
from eval.running.nvml import Driver, Reading
from eval.running.stopwatch import Failure, clock
from sdkit._cpu import cpu_name

PAUSE_S = 0.1
"""Between two looks at a GPU; each takes the driver about a millisecond."""
ENERGY_S = 1.0
"""The energy counter moves about ten times a second: shorter passes are told too coarsely."""
CORES_S = 0.5
"""The system counts the cores' time in hundredths of a second: likewise."""


@dataclass(frozen=True)
class CoreTime:
    """Seconds of processor time that have been used on the cores of this process."""

    all_s: float
    own_s: float


class Watch:
    """Context: keeps what the device and the cores did between entering and leaving.

    Args:
        device: as torch names it.
        driver: of the GPU, or why there is none.
        core_time: reads the cores' time; None where the system does not tell.
    """

    def __init__(
        self,
        device: str,
        driver: Driver | Failure,
        core_time: Callable[[], CoreTime | None] | None = None,
    ) -> None:
        self._device, self._driver = device, driver
        self._core_time = core_time or read_core_time
        self._readings: list[Reading] = []
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._begun_s = self.seconds = 0.0
        self._cores_before: CoreTime | None = None
        self._cores_after: CoreTime | None = None

    def __enter__(self) -> Watch:
        self._cores_before = self._core_time()
        if not isinstance(self._driver, Failure):
            self._readings.append(self._driver.read())
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()
        self._begun_s = clock(self._device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = (clock(self._device) if error is None else self._begun_s) - self._begun_s
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        if not isinstance(self._driver, Failure):
            self._readings.append(self._driver.read())
        self._cores_after = self._core_time()

    def _look(self) -> None:
        assert not isinstance(self._driver, Failure)
        while not self._done.wait(PAUSE_S):
            self._readings.append(self._driver.read())

    def conditions(self) -> Conditions:
        """What was seen; utilisation, clocks and throttling without the first look, which tells of the time before."""
        import torch

        within = self._readings[1:]
        found = [words for each in within if (words := each.throttle) is not None]
        reasons = {name: self._untold(name) for name in _GPU_FIELDS}
        share, reasons["other_cpu_share"] = self._other_cores()
        return Conditions(
            watched_s=self.seconds,
            gpu_utilisation=_over(statistics.fmean, [each.gpu_utilisation for each in within]),
            sm_clock_mhz=_over(statistics.median, [each.sm_clock_mhz for each in within]),
            memory_clock_mhz=_over(statistics.median, [each.memory_clock_mhz for each in within]),
            temperature_c=_over(max, [each.temperature_c for each in within]),
            throttle=tuple(dict.fromkeys(word for words in found for word in words)) if found else None,
            other_processes=max(
                (n for each in within if (n := each.other_processes) is not None), default=None
            ),
            other_cpu_share=share,
            cpu=cpu_name(),
            cores=len(_own_cores()),
            threads=torch.get_num_threads(),
            reason=because(reasons),
        )

    def energy(self, images: int) -> Energy:
        """What the counter of the GPU moved by while `images` pictures were made."""
        if why := self._untold("energy_j"):
            return no_energy(why)
        if self.seconds < ENERGY_S:
            return no_energy(f"the timed batches took {self.seconds:.2g} s; the counter needs {ENERGY_S:g} s")
        before, after = self._readings[0].energy_j, self._readings[-1].energy_j
        if before is None or after is None or after <= before:
            return no_energy("the GPU's energy counter did not move")
        joules = after - before
        return Energy(joules, images, joules / images, joules / self.seconds)

    def _untold(self, name: str) -> str | None:
        """Why no reading tells the field."""
        if isinstance(self._driver, Failure):
            return self._driver.reason
        if any(getattr(each, name) is not None for each in self._readings[1:]):
            return None
        whys = [each.untold[name] for each in self._readings if name in each.untold]
        return next(iter(whys), "the driver does not tell")

    def _other_cores(self) -> tuple[float | None, str | None]:
        before, after = self._cores_before, self._cores_after
        if before is None or after is None:
            return None, "the system does not tell how its cores are used"
        if self.seconds < CORES_S:
            return None, f"the timed work took {self.seconds:.2g} s; the system's count needs {CORES_S:g} s"
        used, own = after.all_s - before.all_s, after.own_s - before.own_s
        if used < own / 2:
            return None, "the system counts less for all processes than for this one"
        return max(0.0, used - own) / (self.seconds * len(_own_cores())), None


_GPU_FIELDS = (
    "gpu_utilisation", "sm_clock_mhz", "memory_clock_mhz", "temperature_c", "throttle", "other_processes",
)  # fmt: skip


def unwatched(reason: str) -> Conditions:
    """Conditions of work that was not done."""
    import torch

    fields = ("watched_s", *_GPU_FIELDS, "other_cpu_share")
    cores, threads = len(_own_cores()), torch.get_num_threads()
    why = because(dict.fromkeys(fields, reason))
    return Conditions(None, None, None, None, None, None, None, None, cpu_name(), cores, threads, why)


def no_energy(reason: str) -> Energy:
    """Energy that is not known."""
    fields = ("joules", "images", "joules_per_image", "mean_power_w")
    return Energy(None, None, None, None, because(dict.fromkeys(fields, reason)))


def read_core_time() -> CoreTime | None:
    """The time used so far, by all and by this process; stolen time, of other virtual machines, is the others'."""
    import psutil

    try:
        own = psutil.Process().cpu_times()
        each = psutil.cpu_times(percpu=True)
    except (psutil.Error, OSError):
        return None
    cores = [times for core, times in enumerate(each) if core in _own_cores()]
    if not cores:
        return None
    names = ("user", "system", "nice", "irq", "softirq", "steal")
    used = sum(getattr(times, name, 0.0) for times in cores for name in names)
    return CoreTime(used, own.user + own.system)


def _own_cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _over(how: Callable[[list[float]], float], values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return how(known) if known else None
