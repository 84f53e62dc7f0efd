"""LoRAs put on a loaded pipeline; embeddings, re-exported.

Every file is read and checked against the pipeline (`lora_fit`) before anything is changed, then handed
to peft under the pipeline's own names, with alpha multiplied in. diffusers' `load_lora_weights` is not
used: it only logs the keys that it leaves out, and initialises from the global generator.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdkit._backend.embeddings import load_embeddings
from sdkit._backend.lora_fit import PARTS, Change, Fit, find_layers, fit_lora
from sdkit._backend.tensor_files import read_tensors
from sdkit._errors import InvalidRequest, ModelError

__all__ = ["LoraFile", "load_embeddings", "load_loras"]

_NAMES_SHOWN = 3
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class LoraFile:
    """A LoRA to be put on, and how strongly."""

    path: Path
    weight: float
    """Factor of its change: 0 is none of it, negative is away from it."""
    name: str
    """How it was given, for messages."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise InvalidRequest(f"weight of LoRA {self.name} must be a finite number, got {self.weight}")


def load_loras(pipeline: Any, loras: Sequence[LoraFile], *, allow_pickle: bool = False) -> tuple[str, ...]:
    """Warnings, one sentence a LoRA, about keys that matched nothing. LoRAs loaded before stay as they are.

    Args:
        pipeline: a diffusers pipeline, before it is compiled or its layers are offloaded one by one.
        allow_pickle: also read pickles, by torch's restricted reader.

    Raises:
        ModelError: a LoRA does not fit, or peft is missing; the pipeline is as it was.
        ModelNotFound: no such file.
        ModelCorrupt: a file that cannot be read.
        UnsafeModel: a pickle, without `allow_pickle`.
    """
    if not loras:
        return ()
    _require_peft()
    notes = []
    fits: list[tuple[LoraFile, Fit]] = []
    for lora in loras:
        file = read_tensors(lora.path, f"LoRA {lora.name}", allow_pickle=allow_pickle)
        fit = fit_lora(pipeline, file)
        fits.append((lora, fit))
        if fit.unmatched:
            notes.append(_unmatched(lora, fit, len(file.tensors)))
    active, added = _active(pipeline), list[str]()
    try:
        for lora, fit in fits:
            # Of weight 0 there is nothing to add, and no layer is faster than one that adds nothing.
            if lora.weight:
                added.append(_free_name(pipeline))
                _inject(pipeline, added[-1], fit.changes, lora.weight)
    except BaseException:
        _remove(pipeline, added, active)
        raise
    return tuple(notes)


def _require_peft() -> None:
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ModelError("LoRAs need peft, which is not installed; pip install 'sdkit-t2i[lora]'") from error


def _unmatched(lora: LoraFile, fit: Fit, keys: int) -> str:
    shown = ", ".join(fit.unmatched[:_NAMES_SHOWN])
    more = ", ..." if len(fit.unmatched) > _NAMES_SHOWN else ""
    return (
        f"LoRA {lora.name}: {len(fit.unmatched)} of its {keys} keys match nothing in this model"
        f" and are left out: {shown}{more}"
    )


def _free_name(pipeline: Any) -> str:
    """A name for peft that none of the pipeline's adapters has."""
    taken = {name for part in PARTS for name in getattr(getattr(pipeline, part, None), "peft_config", ())}
    return next(name for index in range(len(taken) + 1) if (name := f"sdkit_{index}") not in taken)


def _inject(pipeline: Any, name: str, changes: Iterable[Change], weight: float) -> None:
    """One LoRA on with its weight, beside those that are on already."""
    active = _active(pipeline)
    by_part: dict[str, dict[str, Change]] = defaultdict(dict)
    for change in changes:
        by_part[change.part][change.module] = change
    for part, found in by_part.items():
        component = getattr(pipeline, part)
        _inject_part(component, name, found)
        # diffusers and transformers look for adapters only in parts that bear this mark.
        component._hf_peft_config_loaded = True
        for layer in _tuned(component):
            layer.set_adapter([*active.get(layer, ()), name], inference_mode=True)
            layer.set_scale(name, weight)


def _inject_part(component: nn.Module, name: str, changes: Mapping[str, Change]) -> None:
    """peft's layers around those that change. Made on the meta device: nothing is initialised, or drawn."""
    from peft import inject_adapter_in_model, set_peft_model_state_dict

    layers = find_layers(component)
    tensors: dict[str, Tensor] = {}
    for module, change in changes.items():
        down, up = _as_peft(change, layers[module])
        tensors |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # that is what is wanted
        inject_adapter_in_model(
            _peft_config(changes), component, name, low_cpu_mem_usage=True, state_dict=tensors
        )
    result = set_peft_model_state_dict(component, tensors, name, low_cpu_mem_usage=True)
    if result.unexpected_keys:
        raise ModelError(f"peft must take every layer of a LoRA, left out {result.unexpected_keys[0]}")


def _as_peft(change: Change, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """The two matrices in the layer's own kind, dtype and place."""
    down, up = change.down, change.up
    if isinstance(layer, nn.Conv2d):
        down = down.reshape(*down.shape[:2], *layer.kernel_size)
        up = up.reshape(*up.shape[:2], 1, 1)
    else:
        down, up = down.flatten(1), up.flatten(1)
    weight: Any = layer.weight
    dtype = weight.dtype if weight.dtype in _FLOATS else torch.float32
    return (down.to(weight.device, dtype).contiguous(), up.to(weight.device, dtype).contiguous())


def _peft_config(changes: Mapping[str, Change]) -> Any:
    """Settings whose scale is 1 for every layer: alpha is in the matrices."""
    from peft import LoraConfig

    ranks = {module: change.down.shape[0] for module, change in changes.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    # One expression a rank: peft tries every pattern on every layer, and one a layer takes minutes for SDXL.
    others = {
        "^" + _exactly(module for module, own in ranks.items() if own == rank): rank
        for rank in set(ranks.values()) - {usual}
    }
    return LoraConfig(
        r=usual,
        lora_alpha=usual,
        target_modules=_exactly(ranks),
        rank_pattern=others,
        alpha_pattern=others,
        inference_mode=True,
    )


def _exactly(modules: Iterable[str]) -> str:
    return f"(?:{'|'.join(map(re.escape, modules))})"


def _tuned(component: Any) -> list[Any]:
    """peft's layers in a part."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = component.modules() if isinstance(component, nn.Module) else ()
    return [module for module in modules if isinstance(module, BaseTunerLayer)]


def _active(pipeline: Any) -> dict[Any, list[str]]:
    """The adapters that are on, by peft's layer; an injection turns all but its own off."""
    return {
        layer: list(layer.active_adapters)
        for part in PARTS
        for layer in _tuned(getattr(pipeline, part, None))
    }


def _remove(pipeline: Any, names: Iterable[str], active: Mapping[Any, list[str]]) -> None:
    """The adapters gone, and peft's layers with the last of them; those that were on are on again."""
    from diffusers.utils.peft_utils import delete_adapter_layers, recurse_remove_peft_layers

    for part in PARTS:
        component = getattr(pipeline, part, None)
        for layer in _tuned(component):
            layer.set_adapter(active.get(layer, []), inference_mode=True)
        for name in names:
            if name in getattr(component, "peft_config", ()):
                delete_adapter_layers(component, name)
        if isinstance(component, nn.Module) and not getattr(component, "peft_config", None):
            recurse_remove_peft_layers(component)
