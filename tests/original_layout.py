"""Writes a diffusers folder as one checkpoint file in the original layout, the inverse of diffusers' loader.

Names follow the authors' own code: CompVis/latent-diffusion for `model.diffusion_model.*`,
`first_stage_model.*` and `cond_stage_model.*`, Stability-AI/generative-models for `conditioner.embedders.*`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]
Configs = dict[str, dict[str, Any]]

_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding": "token_embedding",
    "encoder.layers.": "transformer.resblocks.",
    "final_layer_norm": "ln_final",
    "layer_norm": "ln_",
    "self_attn": "attn",
    "fc1": "c_fc",
    "fc2": "c_proj",
}


def write_original(
    folder: Path,
    file: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    extra: Mapping[str, Tensor] | None = None,
) -> Path:
    """The file, written: all weights of a diffusers folder under their original names.

    Args:
        metadata: of the safetensors header.
        extra: tensors that are written beside the model's own, such as an empty one named "v_pred".
    """
    tensors = {**original_tensors(folder), **(extra or {})}
    # Names that share memory are refused by safetensors.
    save_file(
        {name: value.clone().contiguous() for name, value in tensors.items()}, file, dict(metadata or {})
    )
    return file


def original_tensors(folder: Path) -> Tensors:
    """Original name -> tensor, from the weights of a diffusers folder."""
    weights: dict[str, Tensors] = {}
    for part in _PARTS:
        if found := sorted((folder / part).glob("*.safetensors")):
            weights[part] = {name: value for file in found for name, value in load_file(file).items()}
    return _assemble(weights, _configs(folder))


def full_size_tensors(layout: Path, *, in_channels: int | None = None) -> Tensors:
    """Original name -> tensor without memory, for a folder of configs alone.

    Args:
        in_channels: of the UNet, where it is another than the config's.
    """
    import diffusers
    import transformers

    configs = _configs(layout)
    if in_channels is not None:
        configs["unet"]["in_channels"] = in_channels
    weights = {}
    with torch.device("meta"):
        for part, config in configs.items():
            if part.startswith("text"):
                model_class = getattr(transformers, config["architectures"][0])
                weights[part] = model_class(transformers.CLIPTextConfig(**config)).state_dict()
            else:
                weights[part] = getattr(diffusers, config["_class_name"]).from_config(config).state_dict()
    return _assemble(weights, configs)


def write_sparse(
    tensors: Mapping[str, Tensor], file: Path, *, metadata: Mapping[str, str] | None = None
) -> Path:
    """The file, written with a true header and a hole for its contents: all weights are float16 zeros."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, value in tensors.items():
        start, end = end, end + 2 * value.numel()
        header[name] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    return file


def _configs(folder: Path) -> Configs:
    files = {part: folder / part / "config.json" for part in _PARTS}
    return {part: json.loads(file.read_text()) for part, file in files.items() if file.is_file()}


def _assemble(weights: Mapping[str, Tensors], configs: Configs) -> Tensors:
    """All parts under the prefixes that their authors gave them."""
    whole = _prefixed("model.diffusion_model.", _unet(weights["unet"], configs["unet"]))
    whole |= _prefixed("first_stage_model.", _vae(weights["vae"], configs["vae"]))
    if "text_encoder_2" not in weights:
        # SD 2.x: OpenCLIP, whose last layer the pipeline does not use.
        if configs["text_encoder"].get("hidden_act") == "gelu":
            encoder = _with_unused_layer(_open_clip(weights["text_encoder"]))
            return whole | _prefixed("cond_stage_model.model.", encoder)
        return whole | _prefixed("cond_stage_model.transformer.", _clip(weights["text_encoder"]))
    if "text_encoder" in weights:
        whole |= _prefixed("conditioner.embedders.0.transformer.", _clip(weights["text_encoder"]))
    position = int("text_encoder" in weights)
    return whole | _prefixed(
        f"conditioner.embedders.{position}.model.", _open_clip(weights["text_encoder_2"])
    )


