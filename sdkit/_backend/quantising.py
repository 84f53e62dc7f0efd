"""Denoisers in fewer bits: faster, smaller, and not the same pictures; so it is part of a model's fingerprint."""

from __future__ import annotations

import importlib.util

import torch

from sdkit._errors import InvalidRequest

_CAPABILITY = (8, 9)
# Below it, scaling and casting the activations costs more than the product gains.
_MIN_FEATURES = 512
_GRAIN = 16


def check_fp8(device: torch.device, dtype: torch.dtype) -> None:
    """Raises InvalidRequest where float8 products cannot run: another device, another dtype, or no torchao."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _CAPABILITY:
        got = device.type if device.type != "cuda" else torch.cuda.get_device_name(device)
        raise InvalidRequest(f"quantise='fp8' needs a GPU of CUDA compute capability 8.9 or more, got {got}")
    if dtype != torch.bfloat16:
        raise InvalidRequest(
            f"quantise='fp8' needs dtype='bfloat16', got {str(dtype).removeprefix('torch.')}"
        )
    if importlib.util.find_spec("torchao") is None:
        raise InvalidRequest("quantise='fp8' needs torchao, which is not installed; pip install torchao")


def quantise_fp8(module: torch.nn.Module) -> None:
    """Turns the large linear layers to float8, in place: weights once, activations at each call, a scale a row.

    Source: torchao, Float8DynamicActivationFloat8WeightConfig.
    """
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

    # It would change torch's compiler for the whole process.
    config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow(), set_inductor_config=False)
    quantize_(module, config, filter_fn=is_large_linear)


def is_large_linear(module: torch.nn.Module, name: str) -> bool:
    """True for a linear layer that is worth it and that float8 products can take: both sides a multiple of 16."""
    if not isinstance(module, torch.nn.Linear):
        return False
    sides = (module.in_features, module.out_features)
    return min(sides) >= _MIN_FEATURES and not any(side % _GRAIN for side in sides)
