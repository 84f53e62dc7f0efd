"""One diffusers pipeline at work: encodes, denoises, decodes."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sdkit._backend.compiling import compile_denoiser, denoisers, fuse_qkv
from sdkit._backend.denoising import Denoiser
from sdkit._backend.fusing import fuse_modules
from sdkit._backend.latents import (
    decode,
    decodes_itself,
    first_noise,
    fit_preview,
    float32_draws,
    rough_pixels,
    spatial,
)
from sdkit._backend.limiting import limit_guidance
from sdkit._backend.loading import Loaded, hushed, load
from sdkit._backend.quantising import quantise_fp8
from sdkit._backend.scheduling import build_scheduler
from sdkit._backend.stages import Watch
from sdkit._backend.tasks import Task
from sdkit._backend.text import TextEmbeddings, as_arguments, cut_points, encode
from sdkit._backend.text_reading import keep_text
from sdkit._backend.trunk import share_trunk
from sdkit._compile import OFF, Mode
from sdkit._device import dtype_name, memory_errors
from sdkit._errors import GenerationError, SdkitError, first_line
from sdkit._guidance import Interval
from sdkit._inputs import resized
from sdkit._models import Resolved
from sdkit._pixels import quantise, to_pil
from sdkit._request import DEFAULT_REFINER_START
from sdkit._samplers import Sampler

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdkit._plan import SamplerPlan


@dataclass(frozen=True)
class Job:
    """One batch, all that decides its pixels resolved."""

    task: Task
    sampler: Sampler
    steps: int
    guidance_scale: float | None
    """None leaves it to the pipeline."""
    seeds: Sequence[int]
    size: tuple[int, int] | None
    """Width and height, pixels; None leaves it to the pipeline."""
    images: Sequence[Image] = ()
    """One for each row, or none; the masks likewise."""
    masks: Sequence[Image] = ()
    strength: float | None = None
    image_guidance_scale: float | None = None
    control_images: Sequence[Image] = ()
    control_scales: Sequence[float] = ()
    refiner_start: float = DEFAULT_REFINER_START
    options: dict[str, Any] = field(default_factory=dict)
    stages: int = 0
    """How many stages are kept on the way, from the first noise on."""
    guidance_interval: Interval | None = None
    """Noise levels at which guidance is applied; None is all of them, and so at a scale of 1."""


@dataclass(frozen=True)
class Drawn:
    """What came of a job, before it is decoded."""

    latents: Tensor
    """(N, C, h, w); or pixels (N, 3, H, W), 0..1, where only the pipeline can decode."""
    is_pixels: bool
    evaluations: int
    stages: tuple[Tensor, ...]
    """(N, C, h, w) each."""


class Backend:
    """One loaded model on one device. Not safe for threads: its owner holds a lock.

    It may be entered again from a callback of a run that is under way: each run has a pipeline object and a
    scheduler of its own, and shares only the weights.
    """

    def __init__(
        self, model: Resolved, device: torch.device, dtype: torch.dtype, memory: str, mode: Mode = OFF
    ) -> None:
        self._name, self._device, self._dtype = model.base.name, device, dtype
        with memory_errors(f"load {self._name}", device), hushed():
            # Weights that move would be compiled anew, or read where they no longer are.
            placed = "high" if mode.compiles and memory == "auto" else memory
            self._loaded: Loaded = load(model, device, dtype, placed)
            self._prepare(mode, model.spec.quantise)
        self.warnings = self._loaded.warnings
        self._pipelines: dict[str, Any] = {}
        self._preview: Tensor | None = None

    @torch.no_grad()
    def encode(
        self, prompts: Sequence[str], negative_prompt: str, task: Task, options: dict[str, Any]
    ) -> TextEmbeddings:
        """Embeddings of the prompts, encoded once each; "" stands for no negative prompt."""
        pipeline = self._loaded.pipeline
        with memory_errors(f"encode {len(prompts)} prompts", self._device), hushed():
            tensors: dict[str, Tensor] = {}
            if not _changes_text(pipeline, options) and self._loaded.refiner is None:
                tensors = encode(pipeline, task.takes, prompts, negative_prompt, self._device)
            cut_at = cut_points(pipeline, prompts, _token_limits(pipeline, task, options))
        return TextEmbeddings(tuple(prompts), negative_prompt, cut_at, tensors)

    def denoise(
        self,
        text: TextEmbeddings,
        job: Job,
        *,
        on_call: Callable[[int], None] | None,
        on_step: Callable[[int, int, Callable[[], list[Image]]], bool | None] | None,
    ) -> Drawn:
        """The batch's latents by the pipeline's own loop, and the number of denoiser calls it made."""
        pipeline = copy.copy(self._pipeline(job.task))
        step = (
            None if on_step is None else lambda i, n: on_step(i, n, lambda: self._look(watch, pipeline, job))
        )
        whole = None if self._loaded.refiner is None else job.steps
        watch = Watch(job.sampler, on_call=on_call, on_step=step, stages=job.stages, whole=whole)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in job.seeds]
        arguments = self._arguments(text, job, pipeline, generators)
        with memory_errors(_deed(job), self._device), hushed():
            latents = self._run(pipeline, self._loaded.scheduler_config, job, watch, arguments)
            if self._loaded.refiner is not None:
                latents = self._refine(text, job, watch, latents, generators)
        if decodes_itself(pipeline):
            return Drawn(latents, True, watch.evaluations, ())
        size = _pixel_size(job, pipeline, latents)
        stages = tuple(spatial(pipeline, kept, size) for kept in watch.kept)
        return Drawn(spatial(pipeline, latents, size), False, watch.evaluations, stages)

    @torch.no_grad()
    def decode(self, drawn: Drawn) -> Tensor:
        """Pixels (N, 3, H, W) uint8, 0-255, on the CPU: quantised once, by rounding.

        Raises:
            InvalidPixels: NaN, or a picture that is wholly black.
        """
        made_by = f"{self._name}, {dtype_name(self._dtype)}"
        if drawn.is_pixels:
            return quantise(drawn.latents.float() * 2 - 1, made_by=made_by)
        with memory_errors(f"decode {len(drawn.latents)} images", self._device):
            chunks = [quantise(c, made_by=made_by) for c in decode(self._loaded.last, drawn.latents)]
        return torch.cat(chunks)

    @torch.no_grad()
    def decode_stages(self, drawn: Drawn) -> tuple[Tensor, ...]:
        """Pixels (N, 3, H, W) uint8 of every stage that was kept."""
        made_by = f"{self._name}, {dtype_name(self._dtype)}"
        return tuple(
            torch.cat([quantise(c, made_by=made_by, black=True) for c in decode(self._loaded.last, stage)])
            for stage in drawn.stages
        )

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Pixels of latents (N, C, h, w), as `decode` gives them."""
        return self.decode(Drawn(latents.to(self._device), False, 0, ()))

    def plan(self, sampler: Sampler, steps: int) -> SamplerPlan:
        """The sampler as a table of coefficients, over this model's own scheduler settings. Raises NotLinear."""
        from sdkit._backend.probing import probe

        with hushed():
            return probe(sampler, self._loaded.scheduler_config, steps, xl=self._loaded.is_xl)

    def denoiser(
        self, text: TextEmbeddings, size: tuple[int, int], turn: contextlib.AbstractContextManager[object]
    ) -> Denoiser:
        """The UNet by itself. Raises InvalidRequest where the model's pipeline does more than call it."""
        return Denoiser(self._loaded, text, size, self._device, self._dtype, turn)

    def synchronise(self) -> None:
        """Waits until the device has done all it was given, so that a clock may be read."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _prepare(self, mode: Mode, quantise: str | None) -> None:
        if mode.fused_modules:
            for network in self._loaded.networks("unet", "vae"):
                fuse_modules(network)
                share_trunk(network)
                keep_text(network)
        if not mode.compiles and quantise is None:
            return
        for module in denoisers(self._loaded.pipeline, self._loaded.refiner):
            if mode.fused_qkv:
                fuse_qkv(module)
            if quantise is not None:
                quantise_fp8(module)
            compile_denoiser(module, mode)

    def _pipeline(self, task: Task) -> Any:
        """The pipeline that does the task, made of the loaded parts, once."""
        base = self._loaded.pipeline
        if type(base).__name__ == task.pipeline:
            return base
        if task.pipeline not in self._pipelines:
            self._pipelines[task.pipeline] = self._loaded.other(task.kind, task.pipeline)
        return self._pipelines[task.pipeline]

    def _run(
        self, pipeline: Any, config: dict[str, Any], job: Job, watch: Watch, arguments: dict[str, Any]
    ) -> Tensor:
        scheduler = build_scheduler(
            job.sampler, config, dtype=self._dtype, seeds=job.seeds, xl=self._loaded.is_xl
        )
        watch.attach(pipeline, scheduler)
        if job.guidance_interval is not None and job.guidance_scale is not None:
            limit_guidance(pipeline, scheduler, job.guidance_scale, job.guidance_interval)
        draws = float32_draws(torch.float32 if "latents" in arguments else self._dtype)
        with draws, self._pipeline_errors(pipeline, watch):
            result: Tensor = pipeline(**arguments)[0]
        return result

    @contextlib.contextmanager
    def _pipeline_errors(self, pipeline: Any, watch: Watch) -> Iterator[None]:
        """Turns what a diffusers pipeline raises, for an option it cannot use say, into GenerationError."""
        try:
            yield
        except (ValueError, TypeError, AttributeError, LookupError, NotImplementedError) as error:
            if error is watch.raised or isinstance(error, SdkitError):
                raise
            raise GenerationError(
                f"{type(pipeline).__name__} of {self._name} failed: {type(error).__name__}: {first_line(error)}"
            ) from error

    def _refine(
        self, text: TextEmbeddings, job: Job, watch: Watch, latents: Tensor, generators: list[torch.Generator]
    ) -> Tensor:
        """The last part of the way by the refiner, from the latents that the base model left."""
        refiner: Any = copy.copy(self._loaded.refiner)
        takes = frozenset({"prompt", "negative_prompt"})
        arguments = as_arguments(text, takes, guided=True, device=self._device, dtype=self._dtype)
        arguments |= {
            "image": latents,
            "denoising_start": job.refiner_start,
            "num_inference_steps": job.steps,
            "guidance_scale": job.guidance_scale,
            "generator": generators,
            "eta": job.sampler.eta,
            "output_type": "latent",
            "return_dict": False,
        }
        given = {name: value for name, value in arguments.items() if value is not None}
        return self._run(refiner, dict(refiner.scheduler.config), job, watch, given)

    def _arguments(
        self, text: TextEmbeddings, job: Job, pipeline: Any, generators: list[torch.Generator]
    ) -> dict[str, Any]:
        """The call's arguments: those of ours that its signature takes, and no others."""
        takes, size = job.task.takes, job.size
        guided = job.guidance_scale is None or job.guidance_scale > 1.0
        given: dict[str, Any] = {
            "num_inference_steps": job.steps,
            "guidance_scale": job.guidance_scale,
            "width": None if size is None else size[0],
            "height": None if size is None else size[1],
            "strength": job.strength,
            "image_guidance_scale": job.image_guidance_scale,
            "eta": job.sampler.eta,
            "denoising_end": job.refiner_start if self._loaded.refiner is not None else None,
            "generator": generators[0] if job.sampler.family == "own" else generators,
            "output_type": "pt" if decodes_itself(pipeline) else "latent",
            "return_dict": False,
            **self._pictures(job),
        }
        chosen = {name: value for name, value in given.items() if name in takes and value is not None}
        if "use_resolution_binning" in takes:
            chosen["use_resolution_binning"] = False  # it would draw another size than was asked for
        if job.task.kind == "text" and size is not None and _draws_like_sd(pipeline):
            chosen["latents"] = first_noise(pipeline, generators, size, self._device, self._dtype)
        text_arguments = as_arguments(text, takes, guided=guided, device=self._device, dtype=self._dtype)
        return {**text_arguments, **chosen, **job.options}

    def _pictures(self, job: Job) -> dict[str, Any]:
        """Pictures to start from, masks and ControlNet's pictures: one for each row of the batch."""
        given: dict[str, Any] = {}
        if job.images and job.size is not None:
            given["image"] = [resized(image, *job.size) for image in job.images]
        if job.masks and job.size is not None:
            given["mask_image"] = [resized(mask, *job.size) for mask in job.masks]
        if job.control_images:
            rows = [[image] * len(job.seeds) for image in job.control_images]
            several = len(job.control_images) > 1
            given[job.task.control_argument] = rows if several else rows[0]
            given["controlnet_conditioning_scale"] = (
                list(job.control_scales) if several else job.control_scales[0]
            )
        return given

    @torch.no_grad()
    def _look(self, watch: Watch, pipeline: Any, job: Job) -> list[Image]:
        """Rough pictures of what a run is heading for."""
        if decodes_itself(pipeline):
            return []
        latents = watch.guess()
        latents = spatial(pipeline, latents, _pixel_size(job, pipeline, latents))
        if self._preview is None:
            self._preview = fit_preview(self._loaded.last)
        return to_pil(quantise(rough_pixels(latents, self._preview), made_by=self._name, black=True))


