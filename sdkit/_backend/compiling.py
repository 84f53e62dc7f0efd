"""Denoisers compiled in place: whoever calls the module runs the compiled code, a pipeline as well as our own loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from sdkit._compile import Mode
from sdkit._errors import GenerationError, ModelError, first_line

# Guided or not, the last batch of a run, and each kind of timestep: every one may compile anew. All models of a
# process share one count; torch's own limit of 8 sends the ninth back to the interpreter.
_RECOMPILES = 64


def denoisers(*pipelines: Any) -> list[torch.nn.Module]:
    """The UNet or transformer of each pipeline that is there.

    Raises:
        ModelError: a pipeline has neither.
    """
    found = []
    for pipeline in pipelines:
        if pipeline is None:
            continue
        module = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
        if not isinstance(module, torch.nn.Module):
            raise ModelError(
                f"model must have a unet or a transformer, {type(pipeline).__name__} has neither"
            )
        found.append(module)
    return found


def compile_denoiser(module: Any, mode: Mode) -> None:
    """Lets the module run compiled code from its next call on, which is when it is compiled."""
    if not mode.compiles:
        return
    if mode.repeated_blocks and _repeats(module):
        module.compile_repeated_blocks(fullgraph=True)
        call = module._call_impl
    else:
        module.compile(mode=mode.tuning)
        call = module._compiled_call_impl
    # What `torch.nn.Module.compile` sets, and `__call__` prefers.
    module._compiled_call_impl = _guarded(call, mode, type(module).__name__)


def fuse_qkv(module: Any) -> bool:
    """Makes the projections of each attention one product, where the module can; True when it did.

    Under a LoRA nothing is fused: diffusers would read the weights below it, and lose it.
    """
    under_lora = any(hasattr(part, "base_layer") for part in module.modules())
    if under_lora or not hasattr(module, "fuse_qkv_projections"):
        return False
    try:
        module.fuse_qkv_projections()
    except ValueError:  # added projections, which diffusers does not fuse
        return False
    return True


def _repeats(module: torch.nn.Module) -> bool:
    names = set(getattr(module, "_repeated_blocks", None) or ())
    return any(type(part).__name__ in names for part in module.modules())


def _guarded(call: Callable[..., Any], mode: Mode, name: str) -> Callable[..., Any]:
    """The call with torch's settings made for its duration only, and with its errors made ours."""
    import torch._dynamo.config
    import torch._inductor.config
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
    from torch.utils._pytree import tree_map_only

    def guarded(*arguments: Any, **options: Any) -> Any:
        with contextlib.ExitStack() as settings:
            settings.enter_context(torch._dynamo.config.patch(recompile_limit=_RECOMPILES))
            if mode.frozen:
                # As an option of torch.compile it comes too late: by then weights are inputs, and stay so.
                settings.enter_context(torch._inductor.config.patch(freezing=True))
            if mode.cloned:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            try:
                output = call(*arguments, **options)
            except (TorchDynamoException, FailOnRecompileLimitHit) as error:
                raise GenerationError(
                    f"compile={mode.name!r} failed on {name}: {first_line(error)}; use compile='off'"
                ) from error
        return tree_map_only(torch.Tensor, torch.clone, output) if mode.cloned else output

    return guarded
