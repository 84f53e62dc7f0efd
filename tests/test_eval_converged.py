"""The distance to the converged picture: falls with steps, is no figure for a stochastic sampler, costs one run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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
def runs(generator: _Counted) -> ConvergedRuns:
    text = generator.session.encode(CAPTIONS)
    return ConvergedRuns(PLAN, generator, text.rows)  # type: ignore[arg-type]


def cell(sampler: str, steps: int, guidance: float = 2.0) -> Cell:
    return Cell("f00d", sampler, steps, guidance, "p", 2, 5, 64, 64, "float32", "cpu")


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m_karras", "euler"])
def test_more_steps_come_nearer_in_latents_and_in_pictures(runs: ConvergedRuns, sampler: str) -> None:
    found = [runs.measure(cell(sampler, steps), ()).values for steps in (4, 12, 40)]
    distances = [float(np.mean(each["latent_rmse"])) for each in found]
    likeness = [float(np.mean(each["ssim"])) for each in found]
    assert distances[0] > distances[1] > distances[2] > 0
    assert likeness[0] < likeness[2] <= 1


def test_the_converged_run_itself_is_at_distance_zero(runs: ConvergedRuns) -> None:
    found = runs.measure(cell("dpmpp_2m_karras", 64), ()).values
    np.testing.assert_array_equal(found["latent_rmse"], 0.0)
    np.testing.assert_allclose(found["ssim"], 1.0, atol=1e-6)


def test_a_stochastic_sampler_has_no_distance_and_says_why(runs: ConvergedRuns) -> None:
    found = runs.measure(cell("euler_a", 8), ())
    assert found.values == {}
    assert found.reason == "euler_a draws noise at every step: it converges to no one picture"


def test_one_converged_run_serves_all_cells_of_a_guidance(generator: _Counted) -> None:
    text = generator.session.encode(CAPTIONS)
    runs = ConvergedRuns(ConvergedPlan("dpmpp_2m_karras", 20, 2), generator, text.rows)  # type: ignore[arg-type]
    generator.steps.clear()
    for steps in (2, 3):
        runs.measure(cell("ddim", steps), ())
    runs.measure(cell("ddim", 2, guidance=1.0), ())
    assert generator.steps == [2, 20, 3, 2, 20]


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
    given = runs.measure(cell("ddim", 4), made)
    again = runs.measure(cell("ddim", 4), ())
    assert 4 in generator.steps
    assert generator.steps.count(4) == 1
    np.testing.assert_allclose(given.values["latent_rmse"], again.values["latent_rmse"], atol=1e-5)
