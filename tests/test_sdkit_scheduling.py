"""Diffusers' schedulers as they are built for a run: counts, schedules, mends, noise, and use by pipelines."""

from __future__ import annotations

import inspect
import random
from typing import Any

import numpy as np
import pytest
import torch
from gaussian import (
    STABLE_DIFFUSION,
    Gaussian,
    config_for,
    first_latents,
    step_options,
    walk,
)

from sdkit import Sampler, samplers
from sdkit._backend.scheduling import build_scheduler
from sdkit._errors import ModelError
from sdkit._sampler_names import find_sampler
from sdkit._samplers import own_sampler, with_schedule

SOLVERS = [sampler for sampler in samplers() if sampler.schedule == "default"]
EVERY = [with_schedule(solver.solver, schedule) for solver in SOLVERS for schedule in solver.schedules]
WORLD = Gaussian()
FULL_SIGMA = 14.6146  # of Stable Diffusion's last training timestep
each_sampler = pytest.mark.parametrize("sampler", samplers(), ids=lambda sampler: sampler.name)
each_pairing = pytest.mark.parametrize("sampler", EVERY, ids=lambda sampler: sampler.name)


@each_pairing
def test_every_step_count_makes_as_many_calls_as_the_table_says(sampler: Sampler) -> None:
    scheduler = build_scheduler(sampler, config_for(sampler))
    whole = 1000 if sampler.family == "flow" else 999
    # 61 and 103 are where "trailing" gains a timestep; at 700 Karras steps share whole ones.
    for steps in (*range(sampler.min_steps, 31), 61, 103, 250, 700, sampler.max_steps):
        if steps > sampler.max_steps:
            continue
        scheduler.set_timesteps(steps)
        timesteps = scheduler.timesteps
        # "leading" goes down in whole strides and stops one above zero, wherever that makes it start.
        leading = sampler.schedule == "leading" and steps > 1
        first = (steps - 1) * (1000 // steps) + 1 if leading else whole
        assert len(timesteps) == sampler.evaluations(steps)
        assert float(timesteps[0]) == float(timesteps.max()) == pytest.approx(first, abs=1e-2)
        assert timesteps.min() >= 0
        if hasattr(scheduler, "sigmas") and sampler.family == "diffusion":
            alpha = float(scheduler.alphas_cumprod[int(first)])
            most = ((1 - alpha) / alpha) ** 0.5 if leading else FULL_SIGMA
            assert float(scheduler.sigmas[0]) == pytest.approx(most, rel=1e-4)
            assert len(scheduler.sigmas) == len(timesteps) + 1 + 2 * sampler.scheduler.startswith("KDPM2")


@pytest.mark.parametrize("name", ["euler_leading", "ddim_leading", "pndm_leading"])
def test_leading_is_the_spacing_that_models_were_published_with(name: str) -> None:
    sampler = find_sampler(name)
    published = {**config_for(sampler), "timestep_spacing": "leading"}
    import diffusers

    plain = getattr(diffusers, sampler.scheduler).from_config(published, **dict(sampler.options))
    ours = build_scheduler(sampler, config_for(sampler))
    for steps in (20, 50):
        plain.set_timesteps(steps)
        ours.set_timesteps(steps)
        torch.testing.assert_close(ours.timesteps.double(), torch.as_tensor(plain.timesteps).double())
        if name == "euler_leading":
            torch.testing.assert_close(ours.sigmas, plain.sigmas)
            assert float(ours.init_noise_sigma) == pytest.approx(float(plain.init_noise_sigma))


@each_pairing
def test_the_fewest_steps_are_the_fewest_that_do_not_blow_up(sampler: Sampler) -> None:
    def ratio(steps: int) -> float:
        scheduler = build_scheduler(sampler, config_for(sampler), seeds=range(4))
        scheduler.set_timesteps(steps)
        start = first_latents(sampler, scheduler, WORLD, (4, 1, 16, 16))
        return float(walk(sampler, scheduler, start, WORLD).std()) / WORLD.deviation

    assert all(ratio(steps) < 5 for steps in range(sampler.min_steps, sampler.min_steps + 6))
    if sampler.min_steps > 1 and sampler.solver != "pndm":  # which makes two calls for one step and needs two
        assert ratio(sampler.min_steps - 1) >= 5


@each_sampler
@pytest.mark.parametrize("steps", [20, 61, 103])
def test_from_pure_noise_an_exact_denoiser_is_led_to_its_own_pictures(sampler: Sampler, steps: int) -> None:
    steps = min(steps, sampler.max_steps)
    scheduler = build_scheduler(sampler, config_for(sampler), seeds=range(4))
    scheduler.set_timesteps(steps)
    noise = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    if sampler.family == "diffusion":
        noise = noise * scheduler.init_noise_sigma
    pictures = walk(sampler, scheduler, noise, WORLD)
    assert abs(float(pictures.mean()) - WORLD.mean) < 0.05
    # At 20 steps, where first-order solvers are up to a fifth too flat and DPM2 a an eighth too contrasty.
    assert 0.78 < float(pictures.std()) / WORLD.deviation < 1.13


def test_flow_heun_goes_through_the_sigmas_of_flow_euler() -> None:
    dynamic = {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
    for config, given in (
        ({"shift": 3.0}, {"num_inference_steps": 7}),
        ({"shift": 3.0}, {"sigmas": np.linspace(1.0, 1 / 7, 7)}),
        (dynamic, {"sigmas": np.linspace(1.0, 1 / 7, 7), "mu": 0.9}),
        (dynamic, {"num_inference_steps": 7, "mu": 0.9}),
    ):
        for schedule in find_sampler("flow_heun").schedules:
            euler = build_scheduler(with_schedule("flow_euler", schedule), config)
            heun = build_scheduler(with_schedule("flow_heun", schedule), config)
            euler.set_timesteps(**given)
            heun.set_timesteps(**given)
            assert len(heun.timesteps) == 13
            torch.testing.assert_close(heun.sigmas[::2], euler.sigmas[:-1], rtol=0, atol=0)
            torch.testing.assert_close(heun.timesteps[::2], euler.timesteps, rtol=0, atol=0)
            assert float(heun.sigmas[-1]) == 0.0


def test_flow_schedulers_are_taken_by_the_pipelines_own_way_of_asking() -> None:
    from diffusers.pipelines.flux.pipeline_flux import retrieve_timesteps

    config = {"shift": 3.0, "use_dynamic_shifting": True}
    for name in ("flow_euler", "flow_heun", "flow_euler_simple", "flow_heun_beta"):
        sampler = find_sampler(name)
        scheduler = build_scheduler(sampler, config)
        assert scheduler.config.use_dynamic_shifting
        timesteps, _ = retrieve_timesteps(scheduler, 6, "cpu", sigmas=np.linspace(1.0, 1 / 6, 6), mu=1.1)
        assert len(timesteps) == sampler.evaluations(6)


def test_a_flow_model_keeps_its_own_shift() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    own = FlowMatchEulerDiscreteScheduler(shift=3.0)
    own.set_timesteps(9)
    ours = build_scheduler(find_sampler("flow_euler"), dict(own.config))
    ours.set_timesteps(9)
    torch.testing.assert_close(ours.timesteps, own.timesteps, rtol=0, atol=0)
    simple = build_scheduler(find_sampler("flow_euler_simple"), dict(own.config))
    simple.set_timesteps(4)
    shifted = [3 * s / (1 + 2 * s) for s in (1.0, 0.75, 0.5, 0.25)]
    torch.testing.assert_close(simple.sigmas[:-1], torch.tensor(shifted))


@pytest.mark.parametrize(
    "solver", [s.solver for s in SOLVERS if "simple" in s.schedules and s.family == "diffusion"]
)
def test_the_simple_schedule_is_comfyuis(solver: str) -> None:
    for steps in (3, 7, 20, 30):
        expected = [999 - int(i * 1000 / steps) for i in range(steps)]
        assert _own_timesteps(solver, "simple", steps) == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("solver", [s.solver for s in SOLVERS if s.family == "diffusion"])
def test_the_sgm_uniform_schedule_is_diffusers_trailing_spacing(solver: str) -> None:
    for steps in (1, 4, 8, 20):
        expected = np.round(np.arange(1000, 0, -1000 / steps)) - 1
        assert _own_timesteps(solver, "sgm_uniform", steps) == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("solver", [s.solver for s in SOLVERS if "normal" in s.schedules])
def test_the_normal_schedule_goes_evenly_from_the_last_timestep_to_the_first(solver: str) -> None:
    assert _own_timesteps(solver, "normal", 10) == pytest.approx(np.linspace(999, 0, 10).round(), abs=1e-2)


@pytest.mark.parametrize("solver", [s.solver for s in SOLVERS if "align_your_steps" in s.schedules])
def test_align_your_steps_at_ten_steps_is_what_was_published(solver: str) -> None:
    published = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]
    published_xl = [999, 845, 730, 587, 443, 310, 193, 116, 53, 13]
    assert _own_timesteps(solver, "align_your_steps", 10) == pytest.approx(published, abs=1e-2)
    assert _own_timesteps(solver, "align_your_steps", 10, xl=True) == pytest.approx(published_xl, abs=1e-2)


def test_align_your_steps_at_other_counts_is_log_linear_between_the_published_sigmas() -> None:
    sigmas = {}
    for steps in (10, 20):
        scheduler = build_scheduler(find_sampler("euler_align_your_steps"), STABLE_DIFFUSION)
        scheduler.set_timesteps(steps)
        sigmas[steps] = scheduler.sigmas[:-1]
    torch.testing.assert_close(sigmas[20][::2], sigmas[10])
    torch.testing.assert_close(sigmas[20][1:-1:2], (sigmas[10][:-1] * sigmas[10][1:]).sqrt())
    # Source: the levels that the paper's authors give for SD 1.5; half a timestep is 0.5 per cent.
    given = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152]
    assert sigmas[10].tolist() == pytest.approx(given, rel=5e-3)


