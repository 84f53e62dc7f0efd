"""The parts of a pipeline from one checkpoint file, each checked name by name.

diffusers converts the names. What it would pass over is checked here first: it does not say which tensor is
missing, leaves out layers that a config does not know, and takes SDXL's first text encoder for the second
where both are of one width. So every part is given the tensors of its own prefix, and no others.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdkit._backend.clip_vocabulary import clip_tokenizer
from sdkit._errors import ModelCorrupt, ModelError, ModelNotFound, SdkitError, first_line
from sdkit._single_file import UNET

Tensors = dict[str, Tensor]

_ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection")
_VAE_PREFIXES = ("first_stage_model.", "vae.")
_ENCODER_PREFIXES = {
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    # SDXL's base and its refiner, which has one encoder only.
    "text_encoder_2": ("conditioner.embedders.1.", "conditioner.embedders.0.model."),
}
_BLOCKS = re.compile(r"\b(down_blocks|mid_block|up_blocks)\.")
# Some files of 2022 lack one level in the names of the text encoder.
_OLD_ENCODER = re.compile(r"^(cond_stage_model\.transformer\.)(?=embeddings|encoder|final_layer_norm)")
# A VAE's attention, as diffusers named it before 0.18.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class Source:
    """Where the parts of a pipeline come from."""

    file: Path
    folder: Path
    """Holds the configs."""
    dtype: torch.dtype


def load_unet(source: Source, tensors: Tensors, size_px: int | None) -> Any:
    """The UNet, with as many input channels as the file has; `size_px` overrules the config's size."""
    import diffusers
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    own = {name: value for name, value in tensors.items() if name.startswith(UNET)}
    options = {} if size_px is None else {"sample_size": size_px // 8}
    first = own.get(f"{UNET}input_blocks.0.0.weight")
    if first is not None and first.ndim == 4:
        # Inpainting and InstructPix2Pix differ from the config in nothing else.
        options["in_channels"] = first.shape[1]
    return _model(source, diffusers.UNet2DConditionModel, "unet", own, convert_ldm_unet_checkpoint, options)


def load_vae(source: Source, tensors: Tensors) -> Any:
    """The AutoencoderKL of a checkpoint, or of a VAE's own file in either naming."""
    import diffusers
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    if any(name.startswith((UNET, *_VAE_PREFIXES)) for name in tensors):
        prefix = _prefix(source, tensors, "vae", _VAE_PREFIXES)
        tensors = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}

    def convert(checkpoint: Tensors, config: Mapping[str, Any]) -> Tensors:
        if not any(map(_BLOCKS.search, checkpoint)):
            return dict(convert_ldm_vae_checkpoint(checkpoint, config))
        old = re.compile(rf"(?<=\.attentions\.0\.)({'|'.join(_OLD_ATTENTION)})(?=\.)")
        return {old.sub(lambda found: _OLD_ATTENTION[found[0]], n): value for n, value in checkpoint.items()}

    return _model(source, diffusers.AutoencoderKL, "vae", tensors, convert, {})


def _model(
    source: Source,
    model_class: Any,
    part: str,
    tensors: Tensors,
    convert: Callable[[Tensors, Mapping[str, Any]], Tensors],
    options: Mapping[str, int],
) -> Any:
    """One of diffusers' models: names converted, compared with what the config asks for, then loaded."""
    from accelerate import init_empty_weights

    where = {"subfolder": part} if (source.folder / part).is_dir() else {}
    with mapped(source, part):
        config = model_class.load_config(source.folder, local_files_only=True, **where)
        with init_empty_weights():
            empty = model_class.from_config({**config, **options})
        wanted = empty.state_dict()
        weights = convert(dict(tensors), dict(empty.config))
    _compare(source, part, wanted, weights)
    exact = {name: weights[name] for name in wanted}
    with mapped(source, part):
        return model_class.from_single_file(
            exact, config=str(source.folder), local_files_only=True, dtype=source.dtype, **where, **options
        )


