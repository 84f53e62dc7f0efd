"""What a GPU's driver tells of it, through NVML; a test puts a driver of its own in its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from eval.running.stopwatch import Failure

SLOWDOWNS = {
    0x8: "hardware slowdown",
    0x20: "thermal slowdown by software",
    0x40: "thermal slowdown by hardware",
    0x80: "power brake",
}
"""Bits of NVML's clock event reasons that make a measurement one of a GPU in trouble."""
LIMITS = {
    0x2: "application clocks",
    0x4: "power cap",
    0x10: "sync boost",
    0x100: "display clocks",
}
"""Bits that are a GPU's steady state under load or somebody's setting. Idle (0x1) holds nothing down."""


@dataclass(frozen=True)
class Reading:
    """One look at a GPU; what it does not tell is None and has its cause in `untold`."""

    used_bytes: int | None = None
    energy_j: float | None = None
    """Since the driver was loaded; the counter moves about ten times a second."""
    gpu_utilisation: float | None = None
    """0..1, over the driver's last sampling period."""
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle: tuple[str, ...] | None = None
    other_processes: int | None = None
    untold: dict[str, str] = field(default_factory=dict)
    """Field -> why."""


class Driver(Protocol):
    """One GPU as its driver sees it."""

    def read(self) -> Reading:
        """The state now; never raises for what the device does not tell."""
        ...

    def close(self) -> None: ...


def open_driver(device: str) -> Driver | Failure:
    """The driver of a torch device such as "cuda:1", or why there is none."""
    if not device.startswith("cuda"):
        return Failure(f"NVML tells of NVIDIA GPUs only, not of {device.partition(':')[0]}")
    try:
        import pynvml
    except ImportError:
        return Failure("the package nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Failure(f"NVML: {error}")
    try:
        return NvmlDriver(pynvml, _handle(pynvml, device))
    except pynvml.NVMLError as error:
        pynvml.nvmlShutdown()
        return Failure(f"NVML: {error}")


class NvmlDriver:
    """A GPU through `pynvml`.

    Args:
        nvml: the module.
        handle: the device's handle in it.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    def read(self) -> Reading:
        """The state now."""
        nvml, handle = self._nvml, self._handle
        asked: dict[str, Callable[[], Any]] = {
            "used_bytes": lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).used),
            "energy_j": lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
            "gpu_utilisation": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "sm_clock_mhz": lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "memory_clock_mhz": lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            "temperature_c": lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            "throttle": lambda: _words(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
            "other_processes": lambda: _others(nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
        }
        told: dict[str, Any] = {}
        untold: dict[str, str] = {}
        for name, ask in asked.items():
            try:
                told[name] = ask()
            except nvml.NVMLError as error:
                untold[name] = f"NVML: {error}"
        return Reading(**told, untold=untold)

    def close(self) -> None:
        """Let go of NVML; it counts its users."""
        self._nvml.nvmlShutdown()


def _handle(nvml: Any, device: str) -> Any:
    """By the GPU's own id: NVML counts all GPUs, torch those that CUDA_VISIBLE_DEVICES names."""
    import torch

    uuid = str(torch.cuda.get_device_properties(torch.device(device)).uuid)
    return nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")


def _words(bits: int) -> tuple[str, ...]:
    return tuple(word for bit, word in (SLOWDOWNS | LIMITS).items() if bits & bit)


def _others(processes: list[Any]) -> int:
    """All but this one. In a container NVML has the host's process ids: then one of those listed is ours."""
    seen = {process.pid for process in processes}
    return len(seen - {os.getpid()}) if os.getpid() in seen else max(0, len(seen) - 1)