@pytest.mark.parametrize("solver", ["dpmpp_2m", "unipc", "deis", "sa_solver", "dpmpp_3m_sde"])
@pytest.mark.parametrize("schedule", ["karras", "exponential", "beta", "simple"])
def test_whole_timesteps_are_the_nearest_ones(solver: str, schedule: str) -> None:
    scheduler = build_scheduler(with_schedule(solver, schedule), STABLE_DIFFUSION)
    scheduler.set_timesteps(17)
    alphas = scheduler.alphas_cumprod.double()
    logs = ((1 - alphas) / alphas).log().numpy() / 2
    exact = np.interp(scheduler.sigmas[:-1].log().numpy(), logs, np.arange(1000))
    assert np.abs(scheduler.timesteps.numpy() - exact).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("solver", ["deis", "sa_solver"])
def test_no_call_is_spent_on_a_step_of_no_length(solver: str) -> None:
    for schedule in find_sampler(solver).schedules:
        scheduler = build_scheduler(with_schedule(solver, schedule), STABLE_DIFFUSION)
        scheduler.set_timesteps(12)
        assert bool((scheduler.sigmas.diff() < 0).all())
        assert float(scheduler.sigmas[-1]) == pytest.approx(0.02917, abs=1e-5)


@each_pairing
def test_the_models_own_scheduler_options_do_not_leak(sampler: Sampler) -> None:
    odd = {
        **config_for(sampler),
        "use_karras_sigmas": True,
        "timestep_spacing": "leading",
        "clip_sample": True,
        "thresholding": True,
        "algorithm_type": "sde-dpmsolver++",
        "solver_type": "heun",
        "solver_order": 3,
        "lower_order_final": False,
        "euler_at_final": True,
        "final_sigmas_type": "sigma_min",
        "use_lu_lambdas": True,
        "use_flow_sigmas": True,
        "stochastic_sampling": True,
        "skip_prk_steps": False,
        "original_inference_steps": 10,
        "_class_name": "DPMSolverMultistepScheduler",
    }
    if sampler.family == "flow":
        if sampler.schedule == "default":
            odd["use_karras_sigmas"] = False  # which is the model's own business there
    elif sampler.scheduler != "UniPCMultistepScheduler":
        odd["predict_x0"] = False
    pictures = []
    for config in (odd, config_for(sampler)):
        scheduler = build_scheduler(sampler, config, seeds=range(2))
        scheduler.set_timesteps(8)
        start = first_latents(sampler, scheduler, WORLD, (2, 1, 4, 4))
        pictures.append(walk(sampler, scheduler, start, WORLD))
    torch.testing.assert_close(pictures[0], pictures[1], rtol=0, atol=0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_models_own_prediction_type_is_kept(prediction: str) -> None:
    for sampler in (sampler for sampler in EVERY if sampler.family == "diffusion"):
        config = build_scheduler(sampler, {**STABLE_DIFFUSION, "prediction_type": prediction}).config
        assert config.prediction_type == prediction


@pytest.mark.parametrize("name", [s.name for s in samplers() if s.stochastic])
def test_below_float32_the_noise_is_the_same_draw(name: str) -> None:
    sampler = find_sampler(name)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float16)
    steps = []
    for dtype in (torch.float32, torch.float16):
        scheduler = build_scheduler(sampler, STABLE_DIFFUSION, dtype=dtype, seeds=[1, 2])
        scheduler.set_timesteps(10)
        timestep, noisy = scheduler.timesteps[0], latents.to(dtype)
        scheduler.scale_model_input(noisy, timestep)
        options = step_options(sampler, scheduler, [1, 2])
        steps.append(
            scheduler.step((latents * 0.1).to(dtype), timestep, noisy, return_dict=False, **options)[0]
        )
    torch.testing.assert_close(steps[1], steps[0].half(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["dpmpp_2m_beta", "unipc_beta", "sa_solver_beta", "dpmpp_2m_sde_beta"])
def test_a_run_begins_with_the_first_of_the_steps_that_share_a_timestep(name: str) -> None:
    scheduler = build_scheduler(find_sampler(name), STABLE_DIFFUSION)
    scheduler.set_timesteps(50)
    assert float(scheduler.timesteps[1]) == float(scheduler.timesteps[0]) == 999
    x = torch.zeros(1, 4, 2, 2)
    scheduler.scale_model_input(x, scheduler.timesteps[0])
    scheduler.step(x, scheduler.timesteps[0], x)
    assert scheduler.step_index == 1


@each_pairing
def test_an_image_is_the_same_alone_and_in_a_batch_bit_for_bit(sampler: Sampler) -> None:
    noise = torch.cat([torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(i)) for i in range(5)])
    batch = _run_rows(sampler, noise, list(range(5)))
    for row in (0, 3):
        torch.testing.assert_close(
            _run_rows(sampler, noise[row : row + 1], [row]), batch[row : row + 1], rtol=0, atol=0
        )
    assert torch.isfinite(batch).all()