def _pixel_size(job: Job, pipeline: Any, latents: Tensor) -> tuple[int, int]:
    if job.size is not None:
        return job.size
    factor = pipeline.vae_scale_factor
    return latents.shape[-1] * factor, latents.shape[-2] * factor


def _draws_like_sd(pipeline: Any) -> bool:
    """True where the first noise is one draw of the UNet's own shape, which can be made in float32 here."""
    unet, vae = getattr(pipeline, "unet", None), getattr(pipeline, "vae", None)
    return unet is not None and vae is not None and unet.config.in_channels == vae.config.latent_channels


def _changes_text(pipeline: Any, options: dict[str, Any]) -> bool:
    """True when an option is one that the pipeline reads prompts by, as clip_skip or prompt_2."""
    encode_prompt = getattr(pipeline, "encode_prompt", None)
    reads = frozenset() if encode_prompt is None else frozenset(inspect.signature(encode_prompt).parameters)
    return bool(reads & options.keys()) or "true_cfg_scale" in options


def _token_limits(pipeline: Any, task: Task, options: dict[str, Any]) -> dict[str, int]:
    """How much the T5-like encoder of a pipeline reads: its call's max_sequence_length."""
    limit = options.get("max_sequence_length", task.defaults.get("max_sequence_length"))
    last = max(
        (n for n in ("tokenizer", "tokenizer_2", "tokenizer_3") if getattr(pipeline, n, None) is not None),
        default="",
    )
    return {last: int(limit)} if last and isinstance(limit, int) else {}


def _deed(job: Job) -> str:
    size = "" if job.size is None else f" of {job.size[0]}x{job.size[1]} px"
    return f"denoise {len(job.seeds)} images{size} at once"
