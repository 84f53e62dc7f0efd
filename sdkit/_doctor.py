"""Facts about this installation: versions, devices, and whether the bundled model is whole.

Nothing fails because something is missing: that is a fact too. No torch until a device is asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import re
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdkit._errors import SdkitError, first_line

if TYPE_CHECKING:
    import torch

DISTRIBUTION = "sdkit-t2i"
_NOT_FOR_USERS = ("test",)
# Where sdkit runs from a folder that was never installed, nothing tells the bounds.
_UNINSTALLED = ("accelerate", "diffusers", "huggingface-hub", "numpy", "pillow", "safetensors", "torch",
                "torchvision", "tqdm", "transformers", "typer")  # fmt: skip
# Import names of what is compiled: a build that does not fit its neighbour is seen only when it is loaded.
_LOADED = ("torch", "torchvision")


@dataclass(frozen=True)
class Package:
    """A distribution that sdkit needs, or can use."""

    name: str
    version: str | None
    """None where it is not installed."""
    bounds: str = ""
    """What sdkit is tested with, such as ">=2.11"; "" is not known."""
    extra: str = ""
    """The extra that brings it; "" is needed by all."""
    state: str = "fine"
    """ "fine", "missing" or "unsupported": its version lies outside the bounds."""

    @property
    def remedy(self) -> str:
        """The command that mends it; "" where nothing is to be mended."""
        if self.state == "fine":
            return ""
        if self.name == "python":
            return f"use Python {self.bounds}"
        wanted = f"{DISTRIBUTION}[{self.extra}]" if self.extra else f"{self.name}{self.bounds}"
        return f"pip install '{wanted}'"


@dataclass(frozen=True)
class Device:
    """Something that a model can run on."""

    id: str
    """As `device=` takes it."""
    name: str
    free_bytes: int | None
    """None where the system does not tell."""
    total_bytes: int | None
    dtype: str
    """What `dtype=None` chooses there."""
    chosen: bool
    """Whether `device=None` chooses it."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, and what mends it."""

    what: str
    remedy: str
    required: bool
    """False where everything else works without it."""


@dataclass(frozen=True)
class Diagnosis:
    """All facts about this installation."""

    sdkit: str
    """Version; "from a clone" where it is not installed."""
    python: str
    platform: str
    cuda: str | None
    """The CUDA that torch is built with; None is a build without."""
    packages: tuple[Package, ...]
    devices: tuple[Device, ...]
    bundled_model: str
    """ "whole", or what is wrong with its files."""
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether all that is required is there, and within its bounds."""
        return not any(finding.required for finding in self.findings)


def diagnose() -> Diagnosis:
    """The facts; this loads torch, to ask for its devices."""
    found = packages()
    findings = [_of_package(package) for package in found if package.state != "fine"]
    present = {package.name for package in found if package.version is not None}
    failures = {name: _load_failure(name) for name in _LOADED if name in present}
    for name, failure in failures.items():
        if failure:
            what = f"{name} is installed and cannot be loaded ({failure})"
            findings.append(Finding(what, "pip install --force-reinstall torch torchvision", required=True))
    bundled = check_bundled()
    if bundled != "whole":
        remedy = f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
        findings.append(Finding(bundled, remedy, required=True))
    has_torch = failures.get("torch") == ""
    return Diagnosis(
        sdkit=sdkit_version(),
        python=platform.python_version(),
        platform=platform.platform(),
        cuda=_cuda_version() if has_torch else None,
        packages=found,
        devices=devices() if has_torch else (),
        bundled_model=bundled,
        findings=(*findings, *(_idle_gpu() if has_torch else ())),
    )


def sdkit_version() -> str:
    """The installed version; "from a clone" where there is none."""
    return _installed(DISTRIBUTION) or "from a clone"


def packages() -> tuple[Package, ...]:
    """Python and every distribution that sdkit's own metadata names, those of an extra last."""
    try:
        own = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return tuple(_package(name, "", "") for name in _UNINSTALLED)
    python = _judged("python", platform.python_version(), (own.get_all("Requires-Python") or [""])[0], "")
    extras = [extra for extra in own.get_all("Provides-Extra") or () if extra not in _NOT_FOR_USERS]
    needed = [
        _package(name, bounds, extra)
        for name, bounds, extra in _requirements(own.get_all("Requires-Dist") or (), extras)
    ]
    return (python, *sorted(needed, key=lambda package: (package.extra, package.name)))