@each_pairing
def test_no_global_random_state_is_read_or_moved(sampler: Sampler) -> None:
    made = []
    noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(5))
    with torch.random.fork_rng():
        for seed in (1, 2):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            before = torch.get_rng_state(), _numpy_state(), random.getstate()
            made.append(_run_rows(sampler, noise, [7, 8]))
            assert torch.equal(torch.get_rng_state(), before[0])
            assert np.array_equal(_numpy_state(), before[1])
            assert random.getstate() == before[2]
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=0)


def test_a_models_own_scheduler_runs_untouched() -> None:
    from diffusers import EDMEulerScheduler

    own = EDMEulerScheduler(sigma_max=33.0, sigma_min=0.01)
    ours = build_scheduler(own_sampler("EDMEulerScheduler"), dict(own.config))
    own.set_timesteps(5)
    ours.set_timesteps(5)
    torch.testing.assert_close(ours.sigmas, own.sigmas, rtol=0, atol=0)
    with pytest.raises(ModelError, match=r"^scheduler must be one of diffusers [0-9.]+, got 'NoScheduler'$"):
        build_scheduler(own_sampler("NoScheduler"), {})


def _numpy_state() -> Any:
    return np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002


def _own_timesteps(solver: str, schedule: str, steps: int, *, xl: bool = False) -> list[float]:
    """Timesteps at the ends of the steps; those between are left out."""
    sampler = with_schedule(solver, schedule)
    scheduler = build_scheduler(sampler, STABLE_DIFFUSION, xl=xl)
    scheduler.set_timesteps(steps)
    timesteps: list[float] = scheduler.timesteps.tolist()
    return (
        [timesteps[0], *timesteps[2:]] if sampler.extra_evals == 1 else timesteps[:: sampler.evals_per_step]
    )


