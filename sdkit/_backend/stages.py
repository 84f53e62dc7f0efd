"""A run as it goes: calls counted, steps told, stages kept, a chance to stop.

Every diffusers pipeline calls its scheduler once for each call of the denoiser, whatever else it offers; so
the scheduler's `step` is where a run is watched, for all families alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sdkit._errors import Cancelled
from sdkit._samplers import Sampler

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Step:
    """One finished step of a run, as `on_step` is told of it.

    Example:
        >>> import sdkit
        >>> def stop_at_two(step: sdkit.Step) -> bool:
        ...     return step.index < 2
        >>> sdkit.generate("a red star", device="cpu", seed=0, on_step=stop_at_two)
        Traceback (most recent call last):
        sdkit._errors.Cancelled: stopped by on_step after 2 of 20 steps
    """

    index: int
    """Steps done, from 1."""
    total: int
    first_image: int
    """Index, among all images of the request, of this batch's first one."""
    _preview: Callable[[], list[Image]]

    @functools.cached_property
    def preview(self) -> list[Image]:
        """What the batch's pictures are heading for, roughly and cheaply: one small picture for each.

        The denoiser's present guess of the finished latents, coloured by a linear map; made when it is asked for.
        """
        return self._preview()


class Watch:
    """Watches one run through its scheduler.

    Args:
        on_call: called after every denoiser call with the number made so far.
        on_step: called after every step with index and total; False stops the run.
        stages: how many are kept, from the first noise to one short of the finished latents; 0 keeps none.
        whole: steps of a run that several pipelines share; None where the first one runs it all.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        on_call: Callable[[int], None] | None,
        on_step: Callable[[int, int], bool | None] | None,
        stages: int = 0,
        whole: int | None = None,
    ) -> None:
        self.evaluations = 0
        self.raised: BaseException | None = None
        """What a callback raised, which is the caller's own and no failure of the pipeline."""
        self.kept: list[Tensor] = []
        """(N, ...) each, noise and signal together at unit scale, as many as were asked for."""
        self._sampler, self._on_call, self._on_step, self._stages = sampler, on_call, on_step, stages
        self._last: tuple[Any, Tensor, Any, Tensor] | None = None
        self._before, self._total, self._told, self._earlier = 0, 0, 0, 0
        self._whole = whole

    def attach(self, pipeline: Any, scheduler: Any) -> None:
        """Gives the pipeline this scheduler, and watches its `step` from now on."""
        step = scheduler.step
        self._before = self.evaluations
        self._earlier, self._told = self._earlier + self._told, 0
        pipeline.scheduler = scheduler

        @functools.wraps(step)
        def watched(
            model_output: Tensor, timestep: Any, sample: Tensor, *arguments: Any, **options: Any
        ) -> Any:
            if self.evaluations == self._before:
                self._total = self._before + _calls_to_come(pipeline, scheduler, timestep)
            self._keep(scheduler, timestep, sample)
            self._last = (scheduler, model_output, timestep, sample)
            result = step(model_output, timestep, sample, *arguments, **options)
            try:
                self._after()
            except BaseException as error:
                self.raised = error
                raise
            return result

        scheduler.step = watched

    def guess(self) -> Tensor:
        """The finished latents as the last denoiser call foresaw them, shaped as the pipeline keeps them."""
        assert self._last is not None
        scheduler, output, timestep, sample = self._last
        return _foreseen(scheduler, output.float(), timestep, sample.float())

    def _keep(self, scheduler: Any, timestep: Any, sample: Tensor) -> None:
        # Evenly over the calls: stage i of n stands before call i * total / n, and the picture after the last.
        calls = self._total if self._whole is None else self._sampler.evaluations(self._whole)
        if len(self.kept) < self._stages and self.evaluations * self._stages >= len(self.kept) * calls:
            self.kept.append(_at_unit_scale(scheduler, timestep, sample.float()))

    def _after(self) -> None:
        self.evaluations += 1
        if self._on_call is not None:
            self._on_call(self.evaluations)
        calls = self._total - self._before
        done = self._sampler.steps_done(self.evaluations - self._before, calls)
        if done <= self._told:
            return
        self._told = done
        index, total = self._earlier + done, self._whole or self._sampler.steps_done(calls, calls)
        if self._on_step is not None and self._on_step(index, total) is False:
            raise Cancelled(f"stopped by on_step after {index} of {total} steps")


def _calls_to_come(pipeline: Any, scheduler: Any, timestep: Any) -> int:
    """How often the denoiser will be called in all, seen from the first call."""
    told = getattr(pipeline, "_num_timesteps", None)
    if told:
        return int(told)
    timesteps = scheduler.timesteps
    first = int((timesteps == torch.as_tensor(timestep, device=timesteps.device)).nonzero()[0])
    return len(timesteps) - first


def _foreseen(scheduler: Any, output: Tensor, timestep: Any, sample: Tensor) -> Tensor:
    """The noiseless latents that a model output implies.

    Source: Salimans and Ho 2022, appendix D, for v; Lipman et al. 2023 for flows.
    """
    sample = _at_unit_scale(scheduler, timestep, sample)
    if _is_flow(scheduler):
        return sample - _flow_sigma(timestep) * output
    signal, noise = _signal_and_noise(scheduler, timestep)
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind == "sample":
        return output
    if kind == "v_prediction":
        return signal * sample - noise * output
    return (sample - noise * output) / signal


def _at_unit_scale(scheduler: Any, timestep: Any, sample: Tensor) -> Tensor:
    """Latents as the denoiser reads them: schedulers of k-diffusion's kind keep them (1 + sigma^2)^1/2 times larger."""
    if _is_flow(scheduler) or not _keeps_large(scheduler):
        return sample
    signal, _ = _signal_and_noise(scheduler, timestep)
    return sample * signal


def _is_flow(scheduler: Any) -> bool:
    return not hasattr(scheduler, "alphas_cumprod")


def _keeps_large(scheduler: Any) -> bool:
    return float(getattr(scheduler, "init_noise_sigma", 1.0)) > 1.5


def _flow_sigma(timestep: Any) -> float:
    return float(timestep) / 1000.0


def _signal_and_noise(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """Square roots of alpha-bar and 1 - alpha-bar at a timestep, between whole ones by the log of their ratio."""
    alphas = scheduler.alphas_cumprod.double().cpu()
    low = min(int(float(timestep)), len(alphas) - 1)
    part, high = float(timestep) - low, min(low + 1, len(alphas) - 1)
    log_ratio = torch.log((1 - alphas) / alphas)
    alpha = float(torch.sigmoid(-((1 - part) * log_ratio[low] + part * log_ratio[high])))
    return alpha**0.5, (1 - alpha) ** 0.5