def _compare(source: Source, part: str, wanted: Mapping[str, Tensor], weights: Tensors) -> None:
    """Raises when the file's tensors are not those of the config; names outside blocks are free."""
    for name, empty in wanted.items():
        if name in weights and weights[name].shape != empty.shape:
            raise ModelError(
                f"model file {source.file} does not fit config {source.folder}: {name} of its {part} is"
                f" {tuple(weights[name].shape)}, and {tuple(empty.shape)} by the config"
            )
    if missing := next((name for name in wanted if name not in weights), None):
        raise _lacks(source, part, missing)
    if surplus := next((name for name in weights if name not in wanted and _BLOCKS.search(name)), None):
        raise ModelError(
            f"model file {source.file} does not fit config {source.folder}, whose {part} has no {surplus}"
        )


def load_text_encoder(source: Source, tensors: Tensors, part: str, class_name: str) -> Any:
    """The CLIP text encoder that the pipeline calls `part`."""
    import transformers
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

    if class_name not in _ENCODERS:
        raise ModelError(f"{part} of a single file must be a {' or '.join(_ENCODERS)}, got {class_name}")
    # transformers takes its own defaults, in silence, where there is no file.
    if not (source.folder / part / "config.json").is_file():
        raise ModelNotFound(f"config folder {source.folder / part} must hold config.json")
    prefix = _prefix(source, tensors, part, _ENCODER_PREFIXES[part])
    own = {
        _OLD_ENCODER.sub(r"\1text_model.", name): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    with mapped(source, part):
        encoder = create_diffusers_clip_model_from_ldm(
            getattr(transformers, class_name),
            own,
            subfolder=part,
            config=str(source.folder),
            torch_dtype=source.dtype,
            local_files_only=True,
        )
    return refuse_holes(source, encoder, part)


def load_tokenizer(folder: Path, class_name: str) -> Any:
    """The folder's tokenizer, or CLIP's own where the folder holds settings alone."""
    import transformers

    settings = folder / "tokenizer_config.json"
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        if not settings.is_file():
            raise ModelNotFound(f"config folder {folder} must hold tokenizer_config.json")
        return clip_tokenizer(settings)
    try:
        return getattr(transformers, class_name).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"tokenizer {folder} cannot be loaded: {first_line(error)}") from error


def load_scheduler(source: Source, class_name: str, prediction_type: str | None, *, zero_snr: bool) -> Any:
    """The config's scheduler, under another prediction type where one is given."""
    import diffusers

    with mapped(source, "scheduler"):
        scheduler_class = getattr(diffusers, class_name)
        config = dict(
            scheduler_class.load_config(source.folder, subfolder="scheduler", local_files_only=True)
        )
        if prediction_type is not None:
            config["prediction_type"] = prediction_type
        if zero_snr:
            # Kept in the config where the class does not know it: another scheduler, built from it, may.
            config["rescale_betas_zero_snr"] = True
        return scheduler_class.from_config(config)


def _prefix(source: Source, tensors: Tensors, part: str, known: tuple[str, ...]) -> str:
    """The first of the known prefixes that the file has."""
    for prefix in known:
        if any(name.startswith(prefix) for name in tensors):
            return prefix
    raise _lacks(source, part, "every tensor")


def refuse_holes(source: Source, module: torch.nn.Module, part: str) -> torch.nn.Module:
    """The module; raises ModelCorrupt where a tensor of it was left empty."""
    hole = next((name for name, parameter in module.named_parameters() if parameter.is_meta), None)
    if hole is not None:
        raise _lacks(source, part, hole)
    return module


def _lacks(source: Source, part: str, name: str) -> ModelCorrupt:
    return ModelCorrupt(
        f"model file {source.file} lacks {name} of its {part}; download it anew, or give a config= that fits"
    )


@contextlib.contextmanager
def mapped(source: Source, part: str) -> Iterator[None]:
    """Turns what diffusers and transformers raise into one of our errors, which names the part."""
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    try:
        yield
    except (SdkitError, torch.OutOfMemoryError):
        raise
    except KeyError as error:
        raise _lacks(source, part, str(error.args[0])) from error
    except SingleFileComponentError as error:
        raise ModelCorrupt(f"model file {source.file} lacks its {part}: {first_line(error)}") from error
    except (OSError, ValueError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        raise ModelError(
            f"model file {source.file} does not load by config {source.folder}, {part}: {first_line(error)}"
        ) from error