def _run_rows(sampler: Sampler, noise: torch.Tensor, seeds: list[int]) -> torch.Tensor:
    """Six steps of a denoiser that is a plain function, elementwise and not linear."""
    scheduler = build_scheduler(sampler, config_for(sampler), seeds=seeds)
    scheduler.set_timesteps(max(sampler.min_steps, 6))
    options = step_options(sampler, scheduler, seeds)
    latents = noise * (1 if sampler.family == "flow" else scheduler.init_noise_sigma)
    for timestep in scheduler.timesteps:
        shown = latents if sampler.family == "flow" else scheduler.scale_model_input(latents, timestep)
        output = shown / (1 + shown.abs()) + float(timestep) / 5000
        latents = scheduler.step(output, timestep, latents, return_dict=False, **options)[0]
    return latents


def test_wrapped_methods_keep_the_signatures_that_pipelines_inspect() -> None:
    import diffusers

    for sampler in EVERY:
        scheduler, own = build_scheduler(sampler, config_for(sampler)), getattr(diffusers, sampler.scheduler)
        taken = set(inspect.signature(scheduler.step).parameters)
        assert taken == set(inspect.signature(own.step).parameters) - {"self"}
        if sampler.family == "flow":
            assert {"sigmas", "mu"} <= set(inspect.signature(scheduler.set_timesteps).parameters)
