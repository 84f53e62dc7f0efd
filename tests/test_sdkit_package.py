"""The package's face: what it exports, and what importing it costs."""

from __future__ import annotations

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
        "Generation",
        "GenerationError",
        "HubUnreachable",
        "InvalidPixels",
        "InvalidRequest",
        "ModelCorrupt",
        "ModelError",
        "ModelNotFound",
        "OutOfMemory",
        "Sampler",
        "SdkitError",
        "Session",
        "TextEmbeddings",
        "Timings",
        "UnknownSampler",
        "generate",
        "samplers",
    ]


@pytest.mark.parametrize("name", sdkit.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(sdkit, name).__doc__


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
