"""From checked files to diffusers pipelines on their device, diffusers' errors made ours."""

from __future__ import annotations

import contextlib
import inspect
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from sdkit._backend.adapters import LoraFile, load_embeddings, load_loras
from sdkit._backend.single_loading import load_single_file, load_single_vae
from sdkit._backend.tasks import UNWANTED, pipeline_class
from sdkit._errors import ModelCorrupt, ModelError, first_line
from sdkit._models import ModelFiles, PartFiles, Resolved

_MAX_WEIGHTS_SHARE = 0.9


@dataclass(frozen=True)
class Loaded:
    """The pipelines of a model, on their device."""

    pipeline: Any
    """The model's own."""
    refiner: Any | None
    controlnets: tuple[Any, ...]
    scheduler_config: dict[str, Any]
    """As the model came: `from_config` chains leak options from one scheduler to the next."""
    warnings: tuple[str, ...]

    @property
    def last(self) -> Any:
        """The pipeline whose VAE decodes."""
        return self.pipeline if self.refiner is None else self.refiner

    @property
    def is_xl(self) -> bool:
        """True for SDXL, which has published schedules of its own."""
        return "XL" in type(self.pipeline).__name__

    def networks(self, *names: str) -> Iterator[torch.nn.Module]:
        """The parts of these names, of the model's own pipeline and of the refiner's, that are networks."""
        for pipeline in (self.pipeline, self.refiner):
            for name in names:
                part = getattr(pipeline, name, None)
                if isinstance(part, torch.nn.Module):
                    yield part

    def other(self, kind: str, name: str) -> Any:
        """A pipeline for another task, of the same parts.

        Args:
            kind: "text", "image" or "inpaint".
            name: class name in diffusers, as `tasks.find_task` gives it.
        """
        import diffusers

        makers = {
            "text": diffusers.AutoPipelineForText2Image,
            "image": diffusers.AutoPipelineForImage2Image,
            "inpaint": diffusers.AutoPipelineForInpainting,
        }
        nets = list(self.controlnets) if len(self.controlnets) > 1 else next(iter(self.controlnets), None)
        options = {"controlnet": nets} if "ControlNet" in name else {}
        with hushed():
            made = makers[kind].from_pipe(self.pipeline, **options)
        made.set_progress_bar_config(disable=True)
        return made


def load(model: Resolved, device: torch.device, dtype: torch.dtype, memory: str) -> Loaded:
    """The pipelines on their device, adapters and all.

    Args:
        memory: "auto", "low" or "high".
    Raises:
        ModelCorrupt: weights that cannot be read, or that lack a tensor.
        ModelError: whatever else keeps diffusers from building it.
    """
    spec = model.spec
    pipeline = _load_pipeline(model.base, dtype, spec.prediction_type, allow_pickle=spec.allow_pickle)
    if model.vae is not None:
        pipeline.vae = _load_vae(model.vae, model.base, dtype, allow_pickle=spec.allow_pickle)
    warnings = (
        *load_embeddings(
            pipeline,
            [(token, file) for (token, _), file in zip(spec.embeddings, model.embeddings, strict=True)],
            allow_pickle=spec.allow_pickle,
        ),
        *load_loras(
            pipeline,
            [
                LoraFile(file, lora.weight, lora.source)
                for lora, file in zip(spec.loras, model.loras, strict=True)
            ],
            allow_pickle=spec.allow_pickle,
        ),
    )
    refiner = None
    if model.refiner is not None:
        refiner = _load_pipeline(model.refiner, dtype, None, allow_pickle=spec.allow_pickle)
    nets = tuple(
        _load_part(part, dtype, allow_pickle=spec.allow_pickle).to(device) for part in model.controlnets
    )
    for each in (pipeline, refiner):
        if each is not None:
            _place(each, device, dtype, memory)
    config = dict(pipeline.scheduler.config)
    if spec.prediction_type is not None:
        config["prediction_type"] = spec.prediction_type
    return Loaded(pipeline, refiner, nets, config, warnings)


@contextlib.contextmanager
def loading_errors(what: str) -> Iterator[None]:
    """Turns whatever diffusers and transformers raise while they read `what` into one of ours."""
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except SafetensorError as error:
        raise ModelCorrupt(f"model {what} cannot be read: {first_line(error)}; copy it anew") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError) as error:
        raise ModelError(f"model {what} cannot be loaded: {first_line(error)}") from error


def _load_pipeline(
    model: ModelFiles, dtype: torch.dtype, prediction_type: str | None, *, allow_pickle: bool
) -> Any:
    if model.single is not None and model.detected is not None:
        config = model.folder.path
        pipeline = load_single_file(
            model.single, model.detected, config=config, prediction_type=prediction_type, dtype=dtype,
            allow_pickle=allow_pickle,
        )  # fmt: skip
    else:
        pipeline = _from_folder(model, dtype, allow_pickle=allow_pickle)
    # Convolutions are faster so: 5.6 instead of 7.2 ms a sample of `shapes` on one CPU core, batch 64.
    if getattr(pipeline, "unet", None) is not None:
        pipeline.unet.to(memory_format=torch.channels_last)
    # clip_skip: diffusers 0.42 looks for the last norm one level below where transformers 5.6 has put it.
    encoder = getattr(pipeline, "text_encoder", None)
    if encoder is not None and not hasattr(encoder, "text_model"):
        encoder.__dict__["text_model"] = encoder
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _from_folder(model: ModelFiles, dtype: torch.dtype, *, allow_pickle: bool) -> Any:
    cls = pipeline_class(model.pipeline, model.name)
    takes = inspect.signature(cls.__init__).parameters
    options: dict[str, Any] = {name: value for name, value in UNWANTED.items() if name in takes}
    if model.folder.variant is not None:
        options["variant"] = model.folder.variant
    with loading_errors(str(model.folder.path)):
        pipeline = cls.from_pretrained(
            model.folder.path,
            dtype=dtype,
            use_safetensors=None if allow_pickle else True,
            local_files_only=True,
            **options,
        )
    for part in model.folder.parts:
        _refuse_holes(getattr(pipeline, part, None), part, model)
    return pipeline