def _prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def _unet(tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    rows = int(config.get("layers_per_block", 2)) + 1
    attending = {int(found[1]) for name in tensors if (found := re.match(r"up_blocks\.(\d+)\.att", name))}
    return {_unet_name(name, rows, attending): value for name, value in tensors.items()}


def _unet_name(name: str, rows: int, attending: set[int]) -> str:
    """The original's blocks are numbered through, `rows` to each of diffusers' blocks."""
    if found := re.match(r"mid_block\.(\w+)\.(\d+)\.(.+)", name):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}.{_resnet(found[3])}"
    if not (found := re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)):
        return _renamed(name, _UNET_ENDS)
    side, block, kind, place, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * rows}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"output_blocks.{(block + 1) * rows - 1}.{2 if block in attending else 1}.{rest}"
    row = block * rows + place
    blocks = f"input_blocks.{1 + row}" if side == "down" else f"output_blocks.{row}"
    return f"{blocks}.0.{_resnet(rest)}" if kind == "resnets" else f"{blocks}.1.{rest}"


def _resnet(rest: str) -> str:
    return _renamed(rest, _RESNET)


def _renamed(name: str, table: Mapping[str, str]) -> str:
    """The name with its beginning replaced, where the table has it."""
    for new, old in table.items():
        if name.startswith(f"{new}."):
            return old + name[len(new) :]
    return name


def _vae(tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    levels = len(config["block_out_channels"])
    return dict(_vae_tensor(name, value, levels) for name, value in tensors.items())


def _vae_tensor(name: str, value: Tensor, levels: int) -> tuple[str, Tensor]:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"samplers\.0\.conv", "sample.conv", name)
    name = re.sub(r"down_blocks\.(\d+)\.(resnets\.)?", r"down.\1.\2", name)
    name = re.sub(r"up_blocks\.(\d+)\.", lambda found: f"up.{levels - 1 - int(found[1])}.", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    name = name.replace(".resnets.", ".block.")
    if ".mid_block.attentions.0." in name:
        side, rest = name.split(".mid_block.attentions.0.")
        name = f"{side}.mid.attn_1.{_renamed(rest, _VAE_ATTENTION)}"
        # The authors wrote these as convolutions of size 1.
        value = value[:, :, None, None] if value.ndim == 2 else value
    return name, value


def _clip(tensors: Tensors) -> Tensors:
    bare = {name.removeprefix("text_model."): value for name, value in tensors.items()}
    places = len(bare["embeddings.position_embedding.weight"])
    bare["embeddings.position_ids"] = torch.arange(places, device=_device(bare))[None]
    return _prefixed("text_model.", bare)


def _open_clip(tensors: Tensors) -> Tensors:
    """transformers' CLIP as OpenCLIP names it: one matrix for q, k and v, the projection transposed."""
    bare = {name.removeprefix("text_model."): value for name, value in tensors.items()}
    named: Tensors = {"logit_scale": torch.zeros((), device=_device(bare))}
    for name, value in bare.items():
        if name == "text_projection.weight":
            named["text_projection"] = value.T.contiguous()
        elif joint := re.fullmatch(r"(.+)\.q_proj\.(weight|bias)", name):
            rows = [bare[f"{joint[1]}.{letter}_proj.{joint[2]}"] for letter in "qkv"]
            named[_open_clip_name(f"{joint[1]}.in_proj_{joint[2]}")] = torch.cat(rows)
        elif not re.search(r"\.[kv]_proj\.", name):
            named[_open_clip_name(name)] = value
    return named


def _open_clip_name(name: str) -> str:
    for new, old in _OPEN_CLIP.items():
        name = name.replace(new, old)
    return name


def _with_unused_layer(tensors: Tensors) -> Tensors:
    rows = [int(found[1]) for name in tensors if (found := re.search(r"resblocks\.(\d+)\.", name))]
    last, width = max(rows), tensors["ln_final.weight"].numel()
    copies = {
        name.replace(f"resblocks.{last}.", f"resblocks.{last + 1}."): value
        for name, value in tensors.items()
        if f"resblocks.{last}." in name
    }
    return {**tensors, **copies, "text_projection": torch.zeros(width, width, device=_device(tensors))}


def _device(tensors: Tensors) -> torch.device:
    return next(iter(tensors.values())).device
