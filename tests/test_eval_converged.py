"""The distance to the converged picture: falls with steps, is no figure for a stochastic sampler, costs one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eval.records import Cell, ConvergedPlan
from eval.running.converged import ConvergedRuns
from sdkit import Session

CAPTIONS = [
    "a small red star at the left on a blue background",
    "a green ring above a yellow square on a black background",
]
PLAN = ConvergedPlan("dpmpp_2m_karras", 64, 2)


class _Counted:
    """The bundled model, with its calls counted."""

    def __init__(self) -> None:
        self.session = Session("shapes", device="cpu")
        self.steps: list[int] = []

    def sample(self, text: Any, **asked: Any) -> Any:
        self.steps.append(asked["steps"])
        return self.session.sample(text, **asked)


@pytest.fixture(scope="module")
def generator() -> _Counted:
    return _Counted()


@pytest.fixture(scope="module")
def runs(generator: _Counted, tmp_path_factory: pytest.TempPathFactory) -> ConvergedRuns:
    text = generator.session.encode(CAPTIONS)
    return ConvergedRuns(PLAN, generator, text.rows, tmp_path_factory.mktemp("converged"))  # type: ignore[arg-type]


def cell(sampler: str, steps: int, guidance: float = 2.0) -> Cell:
    return Cell("f00d", sampler, steps, guidance, "p", 2, 5, 64, 64, "float32", "cpu")


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m_karras", "euler"])
def test_more_steps_come_nearer_in_latents_and_in_pictures(runs: ConvergedRuns, sampler: str) -> None:
    found = [runs.measure(cell(sampler, steps), None).values for steps in (4, 12, 40)]
    distances = [float(np.mean(each["latent_rmse"])) for each in found]
    likeness = [float(np.mean(each["ssim"])) for each in found]
    assert distances[0] > distances[1] > distances[2] > 0
    assert likeness[0] < likeness[2] <= 1


def test_the_converged_run_itself_is_at_distance_zero(runs: ConvergedRuns) -> None:
    found = runs.measure(cell("dpmpp_2m_karras", 64), None).values
    np.testing.assert_array_equal(found["latent_rmse"], 0.0)
    np.testing.assert_allclose(found["ssim"], 1.0, atol=1e-6)


def test_a_stochastic_sampler_has_no_distance_and_says_why(runs: ConvergedRuns) -> None:
    found = runs.measure(cell("euler_a", 8), None)
    assert found.values == {}
    assert found.reason == "euler_a draws noise at every step: it converges to no one picture"


def test_one_converged_run_serves_all_cells_of_a_guidance(generator: _Counted, tmp_path: Path) -> None:
    text = generator.session.encode(CAPTIONS)
    plan = ConvergedPlan("dpmpp_2m_karras", 20, 2)
    runs = ConvergedRuns(plan, generator, text.rows, tmp_path)  # type: ignore[arg-type]
    generator.steps.clear()
    for steps in (2, 3):
        runs.measure(cell("ddim", steps), None)
    runs.measure(cell("ddim", 2, guidance=1.0), None)
    assert generator.steps == [2, 20, 3, 2, 20]
    generator.steps.clear()
    later = ConvergedRuns(plan, generator, text.rows, tmp_path)  # type: ignore[arg-type]
    found = later.measure(cell("ddim", 2), None)
    assert generator.steps == [2], "another process finds the converged pictures on disk"
    again = runs.measure(cell("ddim", 2), None)
    np.testing.assert_array_equal(found.values["latent_rmse"], again.values["latent_rmse"])


def test_a_damaged_converged_run_is_made_again(generator: _Counted, tmp_path: Path) -> None:
    text = generator.session.encode(CAPTIONS)
    plan = ConvergedPlan("dpmpp_2m_karras", 20, 2)
    ConvergedRuns(plan, generator, text.rows, tmp_path).measure(cell("ddim", 2), None)  # type: ignore[arg-type]
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    generator.steps.clear()
    ConvergedRuns(plan, generator, text.rows, tmp_path).measure(cell("ddim", 2), None)  # type: ignore[arg-type]
    assert generator.steps == [2, 20]


def test_pictures_that_were_just_made_are_not_made_again(generator: _Counted, runs: ConvergedRuns) -> None:
    text = generator.session.encode(CAPTIONS)
    size = {"width": 64, "height": 64}
    made = [
        generator.session.sample(
            text.rows(i, i + 1), sampler="ddim", steps=4, guidance_scale=2.0, seeds=[5 + i], **size
        )
        for i in range(2)
    ]
    generator.steps.clear()
    pair = (torch.cat([each.latents for each in made]), torch.cat([each.images for each in made]))
    given = runs.measure(cell("ddim", 4), pair)
    again = runs.measure(cell("ddim", 4), None)
    assert 4 in generator.steps
    assert generator.steps.count(4) == 1
    np.testing.assert_allclose(given.values["latent_rmse"], again.values["latent_rmse"], atol=1e-5)
