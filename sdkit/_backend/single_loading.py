"""A diffusers pipeline from one checkpoint file in its authors' layout, offline."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sdkit._backend.single_parts import (
    Source,
    Tensors,
    load_scheduler,
    load_text_encoder,
    load_tokenizer,
    load_unet,
    load_vae,
    mapped,
    refuse_holes,
)
from sdkit._backend.tasks import UNWANTED, pipeline_class
from sdkit._checks import check_choice
from sdkit._errors import ModelCorrupt, ModelError, first_line
from sdkit._folders import read_index
from sdkit._pickles import PICKLES
from sdkit._single_file import LAYOUTS, Detected, kind_of, layout_folder, pipeline_of
from sdkit._single_header import read_pickled
from sdkit._spec import PREDICTION_TYPES

_TEXT_PARTS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
_INDEX_OPTIONS = ("force_zeros_for_empty_prompt", "requires_aesthetics_score")


def load_single_file(
    file: Path,
    detected: Detected,
    *,
    config: Path | None = None,
    prediction_type: str | None = None,
    dtype: torch.dtype,
    allow_pickle: bool = False,
) -> Any:
    """The diffusers pipeline, on the CPU, without parts that judge pictures.

    Args:
        detected: what `detect` said of the file.
        config: a diffusers folder that says what the file is made of; None is the shipped one of its layout.
        prediction_type: overrules the file and the config.

    Raises:
        InvalidRequest: a prediction type that does not exist.
        ModelCorrupt: the file cannot be read, or lacks a tensor.
        UnsafeModel: a pickle that is not allowed, or that would run code.
        ModelError: no shipped config fits, or the given one does not.
    """
    if prediction_type is not None:
        check_choice("prediction_type", prediction_type, PREDICTION_TYPES)
    source = Source(file, layout_folder(detected) if config is None else config, dtype)
    index, _ = read_index(source.folder, file.stem)
    cls = pipeline_class(pipeline_of(detected, index["_class_name"]), file.stem)
    if "unet" not in index:
        return _load_whole(source, cls, allow_pickle=allow_pickle)
    tensors = _read_tensors(file, allow_pickle=allow_pickle)
    shipped = source.folder.parent == LAYOUTS
    # A config that was given by hand is believed before the absence of evidence in the file.
    told = detected.prediction_type if shipped or detected.prediction_type == "v_prediction" else None
    size_px = detected.overruled(prediction_type).default_px if shipped else None
    class_name = index["scheduler"][1]
    parts = {
        "unet": load_unet(source, tensors, size_px),
        "vae": load_vae(source, tensors),
        "scheduler": load_scheduler(source, class_name, prediction_type or told, zero_snr=detected.zero_snr),
        **_text_parts(source, tensors, index),
    }
    takes = inspect.signature(cls.__init__).parameters
    options = {**UNWANTED, **{name: index[name] for name in _INDEX_OPTIONS if name in index}, **parts}
    with mapped(source, "pipeline"):
        return cls(**{name: value for name, value in options.items() if name in takes})


def load_single_vae(
    file: Path, config_folder: Path, dtype: torch.dtype, *, allow_pickle: bool = False
) -> Any:
    """The AutoencoderKL of one file, in its authors' layout or in diffusers', on the CPU.

    Args:
        config_folder: a VAE's folder or a pipeline's, whose config.json tells what the VAE is made of.

    Raises:
        ModelError: the file is no VAE and holds none, or another one than the config says; and as
            `load_single_file`.
    """
    tensors = _read_tensors(file, allow_pickle=allow_pickle)
    kind = kind_of(tensors)
    if kind not in ("vae", "checkpoint"):
        raise ModelError(f"vae must be a file that holds a VAE, got {file}, which holds: {kind}")
    return load_vae(Source(file, config_folder, dtype), tensors)


def _read_tensors(file: Path, *, allow_pickle: bool) -> Tensors:
    if file.suffix.lower() in PICKLES:
        return read_pickled(file, device="cpu", allow_pickle=allow_pickle)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(file))
    except (SafetensorError, OSError) as error:
        raise ModelCorrupt(f"model file {file} cannot be read ({first_line(error)}); copy it anew") from error


def _text_parts(source: Source, tensors: Tensors, index: Mapping[str, Any]) -> dict[str, Any]:
    """Text encoders and tokenizers by their names in the pipeline; None where the config has none."""
    origins = {name: index.get(name) or [None, ""] for name in _TEXT_PARTS}
    parts: dict[str, Any] = {}
    for name, (library, class_name) in origins.items():
        if library is None:
            parts[name] = None
        elif name.startswith("tokenizer"):
            parts[name] = load_tokenizer(source.folder / name, class_name)
        else:
            parts[name] = load_text_encoder(source, tensors, name, class_name)
    return parts


def _load_whole(source: Source, cls: Any, *, allow_pickle: bool) -> Any:
    """A pipeline without a UNet, such as SD 3 or FLUX; parts that the file lacks are the folder's."""
    if not hasattr(cls, "from_single_file"):
        raise ModelError(f"{cls.__name__} cannot be loaded from one file; give a diffusers folder")
    if source.file.suffix.lower() in PICKLES:
        # diffusers reads it in the same way, with less to say.
        read_pickled(source.file, device="meta", allow_pickle=allow_pickle)
    with mapped(source, "pipeline"):
        pipeline = cls.from_single_file(
            str(source.file), config=str(source.folder), local_files_only=True, dtype=source.dtype
        )
    for part, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module):
            refuse_holes(source, module, part)
    return pipeline
