"""Published peaks of devices: dense (no 2:4 sparsity), with float32 accumulation, at the boost clock."""

from __future__ import annotations

import re
from dataclasses import dataclass

from eval.running.stopwatch import Failure


@dataclass(frozen=True)
class DevicePeak:
    """Peaks of one device, in TFLOP/s; None where it has no such unit."""

    half: float
    """float16, and bfloat16 where there is one."""
    tf32: float | None
    single: float
    """float32 outside tensor cores."""
    source: str
    bfloat16: bool = True


_HOPPER = "NVIDIA H100 Tensor Core GPU Architecture whitepaper; H200 datasheet: the same, its memory apart"
_NVL = "NVIDIA H100 NVL / H200 NVL datasheets, half of the figures with sparsity"
_AMPERE = "NVIDIA A100 Tensor Core GPU datasheet"
_ADA = "NVIDIA Ada GPU Architecture whitepaper"

PEAKS = {
    r"NVIDIA (H100 80GB HBM3|H200)": DevicePeak(989.4, 494.7, 66.9, _HOPPER),
    r"NVIDIA H100 PCIe": DevicePeak(756.0, 378.0, 51.0, "NVIDIA H100 PCIe datasheet"),
    r"NVIDIA (H100|H200) NVL": DevicePeak(835.5, 417.5, 60.0, _NVL),
    r"(NVIDIA )?A100-(SXM4|PCIE|PCIe)-[48]0GB|NVIDIA A100 80GB PCIe": DevicePeak(312.0, 156.0, 19.5, _AMPERE),
    r"NVIDIA L4": DevicePeak(121.0, 60.0, 30.3, "NVIDIA L4 datasheet, half of the figures with sparsity"),
    r"NVIDIA L40S": DevicePeak(362.05, 183.0, 91.6, "NVIDIA L40S datasheet"),
    r"NVIDIA GeForce RTX 4090": DevicePeak(165.2, 82.6, 82.6, _ADA),
    r"NVIDIA GeForce RTX 3090": DevicePeak(
        71.0, 35.6, 35.6, "NVIDIA Ampere GA102 GPU Architecture whitepaper"
    ),
    r"Tesla T4": DevicePeak(65.0, None, 8.1, "NVIDIA T4 datasheet", bfloat16=False),
}
"""Whole device names, as torch gives them. A slice of a GPU (MIG) and a mobile or cut-down one bear other names."""


@dataclass(frozen=True)
class Peak:
    """The peak that a run in one number format is held against."""

    flops_per_s: float
    source: str


def device_peak(device_name: str, dtype: str, *, tf32: bool) -> Peak | Failure:
    """The device's peak for "float32", "float16" or "bfloat16"; a Failure where none is listed.

    Args:
        tf32: torch may compute float32 in tensor cores, as it does in convolutions unless told otherwise.
    """
    found = next((peak for name, peak in PEAKS.items() if re.fullmatch(name, device_name)), None)
    if found is None:
        return Failure(f"no published peak is listed for {device_name}")
    if dtype == "float32":
        in_tensor_cores = tf32 and found.tf32 is not None
        peak = found.tf32 if tf32 and found.tf32 is not None else found.single
        unit = "TF32 tensor cores" if in_tensor_cores else "float32"
    elif dtype == "bfloat16" and not found.bfloat16:
        return Failure(f"{device_name} has no bfloat16 units")
    else:
        peak, unit = found.half, dtype
    return Peak(peak * 1e12, f"{found.source} ({unit}, dense)")


def tf32_allowed() -> bool:
    """Whether torch may use TF32 in convolutions or matrix products of this process."""
    import torch

    return bool(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
