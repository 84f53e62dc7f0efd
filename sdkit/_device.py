"""Where a model runs and in which numbers, by name; and what running out of memory there becomes."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator

import torch

from sdkit._checks import DTYPES, check_choice
from sdkit._cpu import cpu_name
from sdkit._errors import InvalidRequest, OutOfMemory


def pick_device(name: str | None) -> torch.device:
    """The device of a name such as "cpu", "cuda", "cuda:1" or "mps"; None is a GPU where there is one.

    Raises:
        InvalidRequest: no such device, or not on this machine.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    present = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    known = {*present, *(["cuda"] if len(present) > 1 and present[1].startswith("cuda") else [])}
    if not isinstance(name, str) or name not in known:
        raise InvalidRequest(f"device must be one of {', '.join(present)} on this machine, got {name!r}")
    return torch.device(name)


def pick_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The dtype of a name; None is bfloat16 on a GPU that computes in it, float16 on an older one, else float32.

    Raises:
        InvalidRequest: not one of the three.
    """
    if name is None:
        if device.type != "cuda":
            return torch.float32
        # bfloat16 has float32's range: no VAE overflows in it. Before compute capability 8 it is emulated.
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    dtype: torch.dtype = getattr(torch, check_choice("dtype", name, DTYPES))
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """ "float32", "float16" or "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def device_name(device: torch.device) -> str:
    """The device's own name: "NVIDIA H200", or the CPU's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


@contextlib.contextmanager
def memory_errors(deed: str, device: torch.device) -> Iterator[None]:
    """Turns torch's out-of-memory errors into OutOfMemory; `deed` is what was tried, in words."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        # The CPU's allocator has no exception class of its own.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        peak = _peak(device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        remedy = "lower batch_size or the size, or use memory='low' or a smaller dtype"
        raise OutOfMemory(f"{device} has too little memory to {deed} ({peak}); {remedy}") from error


def _peak(device: torch.device) -> str:
    """How much was in use at most, in words."""
    if device.type == "cuda":
        _, whole_bytes = torch.cuda.mem_get_info(device)
        return f"peak {_gib(torch.cuda.max_memory_allocated(device))} of {_gib(whole_bytes)}"
    import resource

    # Kilobytes on Linux, bytes on macOS.
    unit_bytes = 1 if platform.system() == "Darwin" else 1024
    return f"the process's peak {_gib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes)}"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
