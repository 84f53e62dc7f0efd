"""From a checked folder to a diffusers pipeline on its device, with diffusers' errors made ours."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch

from sdkit._errors import ModelCorrupt, ModelError, first_line
from sdkit._models import ModelFolder

_XL = "StableDiffusionXLPipeline"
_WEIGHED = ("unet", "vae", "text_encoder", "text_encoder_2")


def load_pipeline(folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline on its device, without the parts that judge pictures, its progress bar off.

    Raises:
        ModelCorrupt: weights that cannot be read, or that lack a tensor.
        ModelError: whatever else keeps diffusers from building it.
    """
    import diffusers
    from safetensors import SafetensorError

    options: dict[str, Any] = {"feature_extractor": None, "image_encoder": None, "variant": folder.variant}
    if folder.pipeline == _XL:
        options["add_watermarker"] = False
    else:
        options |= {"safety_checker": None, "requires_safety_checker": False}
    pipeline_class = getattr(diffusers, folder.pipeline)
    try:
        pipeline = pipeline_class.from_pretrained(
            folder.path, dtype=dtype, use_safetensors=True, local_files_only=True, **options
        )
    except torch.OutOfMemoryError:
        raise
    except SafetensorError as error:
        raise ModelCorrupt(
            f"model {folder.path} cannot be read: {first_line(error)}; copy it anew"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError) as error:
        raise ModelError(f"model {folder.path} cannot be loaded: {first_line(error)}") from error
    for part in _WEIGHED:
        _refuse_holes(getattr(pipeline, part, None), part, folder)
    pipeline.to(device)
    # Convolutions are faster so: 5.6 instead of 7.2 ms a sample of `shapes` on one CPU core, batch 64.
    pipeline.unet.to(memory_format=torch.channels_last)
    if folder.pipeline == _XL and pipeline.vae.config.force_upcast and pipeline.vae.dtype == torch.float16:
        # SDXL's own VAE overflows in float16, and says so in its settings.
        pipeline.vae.to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Log lines and bars of diffusers and transformers off: what matters in them, we count and return."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    barred = [room for room in (diffusers_logging, transformers_logging) if room.is_progress_bar_enabled()]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    for room in barred:
        room.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for room in barred:
            room.enable_progress_bar()


def _refuse_holes(module: Any, part: str, folder: ModelFolder) -> None:
    """Raises ModelCorrupt when the files lack a tensor of the part: it would be left empty, or random."""
    from safetensors import safe_open

    if module is None:
        return
    holes = [name for name, parameter in module.named_parameters() if parameter.is_meta]
    if part.startswith("text"):
        # transformers fills what it lacks with random numbers, and only logs it.
        stored = set()
        for file in folder.files:
            if file.suffix == ".safetensors" and file.parent.name == part:
                with safe_open(file, framework="np") as weights:
                    stored |= {_bare(name) for name in weights.keys()}  # noqa: SIM118
        holes += [name for name, _ in module.named_parameters() if _bare(name) not in stored]
    if holes:
        raise ModelCorrupt(f"model {folder.path / part} lacks the weights of {holes[0]}; copy it anew")


def _bare(name: str) -> str:
    """A tensor's name without the level that transformers 5.6 dropped from its CLIP text encoders."""
    return name.removeprefix("text_model.")
