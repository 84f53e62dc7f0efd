"""How trainers name the layers of a LoRA, and which layer of the pipeline each name means. No torch here.

Three spellings are in use: diffusers' and peft's (`unet.mid_block.attentions.0.proj_in.lora_A.weight`),
kohya's, which has underscores for dots (`lora_unet_mid_block_attentions_0_proj_in.lora_down.weight`), and
kohya's for SDXL, which has the block names of the original checkpoints (`lora_unet_middle_block_1_proj_in`).
None is parsed: every layer of the model is listed under each of its names, and the file's are looked up,
so that what is not found is known to match nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

DENOISERS = ("unet", "transformer")
_TEXT_MODEL = "text_model_"
# A prefix, with dots as underscores, and the parts of a pipeline that it may mean. The longer come first.
_PREFIXES = (
    ("lora_unet_", DENOISERS),
    ("lora_transformer_", DENOISERS),
    ("lora_te_", ("text_encoder",)),
    ("lora_te1_", ("text_encoder",)),
    ("lora_te2_", ("text_encoder_2",)),
    ("lora_te3_", ("text_encoder_3", "text_encoder_2")),  # T5, which is FLUX's second
    ("text_encoder_3_", ("text_encoder_3",)),
    ("text_encoder_2_", ("text_encoder_2",)),
    ("text_encoder_", ("text_encoder",)),
    ("base_model_model_", DENOISERS),
    ("diffusion_model_", DENOISERS),
    ("transformer_", DENOISERS),
    ("unet_", DENOISERS),
)
_ROLE = re.compile(
    r"(?P<stem>.+?)(?:\.lora_linear_layer\.|[._]lora[._])(?P<role>down|up|mid|A|B)(?:\.[^.]+)?\.weight"
)
_ROLES = {"A": "down", "B": "up"}
_OTHER_KINDS = {
    "hada_w": "LoHa",
    "lokr_w": "LoKr",
    "oft_": "OFT",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "on_input": "IA3",
}
_LDM_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_LDM_TOP = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
# How diffusers' first LoRAs called a text encoder's projections.
_OLD_PROJECTIONS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


@dataclass(frozen=True)
class Place:
    """Where a layer of a LoRA belongs in a pipeline."""

    parts: tuple[str, ...]
    """Parts that its name may mean; empty when the name has no known prefix."""
    part: str = ""
    module: str = ""
    """Both empty when no layer of the pipeline has this name."""


def split_key(key: str) -> tuple[str, str] | None:
    """A key's layer and what of it the tensor is: "down", "up", "mid" or "alpha"; None for any other key."""
    if key.endswith(".alpha"):
        return key.removesuffix(".alpha"), "alpha"
    match = _ROLE.fullmatch(key)
    return None if match is None else (match["stem"], _ROLES.get(match["role"], match["role"]))


def other_kind(keys: Iterable[str]) -> str | None:
    """The kind of an adapter that is not, or not only, a LoRA: "LoHa", "DoRA" ...; None when it is a LoRA."""
    return next((kind for key in keys for mark, kind in _OTHER_KINDS.items() if f".{mark}" in key), None)


def list_names(part: str, modules: Iterable[str], layers_per_block: int | None) -> dict[str, str]:
    """Every spelling of the part's layers, dots as underscores, and the layer that it means.

    Args:
        layers_per_block: of a UNet whose blocks all have as many; None gives it no names of the LDM kind.
    """
    names: dict[str, str] = {}
    for module in modules:
        for alias in _aliases(part, module, layers_per_block):
            names.setdefault(_plain(part, alias.replace(".", "_")), module)
    return names


def find_place(stem: str, names: Mapping[str, Mapping[str, str]]) -> Place:
    """The layer that a LoRA's layer belongs to.

    Args:
        names: of each part of the pipeline, as `list_names` gives them.
    """
    flat = stem.replace(".", "_")
    known: tuple[str, ...] = ()
    # Without a prefix it is the denoiser's, as in diffusers' first LoRAs; asked first, for a transformer's
    # layers begin with "transformer_" of their own.
    for prefix, parts in (("", DENOISERS), *_PREFIXES):
        if not flat.startswith(prefix):
            continue
        known = known or (parts if prefix else ())
        for part in parts:
            module = names.get(part, {}).get(_plain(part, flat.removeprefix(prefix)))
            if module is not None:
                return Place(parts, part, module)
    return Place(known)


def _plain(part: str, flat: str) -> str:
    """A name without the levels that come and go: `text_model` of CLIP, `processor` of attention."""
    if part.startswith("text_encoder"):
        return flat.removeprefix(_TEXT_MODEL)
    return flat.replace("_processor_", "_")


def _aliases(part: str, module: str, layers_per_block: int | None) -> Iterator[str]:
    yield module
    stem, _, last = module.rpartition(".")
    if part.startswith("text_encoder"):
        if last in _OLD_PROJECTIONS:
            yield f"{stem}.{_OLD_PROJECTIONS[last]}"
        return
    if module.endswith(".to_out.0"):
        yield stem
    if part == "unet" and layers_per_block is not None:
        yield from ldm_names(module, layers_per_block)


def ldm_names(module: str, layers_per_block: int) -> tuple[str, ...]:
    """A UNet layer's names in the original checkpoints (`input_blocks.4.1.proj_in`); none for a few layers.

    Source: the tables by which CompVis' latent-diffusion checkpoints are converted to diffusers.
    """
    if module in _LDM_TOP:
        return (_LDM_TOP[module],)
    if match := _MIDDLE.fullmatch(module):
        kind, index, rest = match.groups()
        # Resnets and attentions take turns: resnet 0, attention 0, resnet 1.
        return (f"middle_block.{2 * int(index) + (kind == 'attentions')}.{_within(kind, rest)}",)
    if match := _BLOCK.fullmatch(module):
        side, block, kind, index, rest = match.groups()
        return _ldm_block(side, int(block), kind, int(index), rest, layers_per_block + 1)
    return ()


def _ldm_block(side: str, block: int, kind: str, index: int, rest: str, stride: int) -> tuple[str, ...]:
    first = stride * block
    if kind == "downsamplers":
        return (f"input_blocks.{first + stride}.0.op",)
    if kind == "upsamplers":
        # It comes after the block's attention where there is one; no attention has a layer named conv.
        return tuple(f"output_blocks.{first + stride - 1}.{place}.conv" for place in (1, 2))
    blocks = f"input_blocks.{first + index + 1}" if side == "down" else f"output_blocks.{first + index}"
    return (f"{blocks}.{int(kind == 'attentions')}.{_within(kind, rest)}",)


def _within(kind: str, rest: str) -> str:
    return _LDM_RESNET.get(rest, rest) if kind == "resnets" else rest
