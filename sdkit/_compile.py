"""What `compile=` may say, what each mode does, and which one a device gets by itself. No torch here.

Every mode keeps pictures to rounding: the same operations, fused or laid out otherwise. So a mode is a way of
running, as `memory` is: it is no part of a model's fingerprint, of a cell, or of what a PNG records. On a CPU no
pixel moved by more than one level of 255; the modes of a GPU are not measured yet. The benchmark
`python -m eval.running.benchmarks.compile` prints, for each mode, the seconds it takes to compile, the ratio to "off"
and the largest difference in pixels.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass

from sdkit._checks import check_choice
from sdkit._errors import InvalidRequest


@dataclass(frozen=True)
class Mode:
    """One way to compile a denoiser."""

    name: str
    what: str
    devices: tuple[str, ...]
    """Types of device that it is for."""
    repeated_blocks: bool = False
    """Compile the blocks that repeat, where the model names them: a fraction of the time to compile."""
    tuning: str | None = None
    """The `mode` of `torch.compile`."""
    fused_qkv: bool = False
    """One product for the three projections of each attention."""
    frozen: bool = False
    """Weights as constants of the compiled code: laid out and folded once, and never changed after."""
    cloned: bool = False
    """Outputs are copies: a CUDA graph writes the next one into the same memory, and a scheduler may keep it."""
    compiles: bool = True
    """Whether torch compiles anything: False needs no compiler, no waiting, and calls of no fixed shape."""
    fused_modules: bool = False
    """Modules of denoiser and VAE replaced by ones that take fewer operations."""


OFF = Mode("off", "nothing is compiled", ("cpu", "cuda", "mps"), compiles=False)
_OTHERS = (
    Mode(
        "fused", "nothing is compiled, but operations that can be one are one", ("cpu",),
        compiles=False, fused_modules=True,
    ),
    Mode("default", "repeated blocks, or the whole denoiser", ("cpu", "cuda"), repeated_blocks=True),
    Mode(
        "max", "the whole denoiser, autotuned, QKV fused", ("cuda",),
        tuning="max-autotune-no-cudagraphs", fused_qkv=True,
    ),
    Mode("freeze", "the whole denoiser, weights folded in", ("cpu",), frozen=True),
    Mode(
        "graphs", "the whole denoiser as a CUDA graph, for small batches", ("cuda",),
        tuning="reduce-overhead", cloned=True,
    ),
)  # fmt: skip
MODES = {mode.name: mode for mode in (OFF, *_OTHERS)}
NAMES = ("auto", *MODES)


@dataclass(frozen=True)
class Choice:
    """What "auto" is on a type of device, and the measurement that it rests on."""

    mode: str
    because: str


AUTO = {
    # One core of an EPYC with AVX-512, 16 rows a call, CPU seconds: 4.75 ms a row off, 3.99 frozen, 4.69 default;
    # compiling took 76 s frozen, 11 s default. The whole module unfrozen: 3.91 ms and 52 s. QKV fused: no difference.
    # In bfloat16, which moves pixels, 0.75-0.79 of the time off and 0.49 frozen.
    # Fused, one core of an EPYC (family 26), CPU seconds in turns with off: denoiser 0.76 (64 rows a call, every row
    # through all of it), decoder 0.87 (32). An upsampling convolution alone: 0.46-0.57 at Stable Diffusion's sizes.
    "cpu": Choice(
        "fused",
        "fused takes 0.76 of the time of the denoiser on `shapes` in calls of 64 rows by one thread, 0.95 of 16 rows by"
        " two, 0.85-0.87 of the decoder's, and nothing to begin with; freeze takes 0.80-0.83 of the denoiser's and is"
        " earned back after 2,500 pictures of 20 steps; default takes 0.96-0.98; eval/running/benchmarks/compile.md",
    ),
    "cuda": Choice(
        "off", "not measured yet; `python -m eval.running.benchmarks.compile --device cuda` measures it"
    ),
    "mps": Choice("off", "not measured yet, and no mode is for it"),
}


def pick_mode(name: object, device_type: str, memory: str) -> Mode:
    """The mode of a name on a type of device; None and "auto" are the device's own choice.

    Args:
        device_type: "cpu", "cuda" or "mps".
        memory: "auto", "low" or "high".
    Raises:
        InvalidRequest: no such mode, none for this device or for weights that move, or no compiler is installed.
    """
    asked = check_choice("compile", "auto" if name is None else name, NAMES)
    mode = MODES[AUTO[device_type].mode if asked == "auto" else asked]
    if device_type not in mode.devices:
        there = ", ".join(each.name for each in MODES.values() if device_type in each.devices)
        raise InvalidRequest(f"compile must be one of auto, {there} on {device_type}, got {mode.name!r}")
    if not mode.compiles:
        return mode
    if memory == "low":
        raise InvalidRequest(
            f"compile={mode.name!r} needs weights that stay on the device, got memory='low'; use memory='high'"
        )
    lacking = _lacking(device_type)
    if lacking:
        raise InvalidRequest(f"compile={mode.name!r} needs {lacking}; install it, or use compile='off'")
    return mode


def _lacking(device_type: str) -> str:
    """What has to be installed before torch can compile for a device, in words; "" where nothing is missing."""
    if device_type == "cpu":
        # As torch's inductor looks for it.
        usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        compiler = os.environ.get("CXX", usual)
        return "" if shutil.which(compiler) else f"a C++ compiler, and {compiler} is not to be found"
    if importlib.util.find_spec("triton") is None:
        return "triton, which is not installed"
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang", "cc"]
    if any(map(shutil.which, compilers)):
        return ""
    return f"a C compiler for triton, and {' or '.join(compilers)} is not to be found"
