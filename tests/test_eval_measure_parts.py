"""The parts of measuring: the search for a batch, peaks of memory, NVML, published peaks, spread."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from measuring import CELL, PROMPTS

from eval.measured import CurvePoint, because
from eval.running import nvml, resident
from eval.running.curve import find_batch
from eval.running.device_peaks import PEAKS, device_peak
from eval.running.noise import needed, spread
from eval.running.nvml import NvmlDriver, open_driver
from eval.running.peaks import peak_memory
from eval.running.resident import ResidentPeak
from eval.running.stopwatch import Failure

MB = 10**6


def speeds(*found: float | None) -> Any:
    """Points of a curve: pictures a second at 1, 2, 4 ..."""
    by_batch = {2**power: speed for power, speed in enumerate(found)}
    return lambda batch: CurvePoint(batch, by_batch[batch], 7, None if by_batch[batch] else "out of memory")


@pytest.mark.parametrize(
    ("found", "most", "best", "tried", "said"),
    [
        ((1.0, 2.0, 4.0), 4, 4, 3, "hardware.max_batch is 4"),
        ((1.0, 2.0, 4.0), 7, 4, 3, "hardware.max_batch is 7"),
        ((1.0, 2.0, 2.05, 9.0), 8, 2, 3, "gained less than 3 % over 2"),
        ((1.0, 2.0, 1.5, 9.0), 8, 2, 3, "gained less than 3 % over 2"),
        ((1.0, 2.0, None, 9.0), 8, 2, 3, "a batch of 4 failed: out of memory"),
        ((None, 2.0), 2, None, 1, "a batch of 1 failed: out of memory"),
    ],
)
def test_the_search_doubles_while_it_pays(
    found: tuple[float | None, ...], most: int, best: int | None, tried: int, said: str
) -> None:
    curve = find_batch(speeds(*found), most)
    assert (curve.best_batch, len(curve.points)) == (best, tried)
    assert said in curve.stopped


def test_reasons_that_are_the_same_are_said_once() -> None:
    assert because({"a": "x", "b": None, "c": "x", "d": "y"}) == "a, c: x; d: y"
    assert because({"a": None}) is None


def test_the_spread_is_the_interquartile_range_over_the_median() -> None:
    assert spread([1.0]) is None
    assert spread([2.0, 2.0, 2.0]) == 0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    # one stall among many moves the median by nothing, and is no noise of the median
    assert spread([1.0] * 9 + [100.0]) == 0


def test_percentiles_need_as_many_samples_as_leave_one_above() -> None:
    assert [needed(percent) for percent in (50, 95, 99)] == [2, 20, 100]


class _Holding:
    """Holds a tensor of a known size, touched, while it makes pictures."""

    def __init__(self, real: Any, size_bytes: int, device: str = "cpu") -> None:
        self.real, self.size_bytes, self.on = real, size_bytes, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def sample(self, text: Any, **asked: Any) -> Any:
        held = torch.ones(self.size_bytes, dtype=torch.uint8, device=self.on)
        made = self.real.sample(text, **asked)
        assert held.numel() == self.size_bytes
        return made


@pytest.mark.parametrize("asks_linux", [True, False])
def test_a_tensor_held_within_the_pass_moves_the_peak_by_its_size(
    tiny_sd: Path, monkeypatch: pytest.MonkeyPatch, asks_linux: bool
) -> None:
    from sdkit import Session

    if not asks_linux:
        monkeypatch.setattr(resident, "_reset", lambda: False)
    session = Session(str(tiny_sd), device="cpu")
    cell = replace(CELL, width=64, height=64)

    def peak(size_bytes: int) -> int:
        memory = peak_memory(_Holding(session, size_bytes), PROMPTS, cell, 2, Failure("no GPU"))
        assert memory.process_peak_rss_bytes is not None
        return memory.process_peak_rss_bytes

    peak(0)
    without = peak(0)
    assert peak(200 * MB) - without == pytest.approx(200 * MB, abs=5 * MB)
    # the peak is the pass's own: what an earlier one held is gone from it
    assert peak(0) == pytest.approx(without, abs=5 * MB)


@pytest.mark.gpu
def test_a_tensor_on_the_gpu_moves_its_peaks_by_its_size(tiny_sd: Path) -> None:
    from sdkit import Session

    if not torch.cuda.is_available():
        pytest.skip("NO GPU: nothing of this test was tested")
    session = Session(str(tiny_sd), device="cuda", dtype="float32")
    cell = replace(CELL, width=64, height=64, device_type="cuda")
    driver = open_driver(session.device)
    size = 2**30

    def peaks(size_bytes: int) -> tuple[int | None, ...]:
        memory = peak_memory(_Holding(session, size_bytes, "cuda"), PROMPTS, cell, 2, driver)
        return memory.gpu_allocated_bytes, memory.gpu_reserved_bytes, memory.gpu_driver_bytes

    peaks(0)
    for with_it, without in zip(peaks(size), peaks(0), strict=True):
        assert with_it is not None
        assert without is not None
        assert with_it - without == pytest.approx(size, rel=0.02)


def test_a_system_that_tells_no_resident_memory_leaves_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_reset", lambda: False)
    monkeypatch.setattr(resident, "_resident", lambda: None)
    with ResidentPeak() as found:
        pass
    assert found.peak_bytes is None
    assert found.reason == "the system does not tell resident memory"


class _Error(Exception):
    pass


def pynvml(**changes: Any) -> Any:
    """A stand-in for the module, with one GPU that tells everything."""
    told = {
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=5 * MB),
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: 2500,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=87),
        "nvmlDeviceGetClockInfo": lambda handle, kind: {"sm": 1980, "memory": 2619}[kind],
        "nvmlDeviceGetTemperature": lambda handle, sensor: 55,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: 0x1 | 0x4 | 0x40,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [SimpleNamespace(pid=os.getpid())],
        "nvmlShutdown": lambda: None,
        "NVML_CLOCK_SM": "sm",
        "NVML_CLOCK_MEM": "memory",
        "NVML_TEMPERATURE_GPU": 0,
        "NVMLError": _Error,
    }
    return SimpleNamespace(**{**told, **changes})


def test_nvml_is_read_in_our_units() -> None:
    reading = NvmlDriver(pynvml(), None).read()
    assert (reading.used_bytes, reading.energy_j, reading.gpu_utilisation) == (5 * MB, 2.5, 0.87)
    assert (reading.sm_clock_mhz, reading.memory_clock_mhz, reading.temperature_c) == (1980, 2619, 55)
    assert reading.throttle is not None
    assert set(reading.throttle) == {"power cap", "thermal slowdown by hardware"}
    assert (reading.other_processes, reading.untold) == (0, {})


def test_what_a_gpu_does_not_tell_is_none_with_nvmls_own_words() -> None:
    def refuse(*_: Any) -> Any:
        raise _Error("Not Supported")

    reading = NvmlDriver(pynvml(nvmlDeviceGetTotalEnergyConsumption=refuse), None).read()
    assert reading.energy_j is None
    assert reading.untold == {"energy_j": "NVML: Not Supported"}
    assert reading.used_bytes == 5 * MB


@pytest.mark.parametrize(
    ("pids", "others"), [([], 0), ([os.getpid()], 0), ([os.getpid(), -5], 1), ([-5], 0), ([-5, -6], 1)]
)
def test_a_container_that_hides_our_own_id_does_not_make_a_stranger_of_us(
    pids: list[int], others: int
) -> None:
    listed = [SimpleNamespace(pid=pid) for pid in pids]
    driver = NvmlDriver(pynvml(nvmlDeviceGetComputeRunningProcesses=lambda handle: listed), None)
    assert driver.read().other_processes == others


def test_a_device_without_nvml_has_no_driver_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = open_driver("cpu")
    assert isinstance(on_cpu, Failure)
    assert "not of cpu" in on_cpu.reason

    def missing() -> None:
        raise _Error("NVML Shared Library Not Found")

    monkeypatch.setitem(__import__("sys").modules, "pynvml", pynvml(nvmlInit=missing))
    on_gpu = nvml.open_driver("cuda:0")
    assert isinstance(on_gpu, Failure)
    assert on_gpu.reason == "NVML: NVML Shared Library Not Found"


@pytest.mark.parametrize(
    ("name", "dtype", "tf32", "peak"),
    [
        ("NVIDIA H200", "bfloat16", False, 989.4e12),
        ("NVIDIA H100 80GB HBM3", "float16", False, 989.4e12),
        ("NVIDIA H100 80GB HBM3", "float32", True, 494.7e12),
        ("NVIDIA H100 80GB HBM3", "float32", False, 66.9e12),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", False, 312e12),
        ("NVIDIA A100 80GB PCIe", "bfloat16", False, 312e12),
        ("Tesla T4", "float32", True, 8.1e12),
        ("Tesla T4", "bfloat16", True, None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "float16", False, None),
        ("NVIDIA GeForce RTX 4090", "float16", False, 165.2e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "float16", False, None),
        ("AMD EPYC 9R14", "float32", False, None),
    ],
)
def test_a_peak_is_the_whole_devices_own_or_none(
    name: str, dtype: str, tf32: bool, peak: float | None
) -> None:
    found = device_peak(name, dtype, tf32=tf32)
    if peak is None:
        assert isinstance(found, Failure)
        assert name in found.reason
    else:
        assert not isinstance(found, Failure)
        assert found.flops_per_s == pytest.approx(peak)
        assert "dense" in found.source


def test_every_listed_peak_names_its_source() -> None:
    assert all(peak.source and peak.half > 0 for peak in PEAKS.values())


@pytest.mark.slow
def test_the_rows_of_a_gpu_can_be_made_in_small_anywhere(tmp_path: Path) -> None:
    import json

    from eval.records import CellResult
    from eval.running.benchmarks.gpu_rows import main
    from eval.running.serial import decode

    main(["--small", "--device", "cpu", "--out", str(tmp_path / "rows")])
    results = [decode(CellResult, each) for each in json.loads((tmp_path / "rows/measured.json").read_text())]
    assert [result.cell.guidance for result in results] == [7.5, 5.0]
    for result in results:
        assert result.measured is not None
        assert result.measured.timing.cold_s
        assert result.measured.timing.images_per_s
        assert result.measured.compute is not None
        assert result.measured.compute.flops_per_image
        assert result.measured.curve is not None
        assert [point.batch for point in result.measured.curve.points][:1] == [1]
    page = (tmp_path / "rows/README.md").read_text()
    assert "| energy, J a picture |  |  |" in page
    assert "NVML tells of NVIDIA GPUs only, not of cpu" in page
    assert "sm_clock_mhz" in (tmp_path / "rows/cells.csv").read_text()


def test_small_rows_never_stand_in_for_the_example() -> None:
    from eval.running.benchmarks.gpu_rows import main

    with pytest.raises(SystemExit):
        main(["--small", "--device", "cpu"])
