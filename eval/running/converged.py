"""The picture that a cell's own is on its way to: the same seed and guidance, many steps, made once a guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eval.records import Cell, ConvergedPlan
from eval.running.generator import Batch, Generator
from eval.scoring.cell_scores import Converged
from eval.scoring.convergence import latent_rmse, ssim
from sdkit._sampler_names import find_sampler

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ConvergedRuns:
    """Measures the first pictures of cells against converged ones, which are kept for the next cell."""

    plan: ConvergedPlan
    generator: Generator[Any]
    text: Callable[[int, int], Any]
    """The encoded prompts of the pictures start..stop - 1."""
    _kept: dict[tuple[float, str], Batch] = field(default_factory=dict)

    def count(self, cell: Cell) -> int:
        """How many of the cell's first pictures are measured."""
        return min(self.plan.count, cell.count)

    def measure(self, cell: Cell, batches: Sequence[Batch]) -> Converged:
        """How far the cell's first pictures are from their converged ones.

        Args:
            batches: the cell's first pictures as they were made just now, in order; may be too few, as when
                pictures of an interrupted run were taken up: those that are missing are made again.
        """
        count = self.count(cell)
        target = (
            f"{self.plan.sampler} {self.plan.steps} steps, same guidance and seeds, first {count} pictures"
        )
        if count < 1:
            return Converged({}, target, "metrics.converged.count is 0")
        if find_sampler(cell.sampler).stochastic:
            return Converged(
                {}, target, f"{cell.sampler} draws noise at every step: it converges to no one picture"
            )
        made = _first(batches, count)
        if made is None:
            again = self._sample(cell, cell.sampler, cell.steps, count)
            made = _first([again], count)
        wanted = _first([self._converged(cell, count)], count)
        if made is None or wanted is None:
            return Converged({}, target, "this pipeline hands out no latents")
        values = {
            "latent_rmse": latent_rmse(made[0].numpy(), wanted[0].numpy()),
            "ssim": ssim(made[1], wanted[1]),
        }
        return Converged(values, target)

    def _converged(self, cell: Cell, count: int) -> Batch:
        key = (cell.guidance, cell.negative_prompt)
        if key not in self._kept:
            self._kept[key] = self._sample(cell, self.plan.sampler, self.plan.steps, count)
        return self._kept[key]

    def _sample(self, cell: Cell, sampler: str, steps: int, count: int) -> Batch:
        made: Batch = self.generator.sample(
            self.text(0, count),
            sampler=sampler,
            steps=steps,
            guidance_scale=cell.guidance,
            seeds=cell.seeds(0, count),
            width=cell.width,
            height=cell.height,
        )
        return made


def _first(batches: Sequence[Batch], count: int) -> tuple[Tensor, Tensor] | None:
    """Latents (count, C, h, w) and pictures (count, 3, H, W) of the first pictures; None unless all are there."""
    import torch

    latents = [batch.latents for batch in batches if batch.latents is not None]
    if len(latents) != len(batches) or sum(map(len, latents)) < count:
        return None
    return torch.cat(latents)[:count], torch.cat([batch.images for batch in batches])[:count]
