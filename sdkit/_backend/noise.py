"""The noise of a run: each picture's own, from its seed, the very numbers that a pipeline draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdkit._plan import SamplerPlan


class Noise:
    """All noise of one run of a plan, for the pictures of some seeds, on the CPU in float32.

    Args:
        seeds: N, one for each picture.
        shape: C, h, w of the latents.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], plan: SamplerPlan) -> None:
        self._shape, self._noises, self._call = tuple(shape), plan.noises, 0
        self._generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self._first = normal_noise(self._generators, self._shape)
        self._path: Callable[[Any, Any], Tensor] | None = None
        if plan.brownian_range is not None:
            self._path = brownian_noise(seeds, self._shape, *plan.brownian_range)

    def first(self) -> Tensor:
        """(N, C, h, w) unit normal: what a run starts from, before the plan's `init_scale`."""
        return self._first

    def draw(self, call: int) -> list[Tensor]:
        """M_k tensors (N, C, h, w): the noise of call k.

        Raises:
            ValueError: not the call whose turn it is: a generator gives its numbers in one order only.
        """
        if call != self._call:
            raise ValueError(f"call must be {self._call}, whose turn it is, got {call}")
        self._call += 1
        return [
            normal_noise(self._generators, self._shape)
            if self._path is None
            else self._path(draw.sigma, draw.sigma_next)
            for draw in self._noises[call]
        ]


def normal_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """(N, *shape) float32 on the CPU: the next unit normal draw of each generator, as diffusers makes it of a list."""
    draws = [torch.randn((1, *shape), generator=each, dtype=torch.float32) for each in generators]
    return torch.cat(draws)


def brownian_range(sigmas: Tensor) -> tuple[float, float]:
    """Lowest level above zero and highest: the range that Brownian paths are made for."""
    return float(sigmas[sigmas > 0].min()), float(sigmas.max())


def brownian_noise(
    seeds: Sequence[int], shape: Sequence[int], lowest: float, highest: float
) -> Callable[[Any, Any], Tensor]:
    """Draws (N, C, h, w) float32 on the CPU between two levels: increments of one Brownian path a seed.

    Args:
        shape: C, h, w.
        lowest: level; the range decides a path, as its seed does.
    """
    import torchsde

    start, end = max(lowest, round(lowest, 6)), min(highest, round(highest, 6))
    # The settings of diffusers and k-diffusion: with `halfway_tree` a path is decided by its seed alone.
    options = {"tol": 1e-6, "pool_size": 24, "halfway_tree": True, "dtype": torch.float32, "device": "cpu"}
    paths = [
        torchsde.BrownianInterval(lowest, highest, size=tuple(shape), entropy=seed, **options)
        for seed in seeds
    ]

    def noise(sigma: Any, sigma_next: Any) -> Tensor:
        # torchsde rounds the ends of its range, and warns of a level that lies outside by a hair.
        low, high = sorted(min(max(float(level), start), end) for level in (sigma, sigma_next))
        increments = torch.stack([path(low, high) for path in paths])
        drawn: Tensor = -increments / (high - low) ** 0.5
        return drawn

    return noise
