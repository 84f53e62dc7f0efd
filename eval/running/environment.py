"""The machine and the software that a run's figures belong to. Nothing here can fail a run."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from sdkit._cpu import cpu_name

PACKAGES = (
    "torch", "torchvision", "diffusers", "transformers", "open_clip_torch", "torch-fidelity", "torchmetrics",
    "numpy", "scipy", "pandas", "pillow", "safetensors", "hydra-core",
)  # fmt: skip
_ROOT = Path(__file__).resolve().parents[2]


def environment(device_name: str) -> dict[str, str]:
    """What runs here: Python, platform, processor, GPUs, package versions, commit.

    Args:
        device_name: of the device that makes the pictures.
    """
    import torch

    found = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "device": device_name,
        "cpu": f"{cpu_name()}, {os.cpu_count()} logical cores",
        "memory": _memory(),
        "torch threads": str(torch.get_num_threads()),
    }
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        found[f"gpu {index}"] = f"{gpu.name}, {gpu.total_memory / 2**30:.1f} GiB"
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    found |= {package: _version(package) for package in PACKAGES}
    found["commit"] = _commit()
    return found


def _memory() -> str:
    import psutil

    return f"{psutil.virtual_memory().total / 2**30:.1f} GiB"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The project's commit, and whether the working tree differs from it."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return "unknown: not a git clone"
    return f"{commit} ({'dirty' if _git('status', '--porcelain', '--untracked-files=no') else 'clean'})"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
