"""What samplers are called: by us, the WebUI, ComfyUI, k-diffusion, diffusers; and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from sdkit import InvalidRequest, Sampler, UnknownSampler, samplers
from sdkit._sampler_names import find_sampler, fit_sampler
from sdkit._samplers import SCHEDULE_TITLES, own_sampler, with_schedule

FLOW_SCHEDULES = "default, karras, exponential, beta, sgm_uniform, simple"
KNOWN = ", ".join(sampler.name for sampler in samplers())

WEBUI = {
    "DPM++ 2M": "dpmpp_2m", "DPM++ 2M Karras": "dpmpp_2m_karras", "DPM++ SDE": "dpmpp_sde",
    "DPM++ SDE Karras": "dpmpp_sde_karras", "DPM++ 2M SDE": "dpmpp_2m_sde",
    "DPM++ 2M SDE Exponential": "dpmpp_2m_sde_exponential", "DPM++ 2M SDE Karras": "dpmpp_2m_sde_karras",
    "DPM++ 2M SDE Heun": "dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun Karras": "dpmpp_2m_sde_heun_karras",
    "DPM++ 2M SDE Heun Exponential": "dpmpp_2m_sde_heun_exponential", "DPM++ 3M SDE": "dpmpp_3m_sde",
    "DPM++ 3M SDE Karras": "dpmpp_3m_sde_karras", "DPM++ 3M SDE Exponential": "dpmpp_3m_sde_exponential",
    "Euler a": "euler_a", "Euler": "euler", "LMS": "lms", "LMS Karras": "lms_karras", "Heun": "heun",
    "DPM2": "dpm2",
    "DPM2 Karras": "dpm2_karras", "DPM2 a": "dpm2_a", "DPM2 a Karras": "dpm2_a_karras", "DDIM": "ddim",
    "PLMS": "pndm",
    "UniPC": "unipc", "LCM": "lcm", "TCD": "tcd", "DEIS": "deis", "k_lms": "lms", "k_euler": "euler",
    "k_euler_a": "euler_a", "k_euler_ancestral": "euler_a", "k_heun": "heun", "k_dpm_2": "dpm2",
    "k_dpm_2_a": "dpm2_a",
    "k_dpmpp_2m": "dpmpp_2m", "k_dpmpp_sde": "dpmpp_sde", "k_dpmpp_2m_sde": "dpmpp_2m_sde",
    "k_dpmpp_2m_sde_heun": "dpmpp_2m_sde_heun", "k_dpmpp_3m_sde": "dpmpp_3m_sde",
}  # fmt: skip
COMFYUI = {
    "euler": "euler", "euler_ancestral": "euler_a", "heun": "heun", "dpm_2": "dpm2",
    "dpm_2_ancestral": "dpm2_a",
    "lms": "lms", "dpmpp_sde": "dpmpp_sde", "dpmpp_sde_gpu": "dpmpp_sde", "dpmpp_2m": "dpmpp_2m",
    "dpmpp_2m_sde": "dpmpp_2m_sde", "dpmpp_2m_sde_gpu": "dpmpp_2m_sde",
    "dpmpp_2m_sde_heun": "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu": "dpmpp_2m_sde_heun", "dpmpp_3m_sde": "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu": "dpmpp_3m_sde",
    "ddpm": "ddpm", "lcm": "lcm", "deis": "deis", "ddim": "ddim", "uni_pc": "unipc", "uni_pc_bh2": "unipc",
    "sa_solver": "sa_solver",
}  # fmt: skip
K_DIFFUSION = {
    "sample_euler": "euler", "sample_euler_ancestral": "euler_a", "sample_heun": "heun",
    "sample_dpm_2": "dpm2",
    "sample_dpm_2_ancestral": "dpm2_a", "sample_lms": "lms", "sample_dpmpp_sde": "dpmpp_sde",
    "sample_dpmpp_2m": "dpmpp_2m", "sample_dpmpp_2m_sde": "dpmpp_2m_sde",
    "sample_dpmpp_3m_sde": "dpmpp_3m_sde",
}  # fmt: skip
DIFFUSERS = {
    "DDIMScheduler": "ddim", "DDPMScheduler": "ddpm", "PNDMScheduler": "pndm", "LMSDiscreteScheduler": "lms",
    "EulerDiscreteScheduler": "euler", "EulerAncestralDiscreteScheduler": "euler_a",
    "HeunDiscreteScheduler": "heun",
    "KDPM2DiscreteScheduler": "dpm2", "KDPM2AncestralDiscreteScheduler": "dpm2_a",
    "DPMSolverMultistepScheduler": "dpmpp_2m", "DPMSolverSDEScheduler": "dpmpp_sde",
    "UniPCMultistepScheduler": "unipc", "DEISMultistepScheduler": "deis", "SASolverScheduler": "sa_solver",
    "LCMScheduler": "lcm", "TCDScheduler": "tcd", "FlowMatchEulerDiscreteScheduler": "flow_euler",
    "FlowMatchHeunDiscreteScheduler": "flow_heun",
}  # fmt: skip
OURS = {
    "dpm++_2m": "dpmpp_2m", "DPM++2M-Karras": "dpmpp_2m_karras", " plms ": "pndm", "uni-pc": "unipc",
    "EULER A": "euler_a", "euler_a_sgm_uniform": "euler_a_sgm_uniform",
    "Euler SGM Uniform": "euler_sgm_uniform",
    "dpmpp_2m ays": "dpmpp_2m_align_your_steps", "SA Solver Beta": "sa_solver_beta",
    "lcm_simple": "lcm_simple",
    "flow_heun_beta": "flow_heun_beta", "dpm_solver_multistep": "dpmpp_2m",
}  # fmt: skip
SCHEMES = [pair for scheme in (WEBUI, COMFYUI, K_DIFFUSION, DIFFUSERS, OURS) for pair in scheme.items()]


@pytest.mark.parametrize(("written", "name"), SCHEMES)
def test_other_tools_names_are_understood(written: str, name: str) -> None:
    for spelling in (written, written.lower(), written.upper(), written.replace(" ", "_"), f" {written} "):
        assert find_sampler(spelling).name == name


@pytest.mark.parametrize(
    ("written", "schedule", "name"),
    [
        ("DPM++ 2M", "Karras", "dpmpp_2m_karras"),
        ("DPM++ 2M", "Uniform", "dpmpp_2m"),
        ("DPM++ 2M", "SGM Uniform", "dpmpp_2m_sgm_uniform"),
        ("DPM++ 2M SDE", "Exponential", "dpmpp_2m_sde_exponential"),
        ("Euler a", "Align Your Steps", "euler_a_align_your_steps"),
        ("Euler", "Beta", "euler_beta"),
        ("DPM++ 2M", "Automatic", "dpmpp_2m_karras"),
        ("DPM++ 2M SDE", "automatic", "dpmpp_2m_sde_exponential"),
        ("DPM++ SDE", "Automatic", "dpmpp_sde_karras"),
        ("DPM2 a", "Automatic", "dpm2_a_karras"),
        ("Euler a", "Automatic", "euler_a"),
        ("DDIM", "Automatic", "ddim"),
        ("DPM++ 2M Karras", "Automatic", "dpmpp_2m_karras"),
        ("DPM++ 2M Karras", "Karras", "dpmpp_2m_karras"),
        ("dpmpp_2m", "normal", "dpmpp_2m_normal"),
        ("dpmpp_2m", "karras", "dpmpp_2m_karras"),
        ("dpmpp_2m_sde_gpu", "karras", "dpmpp_2m_sde_karras"),
        ("euler", "normal", "euler"),
        ("euler", "simple", "euler_simple"),
        ("euler", "sgm_uniform", "euler_sgm_uniform"),
        ("lcm", "sgm_uniform", "lcm_sgm_uniform"),
        ("uni_pc", "exponential", "unipc_exponential"),
        ("ddim", "sgm_uniform", "ddim_sgm_uniform"),
        ("DPMSolverMultistepScheduler", "beta", "dpmpp_2m_beta"),
        ("euler", None, "euler"),
    ],
)
def test_the_schedule_may_be_named_apart(written: str, schedule: str | None, name: str) -> None:
    assert find_sampler(written, schedule).name == name


def test_every_title_and_alias_leads_to_its_sampler() -> None:
    for sampler in samplers():
        for schedule in sampler.schedules:
            made = with_schedule(sampler.solver, schedule)
            assert find_sampler(made.name) == find_sampler(made.title) == made
            assert find_sampler(sampler.title.removesuffix(" Karras"), SCHEDULE_TITLES[schedule]) == made
        if sampler.schedule == "default":
            assert all(find_sampler(alias) is sampler for alias in sampler.aliases)


def test_a_sampler_itself_is_taken_and_may_be_given_a_schedule() -> None:
    plain = find_sampler("euler")
    assert find_sampler(plain) is plain
    assert find_sampler(plain, "Karras").name == "euler_karras"
    own = own_sampler("EDMEulerScheduler")
    assert find_sampler(own) is own


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("DPM++ 2S a", "DPM++ 2S a has no equivalent in diffusers; nearest: dpmpp_sde, dpm2_a"),
        ("DPM++ 2S a Karras", "DPM++ 2S a has no equivalent in diffusers; nearest: dpmpp_sde, dpm2_a"),
        ("dpmpp_2s_ancestral", "DPM++ 2S a has no equivalent in diffusers; nearest: dpmpp_sde, dpm2_a"),
        (
            "sample_dpmpp_2s_ancestral",
            "DPM++ 2S a has no equivalent in diffusers; nearest: dpmpp_sde, dpm2_a",
        ),
        ("k_dpmpp_2s_a", "DPM++ 2S a has no equivalent in diffusers; nearest: dpmpp_sde, dpm2_a"),
        ("DPM fast", "DPM fast has no equivalent in diffusers; nearest: dpmpp_2m, dpm2"),
        ("k_dpm_fast", "DPM fast has no equivalent in diffusers; nearest: dpmpp_2m, dpm2"),
        ("DPM adaptive", "DPM adaptive has no equivalent in diffusers; nearest: dpmpp_2m_karras, heun"),
        ("Restart", "Restart has no equivalent in diffusers; nearest: heun, dpmpp_sde"),
        ("DDIM CFG++", "DDIM CFG++ has no equivalent in diffusers; nearest: ddim"),
        ("euler_cfg_pp", "Euler CFG++ has no equivalent in diffusers; nearest: euler"),
        ("euler_ancestral_cfg_pp", "Euler a CFG++ has no equivalent in diffusers; nearest: euler_a"),
        ("ipndm", "iPNDM has no equivalent in diffusers; nearest: pndm, deis"),
        ("res_multistep", "RES multistep has no equivalent in diffusers; nearest: dpmpp_2m, unipc"),
        ("heunpp2", "Heun++ 2 has no equivalent in diffusers; nearest: heun"),
        ("hein", f"sampler must be one of {KNOWN}, got 'hein'; nearest: heun, flow_heun, deis"),
        ("xyzzy", f"sampler must be one of {KNOWN}, got 'xyzzy'"),
        ("", f"sampler must be one of {KNOWN}, got ''"),
        (7, "sampler must be a name, got 7; see sdkit.samplers()"),
    ],
)
def test_an_unknown_sampler_is_answered_in_one_line(written: Any, message: str) -> None:
    with pytest.raises(UnknownSampler) as error:
        find_sampler(written)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("written", "schedule", "message"),
    [
        ("ddim", "karras", "schedule must be one of default, sgm_uniform, leading for ddim, got 'karras'"),
        ("ddim", "normal", "schedule must be one of default, sgm_uniform, leading for ddim, got 'normal'"),
        ("pndm_karras", None, "schedule must be one of default, sgm_uniform, leading for pndm, got 'karras'"),
        (
            "flow_euler",
            "align_your_steps",
            f"schedule must be one of {FLOW_SCHEDULES} for flow_euler, got 'align_your_steps'",
        ),
        (
            "dpmpp_2m_karras",
            "beta",
            "schedule must be named once, got beta beside karras in the sampler 'dpmpp_2m_karras'",
        ),
        (
            "DPM++ 2M Karras",
            "Uniform",
            "schedule must be named once, got default beside karras in the sampler 'DPM++ 2M Karras'",
        ),
        (
            "euler",
            "kl_optimal",
            "schedule KL Optimal has no equivalent in diffusers; nearest: align_your_steps",
        ),
        (
            "DPM++ 2M",
            "Polyexponential",
            "schedule Polyexponential has no equivalent in diffusers; nearest: exponential",
        ),
        ("DPM++ 2M Turbo", None, "schedule Turbo has no equivalent in diffusers; nearest: sgm_uniform"),
        (
            "ddim",
            "ddim_uniform",
            "schedule DDIM uniform has no equivalent in diffusers; nearest: sgm_uniform",
        ),
        (
            "euler",
            "karas",
            f"schedule must be one of {', '.join(SCHEDULE_TITLES)}, got 'karas'; nearest: karras, align_your_steps",
        ),
        ("euler", 3, "schedule must be a name or None, got 3"),
    ],
)
def test_a_schedule_that_cannot_be_is_answered_in_one_line(written: str, schedule: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        find_sampler(written, schedule)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "family", "fitted"),
    [
        ("euler", "flow", "flow_euler"),
        ("heun", "flow", "flow_heun"),
        ("euler_simple", "flow", "flow_euler_simple"),
        ("heun_beta", "flow", "flow_heun_beta"),
        ("flow_heun", "flow", "flow_heun"),
        ("dpmpp_2m_karras", "diffusion", "dpmpp_2m_karras"),
    ],
)
def test_a_sampler_fits_its_family_and_euler_and_heun_fit_both(name: str, family: str, fitted: str) -> None:
    assert fit_sampler(find_sampler(name), family, "a model").name == fitted


@pytest.mark.parametrize(
    ("sampler", "family", "message"),
    [
        (
            find_sampler("dpmpp_2m"),
            "flow",
            "sampler must be flow_euler or flow_heun for m, a flow-match model, got dpmpp_2m",
        ),
        (
            find_sampler("flow_heun_beta"),
            "diffusion",
            "sampler must be of a diffusion model for m, got flow_heun_beta; try heun",
        ),
        (
            find_sampler("euler"),
            "own",
            "sampler must be left out for m, which only its own scheduler can run, got euler",
        ),
        (
            own_sampler("EDMEulerScheduler"),
            "diffusion",
            "sampler must be of a diffusion model for m, got own",
        ),
        (
            find_sampler("euler_align_your_steps"),
            "flow",
            f"schedule must be one of {FLOW_SCHEDULES} for flow_euler, got 'align_your_steps'",
        ),
    ],
)
def test_a_sampler_of_another_family_is_refused_with_what_fits(
    sampler: Sampler, family: str, message: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        fit_sampler(sampler, family, "m")
    assert str(error.value) == message


def test_a_missing_package_is_told_before_any_weight_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchsde", None)
    with pytest.raises(InvalidRequest) as error:
        fit_sampler(find_sampler("DPM++ SDE"), "diffusion", "m")
    assert str(error.value) == "dpmpp_sde needs the package torchsde; pip install 'sdkit-t2i[sde]'"
