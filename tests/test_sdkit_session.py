"""Sessions and `generate`: the same picture every time, and the one that plain diffusers makes."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sdkit
from sdkit import (
    Generation,
    InvalidRequest,
    Sampler,
    SdkitDeprecationWarning,
    Session,
    generate,
    samplers,
)
from sdkit._spec import make_spec

PROMPTS = [f"a red star number {i}" for i in range(8)]
SETTINGS: dict[str, Any] = {"steps": 4, "guidance_scale": 3.0}
DIFFUSION = [sampler for sampler in samplers() if sampler.family == "diffusion"]


@pytest.fixture(scope="module")
def session(tiny_sd: Path) -> Session:
    return Session(tiny_sd, device="cpu")


@pytest.fixture(scope="module")
def xl_session(tiny_sdxl: Path) -> Session:
    return Session(tiny_sdxl, device="cpu")


def levels(generation: Generation) -> torch.Tensor:
    """(N, H, W, 3) int32."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in generation.images])).int()


def assert_within_one_level(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.shape == expected.shape
    assert int((actual - expected).abs().max()) <= 1


@pytest.mark.parametrize("sampler", DIFFUSION, ids=lambda sampler: sampler.name)
def test_an_image_alone_is_the_image_in_a_batch_of_eight(session: Session, sampler: Sampler) -> None:
    whole = levels(session.generate(PROMPTS, sampler=sampler, seed=70, batch_size=8, **SETTINGS))
    assert (whole[0] - whole[5]).abs().max() > 8
    for index in (0, 5):
        alone = session.generate(PROMPTS[index], sampler=sampler, seed=70 + index, **SETTINGS)
        assert_within_one_level(levels(alone), whole[index : index + 1])


def test_the_batch_size_does_not_change_the_pictures(xl_session: Session) -> None:
    one, two = (
        xl_session.generate(PROMPTS[:4], sampler="euler_a", seed=5, batch_size=size, **SETTINGS)
        for size in (4, 3)
    )
    assert_within_one_level(levels(one), levels(two))


@pytest.mark.parametrize("name", ["ddim", "ddpm", "pndm", "euler_a", "heun", "dpmpp_2m_karras", "unipc"])
@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_generate_gives_what_plain_diffusers_gives(
    session: Session, tiny_sd: Path, name: str, guidance_scale: float
) -> None:
    import diffusers

    plain = diffusers.StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    assert_like_diffusers(session, plain, name, guidance_scale, negative_prompt="blue")


@pytest.mark.parametrize("negative_prompt", [None, "blue"])
def test_generate_gives_what_plain_diffusers_gives_on_sdxl(
    xl_session: Session, tiny_sdxl: Path, negative_prompt: str | None
) -> None:
    import diffusers

    plain = diffusers.StableDiffusionXLPipeline.from_pretrained(tiny_sdxl, add_watermarker=False)
    assert_like_diffusers(xl_session, plain, "euler", 4.0, negative_prompt=negative_prompt)


def assert_like_diffusers(
    session: Session, plain: Any, name: str, guidance_scale: float, *, negative_prompt: str | None
) -> None:
    import diffusers

    sampler = next(s for s in samplers() if s.name == name)
    scheduler_class = getattr(diffusers, sampler.scheduler)
    plain.scheduler = scheduler_class.from_config(
        plain.scheduler.config,
        timestep_spacing=sampler.spacing,
        **dict(sampler.options),
        **({"use_karras_sigmas": True} if sampler.schedule == "karras" else {}),
    )
    plain.set_progress_bar_config(disable=True)
    expected = plain(
        PROMPTS[:3],
        negative_prompt=None if negative_prompt is None else [negative_prompt] * 3,
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        generator=[torch.Generator().manual_seed(9 + i) for i in range(3)],
    ).images
    made = session.generate(
        PROMPTS[:3],
        negative_prompt=negative_prompt,
        sampler=name,
        steps=5,
        guidance_scale=guidance_scale,
        seed=9,
    )
    assert_within_one_level(levels(made), torch.from_numpy(np.stack([np.asarray(i) for i in expected])).int())


def test_sdxl_takes_another_size(xl_session: Session) -> None:
    made = xl_session.generate("a star", width=48, height=24, seed=0, **SETTINGS)
    assert made.images[0].size == (made.width, made.height) == (48, 24)


def test_a_size_that_the_model_cannot_draw_is_refused_before_a_weight_is_read(tiny_sd: Path) -> None:
    session = Session(tiny_sd, device="cpu")
    with pytest.raises(InvalidRequest, match="width must be at least 16 for this model, got 8"):
        session.generate("a star", width=8)
    assert session._backend is None


def test_what_ran_is_told(session: Session) -> None:
    made = session.generate(
        ["a star", "a " + "very " * 20 + "red star"], sampler="plms", steps=6, num_images=2, seed=3
    )
    assert made.seeds == (3, 4, 5, 6)
    assert [prompt[:4] for prompt in made.prompts] == ["a st", "a st", "a ve", "a ve"]
    assert (made.sampler, made.steps, made.model_evals, made.guidance_scale) == ("pndm", 6, 7, 7.5)
    assert (made.width, made.height, made.device, made.dtype) == (64, 64, "cpu", "float32")
    assert (made.model, made.model_fingerprint) == ("tiny-sd", session.fingerprint)
    assert made.truncated == (2, 3)
    assert made.timings.denoise_s > 0
    assert made.timings.load_s == 0.0


def test_the_seed_that_was_drawn_makes_the_picture_again(session: Session) -> None:
    first = session.generate("a star", sampler="euler_a", **SETTINGS)
    again = session.generate("a star", sampler="euler_a", seed=first.seeds[0], **SETTINGS)
    assert torch.equal(levels(first), levels(again))


def test_global_random_state_is_neither_read_nor_moved(session: Session) -> None:
    pictures = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())  # noqa: NPY002
        pictures.append(levels(session.generate("a star", sampler="ddpm", seed=4, **SETTINGS)))
        session.generate("a star", **SETTINGS)
        assert random.getstate() == before[0]
        assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), before[2])
    assert torch.equal(*pictures)


