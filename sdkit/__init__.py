"""A thin, stable Python SDK over text-to-image pipelines: `from sdkit import generate`.

Importing it costs nothing; torch and diffusers are imported when a name is used that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdkit._backend import TextEmbeddings
    from sdkit._errors import (
        GenerationError,
        HubUnreachable,
        InvalidPixels,
        InvalidRequest,
        ModelCorrupt,
        ModelError,
        ModelNotFound,
        OutOfMemory,
        SdkitError,
        UnknownSampler,
    )
    from sdkit._generate import generate
    from sdkit._result import Generation, Timings
    from sdkit._run import Batch
    from sdkit._samplers import Sampler, samplers
    from sdkit._session import Session

__all__ = [
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

_ROOMS = {
    "Batch": "_run",
    "Generation": "_result",
    "Sampler": "_samplers",
    "Session": "_session",
    "TextEmbeddings": "_backend",
    "Timings": "_result",
    "generate": "_generate",
    "samplers": "_samplers",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOMS.get(name, '_errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
