"""What a precision of the grid's axis asks of `sdkit.Session`, and where it cannot be had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from eval.measured import Measured
from eval.running.engine import Engine
from eval.running.generator import Generator
from sdkit._errors import InvalidRequest


@dataclass(frozen=True)
class ModelOptions:
    """Arguments of a session."""

    dtype: str
    """Of all that is not quantised: "float32", "float16" or "bfloat16"."""
    quantise: str | None = None
    """"fp8": weights in float8, activations as they come; None quantises nothing."""


@dataclass(frozen=True)
class Loaded:
    """The model in one precision."""

    generator: Generator[Any]
    text: Any
    """The sweep's prompts, encoded by it: one row a prompt."""
    held_bytes: int = 0
    """What its weights hold on the GPU; 0 on a CPU."""
    engine: Engine | None = None
    """None where every batch goes the plain path."""


def model_options(precision: str) -> ModelOptions:
    """The session's arguments for one of `eval.accelerations.PRECISIONS`."""
    return ModelOptions("bfloat16", "fp8") if precision == "fp8" else ModelOptions(precision)


def held_bytes(device: str) -> int:
    """What torch holds on the GPU now; 0 on a CPU, where nobody counts."""
    if not device.startswith("cuda"):
        return 0
    import torch

    return torch.cuda.memory_allocated(device)


def doubt_memory(measured: Measured, precisions: int) -> Measured:
    """The figures, with the process's memory in doubt where it holds the model in several precisions."""
    memory = measured.memory
    if precisions < 2 or memory is None or memory.process_peak_rss_bytes is None:
        return measured
    why = f"the process holds the model's weights in {precisions} precisions"
    told = why if memory.unreliable is None else f"{memory.unreliable}; {why}"
    return replace(measured, memory=replace(memory, unreliable=told))


def refuse_precision(precision: str, device: str) -> None:
    """Raises InvalidRequest where this device or its libraries cannot compute so; nothing falls back in silence."""
    if model_options(precision).quantise is None:
        return
    import torch

    from sdkit._backend.quantising import check_fp8
    from sdkit._device import pick_device

    try:
        check_fp8(pick_device(device), torch.bfloat16)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"grid.precision must be had on {device}, got {precision!r}: {error}; leave it out"
        ) from error
