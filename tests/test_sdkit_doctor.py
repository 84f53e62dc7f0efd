"""The facts about an installation: what is missing is told with what mends it, and never raised."""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sdkit._models
from sdkit._device import pick_device
from sdkit._doctor import (
    Diagnosis,
    Finding,
    Package,
    check_bundled,
    devices,
    diagnose,
    packages,
    sdkit_version,
)
from sdkit._named_models import cached_models, named_models

Pretend = Callable[..., None]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Makes `importlib.metadata` tell other versions; None is not installed."""
    installed = importlib.metadata.version

    def versions(**told: str | None) -> None:
        def version(name: str) -> str:
            if name not in told:
                return installed(name)
            found = told[name]
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(importlib.metadata, "version", version)

    return versions


def _package(name: str) -> Package:
    return next(package for package in packages() if package.name == name)


def _finding(diagnosis: Diagnosis, word: str) -> Finding:
    return next(finding for finding in diagnosis.findings if word in finding.what)


def test_every_requirement_is_named_with_its_version_and_bounds() -> None:
    found = {package.name: package for package in packages()}
    assert {"python", "torch", "diffusers", "transformers", "safetensors"} <= set(found)
    assert found["torch"].version == importlib.metadata.version("torch")
    assert found["diffusers"].bounds == ">=0.42,<0.43"
    assert found["python"].bounds.startswith(">=3.11,<")
    assert found["peft"].extra == "lora"
    assert found["torchsde"].extra == "sde"
    assert "pytest" not in found


def test_a_missing_extra_is_told_with_its_command_and_is_not_required(pretend: Pretend) -> None:
    pretend(peft=None)
    assert _package("peft") == Package("peft", None, ">=0.20", "lora", "missing")
    finding = _finding(diagnose(), "peft")
    assert finding.what == "peft is not installed; the extra 'lora' needs it"
    assert finding.remedy == "pip install 'sdkit-t2i[lora]'"
    assert not finding.required


def test_a_missing_requirement_makes_the_installation_unusable(pretend: Pretend) -> None:
    pretend(diffusers=None)
    diagnosis = diagnose()
    assert not diagnosis.usable
    finding = _finding(diagnosis, "diffusers")
    assert finding == Finding("diffusers is not installed", "pip install 'diffusers>=0.42,<0.43'", True)


@pytest.mark.parametrize(
    ("version", "state"),
    [("0.41.9", "unsupported"), ("0.42.0", "fine"), ("0.42.9", "fine"), ("0.43.0", "unsupported")],
)
def test_a_version_outside_the_bounds_is_named(pretend: Pretend, version: str, state: str) -> None:
    pretend(diffusers=version)
    assert _package("diffusers").state == state
    if state == "unsupported":
        finding = _finding(diagnose(), "diffusers")
        assert finding.what == f"diffusers must be >=0.42,<0.43, got {version}"
        assert finding.required


@pytest.mark.parametrize("version", ["2.11.0+cu130", "2.15.0a0+git1234567", "2.15.0.dev20260101"])
def test_builds_of_torch_with_a_longer_version_are_within_the_bounds(pretend: Pretend, version: str) -> None:
    pretend(torch=version)
    assert _package("torch").state == "fine"


def test_an_unreadable_version_is_unsupported_and_not_an_error(pretend: Pretend) -> None:
    pretend(peft="main")
    assert _package("peft").state == "unsupported"


def test_a_clone_that_was_never_installed_is_examined_without_bounds(
    monkeypatch: pytest.MonkeyPatch, pretend: Pretend
) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", absent)
    pretend(**{"sdkit-t2i": None})
    assert sdkit_version() == "from a clone"
    found = {package.name: package for package in packages()}
    assert found["torch"] == Package("torch", importlib.metadata.version("torch"))


def test_without_packaging_the_requirements_are_still_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    assert _package("diffusers").version == importlib.metadata.version("diffusers")
    assert _package("diffusers").bounds == ""


def test_a_build_that_cannot_be_loaded_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module

    def broken(name: str, package: str | None = None) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nmore")
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", broken)
    diagnosis = diagnose()
    assert not diagnosis.usable
    what = "torchvision is installed and cannot be loaded (operator torchvision::nms does not exist)"
    assert _finding(diagnosis, "torchvision").what == what
    assert diagnosis.devices, "torch itself is whole"


def test_where_torch_cannot_be_loaded_there_are_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module

    def broken(name: str, package: str | None = None) -> Any:
        if name == "torch":
            raise OSError("libcudart.so.13: cannot open shared object file")
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", broken)
    diagnosis = diagnose()
    assert (diagnosis.devices, diagnosis.cuda, diagnosis.usable) == ((), None, False)


def test_devices_are_named_as_the_argument_takes_them_and_one_is_chosen() -> None:
    found = devices()
    assert [str(pick_device(device.id)) for device in found] == [device.id for device in found]
    assert sum(device.chosen for device in found) == 1
    cpu = found[-1]
    assert (cpu.id, cpu.dtype) == ("cpu", "float32")
    assert cpu.free_bytes is not None
    assert cpu.total_bytes is not None
    assert 0 < cpu.free_bytes < cpu.total_bytes


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), "float16"), ((9, 0), "bfloat16")])
def test_a_gpu_comes_first_with_its_memory_and_the_dtype_that_suits_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (3 * 2**30, 4 * 2**30))
    first, second, cpu = devices()
    assert (first.id, first.name, first.dtype, first.chosen) == ("cuda:0", "GPU 0", dtype, True)
    assert (first.free_bytes, first.total_bytes) == (3 * 2**30, 4 * 2**30)
    assert (second.id, second.chosen, cpu.chosen) == ("cuda:1", False, False)


def test_a_gpu_that_another_process_holds_has_no_memory_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def held(_device: torch.device) -> tuple[int, int]:
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", held)
    assert (devices()[0].free_bytes, devices()[0].total_bytes) == (None, None)


def test_a_driver_that_torch_does_not_use_is_a_finding_and_not_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    finding = _finding(diagnose(), "built without CUDA")
    assert (finding.remedy, finding.required) == (
        "pip install --force-reinstall torch torchvision",
        False,
    )


def test_the_bundled_model_is_whole() -> None:
    assert check_bundled() == "whole"


def test_a_cut_file_of_the_bundled_model_makes_the_installation_unusable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = Path(sdkit._models.__file__).parent / "shapes" / "weights" / "pipeline"
    copy = shutil.copytree(whole, tmp_path / "shapes" / "weights" / "pipeline")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    monkeypatch.setattr(sdkit._models, "__file__", str(tmp_path / "_models.py"))
    diagnosis = diagnose()
    assert f"model file {weights} is not whole" in diagnosis.bundled_model
    assert not diagnosis.usable
    assert _finding(diagnosis, "is not whole").remedy.startswith("pip install")
    # The list of models leaves it out, and does not fail.
    assert named_models() == ()


def _cache(folder: Path, kind: str, name: str, **files: str) -> None:
    """A repository in the layout of the hub's local cache: blobs, refs, and a snapshot of links."""
    repository = folder / f"{kind}s--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("a" * 40)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "blobs").mkdir()
    snapshot.mkdir(parents=True)
    for index, (file, text) in enumerate(files.items()):
        blob = repository / "blobs" / f"{index:040x}"
        blob.write_text(text)
        (snapshot / f"{file}.json").symlink_to(blob)