def _load_part(part: PartFiles, dtype: torch.dtype, *, allow_pickle: bool) -> Any:
    import diffusers

    cls = getattr(diffusers, part.class_name, None)
    if cls is None:
        raise ModelError(f"model {part.name} must be of a kind that diffusers has, got {part.class_name}")
    with loading_errors(part.name):
        module = cls.from_pretrained(
            part.path,
            dtype=dtype,
            variant=part.variant,
            use_safetensors=None if allow_pickle else True,
            local_files_only=True,
        )
    hole = next((name for name, parameter in module.named_parameters() if parameter.is_meta), None)
    if hole is not None:
        raise ModelCorrupt(f"model {part.path} lacks the weights of {hole}; copy it anew")
    return module


def _load_vae(part: PartFiles, base: ModelFiles, dtype: torch.dtype, *, allow_pickle: bool) -> Any:
    if part.class_name:
        return _load_part(part, dtype, allow_pickle=allow_pickle)
    return load_single_vae(part.path, base.folder.path / "vae", dtype, allow_pickle=allow_pickle)


def _place(pipeline: Any, device: torch.device, dtype: torch.dtype, memory: str) -> None:
    """Puts the pipeline where it runs: all on the device, or in turn where memory is short."""
    vae = getattr(pipeline, "vae", None)
    if vae is not None and dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
        # SDXL's own VAE overflows in float16, and says so in its settings.
        vae.to(torch.float32)
    low = memory == "low" or (memory == "auto" and device.type == "cuda" and not _fits(pipeline, device))
    if low:
        for name in ("enable_slicing", "enable_tiling"):
            if hasattr(vae, name):
                getattr(vae, name)()
        if hasattr(pipeline, "enable_attention_slicing"):
            pipeline.enable_attention_slicing()
    if low and device.type != "cpu":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)


def _fits(pipeline: Any, device: torch.device) -> bool:
    """True when the weights leave a tenth of the device's free memory and more to the latents."""
    modules = [m for m in pipeline.components.values() if isinstance(m, torch.nn.Module)]
    size_bytes = sum(p.numel() * p.element_size() for m in modules for p in m.parameters())
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return size_bytes <= _MAX_WEIGHTS_SHARE * free_bytes


class _Hush:
    """Log lines and bars off while anybody wants them off; the last one to leave puts them back."""

    def __init__(self) -> None:
        self._lock, self._depth = threading.Lock(), 0
        self._levels: list[tuple[logging.Logger, int]] = []
        self._barred: list[Any] = []

    def enter(self) -> None:
        import diffusers.utils.logging as diffusers_logging
        import transformers.utils.logging as transformers_logging

        with self._lock:
            self._depth += 1
            if self._depth > 1:
                return
            names = ("diffusers", "transformers")
            self._levels = [(logger, logger.level) for logger in map(logging.getLogger, names)]
            rooms = (diffusers_logging, transformers_logging)
            self._barred = [room for room in rooms if room.is_progress_bar_enabled()]
            for logger, _ in self._levels:
                logger.setLevel(logging.ERROR)
            for room in self._barred:
                room.disable_progress_bar()

    def leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth:
                return
            for logger, level in self._levels:
                logger.setLevel(level)
            for room in self._barred:
                room.enable_progress_bar()


_hush = _Hush()


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Log lines and bars of diffusers and transformers off: what matters in them, we count and return."""
    _hush.enter()
    try:
        yield
    finally:
        _hush.leave()


def _refuse_holes(module: Any, part: str, model: ModelFiles) -> None:
    """Raises ModelCorrupt when the files lack a tensor of the part: it would be left empty, or random."""
    from safetensors import safe_open

    if not isinstance(module, torch.nn.Module):
        return
    holes = [name for name, parameter in module.named_parameters() if parameter.is_meta]
    files = [f for f in model.folder.files if f.suffix == ".safetensors" and f.parent.name == part]
    if part.startswith("text") and files:
        # transformers fills what it lacks with random numbers, and only logs it.
        stored = set()
        for file in files:
            with safe_open(file, framework="np") as weights:
                stored |= {_bare(name) for name in weights.keys()}  # noqa: SIM118
        holes += [name for name, _ in module.named_parameters() if _bare(name) not in stored]
    if holes:
        raise ModelCorrupt(f"model {model.folder.path / part} lacks the weights of {holes[0]}; copy it anew")


def _bare(name: str) -> str:
    """A tensor's name without the level that transformers 5.6 dropped from its CLIP text encoders."""
    return name.removeprefix("text_model.")
