"""Compiles a sampler into its plan, by letting diffusers' own scheduler step through coordinates.

At every call the latent, each tensor that the scheduler remembers, the denoiser's output and each draw of noise
is a vector of a basis of its own. What the scheduler makes of them are then the coefficients of that very call,
and no error grows from call to call. Behind the coordinates each vector carries random numbers, which only a
linear scheduler treats as its coefficients say.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sdkit._backend.noise import brownian_range
from sdkit._backend.scheduling import build_scheduler
from sdkit._errors import NotLinear, first_line
from sdkit._guidance import noise_level
from sdkit._plan import Draw, Matrix, SamplerPlan, pruned
from sdkit._samplers import Sampler, check_installed

_COORDINATES, _CHECKS = 16, 8  # no sampler needs more than six
_SHAPE = (_COORDINATES + _CHECKS, 1, 1, 1)
# Some schedulers compute in float32; a step is a dozen operations on terms that may cancel to a tenth.
_ROUNDING = 100 * 2.0**-24
_OTHER_DRAWS = frozenset(
    {torch.rand, torch.randn_like, torch.rand_like, torch.normal, torch.randint, torch.bernoulli}
)


@torch.no_grad()
def probe(sampler: Sampler, config: Mapping[str, Any], steps: int, *, xl: bool = False) -> SamplerPlan:
    """The plan of a sampler at a step count.

    Timesteps are those of `set_timesteps(steps)`; a pipeline that hands levels of its own to the scheduler, as
    FLUX's does, goes through others.

    Args:
        config: the model's scheduler settings; what it predicts is in them.
        xl: as of `build_scheduler`.
    Raises:
        NotLinear: it is no table of coefficients: it clips, say, or draws noise in a way that cannot be told.
        InvalidRequest: it cannot run so many steps, or needs a package that is not installed.
    """
    steps = sampler.check_steps(steps)
    check_installed(sampler)
    try:
        scheduler = build_scheduler(sampler, config, xl=xl)
        scheduler.set_timesteps(steps)
        calls = _walk(scheduler, sampler)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise NotLinear(
            f"{sampler.name} at {steps} steps cannot be compiled into coefficients: {kind}{first_line(error)}; "
            "let its pipeline run it"
        ) from error
    drawn = {draw.kind for call in calls for draw in call.draws}
    return SamplerPlan(
        timesteps=tuple(call.timestep for call in calls),
        scales=tuple(call.scale for call in calls),
        init_scale=float(getattr(scheduler, "init_noise_sigma", 1.0)),
        updates=pruned([call.update for call in calls]),
        noises=tuple(call.draws for call in calls),
        levels=_levels(scheduler, [call.timestep for call in calls]),
        brownian_range=brownian_range(scheduler.sigmas) if "brownian" in drawn else None,
    )


def _levels(scheduler: Any, timesteps: list[float]) -> tuple[float, ...]:
    if not hasattr(scheduler, "alphas_cumprod"):
        return ()
    alphas = scheduler.alphas_cumprod.double().tolist()
    return tuple(noise_level(timestep, alphas) for timestep in timesteps)


@dataclass(frozen=True)
class _Call:
    timestep: float
    scale: float
    update: Matrix
    """(buffers after, buffers before + 1 + draws)."""
    draws: tuple[Draw, ...]


class _Basis:
    """The vectors of one call; each is (D, 1, 1, 1) float64, coordinates first and random numbers after them."""

    def __init__(self, random: np.random.Generator) -> None:
        # Eighths are exact in float32, which some schedulers go through.
        numbers = random.integers(-1000, 1000, (_COORDINATES, _CHECKS)) / 8
        self._vectors = np.hstack([np.eye(_COORDINATES), numbers])
        self._tensors = torch.from_numpy(self._vectors.copy()).reshape(-1, *_SHAPE)
        self._used = 0

    def new(self) -> Tensor:
        """The next vector."""
        if self._used == _COORDINATES:
            raise ValueError(f"it keeps more than {_COORDINATES} tensors")
        self._used += 1
        return self._tensors[self._used - 1]

    def coefficients(self, tensor: Tensor) -> NDArray[np.float64]:
        """(M,) of what was computed from the M vectors so far, and of nothing else.

        Raises:
            ValueError: it is not linear in them.
        """
        values = tensor.double().numpy().reshape(-1)
        found = values[: self._used]
        terms = found[:, None] * self._vectors[: self._used]
        # Written so that NaN is no number that passes.
        if not (np.abs(values - terms.sum(axis=0)) <= _ROUNDING * np.abs(terms).sum(axis=0)).all():
            raise ValueError("its step is not linear in the latents, the outputs and the noise")
        return found


class _Draws(TorchFunctionMode):
    """Within it a draw of noise is a vector of the basis, and no latent is rounded to float32.

    No generator is read, and no other thread touched.
    """

    def __init__(self, basis: _Basis) -> None:
        super().__init__()
        self._basis = basis
        self.made: list[Draw] = []

    def brownian(self, sigma: Any, sigma_next: Any) -> Tensor:
        """Stands where DPM++ SDE has its sampler of Brownian paths."""
        self.made.append(Draw("brownian", float(sigma), float(sigma_next)))
        return self._basis.new()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _OTHER_DRAWS or (func is torch.randn and tuple(args[0]) != _SHAPE):
            raise ValueError(f"it draws noise by torch.{func.__name__} in a way of its own")
        if func is Tensor.to and args[0].shape == _SHAPE and args[1:] == (torch.float32,):
            return args[0]
        if func is not torch.randn:
            return func(*args, **(kwargs or {}))
        self.made.append(Draw("normal"))
        return self._basis.new()


def _walk(scheduler: Any, sampler: Sampler) -> list[_Call]:
    """Every call of a run, as a pipeline makes them."""
    options = {"eta": sampler.eta} if "eta" in inspect.signature(scheduler.step).parameters else {}
    random = np.random.default_rng(0)
    basis = _Basis(random)
    latent, calls = basis.new(), []
    for timestep in scheduler.timesteps:
        scale = _scale(scheduler, basis, latent, timestep)
        output = basis.new()
        with _Draws(basis) as draws:
            if hasattr(scheduler, "noise_sampler"):
                scheduler.noise_sampler = draws.brownian
            moved = scheduler.step(output, timestep, latent, return_dict=False, **options)[0]
        if draws.made and sampler.family == "own":
            raise ValueError("it draws the noise of a whole batch from one generator")
        following = _Following(basis, _Basis(random))
        latent = following(moved)
        _replace_memory(scheduler, following)
        calls.append(_Call(float(timestep), scale, np.stack(following.rows), tuple(draws.made)))
        basis = following.basis
    return calls


def _scale(scheduler: Any, basis: _Basis, latent: Tensor, timestep: Any) -> float:
    """What the denoiser's input is to the latent."""
    if not hasattr(scheduler, "scale_model_input"):
        return 1.0  # flow matching
    scale, *others = basis.coefficients(scheduler.scale_model_input(latent, timestep)).tolist()
    if any(others):
        raise ValueError("it shows more to the denoiser than the latent")
    return float(scale)


class _Following:
    """Puts a fresh vector in the place of each tensor that a call has left, and keeps what they were."""

    def __init__(self, before: _Basis, basis: _Basis) -> None:
        self._before, self.basis = before, basis
        self.rows: list[NDArray[np.float64]] = []
        self._vectors: list[Tensor] = []

    def __call__(self, left: Tensor) -> Tensor:
        row = self._before.coefficients(left)
        for known, vector in zip(self.rows, self._vectors, strict=True):
            if np.array_equal(known, row):
                return vector.clone()  # some schedulers add to what they keep
        self.rows.append(row)
        self._vectors.append(self.basis.new())
        return self._vectors[-1]


def _replace_memory(scheduler: Any, following: Callable[[Tensor], Tensor]) -> None:
    """Replaces every latent-like tensor among a scheduler's attributes, and in the lists there."""
    for name, value in list(vars(scheduler).items()):
        if _is_latent(value):
            setattr(scheduler, name, following(value))
        elif isinstance(value, list | tuple) and any(map(_is_latent, value)):
            setattr(scheduler, name, type(value)(following(v) if _is_latent(v) else v for v in value))


def _is_latent(value: object) -> bool:
    return isinstance(value, Tensor) and value.shape == _SHAPE
