"""A model on a device, ready to be asked again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sdkit._errors import InvalidRequest
from sdkit._models import resolve
from sdkit._request import (
    DEFAULT_SAMPLER,
    MAX_SEED,
    check_fits,
    check_guidance,
    check_negative,
    check_prompts,
    check_range,
    check_side,
    make_request,
)
from sdkit._run import Batch, run
from sdkit._samplers import Sampler, find_sampler

if TYPE_CHECKING:
    from sdkit._backend import Backend, TextEmbeddings
    from sdkit._result import Generation


class Session:
    """One model on one device. Safe for threads: they take turns.

    Weights are read at the first call, or by `load`; everything that can be known without them is
    checked when the session is made.

    Args:
        model: None or "shapes" for the bundled one, a diffusers folder, or a hub id "owner/name".
        device: "cpu", "cuda", "cuda:1", "mps"; None is a GPU where there is one.
        dtype: "float32", "float16", "bfloat16"; None is float16 on a GPU, float32 elsewhere.
        local_files_only: never ask the hub, only its local cache.
    Raises:
        InvalidRequest: no such device or dtype.
        ModelError: the model is missing, corrupt or of another kind.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        local_files_only: bool = False,
    ) -> None:
        from sdkit._device import dtype_name, pick_device, pick_dtype

        self._torch_device = pick_device(device)
        self._torch_dtype = pick_dtype(dtype, self._torch_device)
        self._folder = resolve(model, local_files_only=local_files_only)
        self._lock = threading.RLock()
        self._backend: Backend | None = None
        self.name = self._folder.name
        self.device = str(self._torch_device)
        self.dtype = dtype_name(self._torch_dtype)
        self.default_size = (self._folder.width, self._folder.height)
        """Width and height, pixels."""
        self.default_steps = self._folder.steps
        self.default_guidance_scale = self._folder.guidance_scale

    def __repr__(self) -> str:
        return f"Session({self.name!r}, device={self.device!r}, dtype={self.dtype!r})"

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits over the model's contents, wherever they lie."""
        return self._folder.fingerprint()

    @cached_property
    def device_name(self) -> str:
        """The device's own name: "NVIDIA H200", or the CPU's model name."""
        from sdkit._device import device_name

        return device_name(self._torch_device)

    def load(self) -> float:
        """Seconds that reading the weights took; 0.0 when they were read before."""
        with self._lock:
            start = time.perf_counter()
            if self._backend is not None:
                return 0.0
            self._loaded()
            return time.perf_counter() - start

    def model_evals(self, sampler: str | Sampler, steps: int) -> int:
        """Denoiser calls that these steps make: 2N-1 for Heun, N+1 for PLMS, N for the others."""
        found = find_sampler(sampler)
        return found.evaluations(found.check_steps(steps))

    def generate(
        self,
        prompt: str | Iterable[str],
        *,
        negative_prompt: str | None = None,
        sampler: str | Sampler = DEFAULT_SAMPLER,
        steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        num_images: int = 1,
        width: int | None = None,
        height: int | None = None,
        batch_size: int = 8,
        progress: bool = False,
    ) -> Generation:
        """The pictures of one or several prompts; see `sdkit.generate` for the arguments."""
        request = make_request(
            prompt,
            negative_prompt=negative_prompt,
            sampler=sampler,
            steps=steps,
            guidance_scale=guidance_scale,
            seed=seed,
            num_images=num_images,
            width=width,
            height=height,
            batch_size=batch_size,
        )
        return run(self, request, progress=progress)

    def encode(self, prompts: Sequence[str], *, negative_prompt: str = "") -> TextEmbeddings:
        """Embeddings of the prompts, encoded once each, for any number of calls of `sample`.

        Args:
            negative_prompt: one for all; "" is none.
        """
        checked, negative = check_prompts(prompts), check_negative(negative_prompt)
        with self._lock:
            return self._loaded().encode(checked, negative)

    def sample(
        self,
        text: TextEmbeddings,
        *,
        sampler: str | Sampler,
        steps: int,
        guidance_scale: float,
        seeds: Sequence[int],
        width: int | None = None,
        height: int | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> Batch:
        """The pictures of all rows of `text`, in one batch.

        Args:
            guidance_scale: 1..50; 1.0 is off, and then the negative prompt has no part.
            seeds: one for each row, 0..2**63-1; a picture depends on its own alone.
            width: pixels; None is the model's own.
            on_step: called after every denoiser call with the number made so far.
        Raises:
            InvalidRequest: something is outside its range.
            InvalidPixels: NaN, or a wholly black picture.
            OutOfMemory: the batch is too large for the device.
        """
        found, scale = find_sampler(sampler), check_guidance(guidance_scale)
        steps = found.check_steps(steps)
        if len(seeds) != len(text) or not seeds:
            raise InvalidRequest(
                f"seeds must be one for each of the {len(text)} rows of text, got {len(seeds)}"
            )
        checked = [check_range("seeds", seed, 0, MAX_SEED) for seed in seeds]
        size = self.check_size(width, height)
        with self._lock:
            backend = self._loaded()
            start = time.perf_counter()
            latents, evaluations = backend.denoise(
                text,
                sampler=found,
                steps=steps,
                guidance_scale=scale,
                seeds=checked,
                size=size,
                on_step=on_step,
            )
            backend.synchronise()
            middle = time.perf_counter()
            images = backend.decode(latents)
            return Batch(images, evaluations, middle - start, time.perf_counter() - middle)

    def _loaded(self) -> Backend:
        """The backend, made at the first call; the lock is held."""
        from sdkit._backend import Backend

        if self._backend is None:
            self._backend = Backend(self._folder, self._torch_device, self._torch_dtype)
        return self._backend

    def check_size(self, width: int | None, height: int | None) -> tuple[int, int]:
        """Width and height in pixels, the model's own where None, both large enough for the model."""
        size = []
        for name, side, default in zip(("width", "height"), (width, height), self.default_size, strict=True):
            checked = default if side is None else check_side(name, side)
            check_fits(name, checked, self._folder.min_px)
            size.append(checked)
        return size[0], size[1]
