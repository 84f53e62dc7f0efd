"""Plans: what an update computes, which buffers are kept, whose noise is drawn, and what is no plan at all."""

from __future__ import annotations

import doctest
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from gaussian import STABLE_DIFFUSION, config_for
from hypothesis import given
from hypothesis import strategies as st
from plan_runs import SEEDS, SHAPE, planned

from sdkit import InvalidRequest, ModelError, Sampler, samplers
from sdkit import _errors as errors
from sdkit import _plan as plans
from sdkit._backend.noise import Noise
from sdkit._backend.probing import probe
from sdkit._backend.scheduling import build_scheduler
from sdkit._errors import NotLinear
from sdkit._plan import Matrix, SamplerPlan, pruned
from sdkit._sampler_names import find_sampler
from sdkit._samplers import own_sampler

each_sampler = pytest.mark.parametrize("sampler", samplers(), ids=lambda sampler: sampler.name)


def plan_of(name: str, steps: int = 8) -> SamplerPlan:
    sampler = find_sampler(name)
    return probe(sampler, config_for(sampler), steps)


def tensors(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((2, *SHAPE), generator=generator).to(dtype) for _ in range(count)]


def one_call(matrix: list[list[float]]) -> SamplerPlan:
    return SamplerPlan((999.0,), (1.0,), 1.0, (np.array(matrix),), ((),))


def test_ddim_is_the_two_coefficients_of_its_paper() -> None:
    # Song et al. 2021, equation 12, from the schedule's own alphas.
    plan = plan_of("ddim", 10)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    assert plan.timesteps[:3] == (999, 899, 799)
    now, then = alphas[899], alphas[799]
    expected = torch.stack([(then / now) ** 0.5, (1 - then) ** 0.5 - (then * (1 - now) / now) ** 0.5])
    assert plan.updates[1][0].tolist() == pytest.approx(expected.tolist(), rel=1e-5)  # of a float32 schedule


def test_euler_a_is_a_step_down_and_new_noise_up() -> None:
    plan = plan_of("euler_a", 10)
    sigmas = [plan.init_scale, *(1 / scale**2 for scale in plan.scales[1:])]
    start, end = sigmas[0], (sigmas[1] - 1) ** 0.5
    up = (end**2 * (start**2 - end**2) / start**2) ** 0.5
    assert plan.updates[0][0].tolist() == pytest.approx([1.0, (end**2 - up**2) ** 0.5 - start, up], rel=1e-5)


@each_sampler
def test_an_update_is_its_matrix_to_the_roundings_that_it_makes(sampler: Sampler) -> None:
    plan = probe(sampler, config_for(sampler), 7)
    for call, (matrix, draws) in enumerate(zip(plan.updates, plan.noises, strict=True)):
        terms = tensors(plan.states + 1 + len(draws), seed=call)
        moved = plan.advance(call, terms[: plan.states], terms[plan.states], terms[plan.states + 1 :])
        stacked, weights = torch.stack(terms).double(), torch.from_numpy(matrix.copy())
        exact = torch.einsum("rm,m...->r...", weights, stacked)
        # Each coefficient and each product is rounded once, and so is each sum of two.
        allowed = torch.einsum("rm,m...->r...", weights.abs(), stacked.abs()) * (len(terms) + 1) * 2.0**-24
        assert all(tensor.dtype == torch.float32 for tensor in moved)
        assert bool(((torch.stack(moved).double() - exact).abs() <= allowed).all())


@each_sampler
def test_nothing_that_is_given_is_written_to(sampler: Sampler) -> None:
    plan = probe(sampler, config_for(sampler), 7)
    state = plan.start(tensors(1)[0])
    for call, draws in enumerate(plan.noises):
        output, *drawn = tensors(1 + len(draws), seed=call)
        before = [tensor.clone() for tensor in (*state, output, *drawn)]
        following = plan.advance(call, state, output, drawn)
        for tensor, kept in zip((*state, output, *drawn), before, strict=True):
            assert torch.equal(tensor, kept)
        state = following


