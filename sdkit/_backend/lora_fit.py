"""Whether a LoRA fits a pipeline, and what it would change there."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdkit._backend.lora_keys import DENOISERS, find_place, list_names, other_kind, split_key
from sdkit._backend.tensor_files import TensorFile
from sdkit._errors import ModelCorrupt, ModelError

PARTS = (*DENOISERS, "text_encoder", "text_encoder_2", "text_encoder_3")
_FAMILIES = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
"""By the width of the text that their UNets attend to."""
_READS_TEXT = re.compile(r"attn2[._](processor[._])?to_[kv]")
_CHECKPOINT = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")
_DENOISER = ("conv_in.weight", "x_embedder.weight")
_DIFFUSERS_NOTE = "lora_adapter_metadata"
_TRAINED_ON = ("ss_base_model_version", "modelspec.architecture")
"""Where trainers note the family of the model that they trained on."""


@dataclass(frozen=True)
class Change:
    """What a LoRA does to one layer: its weight gains `up @ down`."""

    part: str
    module: str
    down: Tensor
    """(rank, in), or (rank, in, height, width) for a convolution."""
    up: Tensor
    """(out, rank), or (out, rank, 1, 1); alpha / rank is multiplied in."""


@dataclass(frozen=True)
class Fit:
    """What was found of a LoRA, all of which fits."""

    changes: tuple[Change, ...]
    unmatched: tuple[str, ...]
    """Keys of the file that no layer of the pipeline answers to."""
    meant: frozenset[tuple[str, ...]]
    """For each prefix of the file's names, the parts that it may mean."""


def fit_lora(pipeline: Any, file: TensorFile) -> Fit:
    """The LoRA's changes, each checked against its layer.

    Raises:
        ModelError: it is no LoRA, matches nothing, or was made for another family of models.
    """
    _refuse_other_kinds(file)
    model = f"{file.name} does not fit model {_model_name(pipeline)}"
    _refuse_text_width(pipeline, file, model)
    layers = {part: find_layers(getattr(pipeline, part, None)) for part in PARTS}
    names = {
        part: list_names(part, found, _layers_per_block(pipeline, part)) for part, found in layers.items()
    }
    fit = _match(file, names)
    if fit.unmatched and getattr(pipeline, "transformer", None) is not None:
        # Their trainers' spellings, with queries, keys and values in one matrix, are diffusers' to know.
        more = _match(_converted(pipeline, file, fit.unmatched), names)
        if more.changes:
            fit = Fit((*fit.changes, *more.changes), more.unmatched, fit.meant | more.meant)
    if not fit.changes:
        raise ModelError(f"{model}: none of its {len(file.tensors)} keys names a layer of it{_origin(file)}")
    _refuse_strange_parts(pipeline, fit, file, model)
    for change in fit.changes:
        _refuse_shape(layers[change.part][change.module], change, model + _origin(file))
    return fit


def find_layers(component: Any) -> dict[str, nn.Module]:
    """The layers of a part that a LoRA can change, by name; those that peft has wrapped, unwrapped."""
    if not isinstance(component, nn.Module):
        return {}
    found: dict[str, nn.Module] = {}
    for name, module in component.named_modules():
        base = getattr(module, "base_layer", module)
        if isinstance(base, (nn.Linear, nn.Conv2d)) and not re.search(r"\.(base_layer|lora_[AB])\b", name):
            found[name] = base
    return found


def _match(file: TensorFile, names: Mapping[str, Mapping[str, str]]) -> Fit:
    stems: dict[str, dict[str, str]] = defaultdict(dict)
    unmatched = []
    for key in file.tensors:
        split = split_key(key)
        if split is None:
            unmatched.append(key)
        else:
            stems[split[0]][split[1]] = key
    changes: dict[tuple[str, str], Change] = {}
    meant = set()
    for stem, keys in stems.items():
        place = find_place(stem, names)
        where = place.part, place.module
        if place.module and {"down", "up"} <= keys.keys() and where not in changes:
            changes[where] = _change(file, keys, *where)
        else:
            unmatched += keys.values()
        if place.parts:
            meant.add(place.parts)
    return Fit(tuple(changes.values()), tuple(unmatched), frozenset(meant))


def _change(file: TensorFile, keys: Mapping[str, str], part: str, module: str) -> Change:
    found = {role: file.tensors[key].float() for role, key in keys.items()}
    down, up = found["down"], found["up"]
    rank = max(down.shape[0], 1) if down.ndim else 1
    try:
        if "mid" in found:
            # A convolution in three: 1 x 1 down, k x k between, 1 x 1 up. The first two are one.
            down = torch.einsum("mjhw,ji->mihw", found["mid"], down.reshape(down.shape[:2]))
        scale = found["alpha"].item() if "alpha" in found else None
    except RuntimeError as error:
        raise ModelCorrupt(
            f"{file.name} must hold factors that fit together, not at {keys['down']}"
        ) from error
    return Change(
        part, module, down, up * (_noted_scale(file, part, module, rank) if scale is None else scale / rank)
    )


