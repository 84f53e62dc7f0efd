"""A sweep by the shared engine: killed at any call it loses no batch that was whole, and what it cannot do it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_bench import contents, leftovers, plan, run
from fake_flights import FakeDenoiser, FlyingGenerator
from PIL import Image

from eval import sweep
from eval.running.loading import load_run
from sdkit import NotLinear
from sdkit._plan import SamplerPlan

GRID: dict[str, Any] = {"samplers": ("ddim", "dpmpp_2m", "heun"), "steps": (3,), "guidances": (1.0, 2.0)}
PLAIN, LANES = ["engine=percell", "hardware.compile=off"], ["engine.lanes=2"]
SCORES = (
    "metrics.scores=[clip_score,zero_shot,fid,cmmd,precision,recall,saturation,contrast,clipped,judge_all]"
)


def batches(said: list[str]) -> list[str]:
    return [line.partition(": made in")[0] for line in said if ": made in" in line]


def test_killed_before_any_call_it_ends_with_the_same_bytes_and_makes_no_whole_batch_twice(
    tmp_path: Path,
) -> None:
    whole = FlyingGenerator()
    run(tmp_path / "whole", plan(tmp_path / "whole", **GRID), whole)
    calls = len(whole.denoiser_.calls)
    assert calls > 30
    for kill_at in range(0, calls, 13):
        root, said = tmp_path / f"run-{kill_at}", list[str]()
        generator = FlyingGenerator(denoiser_=FakeDenoiser(_killer(kill_at)))
        with pytest.raises(KeyboardInterrupt):
            run(root, plan(root, **GRID), generator, said=said)
        done = batches(said)
        run(root, plan(root, **GRID), FlyingGenerator(), said=said)
        assert contents(root) == contents(tmp_path / "whole")
        assert leftovers(root) == []
        assert not set(done) & set(batches(said)[len(done) :])
        assert len(batches(said)) == 6 * 3


def _killer(at: int) -> Callable[[int], None]:
    """Ends everything before call `at`."""
    left = iter(range(at))

    def before(rows: int) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return before


def test_a_sampler_that_is_no_table_of_coefficients_goes_the_plain_path_and_the_log_says_so_once(
    tmp_path: Path,
) -> None:
    class Clipping(FlyingGenerator):
        def plan(self, sampler: str, steps: int) -> SamplerPlan:
            if sampler == "heun" and asked:
                raise NotLinear("heun at 3 steps clips")
            return super().plan(sampler, steps)

    asked, said = [True], list[str]()
    generator = Clipping()
    generator.sample = _plainly(generator, asked)  # type: ignore[method-assign]
    found = run(tmp_path / "run", plan(tmp_path / "run", **GRID), generator, said=said)
    assert all(result.error is None for result in found.results.values())
    told = [line for line in said if "the plain path was taken" in line]
    assert told == ["heun · 3 steps · g 1: the plain path was taken: heun at 3 steps clips"]


def _plainly(generator: Any, asked: list[bool]) -> Any:
    """The pipeline, which runs what has no plan."""
    sample = type(generator).sample

    def sampled(text: Any, **given: Any) -> Any:
        asked.clear()
        try:
            return sample(generator, text, **given)
        finally:
            asked.append(True)

    return sampled


def _converged(root: Path) -> dict[str, np.ndarray]:
    """Latents by file, of which each guidance has one."""
    return {path.name.partition(".")[0]: np.load(path)["latents"] for path in (root / "converged").iterdir()}


def test_converged_runs_are_flown_too(tmp_path: Path) -> None:
    class OnlyFlying(FlyingGenerator):
        def sample(self, text: Any, **given: Any) -> Any:
            assert (given["sampler"], given["steps"]) != ("dpmpp_2m_karras", 8), "the plain path"
            return super().sample(text, **given)

    class OnlyPlain(FlyingGenerator):
        engine = None  # type: ignore[assignment]

    flown, plain = OnlyFlying(), OnlyPlain()
    for name, generator in (("flown", flown), ("plain", plain)):
        found = run(tmp_path / name, plan(tmp_path / name, **GRID), generator)
        assert [result.error for result in found.results.values()] == [None] * 6
    ours, theirs = (_converged(tmp_path / name) for name in ("flown", "plain"))
    assert len(ours) == 2
    assert ours.keys() == theirs.keys()
    for key, latents in ours.items():
        np.testing.assert_allclose(latents, theirs[key], rtol=1e-4, atol=1e-5)


def test_rows_that_memory_has_no_room_for_are_told_in_the_log(tmp_path: Path) -> None:
    said: list[str] = []
    generator = FlyingGenerator(rows=16, denoiser_=FakeDenoiser(most_rows=3))
    run(tmp_path / "run", plan(tmp_path / "run", **GRID), generator, said=said)
    assert [line for line in said if "out of memory" in line] == [
        "ddim · 3 steps · g 1: out of memory with 10 rows at once; 5 from here on",
        "ddim · 3 steps · g 1: out of memory with 5 rows at once; 2 from here on",
    ]


def test_every_cell_equals_the_plain_path(tmp_path: Path) -> None:
    grid = ("grid.sampler=[ddim,euler_a,unipc]", "grid.steps=[3,4]", "grid.guidance=[1,3]")
    _hold(tmp_path, *grid, "prompts.count=6")


@pytest.mark.slow
def test_every_cell_of_five_samplers_four_step_counts_and_four_guidances_equals_the_plain_path(
    tmp_path: Path,
) -> None:
    samplers = "grid.sampler=[ddim,euler_a,dpmpp_2m_karras,heun,unipc]"
    _hold(tmp_path, samplers, "grid.steps=[3,4,6,9]", "grid.guidance=[1,2,4,7.5]", "prompts.count=32")


def _hold(tmp_path: Path, *grid: str) -> None:
    """Pictures within a level of 255 for 99.9 % of all values, scores within 1e-3 of themselves.

    Without KID, which of few pictures is a small difference of large sums (6e-3 of 32), and without density and
    coverage, which count balls: a picture on the rim of one of 64 makes 1.6e-2.
    """
    command = [
        *grid, SCORES, "reference.count=64", "hardware.batch=4", "hardware.latency_repeats=0",
        "hardware.throughput_repeats=0", "metrics.converged.count=0", "report.filmstrips=0",
    ]  # fmt: skip
    roots = [tmp_path / "a" / "shared", tmp_path / "b" / "plain"]
    for root, engine in zip(roots, (LANES, PLAIN), strict=True):
        assert sweep.main([*command, *engine, f"out={root}"]) == 0
    shared, plain = map(load_run, roots)
    assert len(shared.results) == len(plain.results)
    for one, other in zip(shared.results, plain.results, strict=True):
        assert (one.cell, one.error, other.error) == (other.cell, None, None)
        pixels = [
            np.stack(
                [np.asarray(Image.open(root / row.path)).astype(int) for row in found.images[one.cell.key]]
            )
            for root, found in zip(roots, (shared, plain), strict=True)
        ]
        assert (np.abs(pixels[0] - pixels[1]) <= 1).mean() >= 0.999, one.cell.label
        for ours, theirs in zip(one.scores, other.scores, strict=True):
            assert (ours.name, ours.reason) == (theirs.name, theirs.reason)
            if theirs.value is not None:
                assert ours.value == pytest.approx(theirs.value, rel=1e-3, abs=1e-3), (
                    one.cell.label,
                    ours.name,
                )
