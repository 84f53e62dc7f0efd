"""A fake bench whose settings differ: pictures of one seed are alike, and a setting is darker by how bad it is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fake_bench import HEIGHT, WIDTH, FakeGenerator, Made, fake_pool, plan, run

from eval.decide_plan import DecidePlan, RuleScore
from eval.records import Plan
from eval.running.processes import serve
from eval.running.racing import RaceRun
from eval.running.runner import GridRun
from eval.search_plan import SearchPlan

COUNT = 32
WORSE = {"euler_a": 40.0}
"""Levels of 255 that a sampler's pictures are darker."""


class GradedGenerator(FakeGenerator):
    """Euler a is far worse; steps and guidance change little, and cost."""

    def sample(self, text: Any, **asked: Any) -> Made:
        made = super().sample(text, **asked)
        pictures = [self._picture(seed, asked) for seed in asked["seeds"]]
        return replace(made, images=torch.from_numpy(np.stack(pictures)))

    def _picture(self, seed: int, asked: dict[str, Any]) -> Any:
        shared = np.random.default_rng([1, seed]).uniform(80, 220, (3, HEIGHT, WIDTH))
        cell = [len(asked["sampler"]), asked["steps"], int(asked["guidance_scale"])]
        own = np.random.default_rng([2, seed, *cell]).normal(0, 0.3)
        return np.rint(shared + own - WORSE.get(asked["sampler"], 0.0)).astype(np.uint8)


def graded_plan(root: Path, *, search: str = "racing", count: int = COUNT) -> Plan:
    """Eight settings: two samplers, two step counts, two guidance scales."""
    asked = plan(root, count=count, steps=(2, 4))
    rule = DecidePlan(scores=(RuleScore("clip_score"),))
    return replace(asked, search=SearchPlan(search, first=4), decide=rule)


def race(
    root: Path, asked: Plan | None = None, generator: FakeGenerator | None = None, **how: Any
) -> RaceRun:
    """A race over the graded plan in this process."""
    asked = asked or graded_plan(root)
    found = run(root, asked, generator or GradedGenerator(), kind=partial(RaceRun, plan=asked), **how)
    assert isinstance(found, RaceRun)
    return found


def whole_grid(root: Path, generator: FakeGenerator | None = None, **how: Any) -> GridRun:
    """The same grid, every setting to its last picture."""
    return run(root, graded_plan(root, search="grid"), generator or GradedGenerator(), **how)


def work(pipe: Connection, asked: Plan, root: str) -> None:
    """A worker process over the graded bench."""
    serve(pipe, fake_pool(asked, root, GradedGenerator()))
