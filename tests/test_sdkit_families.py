"""Every family and task gives what its plain diffusers pipeline gives, through the one call."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image

from sdkit import Generation, InvalidRequest, Session
from sdkit._backend.scheduling import build_scheduler
from sdkit._sampler_names import find_sampler, fit_sampler

PROMPTS = ["a red star", "a star on a red ground"]
STEPS, SEED = 4, 21


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder of a small model by the name of its maker, made once."""
    root, made = tmp_path_factory.mktemp("families"), {}

    def make(name: str, **options: Any) -> Path:
        key = f"{name}{options or ''}"
        if key not in made:
            made[key] = getattr(tiny_models, f"make_{name}")(root / key, **options)
        return Path(made[key])

    return make


def picture(seed: int, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> Image.Image:
    """A smooth coloured picture."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


def mask(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """White on its right half."""
    levels = np.zeros((size[1], size[0]), np.uint8)
    levels[:, size[0] // 2 :] = 255
    return Image.fromarray(levels)


def levels(images: Sequence[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).int()


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(SEED + i) for i in range(len(PROMPTS))]


def plain(path: Path, cls: str, sampler: str, family: str, **parts: Any) -> Any:
    """A pipeline of diffusers, as its documentation loads it, with the scheduler that a sampler stands for."""
    import diffusers

    pipeline = getattr(diffusers, cls).from_pretrained(path, **parts)
    pipeline.set_progress_bar_config(disable=True)
    found = fit_sampler(find_sampler(sampler), family, "m")
    pipeline.scheduler = build_scheduler(
        found, pipeline.scheduler.config, seeds=range(SEED, SEED + 2), xl="XL" in cls
    )
    return pipeline


def assert_like(made: Generation, expected: Sequence[Image.Image]) -> None:
    """At most one level apart, and pictures that differ from each other enough to tell."""
    ours, theirs = levels(made.images), levels(expected)
    assert ours.shape == theirs.shape
    assert int((ours - theirs).abs().max()) <= 1
    assert int((ours[0] - ours[1]).abs().max()) > 8


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_sd3(folder: Any, sampler: str) -> None:
    expected = plain(folder("sd3"), "StableDiffusion3Pipeline", sampler, "flow")(
        PROMPTS, negative_prompt=["blue"] * 2, num_inference_steps=STEPS, guidance_scale=4.0, generator=generators(),
        width=64, height=64,
    ).images  # fmt: skip
    made = Session(folder("sd3"), device="cpu").generate(
        PROMPTS, negative_prompt="blue", steps=STEPS, guidance_scale=4.0, seed=SEED, sampler=sampler
    )
    assert_like(made, expected)
    assert (made.sampler, made.model_evals) == {"euler": ("flow_euler", 4), "heun": ("flow_heun", 7)}[sampler]


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_flux(folder: Any, sampler: str) -> None:
    expected = plain(folder("flux"), "FluxPipeline", sampler, "flow")(
        PROMPTS, num_inference_steps=STEPS, guidance_scale=3.5, generator=generators(), width=64, height=48
    ).images
    made = Session(folder("flux"), device="cpu").generate(
        PROMPTS, steps=STEPS, seed=SEED, width=64, height=48, sampler=sampler
    )
    assert_like(made, expected)
    assert made.guidance_scale == 3.5


def test_flux_guided_by_a_negative_prompt(folder: Any) -> None:
    expected = plain(folder("flux"), "FluxPipeline", "euler", "flow")(
        PROMPTS, negative_prompt=["blue"] * 2, true_cfg_scale=3.0, num_inference_steps=STEPS, guidance_scale=3.5,
        generator=generators(), width=64, height=64,
    ).images  # fmt: skip
    made = Session(folder("flux"), device="cpu").generate(
        PROMPTS,
        negative_prompt="blue",
        options={"true_cfg_scale": 3.0},
        steps=STEPS,
        seed=SEED,
        width=64,
        height=64,
    )
    assert_like(made, expected)


@pytest.mark.parametrize(("model", "cls", "family"), [
    ("sd", "StableDiffusionImg2ImgPipeline", "diffusion"),
    ("sdxl", "StableDiffusionXLImg2ImgPipeline", "diffusion"),
    ("sd3", "StableDiffusion3Img2ImgPipeline", "flow"),
    ("flux", "FluxImg2ImgPipeline", "flow"),
])  # fmt: skip
def test_image_to_image(
    model: str, cls: str, family: str, folder: Any, tiny_sd: Path, tiny_sdxl: Path
) -> None:
    path = {"sd": tiny_sd, "sdxl": tiny_sdxl}.get(model) or folder(model)
    sampler = "dpmpp_2m_karras" if family == "diffusion" else "euler"
    size = {} if model in ("sd", "sdxl") else {"width": 64, "height": 64}
    expected = plain(path, cls, sampler, family)(
        PROMPTS, image=[picture(1), picture(2)], strength=0.75, num_inference_steps=STEPS, guidance_scale=3.0,
        generator=generators(), **size,
    ).images  # fmt: skip
    made = Session(path, device="cpu").generate(
        PROMPTS, image=[picture(1), picture(2)], strength=0.75, steps=STEPS, guidance_scale=3.0, seed=SEED,
        sampler=sampler,
    )  # fmt: skip
    assert_like(made, expected)
    assert made.model_evals == 3


@pytest.mark.parametrize(("model", "cls", "family"), [
    ("sd", "StableDiffusionInpaintPipeline", "diffusion"),
    ("inpainting", "StableDiffusionInpaintPipeline", "diffusion"),
    ("sdxl", "StableDiffusionXLInpaintPipeline", "diffusion"),
    ("sd3", "StableDiffusion3InpaintPipeline", "flow"),
    ("flux", "FluxInpaintPipeline", "flow"),
])  # fmt: skip
def test_inpainting(model: str, cls: str, family: str, folder: Any, tiny_sd: Path, tiny_sdxl: Path) -> None:
    # diffusers 0.42 forgets the VAE's shift when it decodes what SD 3 inpainted; without one there is none to forget.
    options = {"shift_factor": 0.0} if model == "sd3" else {}
    path = {"sd": tiny_sd, "sdxl": tiny_sdxl}.get(model) or folder(model, **options)
    sampler = "ddim" if family == "diffusion" else "euler"
    expected = plain(path, cls, sampler, family)(
        PROMPTS, image=[picture(1), picture(2)], mask_image=[mask(), mask()], strength=1.0,
        num_inference_steps=STEPS, guidance_scale=3.0, generator=generators(), width=64, height=64,
    ).images  # fmt: skip
    made = Session(path, device="cpu").generate(
        PROMPTS, image=[picture(1), picture(2)], mask=mask(), steps=STEPS, guidance_scale=3.0, seed=SEED,
        sampler=sampler,
    )  # fmt: skip
    assert_like(made, expected)


def test_instruct_pix2pix(folder: Any) -> None:
    path = folder("pix2pix")
    expected = plain(path, "StableDiffusionInstructPix2PixPipeline", "euler_a", "diffusion", safety_checker=None)(
        PROMPTS, image=[picture(1)] * 2, num_inference_steps=STEPS, guidance_scale=5.0, image_guidance_scale=1.7,
        generator=generators(),
    ).images  # fmt: skip
    made = Session(path, device="cpu").generate(
        PROMPTS, image=picture(1), steps=STEPS, guidance_scale=5.0, image_guidance_scale=1.7, seed=SEED,
        sampler="euler_a",
    )  # fmt: skip
    assert_like(made, expected)


@pytest.mark.parametrize("nets", [1, 2])
def test_controlnet(nets: int, folder: Any, tiny_sd: Path) -> None:
    import diffusers

    paths = [folder("controlnet", seed=8 + i) for i in range(nets)]
    loaded = [diffusers.ControlNetModel.from_pretrained(path) for path in paths]
    pictures, scales = [picture(3), picture(4)][:nets], [0.9, 0.4][:nets]
    pipeline = plain(
        tiny_sd, "StableDiffusionControlNetPipeline", "dpmpp_2m_karras", "diffusion",
        controlnet=loaded if nets > 1 else loaded[0], safety_checker=None,
    )  # fmt: skip
    expected = pipeline(
        PROMPTS, image=[[p] * 2 for p in pictures] if nets > 1 else [pictures[0]] * 2,
        controlnet_conditioning_scale=scales if nets > 1 else scales[0],
        num_inference_steps=STEPS, guidance_scale=3.0, generator=generators(), width=64, height=64,
    ).images  # fmt: skip
    session = Session(tiny_sd, controlnet=paths, device="cpu")
    made = session.generate(
        PROMPTS, control_image=pictures, control_scale=scales, steps=STEPS, guidance_scale=3.0, seed=SEED
    )
    assert_like(made, expected)
    other = session.generate(
        PROMPTS, control_image=pictures, control_scale=0.0, steps=STEPS, guidance_scale=3.0, seed=SEED
    )
    assert int((levels(made.images) - levels(other.images)).abs().max()) > 8


def test_controlnet_with_image_to_image(folder: Any, tiny_sd: Path) -> None:
    import diffusers

    path = folder("controlnet")
    pipeline = plain(
        tiny_sd, "StableDiffusionControlNetImg2ImgPipeline", "euler", "diffusion",
        controlnet=diffusers.ControlNetModel.from_pretrained(path), safety_checker=None,
    )  # fmt: skip
    expected = pipeline(
        PROMPTS, image=[picture(1)] * 2, control_image=[picture(3)] * 2, strength=0.8,
        controlnet_conditioning_scale=1.0, num_inference_steps=STEPS, guidance_scale=3.0, generator=generators(),
    ).images  # fmt: skip
    made = Session(tiny_sd, controlnet=path, device="cpu").generate(
        PROMPTS, image=picture(1), control_image=picture(3), steps=STEPS, guidance_scale=3.0, seed=SEED,
        sampler="euler",
    )  # fmt: skip
    assert_like(made, expected)


def test_sdxl_with_its_refiner(folder: Any, tiny_sdxl: Path) -> None:
    base = plain(tiny_sdxl, "StableDiffusionXLPipeline", "euler", "diffusion", add_watermarker=False)
    refiner = plain(
        folder("refiner"), "StableDiffusionXLImg2ImgPipeline", "euler", "diffusion", add_watermarker=False
    )
    latents = base(
        PROMPTS, num_inference_steps=10, guidance_scale=3.0, generator=generators(), denoising_end=0.7,
        output_type="latent",
    ).images  # fmt: skip
    expected = refiner(
        PROMPTS,
        image=latents,
        num_inference_steps=10,
        guidance_scale=3.0,
        generator=generators(),
        denoising_start=0.7,
    ).images
    made = Session(tiny_sdxl, refiner=folder("refiner"), device="cpu").generate(
        PROMPTS, steps=10, guidance_scale=3.0, refiner_start=0.7, seed=SEED, sampler="euler"
    )
    assert_like(made, expected)
    assert made.model_evals == 10


def test_a_session_with_a_refiner_samples_as_it_generates(folder: Any, tiny_sdxl: Path) -> None:
    session = Session(tiny_sdxl, refiner=folder("refiner"), device="cpu")
    told: list[tuple[int, int]] = []
    made = session.generate(
        PROMPTS, steps=10, guidance_scale=3.0, seed=SEED, sampler="euler", trajectory=6,
        on_step=lambda step: told.append((step.index, step.total)),
    )  # fmt: skip
    assert told == [(index, 10) for index in range(1, 11)]
    assert [len(way) for way in made.trajectory] == [6, 6]
    batch = session.sample(
        session.encode(PROMPTS), sampler="euler", steps=10, guidance_scale=3.0, seeds=[SEED, SEED + 1]
    )
    assert torch.equal(batch.images, made.to_tensor())


def test_a_pipeline_that_keeps_masks_with_its_embeddings(folder: Any) -> None:
    pipeline = plain(folder("pixart"), "PixArtSigmaPipeline", "dpmpp_2m", "diffusion")
    expected = pipeline(
        PROMPTS, num_inference_steps=STEPS, guidance_scale=4.5, generator=generators(), width=64, height=64,
        use_resolution_binning=False,
    ).images  # fmt: skip
    made = Session(folder("pixart"), device="cpu").generate(
        PROMPTS, steps=STEPS, seed=SEED, sampler="dpmpp_2m", width=64, height=64
    )
    assert_like(made, expected)
    assert made.guidance_scale == 4.5


def test_a_model_that_is_no_diffusion_runs_by_its_own_scheduler(folder: Any) -> None:
    import diffusers

    pipeline = diffusers.AmusedPipeline.from_pretrained(folder("amused"))
    pipeline.set_progress_bar_config(disable=True)
    expected = [
        pipeline(prompt, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(SEED + i)).images[
            0
        ]
        for i, prompt in enumerate(PROMPTS)
    ]
    session = Session(folder("amused"), device="cpu")
    made = session.generate(PROMPTS, steps=STEPS, seed=SEED)
    assert_like(made, expected)
    assert (made.sampler, made.model_evals, session.family) == ("own", STEPS, "own")
    with pytest.raises(InvalidRequest, match="sampler"):
        session.generate(PROMPTS, sampler="euler")


def test_a_latent_consistency_model_with_its_own_defaults(folder: Any) -> None:
    expected = plain(
        folder("lcm"), "LatentConsistencyModelPipeline", "lcm", "diffusion", safety_checker=None
    )(PROMPTS, num_inference_steps=4, guidance_scale=8.5, generator=generators()).images
    made = Session(folder("lcm"), device="cpu").generate(PROMPTS, seed=SEED)
    assert_like(made, expected)
    assert (made.sampler, made.steps, made.guidance_scale) == ("lcm", 4, 8.5)
    with pytest.raises(
        InvalidRequest,
        match="^negative_prompt must be left out for lcm: LatentConsistencyModelPipeline does not take it$",
    ):
        Session(folder("lcm"), device="cpu").generate(PROMPTS, negative_prompt="blue")


def test_instruct_pix2pix_of_the_sdxl_kind(folder: Any) -> None:
    path = folder("pix2pix_xl")
    pipeline = plain(
        path, "StableDiffusionXLInstructPix2PixPipeline", "euler", "diffusion", add_watermarker=False
    )
    expected = pipeline(
        PROMPTS, image=[picture(1, (32, 32))] * 2, num_inference_steps=STEPS, guidance_scale=5.0,
        image_guidance_scale=1.5, generator=generators(), width=32, height=32,
    ).images  # fmt: skip
    made = Session(path, device="cpu").generate(
        PROMPTS, image=picture(1, (32, 32)), steps=STEPS, guidance_scale=5.0, seed=SEED, sampler="euler"
    )
    assert_like(made, expected)


@pytest.mark.parametrize("model", ["sd3", "flux"])
@pytest.mark.parametrize("sampler", ["flow_euler", "flow_heun"])
def test_the_samplers_of_flow_models_keep_the_tables_promises(
    sampler: str, model: str, folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(folder(model), device="cpu")
    prompts = [*PROMPTS, "a blue ring"]
    settings: dict[str, Any] = {"sampler": sampler, "steps": 4, "width": 32, "height": 32}
    state = torch.get_rng_state()
    whole = session.generate(prompts, seed=SEED, **settings).to_tensor().int()
    assert int((whole[0] - whole[1]).abs().max()) > 8
    for index in (2, 0):
        alone = session.generate(prompts[index], seed=SEED + index, **settings).to_tensor().int()
        assert int((alone[0] - whole[index]).abs().max()) <= 1
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(lambda: session.generate(prompts, seed=SEED, **settings)).result()
    assert torch.equal(again.to_tensor().int(), whole)
    assert torch.equal(torch.get_rng_state(), state)

    found, calls = find_sampler(sampler), []
    transformer = session._loaded()._loaded.pipeline.transformer
    monkeypatch.setattr(transformer, "forward", lambda hidden_states, **_: (0.5 * hidden_states,))
    with transformer.register_forward_pre_hook(lambda *_: calls.append(1)):
        for steps in range(found.min_steps, 31):
            calls.clear()
            made = session.generate("a star", seed=0, **{**settings, "steps": steps, "guidance_scale": 1.0})
            assert len(calls) == made.model_evals == found.evaluations(steps)
