"""A generator whose denoiser is a formula of each row alone: the shared engine is held against a plain loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from fake_bench import HEIGHT, WIDTH, FakeGenerator, Made, Text

from eval.running.common_calls import CommonCalls
from eval.running.engine import Engine
from eval.running.first_calls import Answers, FirstCalls
from sdkit._backend.noise import Noise
from sdkit._backend.probing import probe
from sdkit._errors import OutOfMemory
from sdkit._plan import SamplerPlan
from sdkit._sampler_names import find_sampler

SHAPE = (3, HEIGHT, WIDTH)
CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}


def formula(latents: torch.Tensor, timestep: float, row: int) -> torch.Tensor:
    """What the fake denoiser says of one row (C, h, w); the negative prompt is row -1."""
    return torch.tanh(latents * (1 + 0.1 * row) + timestep / 1000)


@dataclass
class FakeDenoiser:
    """Answers row by row; `before` is called with the rows of each call, and may fail."""

    before: Callable[[int], object] = lambda rows: None
    most_rows: int = 10**9
    calls: list[int] = field(default_factory=list)
    """Rows of each call that was answered."""

    def noise(self, seeds: Sequence[int], plan: SamplerPlan) -> Noise:
        return Noise(seeds, SHAPE, plan)

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: Sequence[float],
        rows: Sequence[int],
        inputs: Sequence[int],
    ) -> torch.Tensor:
        self.before(len(rows))
        if len(rows) > self.most_rows:
            raise OutOfMemory(f"cpu has too little memory to denoise {len(rows)} rows at once")
        self.calls.append(len(rows))
        assert sorted(set(inputs)) == list(range(len(latents))) == list(range(len(timesteps)))
        read = zip(inputs, rows, strict=True)
        return torch.stack([formula(latents[which], timesteps[which], row) for which, row in read])


@dataclass
class FlyingGenerator(FakeGenerator):
    """Pictures by the engine, and by a plain loop of the same plan where `sample` is asked."""

    denoiser_: FakeDenoiser = field(default_factory=FakeDenoiser)
    rows: int = 5
    share: bool = True
    kept_bytes: int = 2**20
    one_shape: bool = False

    @cached_property
    def engine(self) -> Engine:
        return Engine(
            self,
            self.denoiser_,
            self.rows,
            CommonCalls() if self.share else None,
            self.one_shape,
            first_calls=FirstCalls(Answers(self.kept_bytes)),
        )

    def model_evals(self, sampler: str, steps: int) -> int:
        return find_sampler(sampler).evaluations(steps)

    def plan(self, sampler: str, steps: int) -> SamplerPlan:
        return probe(find_sampler(sampler), CONFIG, steps)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return (torch.sigmoid(latents) * 255).round().to(torch.uint8)

    def sample(self, text: Text, **asked: Any) -> Made:
        plan = self.plan(asked["sampler"], asked["steps"])
        scale, rows = asked["guidance_scale"], []
        guided = plan.guided(asked.get("guidance_interval"))
        for seed, row in zip(asked["seeds"], text.rows, strict=True):
            noise = Noise([seed], SHAPE, plan)
            state = plan.start(noise.first())
            for call, timestep in enumerate(plan.timesteps):
                seen = state[0][0] * plan.scales[call]
                output = formula(seen, timestep, row)
                if scale != 1.0 and guided[call]:
                    negative = formula(seen, timestep, -1)
                    output = negative + scale * (output - negative)
                state = plan.advance(call, state, output[None], noise.draw(call))
            rows.append(state[0])
        latents = torch.cat(rows)
        return Made(self.decode(latents), latents)