def test_a_copy_is_the_tensor_itself_and_a_buffer_that_nobody_reads_takes_no_memory() -> None:
    state, (output,) = tensors(3), tensors(1, seed=1)
    plan = one_call([[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    moved = plan.advance(0, state, output, [])
    assert moved[1] is output
    assert not moved[2].any()
    assert moved[2].shape == output.shape
    assert moved[2].untyped_storage().nbytes() == 4


def test_a_half_precision_output_is_added_in_the_dtype_of_the_latents() -> None:
    state, (output,) = tensors(1), tensors(1, seed=1, dtype=torch.float16)
    (moved,) = one_call([[0.0, 1 / 3]]).advance(0, state, output, [])
    torch.testing.assert_close(moved, output.float() / 3)


def test_the_matrices_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        plan_of("ddim").updates[0][0, 0] = 2.0


@given(st.integers(0, 2**32 - 1))
def test_pruning_changes_nothing_but_the_number_of_buffers(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = [1, *random.integers(1, 6, 5).tolist()]
    updates = [_random_update(random, *pair) for pair in itertools.pairwise(sizes)]
    small = pruned(updates)
    assert len({len(update) for update in small}) == 1
    assert len(small[0]) <= max(sizes)
    large, little = np.zeros(sizes[0]), np.zeros(len(small[0]))
    large[0] = little[0] = random.normal()
    for update, fewer, size in zip(updates, small, sizes, strict=False):
        others = random.normal(size=update.shape[1] - size)
        large, little = update @ [*large, *others], fewer @ [*little, *others]
        assert little[0] == pytest.approx(large[0], rel=1e-12, abs=1e-12)


def _random_update(random: np.random.Generator, before: int, after: int) -> Matrix:
    """With copies, with coefficients and with buffers that nobody reads; one output and up to two draws."""
    shape = after, before + 1 + int(random.integers(0, 3))
    update = random.normal(size=shape) * (random.random(shape) < 0.4)
    for row in range(1, after):
        if random.random() < 0.5:
            update[row] = np.eye(shape[1])[random.integers(shape[1])]
    return update


def test_a_buffer_stays_where_it_is_while_it_is_only_carried() -> None:
    kept = np.array([[1.0, 0.5], [0.0, 1.0]])
    carried = np.array([[1.0, 0.0, 0.5], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    read = np.array([[1.0, 0.0, 2.0, 0.0]])
    first, second, last = pruned([kept, carried, read])
    assert first.tolist() == [[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]]
    assert second.tolist() == [[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]
    assert last.tolist() == [[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "states"), [("ddim", 1), ("euler_a", 1), ("dpmpp_2m", 2), ("heun", 3), ("lms", 4), ("unipc", 4)]
)
def test_no_more_latents_are_kept_than_a_solver_needs(name: str, states: int) -> None:
    assert plan_of(name).states == states
    assert plan_of(name, find_sampler(name).min_steps).states <= states


@each_sampler
def test_what_a_call_reads_is_told_by_the_noise_and_the_outputs_before_it(sampler: Sampler) -> None:
    plan = probe(sampler, config_for(sampler), 11)
    reads, (noise, *outputs) = plan.reads(), tensors(1 + plan.calls, dtype=torch.float64)
    state = plan.start(noise)
    for call, row in enumerate(reads):
        terms = torch.stack([noise, *outputs[:call]])
        expected = torch.einsum("k,k...->...", torch.from_numpy(row), terms)
        torch.testing.assert_close(plan.scales[call] * state[0], expected, rtol=1e-10, atol=1e-10)
        if not plan.noises[call]:
            state = plan.advance(call, state, outputs[call], [])
    draws = [call for call, noises in enumerate(plan.noises) if noises]
    assert len(reads) == (draws[0] + 1 if draws else plan.calls)


def test_samplers_whose_first_calls_are_the_same_read_the_same() -> None:
    def first(name: str, steps: int = 8) -> tuple[float, float]:
        plan = plan_of(name, steps)
        return plan.timesteps[0], pytest.approx(plan.reads()[0].item(), rel=1e-6)

    assert first("ddim", 4) == first("dpmpp_2m", 30) == (999.0, 1.0)
    assert first("euler", 4) == first("heun", 9) == first("euler_karras")
    assert first("euler") != first("ddim")
    assert first("ddim_leading", 4) != first("ddim_leading", 5)


def test_the_noise_of_a_picture_is_its_own_generators_whoever_is_beside_it() -> None:
    plan = plan_of("dpm2_a", 4)
    noise, alone = Noise(SEEDS, SHAPE, plan), Noise(SEEDS[1:], SHAPE, plan)
    generator = torch.Generator().manual_seed(SEEDS[1])
    assert torch.equal(noise.first()[1:], torch.randn((1, *SHAPE), generator=generator))
    assert torch.equal(alone.first(), noise.first()[1:])
    for call in range(plan.calls):
        drawn = noise.draw(call)
        assert len(drawn) == len(plan.noises[call]) == call % 2  # every other call of DPM2 a draws
        for both, single in zip(drawn, alone.draw(call), strict=True):
            assert torch.equal(both[1:], torch.randn((1, *SHAPE), generator=generator))
            assert torch.equal(single, both[1:])


def test_brownian_noise_is_bit_for_bit_what_the_scheduler_draws() -> None:
    sampler = find_sampler("dpmpp_sde_karras")
    scheduler = build_scheduler(sampler, STABLE_DIFFUSION, seeds=SEEDS)
    scheduler.set_timesteps(8)
    noise, latents = Noise(SEEDS, SHAPE, probe(sampler, STABLE_DIFFUSION, 8)), tensors(1)[0]
    seen: list[torch.Tensor] = []
    for call, timestep in enumerate(scheduler.timesteps):
        if call == 1:
            scheduler.noise_sampler = _kept(scheduler.noise_sampler, seen)
        scheduler.step(latents, timestep, latents)
        ours = noise.draw(call)
        assert call == 0 or all(map(torch.equal, ours, seen))
        seen.clear()


def _kept(noise_sampler: Any, seen: list[torch.Tensor]) -> Any:
    def sampled(sigma: Any, sigma_next: Any) -> torch.Tensor:
        seen.append(noise_sampler(sigma, sigma_next))
        return seen[-1]

    return sampled


def test_draws_out_of_turn_are_refused() -> None:
    noise = Noise(SEEDS, SHAPE, plan_of("euler_a"))
    noise.draw(0)
    with pytest.raises(ValueError, match=r"^call must be 1, whose turn it is, got 0$"):
        noise.draw(0)


@each_sampler
def test_probing_neither_reads_nor_moves_global_random_state(sampler: Sampler) -> None:
    with torch.random.fork_rng():
        made = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            made.append(planned(probe(sampler, config_for(sampler), 5), torch.float32)[-1])
            assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(*made)


@pytest.mark.parametrize("steps", [0, 1001, 2.5])
def test_steps_that_the_sampler_cannot_run_are_the_callers_mistake(steps: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^steps must be 1\.\.1000, got ") as caught:
        probe(find_sampler("ddim"), STABLE_DIFFUSION, steps)
    assert not isinstance(caught.value, NotLinear)


@pytest.mark.parametrize(
    ("scheduler", "config", "reason"),
    [
        ("DDIMScheduler", {"clip_sample": True}, "its step is not linear in the latents"),
        ("DPMSolverMultistepScheduler", {"thresholding": True}, "its step is not linear in the latents"),
        ("EulerAncestralDiscreteScheduler", {}, "it draws the noise of a whole batch from one generator"),
        ("RePaintScheduler", {}, r"TypeError: .*missing 2 required positional arguments"),
        ("EntropyBoundScheduler", {}, r"it draws noise by torch\.randint in a way of its own"),
        ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, "`mu` must be passed"),
    ],
)
def test_what_is_no_table_of_coefficients_is_refused_with_the_reason(
    scheduler: str, config: dict[str, Any], reason: str
) -> None:
    expected = (
        rf"^own at 10 steps cannot be compiled into coefficients: .*{reason}.*; let its pipeline run it$"
    )
    with pytest.raises(NotLinear, match=expected):
        probe(own_sampler(scheduler), config, 10)


def test_a_models_own_scheduler_is_compiled_where_it_is_linear() -> None:
    plan = probe(own_sampler("EDMEulerScheduler"), {"sigma_max": 33.0, "sigma_min": 0.01}, 6)
    assert plan.calls == 6
    assert plan.init_scale == pytest.approx((33**2 + 1) ** 0.5)
    with pytest.raises(ModelError, match=r"^scheduler must be one of diffusers"):
        probe(own_sampler("NoScheduler"), {}, 6)


def test_the_room_of_plans_needs_no_torch() -> None:
    code = "import sys, sdkit._plan; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("public", [plans.SamplerPlan, errors.NotLinear])
def test_the_examples_run(public: type) -> None:
    (found,) = doctest.DocTestFinder(recurse=False).find(public, public.__name__, globs={})
    assert found.examples
    assert not doctest.DocTestRunner().run(found).failed