def test_models_of_the_hub_cache_are_those_with_a_pipeline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    index = '{"_class_name": "StableDiffusionXLPipeline"}'
    _cache(tmp_path, "model", "owner/painter", model_index=index, other="{}")
    _cache(tmp_path, "model", "owner/encoder", config="{}")
    _cache(tmp_path, "model", "owner/broken", model_index="{")
    _cache(tmp_path, "dataset", "owner/pictures", model_index=index)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    (model,) = cached_models()
    assert (model.name, model.source) == ("owner/painter", "hub cache")
    assert (model.pipeline, model.size_bytes) == ("StableDiffusionXLPipeline", len(index) + len("{}"))
    assert [model.name for model in named_models()] == ["shapes", "owner/painter"]


def test_without_a_hub_cache_the_bundled_model_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    (model,) = named_models()
    folder = Path(sdkit._models.__file__).parent / "shapes" / "weights" / "pipeline"
    on_disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert (model.name, model.source, model.pipeline) == ("shapes", "bundled", "StableDiffusionPipeline")
    # All but sdkit.json, which holds its defaults and is no part of its contents.
    assert 0 <= on_disk - model.size_bytes < 1000


@pytest.mark.gpu
def test_a_real_gpu_is_named_with_its_memory() -> None:
    first = devices()[0]
    assert first.id == "cuda:0"
    assert first.chosen
    assert first.total_bytes == torch.cuda.get_device_properties(0).total_memory
    assert first.dtype in ("bfloat16", "float16")
