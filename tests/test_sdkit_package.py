"""The package's face: what it exports, and what importing it costs."""

from __future__ import annotations

import doctest
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sdkit

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "diffusers", "transformers", "numpy", "PIL")


def test_importing_sdkit_loads_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import sdkit"]
    trace = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stderr
    imported = {line.rsplit("|", 1)[-1].strip().partition(".")[0] for line in trace.splitlines()}
    assert "sdkit" in imported
    assert not imported & set(HEAVY)


def test_checking_a_request_loads_no_torch() -> None:
    code = (
        "import sys, sdkit\n"
        "try: sdkit.generate('a red star', steps=0)\n"
        "except sdkit.InvalidRequest: pass\n"
        "else: raise SystemExit('accepted')\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_the_public_names_are_these() -> None:
    assert sdkit.__all__ == [
        "Batch",
        "Cancelled",
        "Denoiser",
        "Generation",
        "GenerationError",
        "HubUnreachable",
        "InvalidPixels",
        "InvalidRequest",
        "Lora",
        "ModelCorrupt",
        "ModelError",
        "ModelNotFound",
        "NotLinear",
        "OutOfMemory",
        "Request",
        "Sampler",
        "SamplerPlan",
        "SdkitDeprecationWarning",
        "SdkitError",
        "Session",
        "Step",
        "TextEmbeddings",
        "Timings",
        "UnknownSampler",
        "UnsafeModel",
        "generate",
        "read",
        "replay",
        "samplers",
        "unload",
    ]


@pytest.mark.parametrize("name", sdkit.__all__)
def test_every_public_name_has_examples_that_run(name: str) -> None:
    public = getattr(sdkit, name)
    finder = doctest.DocTestFinder(recurse=False)
    (found,) = finder.find(public, name, globs={})
    assert found.examples, f"{name} has no example"
    assert not doctest.DocTestRunner().run(found).failed
    methods = [
        value
        for key, value in vars(public).items()
        if inspect.isclass(public) and inspect.isfunction(value) and not key.startswith("_")
    ]
    for method in methods:
        assert method.__doc__, f"{name}.{method.__name__} has no docstring"
        for test in finder.find(method, f"{name}.{method.__name__}", globs={}):
            assert not doctest.DocTestRunner().run(test).failed


def test_the_public_signatures_are_these() -> None:
    """What a caller may rely on. A change here is a change for every user: see `_errors.deprecate`."""
    found = {}
    for name in sdkit.__all__:
        public = getattr(sdkit, name)
        if inspect.isfunction(public):
            found[name] = list(map(str, inspect.signature(public).parameters.values()))
        elif not issubclass(public, BaseException):
            members = [
                n for n, v in inspect.getmembers(public) if not n.startswith("_") and inspect.isfunction(v)
            ]
            found[name] = list(inspect.signature(public).parameters)
            found |= {f"{name}.{n}": list(inspect.signature(getattr(public, n)).parameters) for n in members}
    pinned = json.loads((Path(__file__).parent / "public_signatures.json").read_text())
    assert found == pinned


def test_every_way_in_takes_the_same_arguments() -> None:
    from sdkit._request import Settings, make_request
    from sdkit._spec import ModelOptions, make_spec

    whole = set(inspect.signature(sdkit.generate).parameters)
    settings, options = set(Settings.__annotations__), set(ModelOptions.__annotations__)
    assert settings == set(inspect.signature(make_request).parameters) - {"prompt", "spec"}
    assert options == set(inspect.signature(make_spec).parameters) - {"model"}
    elsewhere = {"prompt", "model", "device", "dtype", "memory", "compile", "progress", "on_step"}
    assert whole == settings | options | elsewhere
    documented = inspect.getdoc(sdkit.generate) or ""
    assert not [name for name in whole - {"height"} if f"    {name}:" not in documented]


def test_only_the_backend_knows_diffusers() -> None:
    # The bundled model's training, in shapes/, builds its parts from nothing.
    for file in (ROOT / "sdkit").rglob("*.py"):
        if file.parent.name not in ("_backend", "shapes"):
            assert not re.search(r"^\s*(import|from) diffusers", file.read_text(), re.M), (
                f"{file} imports diffusers"
            )
    for file in (ROOT / "eval").rglob("*.py"):
        # A benchmark holds ours against plain diffusers, or builds a model of random weights.
        if file.parent.name != "benchmarks":
            assert not re.search(r"^\s*(import|from) diffusers", file.read_text(), re.M), (
                f"{file} imports diffusers"
            )


def test_the_sdk_never_imports_the_harness_or_its_libraries() -> None:
    for file in (ROOT / "sdkit").rglob("*.py"):
        found = re.findall(r"^\s*(?:import|from) (eval|hydra|omegaconf|pandas|torchmetrics|torch_fidelity)\b",
                           file.read_text(), re.M)  # fmt: skip
        assert not found, f"{file} imports {found}"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'generat'"):
        _ = sdkit.generat  # type: ignore[attr-defined]


def test_every_exception_is_an_sdkit_error_and_a_bad_request_also_a_value_error() -> None:
    errors = [
        getattr(sdkit, n)
        for n in sdkit.__all__
        if n.endswith("Error") or n in ("ModelCorrupt", "OutOfMemory")
    ]
    assert all(issubclass(error, sdkit.SdkitError) for error in errors)
    assert issubclass(sdkit.UnknownSampler, sdkit.InvalidRequest)
    assert issubclass(sdkit.InvalidRequest, ValueError)
    assert not issubclass(sdkit.ModelError, ValueError)
