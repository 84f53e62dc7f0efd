"""LoRA and embedding files as the trainers in use write them, and the same change added to plain weights.

Nothing here is shared with sdkit: the names are written out, so that they can tell when sdkit's are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

# float32 rounding: the largest difference measured between peft's layers and the change added by hand is
# 4.1e-6, of latents up to 6.7; this is ten times that, and a thousandth of what the smallest LoRA here moves.
CLOSE = {"rtol": 0.0, "atol": 4e-5}
MOVED = 1e-2
SD, SDXL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
PARTS = {SD: ("unet", "text_encoder"), SDXL: ("unet", "text_encoder", "text_encoder_2")}
Load = Callable[[str], Any]
"""Loads a plain pipeline by its class's name."""
KOHYA_PARTS = {
    SD: {"unet": "lora_unet", "text_encoder": "lora_te"},
    SDXL: {
        "unet": "lora_unet",
        "text_encoder": "lora_te1",
        "text_encoder_2": "lora_te2",
    },
}
# Of a UNet with two levels, one layer a block, and attention in the outer one, as the tiny models have it.
LDM_BLOCKS = {
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "up_blocks.1.attentions.1": "output_blocks.3.1",
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
LDM_RESNET = {
    ".conv1": ".in_layers.2",
    ".conv2": ".out_layers.3",
    ".time_emb_proj": ".emb_layers.1",
    ".conv_shortcut": ".skip_connection",
}


@dataclass(frozen=True)
class LoraLayer:
    """The change of one layer: alpha / rank * up @ down."""

    part: str
    module: str
    """As diffusers and transformers have named it for long: a text encoder's begins with text_model."""
    down: Tensor
    up: Tensor
    alpha: float

    @property
    def scale(self) -> float:
        return self.alpha / self.down.shape[0]

    def delta(self) -> Tensor:
        """In float64: (out, in) or (out, in, height, width)."""
        product = self.up.double().flatten(1) @ self.down.double().flatten(1)
        return self.scale * product.reshape(self.up.shape[0], *self.down.shape[1:])


def make_layers(
    pipeline: Any,
    parts: Iterable[str],
    *,
    ranks: Sequence[int] = (2, 3),
    alphas: Sequence[float] = (1.0, 4.0, 1.5),
    only: str = "",
    seed: int = 0,
    size: float = 0.1,
) -> list[LoraLayer]:
    """Random changes of all layers whose names hold `only`; ranks and alphas take turns."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[LoraLayer] = []
    for part in parts:
        for name, module in getattr(pipeline, part).named_modules():
            if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d) or only not in name:
                continue
            rank = ranks[len(layers) % len(ranks)]
            shape, ones = module.weight.shape, (1,) * (module.weight.ndim - 2)
            down = torch.randn((rank, *shape[1:]), generator=generator) * size
            up = torch.randn((shape[0], rank, *ones), generator=generator) * size
            layers.append(LoraLayer(part, old_name(part, name), down, up, alphas[len(layers) % len(alphas)]))
    return layers


def old_name(part: str, module: str) -> str:
    """The layer's name with the level `text_model`, whether or not the installed transformers has it."""
    if not part.startswith("text_encoder") or module.startswith(("text_model.", "text_projection")):
        return module
    return f"text_model.{module}"


def ldm_name(module: str) -> str:
    """The name of a tiny UNet's layer in the original checkpoints."""
    for ours, theirs in LDM_BLOCKS.items():
        if module == ours or module.startswith(f"{ours}."):
            rest = module.removeprefix(ours)
            return theirs + (LDM_RESNET.get(rest, rest) if "resnets" in ours else rest)
    raise KeyError(module)


def kohya_tensors(layers: Iterable[LoraLayer], pipeline: str, *, ldm: bool = False) -> dict[str, Tensor]:
    """As kohya's trainers write them: underscores, down, up and alpha; `ldm` for SDXL's block names."""
    tensors = {}
    for layer in layers:
        module = ldm_name(layer.module) if ldm and layer.part == "unet" else layer.module
        stem = f"{KOHYA_PARTS[pipeline][layer.part]}_{module}".replace(".", "_")
        tensors[f"{stem}.lora_down.weight"] = layer.down
        tensors[f"{stem}.lora_up.weight"] = layer.up
        tensors[f"{stem}.alpha"] = torch.tensor(layer.alpha)
    return tensors


def peft_tensors(layers: Iterable[LoraLayer]) -> dict[str, Tensor]:
    """As diffusers writes them today: lora_A and lora_B, alpha multiplied in."""
    tensors = {}
    for layer in layers:
        tensors[f"{layer.part}.{layer.module}.lora_A.weight"] = layer.down
        tensors[f"{layer.part}.{layer.module}.lora_B.weight"] = layer.up * layer.scale
    return tensors


def old_diffusers_tensors(layers: Iterable[LoraLayer]) -> dict[str, Tensor]:
    """As diffusers wrote them in 2023, alpha multiplied in: attention layers of a processor."""
    tensors = {}
    projections = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
    for layer in layers:
        stem, _, last = layer.module.removesuffix(".0").rpartition(".")
        stem = f"{stem}.processor" if layer.part == "unet" else stem
        whole = f"{layer.part}.{stem}.{projections.get(last, last)}_lora"
        tensors[f"{whole}.down.weight"] = layer.down
        tensors[f"{whole}.up.weight"] = layer.up * layer.scale
    return tensors


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """The path, with the tensors there as safetensors."""
    save_file({key: value.clone().contiguous() for key, value in tensors.items()}, path, dict(metadata or {}))
    return path


def write_kohya(path: Path, layers: Iterable[LoraLayer], pipeline: str, *, ldm: bool = False) -> Path:
    """The path, with the LoRA there as kohya's trainers write it."""
    return write(path, kohya_tensors(layers, pipeline, ldm=ldm), {"ss_network_module": "networks.lora"})


def write_peft(path: Path, layers: Iterable[LoraLayer]) -> Path:
    """The path, with the LoRA there as diffusers writes it."""
    return write(path, peft_tensors(layers), {"format": "pt"})


@torch.no_grad()
def add_by_hand(pipeline: Any, layers: Iterable[LoraLayer], weight: float = 1.0) -> None:
    """The change added into the plain weights of a pipeline without adapters."""
    for layer in layers:
        modules = dict(getattr(pipeline, layer.part).named_modules())
        module = modules.get(layer.module) or modules[layer.module.removeprefix("text_model.")]
        module.weight.add_((weight * layer.delta()).to(module.weight.dtype))


def open_pipeline(folder: Path) -> Any:
    """A plain pipeline of the folder's own class, as diffusers loads it."""
    import diffusers

    options = {} if "xl" in folder.name else {"safety_checker": None}
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latents(pipeline: Any, prompt: str = "red star") -> Tensor:
    """(1, 4, h, w) after two guided steps."""
    return pipeline(
        prompt,
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        height=32,
        width=32,
        output_type="latent",
        return_dict=False,
    )[0]


def text(pipeline: Any, prompt: str | list[str] = "red star") -> list[Tensor]:
    """All that the pipeline makes of a prompt, or of several."""
    with torch.no_grad():
        found = pipeline.encode_prompt(
            prompt=prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    return [part for part in found if part is not None]


def state(pipeline: Any) -> dict[str, Tensor]:
    """A copy of every tensor that an adapter could change, by part and name."""
    return {
        f"{part}.{name}": value.clone()
        for part in ("unet", "text_encoder", "text_encoder_2")
        if getattr(pipeline, part, None) is not None
        for name, value in getattr(pipeline, part).state_dict().items()
    }


def assert_untouched(pipeline: Any, before: Mapping[str, Tensor]) -> None:
    """Fails unless the pipeline's tensors are, by name and bit, those of `before`."""
    after = state(pipeline)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def moved(a: Tensor, b: Tensor) -> bool:
    """Whether two results differ by far more than rounding."""
    return bool((a - b).abs().max() > MOVED)
