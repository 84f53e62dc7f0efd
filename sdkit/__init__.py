"""A thin, stable Python SDK over text-to-image pipelines: `from sdkit import generate`.

Importing it costs nothing; torch and diffusers are imported when a name is used that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdkit._backend.denoising import Denoiser
    from sdkit._backend.stages import Step
    from sdkit._backend.text import TextEmbeddings
    from sdkit._errors import (
        Cancelled,
        GenerationError,
        HubUnreachable,
        InvalidPixels,
        InvalidRequest,
        ModelCorrupt,
        ModelError,
        ModelNotFound,
        NotLinear,
        OutOfMemory,
        SdkitDeprecationWarning,
        SdkitError,
        UnknownSampler,
        UnsafeModel,
    )
    from sdkit._generate import generate, replay, unload
    from sdkit._plan import SamplerPlan
    from sdkit._record import read
    from sdkit._request import Request
    from sdkit._result import Generation, Timings
    from sdkit._run import Batch
    from sdkit._samplers import Sampler, samplers
    from sdkit._session import Session
    from sdkit._spec import Lora

__all__ = [
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

_ROOMS = {
    "Batch": "_run",
    "Denoiser": "_backend.denoising",
    "Generation": "_result",
    "Lora": "_spec",
    "Request": "_request",
    "Sampler": "_samplers",
    "SamplerPlan": "_plan",
    "Session": "_session",
    "Step": "_backend.stages",
    "TextEmbeddings": "_backend.text",
    "Timings": "_result",
    "generate": "_generate",
    "read": "_record",
    "replay": "_generate",
    "samplers": "_samplers",
    "unload": "_generate",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOMS.get(name, '_errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