def devices() -> tuple[Device, ...]:
    """Every device that torch sees here, GPUs first."""
    import torch

    from sdkit._device import pick_device

    with warnings.catch_warnings():
        # A driver that torch cannot use is a finding, not a warning.
        warnings.simplefilter("ignore")
        names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    chosen = pick_device(None)
    chosen_id = f"{chosen.type}:{chosen.index or 0}" if chosen.type == "cuda" else chosen.type
    return tuple(_device(name, chosen=name == chosen_id) for name in [*names, "cpu"])


def check_bundled() -> str:
    """ "whole", or what is wrong with the files of the model that ships with sdkit."""
    from sdkit._models import resolve
    from sdkit._spec import ModelSpec

    try:
        resolve(ModelSpec())
    except SdkitError as error:
        return first_line(error)
    return "whole"


def _requirements(lines: Iterable[str], extras: Iterable[str]) -> list[tuple[str, str, str]]:
    """Name, bounds and extra of each requirement that counts on this machine."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        # Without `packaging` the bounds cannot be judged; the names can still be looked for.
        plain = [line for line in lines if ";" not in line]
        return [(re.split(r"[^\w.\-]", line, maxsplit=1)[0], "", "") for line in plain]
    found = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        for extra in ("", *extras):
            if marker is None or marker.evaluate({"extra": extra}):
                found.append((requirement.name, str(requirement.specifier), extra))
                break
    return found


def _package(name: str, bounds: str, extra: str) -> Package:
    return _judged(name, _installed(name), bounds, extra)


def _judged(name: str, version: str | None, bounds: str, extra: str) -> Package:
    # The lower bound first, as people write it.
    bounds = ",".join(sorted((bound.strip() for bound in bounds.split(",")), reverse=True))
    if version is None:
        return Package(name, None, bounds, extra, "missing")
    return Package(name, version, bounds, extra, "fine" if _is_within(version, bounds) else "unsupported")


def _is_within(version: str, bounds: str) -> bool:
    if not bounds:
        return True
    try:
        from packaging.specifiers import SpecifierSet
        from packaging.version import InvalidVersion
    except ImportError:
        return True
    try:
        return SpecifierSet(bounds).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _of_package(package: Package) -> Finding:
    if package.state == "missing":
        what = f"{package.name} is not installed"
    else:
        what = f"{package.name} must be {package.bounds}, got {package.version}"
    if package.extra:
        what += f"; the extra {package.extra!r} needs it"
    return Finding(what, package.remedy, required=not package.extra)


def _load_failure(name: str) -> str:
    """Why an installed package cannot be loaded; "" when it can."""
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken build raises what it likes: OSError, RuntimeError, ImportError
        return first_line(error)
    return ""


def _cuda_version() -> str | None:
    import torch

    return torch.version.cuda


def _idle_gpu() -> list[Finding]:
    """A finding where there is an NVIDIA driver and torch does not use it."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
            return []
    if torch.version.cuda is None:
        what = f"torch {torch.__version__} is built without CUDA, and this machine has an NVIDIA driver"
        return [Finding(what, "pip install --force-reinstall torch torchvision", False)]
    what = (
        f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no GPU, and there is an NVIDIA driver"
    )
    return [Finding(what, "run nvidia-smi; update the driver if it is older than that CUDA", False)]


def _device(name: str, *, chosen: bool) -> Device:
    import torch

    from sdkit._device import device_name, dtype_name, pick_dtype

    device = torch.device(name)
    free_bytes, total_bytes = _memory(device)
    dtype = dtype_name(pick_dtype(None, device))
    return Device(name, device_name(device), free_bytes, total_bytes, dtype, chosen)


def _memory(device: torch.device) -> tuple[int | None, int | None]:
    """Free and total memory in bytes."""
    import torch

    if device.type == "cuda":
        try:
            return torch.cuda.mem_get_info(device)
        except RuntimeError:
            return None, None  # a GPU that another process holds for itself alone
    if device.type == "mps":
        return None, torch.mps.recommended_max_memory()
    try:
        psutil: Any = importlib.import_module("psutil")
    except ImportError:
        return None, None
    memory = psutil.virtual_memory()
    return int(memory.available), int(memory.total)
