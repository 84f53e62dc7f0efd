"""What each command prints: lines for people, and one document for programs. Pure; prints nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdkit._doctor import Device, Diagnosis, Package
from sdkit._named_models import NamedModel
from sdkit._samplers import Sampler

if TYPE_CHECKING:
    from sdkit._request import Request
    from sdkit._result import Generation

OTHER_MODELS = (
    "--model also takes a diffusers folder, a .safetensors file, and a hub id: owner/name, owner/name/FILE"
)


@dataclass(frozen=True)
class Answer:
    """What a command has to say, in both forms."""

    lines: tuple[str, ...]
    document: dict[str, Any]
    exit_code: int = 0
    warnings: tuple[str, ...] = ()


def of_generation(made: Generation, files: Sequence[Path], filmstrip: Path | None) -> Answer:
    """The files that were written, their seeds, and how they came about."""
    written = [
        {"path": str(path), "seed": seed, "prompt": prompt}
        for path, seed, prompt in zip(files, made.seeds, made.prompts, strict=True)
    ]
    lines = [f"{file['path']}  seed {file['seed']}" for file in written]
    if filmstrip is not None:
        lines.append(f"{filmstrip}  filmstrip")
    sampler = made.request.sampler
    run = {
        "model": made.model,
        "fingerprint": made.model_fingerprint,
        "detected": made.detected,
        "sampler": made.sampler,
        "schedule": None if sampler is None else sampler.schedule,
        "steps": made.steps,
        "model_evals": made.model_evals,
        "guidance_scale": made.guidance_scale,
        "guidance_interval": made.request.guidance_interval,
        "width": made.width,
        "height": made.height,
        "device": made.device,
        "dtype": made.dtype,
        "batch_size": made.batch_size,
        "warnings": list(made.warnings),
        "timings": {**asdict(made.timings), "total_s": made.timings.total_s},
    }
    strip = None if filmstrip is None else str(filmstrip)
    document = {"files": written, "filmstrip": strip, "run": run}
    return Answer(tuple(lines), document, warnings=made.warnings)


def describe(request: Request) -> str:
    """What a request will make: "64 x 64 px of 'a red star', seed 7, euler, 20 steps, model shapes"."""
    size = "" if None in (request.width, request.height) else f"{request.width} x {request.height} px of "
    interval = request.guidance_interval
    settings = [
        f"{size}{request.prompts[0]!r}",
        f"seed {request.seed}",
        "" if request.sampler is None else request.sampler.name,
        "" if request.steps is None else f"{request.steps} steps",
        "" if request.guidance_scale is None else f"guidance {request.guidance_scale:g}",
        "" if interval is None else "{:g} < sigma <= {:g}".format(*interval),
        f"model {request.spec.model}",
    ]
    return ", ".join(setting for setting in settings if setting)


def of_samplers(samplers: Sequence[Sampler]) -> Answer:
    """The table of samplers, a row each."""
    rows = [("name", "title", "family", "order", "calls", "noise", "schedules")]
    rows += [
        (s.name, s.title, s.family, str(s.order), s.formula, _nature(s), " ".join(s.schedules))
        for s in samplers
    ]
    return Answer(_table(rows), {"samplers": [_sampler_document(sampler) for sampler in samplers]})


def of_models(models: Sequence[NamedModel]) -> Answer:
    """The models that can be named, and what else can."""
    rows = [(m.name, m.source, _size(m.size_bytes), m.pipeline) for m in models]
    document = {"models": [asdict(model) for model in models], "also": OTHER_MODELS}
    return Answer((*_table(rows), OTHER_MODELS), document)


def of_diagnosis(diagnosis: Diagnosis) -> Answer:
    """The facts about this installation, then what is to be mended, then whether it is usable."""
    cuda = "" if diagnosis.cuda is None else f", torch for CUDA {diagnosis.cuda}"
    lines = [f"sdkit {diagnosis.sdkit}, Python {diagnosis.python}, {diagnosis.platform}{cuda}"]
    lines += _table([_package_row(package) for package in diagnosis.packages])
    lines += _table([_device_row(device) for device in diagnosis.devices])
    lines.append(f"bundled model: {diagnosis.bundled_model}")
    for finding in diagnosis.findings:
        weight = "required" if finding.required else "optional"
        lines.append(f"{weight}: {finding.what}: {finding.remedy}")
    lines.append("usable" if diagnosis.usable else "not usable until what is required is mended")
    packages = [asdict(package) | {"remedy": package.remedy} for package in diagnosis.packages]
    document = asdict(diagnosis) | {"packages": packages, "usable": diagnosis.usable}
    return Answer(tuple(lines), document, 0 if diagnosis.usable else 1)


def of_error(kind: str, message: str, exit_code: int) -> Answer:
    """One line, and what went wrong by kind."""
    return Answer((f"sdkit: {message}",), {"error": {"kind": kind, "message": message}}, exit_code)


def _sampler_document(sampler: Sampler) -> dict[str, Any]:
    return asdict(sampler) | {"options": dict(sampler.options), "calls": sampler.formula}


def _nature(sampler: Sampler) -> str:
    return "stochastic" if sampler.stochastic else "deterministic"


def _package_row(package: Package) -> tuple[str, ...]:
    needed = f"extra {package.extra}" if package.extra else ""
    version = package.version or "-"
    return (
        f"  {package.name}",
        version,
        package.bounds,
        needed,
        "" if package.state == "fine" else package.state,
    )


def _device_row(device: Device) -> tuple[str, ...]:
    memory = [_size(size) if size is not None else "?" for size in (device.free_bytes, device.total_bytes)]
    mark = "*" if device.chosen else " "
    return (f"{mark} {device.id}", device.name, f"{memory[0]} free of {memory[1]}", device.dtype)


def _size(size_bytes: int) -> str:
    if size_bytes >= 2**30:
        return f"{size_bytes / 2**30:.1f} GiB"
    return f"{size_bytes / 2**20:.1f} MiB"


def _table(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Rows as lines, their columns two spaces apart; no spaces at the end."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return tuple(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