def test_a_second_generate_loads_nothing(tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    loads = []
    original = diffusers.StableDiffusionPipeline.from_pretrained

    def counted(*arguments: Any, **options: Any) -> Any:
        loads.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr("sdkit._generate._sessions", type(sdkit._generate._sessions)())
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "from_pretrained", counted)
    first = generate("a star", model=tiny_sd, device="cpu", seed=0, **SETTINGS)
    second = generate("a star", model=tiny_sd, device="cpu", seed=0, **SETTINGS)
    assert len(loads) == 1
    assert first.timings.load_s > 0
    assert second.timings.load_s == 0.0
    assert torch.equal(levels(first), levels(second))


def test_without_a_model_a_notice_names_the_demonstration_once(
    tiny_sd: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = sdkit._models.resolve(make_spec(tiny_sd)).base
    monkeypatch.setattr("sdkit._generate._sessions", type(sdkit._generate._sessions)())
    monkeypatch.setattr("sdkit._generate._noticed", False)
    monkeypatch.setattr("sdkit._models._bundled", lambda: folder)
    for model in ("shapes", None, None):
        generate("a star", model=model, device="cpu", seed=0, **SETTINGS)
    notices = [record.getMessage() for record in caplog.records if record.name == "sdkit"]
    assert len(notices) == 1
    assert "64-pixel demonstration model" in notices[0]


def test_threads_take_turns_and_get_their_own_pictures(session: Session) -> None:
    names = ["euler_a", "heun", "ddim", "dpmpp_2m"]
    expected = {n: levels(session.generate("a star", sampler=n, seed=2, **SETTINGS)) for n in names}
    made: dict[str, torch.Tensor] = {}

    def work(name: str) -> None:
        made[name] = levels(session.generate("a star", sampler=name, seed=2, **SETTINGS))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(made[name], expected[name]) for name in names)


def test_embeddings_are_made_once_and_cut_into_rows(session: Session) -> None:
    text = session.encode(PROMPTS, negative_prompt="blue")
    seeds = range(30, 38)
    whole = session.sample(text, sampler="ddim", steps=4, guidance_scale=3.0, seeds=seeds)
    part = session.sample(text.rows(2, 5), sampler="ddim", steps=4, guidance_scale=3.0, seeds=seeds[2:5])
    assert (len(text), len(text.rows(6, 99)), whole.model_evals) == (8, 2, 4)
    assert (whole.images.dtype, tuple(whole.images.shape)) == (torch.uint8, (8, 3, 64, 64))
    assert_within_one_level(part.images.int(), whole.images[2:5].int())


def test_progress_is_told_after_every_denoiser_call(session: Session) -> None:
    told: list[int] = []
    text = session.encode(["a star"])
    session.sample(text, sampler="heun", steps=3, guidance_scale=1.0, seeds=[0], on_call=told.append)
    assert told == [1, 2, 3, 4, 5]


def test_the_former_name_of_on_call_still_works_and_warns(session: Session) -> None:
    told: list[int] = []
    text = session.encode(["a star"])
    with pytest.warns(
        SdkitDeprecationWarning, match=r"^sample\(on_step=\) will be gone in sdkit 0\.2; use on_call="
    ) as caught:
        session.sample(text, sampler="ddim", steps=2, guidance_scale=1.0, seeds=[0], on_step=told.append)
    assert told == [1, 2]
    assert caught[0].filename == __file__


def test_seeds_must_be_one_for_each_row(session: Session) -> None:
    text = session.encode(PROMPTS[:2])
    with pytest.raises(InvalidRequest, match="seeds must be one for each of the 2 rows of text, got 1"):
        session.sample(text, sampler="ddim", steps=2, guidance_scale=1.0, seeds=[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:99"}, "device must be one of cpu.* on this machine, got 'cuda:99'"),
        ({"device": "tpu"}, "device must be one of cpu.*, got 'tpu'"),
        ({"device": "cpu", "dtype": "int8"}, "dtype must be one of float32, float16, bfloat16, got 'int8'"),
    ],
)
def test_a_device_or_dtype_that_is_not_there_is_refused(
    tiny_sd: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Session(tiny_sd, **options)


def test_a_denoiser_on_a_cpu_waits_for_nobody() -> None:
    session = Session("shapes", device="cpu")
    denoiser = session.denoiser(session.encode(["a red star"]))
    noise = denoiser.noise([7], session.plan("ddim", 1)).first()
    done = threading.Event()

    def work() -> None:
        denoiser.predict(noise, [999.0], [0])
        session.decode(noise)
        done.set()

    thread = threading.Thread(target=work, daemon=True)

    def on_call(call: int) -> None:  # the session is at work, and holds what its runs wait for
        if call == 1:
            thread.start()
            assert done.wait(30.0)

    text = session.encode(["a red star"])
    session.sample(text, sampler="ddim", steps=2, guidance_scale=1.0, seeds=[3], on_call=on_call)
    assert done.is_set()