def _noted_scale(file: TensorFile, part: str, module: str, rank: int) -> float:
    """The factor that diffusers' newer files note in their header; without a note it is 1."""
    try:
        notes = json.loads(file.notes.get(_DIFFUSERS_NOTE, "{}"))
        alpha = notes.get(f"{part}.lora_alpha")
        if alpha is None:
            return 1.0
        for pattern, own in (notes.get(f"{part}.alpha_pattern") or {}).items():
            if f".{module}".endswith(f".{pattern.removeprefix('^').removeprefix('text_model.')}"):
                alpha = own
        return float(alpha) / (math.sqrt(rank) if notes.get(f"{part}.use_rslora") else rank)
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelCorrupt(f"{file.name} must note peft's settings as JSON in {_DIFFUSERS_NOTE}") from error


def _converted(pipeline: Any, file: TensorFile, keys: Iterable[str]) -> TensorFile:
    """These keys of the file in diffusers' spelling; as they are, where diffusers does not know them."""
    from sdkit._backend.loading import hushed

    tensors = {key: file.tensors[key] for key in keys}
    try:
        with hushed():
            found = pipeline.lora_state_dict(dict(tensors))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RuntimeError, IndexError):
        found = tensors
    return TensorFile(file.name, found[0] if isinstance(found, tuple) else found, file.notes)


def _layers_per_block(pipeline: Any, part: str) -> int | None:
    """None where there is no UNet, or one whose blocks differ."""
    config = getattr(getattr(pipeline, part, None), "config", None)
    layers = getattr(config, "layers_per_block", None)
    return layers if isinstance(layers, int) else None


def _refuse_other_kinds(file: TensorFile) -> None:
    kind = other_kind(file.tensors)
    if kind is not None:
        raise ModelError(f"{file.name} must be a plain LoRA, got a {kind}, which is not supported")
    if any(split is not None and split[1] == "down" for split in map(split_key, file.tensors)):
        return
    keys = list(file.tensors)
    if any(key.startswith(_CHECKPOINT) or key in _DENOISER for key in keys):
        raise ModelError(f"{file.name} must be a LoRA, got a whole model; give it as model=")
    if {"emb_params", "clip_l", "clip_g"} & set(keys) or (len(keys) == 1 and file.tensors[keys[0]].ndim <= 2):
        raise ModelError(f"{file.name} must be a LoRA, got a textual inversion; give it as an embedding")
    first = f"its first key is {keys[0]}" if keys else "it is empty"
    raise ModelError(f"{file.name} must be a LoRA, got no key of one; {first}")


def _refuse_text_width(pipeline: Any, file: TensorFile, model: str) -> None:
    """The surest sign of a family, even where no layer has a name that is known."""
    ours = getattr(getattr(getattr(pipeline, "unet", None), "config", None), "cross_attention_dim", None)
    for key, tensor in file.tensors.items():
        split = split_key(key)
        if isinstance(ours, int) and split and split[1] == "down" and _READS_TEXT.search(split[0]):
            theirs = tensor.shape[1] if tensor.ndim > 1 else 0
            if theirs != ours:
                family = f"it is made for {_FAMILIES[theirs]} (its " if theirs in _FAMILIES else "(its "
                raise ModelError(f"{model}: {family}text width is {theirs}), this model's is {ours}")


def _refuse_strange_parts(pipeline: Any, fit: Fit, file: TensorFile, model: str) -> None:
    """Raises ModelError when a part of the LoRA matches nothing: text encoders are alike across families."""
    found = {change.part for change in fit.changes}
    for parts in sorted(fit.meant):
        ours = {part: getattr(pipeline, part) for part in parts if part in pipeline.components}
        if not found.isdisjoint(parts) or (ours and None in ours.values()):  # loaded without it
            continue
        why = f"a {min(ours)} with other layers than" if ours else f"a {parts[0]}, which is no part of"
        raise ModelError(f"{model}: it changes {why} this model's{_origin(file)}")


def _refuse_shape(layer: nn.Module, change: Change, model: str) -> None:
    """Raises ModelError unless `up @ down` has the shape of the layer's weight, but for ones at the end."""
    up, down, ours = change.up.shape, change.down.shape, _shape(layer)
    theirs = (*up[:1], *down[1:])
    where = f"{model}: its {change.part}.{change.module}"
    if len(up) < 2 or up[1:2] != down[:1] or not up[1] or up[2:].numel() != 1:
        raise ModelError(f"{where} has factors that are no LoRA's, up {tuple(up)} and down {tuple(down)}")
    if _bare(theirs) != _bare(ours):
        got, here = (" x ".join(map(str, shape)) for shape in (theirs, ours))
        raise ModelError(f"{where} is {got}, this model's is {here}")


def _shape(layer: nn.Module) -> tuple[int, ...]:
    """Of the weight, as it was before any quantisation."""
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size
    assert isinstance(layer, nn.Linear)
    return layer.out_features, layer.in_features


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A 1 x 1 convolution is a linear layer: some trainers write one, some the other."""
    return shape[:2] if all(size == 1 for size in shape[2:]) else shape


def _origin(file: TensorFile) -> str:
    said = next((file.notes[key] for key in _TRAINED_ON if file.notes.get(key)), None)
    return "" if said is None else f" (its header says {said[:40]})"


def _model_name(pipeline: Any) -> str:
    return Path(getattr(pipeline, "name_or_path", None) or type(pipeline).__name__).name
