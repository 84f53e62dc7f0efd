"""A model on a device, ready to be asked again and again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from sdkit._checks import (
    MAX_SEED,
    MEMORY,
    check_choice,
    check_fits,
    check_guidance,
    check_negative,
    check_prompts,
    check_range,
    check_side,
)
from sdkit._compile import pick_mode
from sdkit._errors import InvalidRequest, deprecate
from sdkit._guidance import Interval, check_interval, refuse_interval
from sdkit._models import resolve
from sdkit._request import Request, Settings, make_request
from sdkit._run import Batch, run
from sdkit._sampler_names import find_sampler, fit_sampler
from sdkit._samplers import Sampler
from sdkit._spec import ModelOptions, ModelSpec, make_spec

if TYPE_CHECKING:
    from torch import Tensor

    from sdkit._backend.backend import Backend, Job
    from sdkit._backend.denoising import Denoiser
    from sdkit._backend.stages import Step
    from sdkit._backend.tasks import Task
    from sdkit._backend.text import TextEmbeddings
    from sdkit._plan import SamplerPlan
    from sdkit._result import Generation
    from sdkit._settle import Settled


class Session:
    """One model on one device. Safe for threads: they take turns, and each gets what it would get alone.

    Weights are read at the first call, or by `load`; everything that can be known without them is
    checked when the session is made.

    Args:
        model: as in `sdkit.generate`, and so are all further arguments that name a part of the model.
        device: "cpu", "cuda", "cuda:1", "mps"; None is a GPU where there is one.
        dtype: "float32", "float16", "bfloat16"; None is bfloat16 on a GPU that computes in it, float16 on an
            older one, float32 elsewhere.
        memory: "high" keeps all weights on the device; "low" moves them there in turn, and decodes in tiles;
            "auto" is "high" where they fit.
        compile: as in `sdkit.generate`; `Session.compile` is the mode that came of it.
    Raises:
        InvalidRequest: no such device, dtype or mode, or none that can run here.
        ModelError: the model is missing, corrupt or of another kind.
    Example:
        >>> from sdkit import Session
        >>> session = Session("shapes", device="cpu")
        >>> made = session.generate("a red star", steps=4, seed=7)
        >>> session.default_size, made.seeds, session.load()
        ((64, 64), (7,), 0.0)
    """

    def __init__(
        self,
        model: str | Path | ModelSpec | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        memory: str = "auto",
        compile: str | None = None,
        **options: Unpack[ModelOptions],
    ) -> None:
        self.spec = model if isinstance(model, ModelSpec) else make_spec(model, **options)
        self.memory = check_choice("memory", memory, MEMORY)
        from sdkit._device import dtype_name, pick_device, pick_dtype

        self._torch_device = pick_device(device)
        self._torch_dtype = pick_dtype(dtype, self._torch_device)
        self._mode = pick_mode(compile, self._torch_device.type, self.memory)
        if self.spec.quantise is not None:
            from sdkit._backend.quantising import check_fp8

            check_fp8(self._torch_device, self._torch_dtype)
        self.files = resolve(self.spec)
        self._lock = threading.RLock()
        self._backend: Backend | None = None
        self.name = self.files.base.name
        self.device = str(self._torch_device)
        self.dtype = dtype_name(self._torch_dtype)
        self.compile = self._mode.name
        sizes = self.files.base.folder.sizes
        self.default_size = (sizes.width or 0, sizes.height or 0)
        """Width and height, pixels; 0 where the model's files do not say."""
        self.family = self.files.base.family
        """ "diffusion", "flow" or "own": which samplers fit."""

    def __repr__(self) -> str:
        return f"Session({self.name!r}, device={self.device!r}, dtype={self.dtype!r})"

    @property
    def detected(self) -> str:
        """What a single file was taken for, and why; "" for a folder, which says so itself."""
        found = self.files.base.detected
        return "" if found is None else found.summary

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found odd when the weights were read, such as a LoRA's keys that fit nothing."""
        return () if self._backend is None else self._backend.warnings

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits over the contents of the model and all that is loaded on top of it."""
        return self.files.fingerprint

    @cached_property
    def device_name(self) -> str:
        """The device's own name: "NVIDIA H200", or the CPU's."""
        from sdkit._device import device_name

        return device_name(self._torch_device)

    def load(self) -> float:
        """Seconds that reading the weights took; 0.0 when they were read before."""
        if self._backend is not None:  # without the lock, which a run may hold for long
            return 0.0
        with self._lock:
            start = time.perf_counter()
            self._loaded()
            return time.perf_counter() - start

    def model_evals(self, sampler: str | Sampler, steps: int) -> int:
        """Denoiser calls that these steps make: 2N-1 for Heun, N+1 for PLMS, N for most.

        Example:
            >>> import sdkit
            >>> sdkit.Session("shapes", device="cpu").model_evals("heun", 10)
            19
        """
        found = self.fit(sampler)
        return found.evaluations(found.check_steps(steps))

    def fit(self, sampler: str | Sampler) -> Sampler:
        """The sampler of this name that runs on this model's family.

        Raises:
            InvalidRequest: the model is of a family that it cannot sample from.
        """
        return fit_sampler(find_sampler(sampler), self.family, self.name)

    def generate(
        self,
        prompt: str | Iterable[str],
        *,
        progress: bool | None = None,
        on_step: Callable[[Step], bool | None] | None = None,
        **settings: Unpack[Settings],
    ) -> Generation:
        """The pictures of one or several prompts; `sdkit.generate` documents the arguments.

        Example:
            >>> from sdkit import Session
            >>> made = Session("shapes", device="cpu").generate("a red star", sampler="heun", steps=4, seed=1)
            >>> made.model_evals, made.images[0].size
            (7, (64, 64))
        """
        request = make_request(prompt, **settings, spec=self.spec)
        return run(self, request, progress=progress, on_step=on_step)

    def encode(self, prompts: Sequence[str], *, negative_prompt: str = "") -> TextEmbeddings:
        """Embeddings of the prompts, encoded once each, for any number of calls of `sample`.

        Args:
            negative_prompt: one for all; "" is none.
        Example:
            >>> from sdkit import Session
            >>> len(Session("shapes", device="cpu").encode(["a red star", "a blue ring"]))
            2
        """
        checked, negative = check_prompts(prompts), check_negative(negative_prompt)
        return self._encode(checked, negative, self._task(), {})

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
        on_call: Callable[[int], None] | None = None,
        on_step: Callable[[int], None] | None = None,
        trajectory: int | None = None,
        guidance_interval: tuple[float, float] | None = None,
    ) -> Batch:
        """The pictures of all rows of `text`, in one batch.

        Args:
            guidance_scale: 1..50; 1.0 is off, and then the negative prompt has no part.
            seeds: one for each row, 0..2**63-1; a picture depends on its own alone.
            width: pixels; None is the model's own.
            on_call: called after every denoiser call with the number made so far.
            on_step: the former name of `on_call`.
            trajectory: keep this many stages of each picture, from pure noise to the picture itself, at least 2;
                all but the last are in `Batch.stages`.
            guidance_interval: noise levels, as sigmas, low < high, at which guidance is applied; elsewhere the
                conditional prediction alone is used. None is everywhere; at a guidance scale of 1 it has no part.
        Raises:
            InvalidRequest: something is outside its range.
            InvalidPixels: NaN, or a wholly black picture.
            OutOfMemory: the batch is too large for the device.
        Example:
            >>> from sdkit import Session
            >>> session = Session("shapes", device="cpu")
            >>> text = session.encode(["a red star"])
            >>> session.sample(text, sampler="ddim", steps=4, guidance_scale=2.0, seeds=[3]).images.shape
            torch.Size([1, 3, 64, 64])
        """
        from sdkit._backend.backend import Job

        if on_step is not None:
            deprecate("sample(on_step=)", instead="on_call=, which is what it is", gone_in="0.2")
        found, scale = self.fit(sampler), check_guidance(guidance_scale)
        steps = found.check_steps(steps)
        if len(seeds) != len(text) or not seeds:
            raise InvalidRequest(
                f"seeds must be one for each of the {len(text)} rows of text, got {len(seeds)}"
            )
        checked = [check_range("seeds", seed, 0, MAX_SEED) for seed in seeds]
        most = found.evaluations(steps) + 1
        stages = 0 if trajectory is None else check_range("trajectory", trajectory, 2, most) - 1
        task, size = self._task(), self.check_size(width, height)
        interval = self.check_interval(guidance_interval) if scale > 1.0 else None
        job = Job(task, found, steps, scale, checked, size, stages=stages, guidance_interval=interval)
        return self.work(text, job, on_call=on_call or on_step)

    def plan(self, sampler: str | Sampler, steps: int) -> SamplerPlan:
        """The sampler at this step count as a table of coefficients, for a loop of one's own.

        Raises:
            NotLinear: it cannot be compiled, and why.
            InvalidRequest: it cannot run on this model, or in so many steps.
        Example:
            >>> from sdkit import Session
            >>> plan = Session("shapes", device="cpu").plan("heun", 4)
            >>> plan.calls, plan.states
            (7, 3)
        """
        found = self.fit(sampler)
        steps = found.check_steps(steps)
        with self._lock:
            return self._loaded().plan(found, steps)

    def denoiser(
        self, text: TextEmbeddings, *, width: int | None = None, height: int | None = None
    ) -> Denoiser:
        """The model's denoiser by itself, over these prompts and their negative prompt.

        Args:
            width: pixels; None is the model's own.
        Raises:
            InvalidRequest: its pipeline does more than call the denoiser and a scheduler, and what.
        Example:
            >>> from sdkit import Session
            >>> session = Session("shapes", device="cpu")
            >>> session.denoiser(session.encode(["a red star"])).shape
            (4, 16, 16)
        """
        size = self.check_size(width, height)
        if size is None:
            raise InvalidRequest(f"width and height must be given: {self.name} has no size of its own")
        with self._lock:
            return self._loaded().denoiser(text, size, self._turn())

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) uint8, on the CPU, of finished latents (N, C, h, w).

        Raises:
            InvalidPixels: NaN, or a wholly black picture.
            OutOfMemory: so many do not fit.
        Example:
            >>> from sdkit import Session
            >>> session = Session("shapes", device="cpu")
            >>> text, plan = session.encode(["a red star"]), session.plan("ddim", 1)
            >>> denoiser = session.denoiser(text)
            >>> state = plan.start(denoiser.noise([7], plan).first())
            >>> output = denoiser.predict(plan.scales[0] * state[0], plan.timesteps, [0])
            >>> session.decode(plan.advance(0, state, output, [])[0]).shape
            torch.Size([1, 3, 64, 64])
        """
        self.load()
        backend = self._backend
        assert backend is not None
        with self._turn():
            return backend.decode_latents(latents)

    def check_size(self, width: int | None, height: int | None) -> tuple[int, int] | None:
        """Width and height in pixels, the model's own where None; None where only its pipeline knows."""
        sizes = self.files.base.folder.sizes
        found = []
        for name, side, default in zip(
            ("width", "height"), (width, height), (sizes.width, sizes.height), strict=True
        ):
            if side is None and default is None:
                if width is None and height is None:
                    return None
                raise InvalidRequest(f"{name} must be given too: {self.name} has no size of its own")
            checked = default if side is None else check_side(name, side)
            assert checked is not None
            check_fits(name, checked, sizes.min_px, sizes.multiple_px)
            found.append(checked)
        return found[0], found[1]

    def check_interval(self, interval: object) -> Interval | None:
        """The interval of noise levels as two floats; None stays None.

        Raises:
            InvalidRequest: it is none, or this model's pipeline cannot leave guidance out of single calls.
        """
        if interval is None:
            return None
        refuse_interval(self._task().pipeline, self.name)
        return check_interval(interval)

    def _task(self) -> Task:
        from sdkit._settle import task_of

        return task_of(self.files, "text", controlnet=False)

    def encode_for(self, request: Request, settled: Settled) -> TextEmbeddings:
        """Embeddings of a request's prompts, for the task that it is."""
        return self._encode(request.prompts, request.negative_prompt, settled.task, dict(request.options))

    def _encode(
        self, prompts: Sequence[str], negative_prompt: str, task: Task, options: dict[str, object]
    ) -> TextEmbeddings:
        with self._lock:
            return self._loaded().encode(prompts, negative_prompt, task, options)

    def work(
        self,
        text: TextEmbeddings,
        job: Job,
        *,
        on_call: Callable[[int], None] | None = None,
        on_step: Callable[..., bool | None] | None = None,
    ) -> Batch:
        """One batch, denoised and decoded; threads take turns."""
        with self._lock:
            backend = self._loaded()
            start = time.perf_counter()
            drawn = backend.denoise(text, job, on_call=on_call, on_step=on_step)
            backend.synchronise()
            middle = time.perf_counter()
            images, stages = backend.decode(drawn), backend.decode_stages(drawn)
            end = time.perf_counter()
            latents = None if drawn.is_pixels else drawn.latents.float().cpu()
            return Batch(images, drawn.evaluations, middle - start, end - middle, stages, latents)

    def _turn(self) -> contextlib.AbstractContextManager[object]:
        """What a call of a network alone waits for: on a CPU nothing, where weights neither move nor change."""
        return (
            contextlib.nullcontext()
            if self._torch_device.type == "cpu" and not self._mode.compiles
            else self._lock
        )

    def _loaded(self) -> Backend:
        """The backend, made at the first call; the lock is held."""
        from sdkit._backend.backend import Backend

        if self._backend is None:
            self._backend = Backend(
                self.files, self._torch_device, self._torch_dtype, self.memory, self._mode
            )
        return self._backend
