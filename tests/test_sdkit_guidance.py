"""Guidance in an interval: which calls are guided, held against loops of our own over diffusers' parts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sdkit
from sdkit import InvalidRequest, Session
from sdkit._guidance import check_interval, guided_calls, noise_level

PROMPTS = ["a red star", "a small blue ring"]
STEPS, SCALE = 5, 4.0
ALPHAS = [0.999, 0.9, 0.5, 0.1, 0.0]
MIDDLE = (0.6, 4.5)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session("shapes", device="cpu")


@pytest.fixture(scope="module")
def plain() -> Any:
    import diffusers

    import sdkit._backend as backend

    folder = Path(backend.__file__).parents[1] / "shapes" / "weights"
    (index,) = folder.rglob("model_index.json")
    return diffusers.StableDiffusionPipeline.from_pretrained(index.parent, safety_checker=None).to(
        torch.float32
    )


def made(
    session: Session, sampler: str, interval: tuple[float, float] | None, scale: float = SCALE
) -> Tensor:
    """(2, 3, H, W) levels, 0..255."""
    batch = session.sample(
        session.encode(PROMPTS),
        sampler=sampler,
        steps=STEPS,
        guidance_scale=scale,
        seeds=[3, 4],
        guidance_interval=interval,
    )
    return batch.images.int()


def test_a_noise_level_is_the_ratio_of_noise_to_signal_and_goes_by_its_logarithm_between() -> None:
    assert noise_level(2, ALPHAS) == pytest.approx(1.0)
    assert noise_level(1, ALPHAS) == pytest.approx(1 / 3)
    assert noise_level(1.5, ALPHAS) == pytest.approx((1 / 3) ** 0.5)
    assert noise_level(-1, ALPHAS) == noise_level(0, ALPHAS)
    assert noise_level(4, ALPHAS) == noise_level(9, ALPHAS) == noise_level(3.5, ALPHAS) == math.inf


def test_calls_are_guided_above_the_low_end_and_up_to_the_high_one() -> None:
    edge = noise_level(2, ALPHAS)
    assert guided_calls([4, 3, 2, 1, 0], ALPHAS, (edge, 3.5)) == (False, True, False, False, False)
    assert guided_calls([4, 3, 2, 1, 0], ALPHAS, (0.2, edge)) == (False, False, True, True, False)
    assert guided_calls([4, 3], ALPHAS, None) == (True, True)
    assert guided_calls([], ALPHAS, (0.2, edge)) == ()


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_a_run_is_the_one_of_a_loop_that_leaves_guidance_out(
    session: Session, plain: Any, sampler: str
) -> None:
    found = made(session, sampler, MIDDLE)
    levels, expected = looped(plain, sampler, MIDDLE)
    told = [MIDDLE[0] < level <= MIDDLE[1] for level in levels]
    assert any(told)
    assert not told[0]
    assert not told[-1]
    assert_within_one_level(found, expected)
    for other in (None, (0.0, MIDDLE[1]), (MIDDLE[0], 100.0)):  # a lost end would show
        assert (looped(plain, sampler, other)[1] - expected).abs().max() > 1


def looped(plain: Any, sampler: str, interval: tuple[float, float] | None) -> tuple[list[float], Tensor]:
    """Levels of the calls, and the pictures: a scheduler and a denoiser of diffusers, called by hand."""
    import diffusers

    kind = {"ddim": diffusers.DDIMScheduler, "euler": diffusers.EulerDiscreteScheduler}[sampler]
    spacing = next(each for each in sdkit.samplers() if each.name == sampler).spacing
    scheduler = kind.from_config(plain.scheduler.config, timestep_spacing=spacing)
    scheduler.set_timesteps(STEPS)
    side = plain.unet.config.sample_size
    shape = (1, plain.unet.config.in_channels, side, side)
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    latents, levels = torch.cat(noise) * scheduler.init_noise_sigma, []
    with torch.no_grad():
        text, nothing = plain.encode_prompt(PROMPTS, "cpu", 1, True)
        for timestep in scheduler.timesteps:
            shown = scheduler.scale_model_input(latents, timestep)
            output = plain.unet(shown, timestep, text, return_dict=False)[0]
            signal = scheduler.alphas_cumprod[int(timestep.round())].item()
            levels.append(((1 - signal) / signal) ** 0.5)
            if interval is None or interval[0] < levels[-1] <= interval[1]:
                without = plain.unet(shown, timestep, nothing, return_dict=False)[0]
                output = without + SCALE * (output - without)
            latents = scheduler.step(output, timestep, latents, return_dict=False)[0]
        pixels = plain.vae.decode(latents / plain.vae.config.scaling_factor).sample
    return levels, ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().int()


def assert_within_one_level(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    assert int((actual - expected).abs().max()) <= 1


@pytest.mark.parametrize("sampler", ["ddim", "euler_a", "heun", "pndm", "dpmpp_2m_karras"])
def test_an_interval_of_all_levels_is_plain_guidance_and_one_of_none_is_no_guidance(
    session: Session, sampler: str
) -> None:
    guided, free = made(session, sampler, None), made(session, sampler, None, scale=1.0)
    assert (guided - free).abs().max() > 8
    assert made(session, sampler, (0.0, 1000.0)).equal(guided)
    assert_within_one_level(made(session, sampler, (999.0, 1000.0)), free)


def test_without_guidance_an_interval_has_no_part(session: Session) -> None:
    assert made(session, "ddim", MIDDLE, scale=1.0).equal(made(session, "ddim", None, scale=1.0))


@pytest.mark.parametrize(
    ("model", "task"),
    [("tiny_sd", "controlnet")]
    + [(model, task) for model in ("tiny_sd", "tiny_sdxl") for task in ("text", "image", "inpaint")],
)
def test_every_pipeline_that_is_let_through_leaves_guidance_out(
    model: str, task: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from PIL import Image
    from tiny_models import make_controlnet

    size = (64, 64)
    red, white = Image.new("RGB", size, "red"), Image.new("L", size, "white")
    given: dict[str, dict[str, Any]] = {
        "text": {},
        "image": {"image": red},
        "inpaint": {"image": red, "mask": white},
        "controlnet": {"control_image": red},
    }
    net = make_controlnet(tmp_path / "net") if task == "controlnet" else None
    session = Session(request.getfixturevalue(model), device="cpu", controlnet=net)

    def pictures(**asked: Any) -> Tensor:
        settings: dict[str, Any] = {"steps": 3, "seed": 1, "sampler": "ddim", **given[task]}
        return session.generate("a star", **settings | asked).to_tensor().int()

    guided, free = pictures(guidance_scale=9.0), pictures(guidance_scale=1.0)
    assert (guided - free).abs().max() > 1
    assert pictures(guidance_scale=9.0, guidance_interval=(0.0, 1000.0)).equal(guided)
    assert_within_one_level(pictures(guidance_scale=9.0, guidance_interval=(999.0, 1000.0)), free)


def test_sdxl_from_a_picture_is_guided_by_the_levels_that_it_goes_through(tiny_sdxl: Path) -> None:
    from PIL import Image

    session = Session(tiny_sdxl, device="cpu")
    picture = Image.new("RGB", session.default_size, "red")

    def latest(**asked: Any) -> Tensor:
        settings: dict[str, Any] = {
            "image": picture,
            "strength": 0.5,
            "steps": 6,
            "seed": 1,
            "sampler": "ddim",
        }
        return session.generate("a star", **settings | asked).to_tensor().int()

    guided, free = latest(guidance_scale=9.0), latest(guidance_scale=1.0)
    assert not guided.equal(free)
    # Half of the way begins at a level of about 1.6, so an interval above it is never met.
    unmet = latest(guidance_scale=9.0, guidance_interval=(3.0, 100.0))
    assert_within_one_level(unmet, free)
    assert latest(guidance_scale=9.0, guidance_interval=(0.0, 3.0)).equal(guided)


def test_generate_records_the_interval_and_replays_it(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"steps": 3, "guidance_scale": 3.0, "seed": 7, "device": "cpu"}
    limited = sdkit.generate("a red star", guidance_interval=(0.3, 5), **asked)
    assert not limited.to_tensor().equal(sdkit.generate("a red star", **asked).to_tensor())
    (path,) = limited.save(tmp_path / "star.png")
    assert sdkit.read(path).guidance_interval == (0.3, 5.0)
    assert sdkit.replay(path, device="cpu").to_tensor().equal(limited.to_tensor())


def test_generate_says_that_an_interval_without_guidance_has_no_effect() -> None:
    found = sdkit.generate(
        "a red star", steps=2, guidance_scale=1, guidance_interval=(0.3, 5.0), seed=7, device="cpu"
    )
    assert found.warnings == ("guidance_interval has no effect: guidance_scale is 1, which is off",)
    assert found.request.guidance_interval is None


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (3, "got 3"),
        ((1.0,), r"got \(1.0,\)"),
        (("low", 2), r"got \('low', 2\)"),
        ((True, 2), r"got \(True, 2\)"),
        ((2, 1), "got 2, 1"),
        ((1, 1), "got 1, 1"),
        ((-1, 1), "got -1, 1"),
        ((0, math.inf), "got 0, inf"),
        ((math.nan, 1), "got nan, 1"),
    ],
)
def test_an_interval_must_be_two_levels_low_before_high(given: object, got: str) -> None:
    with pytest.raises(
        InvalidRequest, match=f"guidance_interval must be two noise levels, 0 <= low < high, {got}"
    ):
        check_interval(given)


def test_a_pipeline_that_takes_its_guidance_once_is_refused_before_a_weight_is_read(tmp_path: Path) -> None:
    from tiny_models import make_sd3

    session = Session(make_sd3(tmp_path / "sd3"), device="cpu")
    with pytest.raises(
        InvalidRequest, match="guidance_interval must be left out for sd3: StableDiffusion3Pipeline"
    ):
        session.generate("a star", steps=2, guidance_interval=(0.3, 5.0))
    with pytest.raises(
        InvalidRequest, match="StableDiffusion3Pipeline does not choose its guidance call by call"
    ):
        session.check_interval((0.3, 5.0))
    assert session._backend is None
