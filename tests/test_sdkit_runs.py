"""A run as it goes: calls, steps, stages, stops, threads, and what happens when memory is short."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sdkit
from sdkit import Cancelled, Generation, OutOfMemory, Sampler, Session, Step, samplers

PROMPTS = [f"a red star number {i}" for i in range(8)]
SETTINGS: dict[str, Any] = {"steps": 4, "guidance_scale": 3.0}
DIFFUSION = [sampler for sampler in samplers() if sampler.family == "diffusion"]


@pytest.fixture(scope="module")
def sessions(tiny_sd: Path, tiny_sdxl: Path) -> dict[str, Session]:
    models = {"shapes": "shapes", "sd": tiny_sd, "sdxl": tiny_sdxl}
    return {name: Session(model, device="cpu") for name, model in models.items()}


@pytest.fixture(scope="module")
def session(sessions: dict[str, Session]) -> Session:
    return sessions["sd"]


def unet(session: Session) -> torch.nn.Module:
    session.load()
    module = session._loaded()._loaded.pipeline.unet
    assert isinstance(module, torch.nn.Module)
    return module


@pytest.mark.parametrize("model", ["shapes", "sd", "sdxl"])
@pytest.mark.parametrize("sampler", DIFFUSION, ids=lambda sampler: sampler.name)
def test_the_denoiser_is_called_as_often_as_the_table_says(
    sampler: Sampler, model: str, sessions: dict[str, Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = sessions[model]
    text, calls = session.encode(["a red star"]), []
    # One run with the real denoiser; then every step count with a silent one, which is called just as often.
    real = session.sample(text, sampler=sampler, steps=sampler.min_steps + 3, guidance_scale=2.0, seeds=[0])
    assert real.model_evals == sampler.evaluations(sampler.min_steps + 3)
    with unet(session).register_forward_pre_hook(lambda *_: calls.append(1)):
        monkeypatch.setattr(unet(session), "forward", lambda sample, *_, **__: (0.5 * sample,))
        for steps in range(sampler.min_steps, min(30, sampler.max_steps) + 1):
            calls.clear()
            made = session.sample(text, sampler=sampler, steps=steps, guidance_scale=1.0, seeds=[0])
            assert len(calls) == made.model_evals == sampler.evaluations(steps)


@pytest.mark.parametrize("sampler", DIFFUSION, ids=lambda sampler: sampler.name)
def test_an_image_is_the_same_alone_in_any_batch_in_any_order_and_in_a_thread(
    sampler: Sampler, session: Session
) -> None:
    steps = max(4, sampler.min_steps)
    text, seeds = session.encode(PROMPTS[:6]), [5, 900, 2**40, 7, 8, 31]

    def pixels(rows: list[int]) -> torch.Tensor:
        chosen = [seeds[row] for row in rows]
        made = session.sample(text.take(rows), sampler=sampler, steps=steps, guidance_scale=3.0, seeds=chosen)
        return made.images.int()

    before = (random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist())  # noqa: NPY002
    whole = pixels([0, 1, 2, 3, 4, 5])
    assert int((whole[0] - whole[1]).abs().max()) > 8
    for rows in ([3], [5, 3, 0], [1, 2, 3, 4]):
        assert int((pixels(rows) - whole[rows]).abs().max()) <= 1
    with ThreadPoolExecutor(1) as pool:
        assert torch.equal(pool.submit(pixels, [0, 1, 2, 3, 4, 5]).result(), whole)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_eight_threads_on_one_session_get_what_they_would_get_one_after_another(session: Session) -> None:
    names = [sampler.name for sampler in DIFFUSION]
    asked = [
        {"sampler": names[i % len(names)], "seed": i, "prompt": PROMPTS[i % 8], "num_images": 1 + i % 2}
        for i in range(64)
    ]

    def make(options: dict[str, Any]) -> torch.Tensor:
        return session.generate(**options, **SETTINGS).to_tensor()

    expected = [make(options) for options in asked]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, asked))
    assert all(torch.equal(one, other) for one, other in zip(made, expected, strict=True))


def test_a_run_can_start_another_from_within(session: Session) -> None:
    expected = [
        session.generate("a star", sampler=name, seed=1, **SETTINGS).to_tensor() for name in ("ddim", "heun")
    ]
    inner: list[torch.Tensor] = []

    def nest(step: Step) -> None:
        if step.index == 2:
            inner.append(session.generate("a star", sampler="heun", seed=1, **SETTINGS).to_tensor())

    outer = session.generate("a star", sampler="ddim", seed=1, on_step=nest, **SETTINGS).to_tensor()
    assert torch.equal(outer, expected[0])
    assert torch.equal(inner[0], expected[1])


def short_of_memory(session: Session, monkeypatch: pytest.MonkeyPatch, rows: int) -> list[int]:
    """Makes the denoiser fail for more than `rows` rows; returns the batches that it was asked for."""
    module, asked = unet(session), []
    forward = module.forward

    def limited(sample: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        asked.append(len(sample))
        if len(sample) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nand more")
        return forward(sample, *arguments, **options)

    monkeypatch.setattr(module, "forward", limited)
    return asked


def test_out_of_memory_halves_the_batch_and_the_pictures_stay_the_same(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = session.generate(PROMPTS, sampler="euler_a", seed=3, **SETTINGS)
    assert (expected.batch_size, expected.warnings) == (8, ())
    asked = short_of_memory(session, monkeypatch, rows=6)
    made = session.generate(PROMPTS, sampler="euler_a", seed=3, **SETTINGS)
    assert asked[:3] == [16, 8, 4]
    assert made.batch_size == 2
    assert made.warnings == ("a batch of 8 images did not fit into memory: they were made 2 at a time",)
    assert int((made.to_tensor().int() - expected.to_tensor().int()).abs().max()) <= 1
    alone = session.generate(PROMPTS, sampler="euler_a", seed=3, batch_size=2, **SETTINGS)
    assert torch.equal(made.to_tensor(), alone.to_tensor())


def test_out_of_memory_for_one_image_says_the_peak_and_what_to_change(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_of_memory(session, monkeypatch, rows=1)
    with pytest.raises(
        OutOfMemory,
        match=r"^cpu has too little memory to denoise 1 images of 64x64 px at once \(the process's peak [\d.]+ GiB\);"
        r" lower batch_size or the size, or use memory='low' or a smaller dtype$",
    ):
        session.generate(PROMPTS[:2], seed=0, **SETTINGS)


@pytest.mark.parametrize("name", ["ddim", "heun", "pndm", "dpm2", "dpmpp_sde", "lcm", "unipc"])
def test_steps_are_told_one_by_one(name: str, session: Session) -> None:
    told: list[tuple[int, int, int]] = []
    session.generate(
        PROMPTS[:3], sampler=name, steps=5, batch_size=2, seed=0,
        on_step=lambda step: told.append((step.first_image, step.index, step.total)),
    )  # fmt: skip
    assert told == [(first, index, 5) for first in (0, 2) for index in (1, 2, 3, 4, 5)]


def test_steps_of_image_to_image_are_those_that_run(session: Session) -> None:
    told: list[tuple[int, int]] = []
    session.generate(
        "a star", image=Image.new("RGB", (64, 64), "red"), strength=0.5, steps=8, sampler="heun", seed=0,
        on_step=lambda step: told.append((step.index, step.total)),
    )  # fmt: skip
    assert told == [(index, 4) for index in (1, 2, 3, 4)]


def test_returning_false_stops_the_run_and_leaves_the_session_usable(session: Session) -> None:
    expected = session.generate("a star", seed=2, **SETTINGS).to_tensor()
    with pytest.raises(Cancelled, match="^stopped by on_step after 2 of 4 steps$"):
        session.generate("a star", seed=2, on_step=lambda step: step.index < 2, **SETTINGS)
    assert torch.equal(session.generate("a star", seed=2, **SETTINGS).to_tensor(), expected)


def test_ctrl_c_stops_the_run_and_leaves_the_session_usable(session: Session) -> None:
    expected = session.generate("a star", seed=2, **SETTINGS).to_tensor()

    def interrupt(_step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.generate("a star", seed=2, on_step=interrupt, **SETTINGS)
    assert torch.equal(session.generate("a star", seed=2, **SETTINGS).to_tensor(), expected)


@pytest.mark.parametrize("name", ["euler", "ddim", "dpmpp_2m_karras"])
def test_previews_come_to_look_like_the_picture(name: str, sessions: dict[str, Session]) -> None:
    previews: list[Image.Image] = []
    made = sessions["shapes"].generate(
        "a large red square at the center on a blue background", sampler=name, steps=10, seed=4,
        on_step=lambda step: previews.append(step.preview[0]),
    )  # fmt: skip
    final = np.asarray(made.images[0].resize((16, 16), Image.Resampling.BOX), float)
    errors = [float(np.abs(np.asarray(preview, float) - final).mean()) for preview in previews]
    assert previews[0].size == (16, 16)
    # The foreseen picture settles: the last preview is nearer to the picture than the first, in mean levels of 255.
    assert errors[-1] < errors[0]
    unlike = np.asarray(made.images[0].transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((16, 16)), float)[
        ::-1, ::-1
    ]
    shuffled = unlike.reshape(-1, 3)[np.random.default_rng(0).permutation(256)].reshape(16, 16, 3)
    assert errors[-1] < float(np.abs(np.asarray(previews[-1], float) - shuffled).mean())


def test_a_trajectory_goes_from_pure_noise_to_the_picture(sessions: dict[str, Session]) -> None:
    session = sessions["shapes"]
    for name in ("ddim", "euler", "dpmpp_2m_karras", "heun"):
        made = session.generate("a red star", sampler=name, steps=8, trajectory=5, seed=6)
        plain = session.generate("a red star", sampler=name, steps=8, seed=6)
        (way,) = made.trajectory
        assert len(way) == 5
        assert np.array_equal(np.asarray(way[-1]), np.asarray(plain.images[0]))
        final = np.asarray(way[-1], float)
        distances = [float(np.abs(np.asarray(stage, float) - final).mean()) for stage in way]
        assert distances == sorted(distances, reverse=True)
    starts = [
        session.generate("a red star", sampler=name, steps=4, trajectory=2, seed=6).trajectory[0][0]
        for name in ("ddim", "dpmpp_2m_karras")
    ]
    # The same noise at unit scale, but for the last training timestep's trace of signal scaling in float32.
    assert int(np.abs(np.asarray(starts[0], int) - np.asarray(starts[1], int)).max()) <= 1


def test_what_has_no_effect_or_was_cut_is_said_in_the_result(session: Session) -> None:
    long = "a red star " * 20
    made = session.generate(["a star", long], negative_prompt="blue", guidance_scale=1.0, steps=2, seed=0)
    assert made.warnings == (
        "negative_prompt has no effect: guidance_scale is 1, which is off",
        "1 of 2 prompts are longer than tiny-sd can read, and were cut",
    )
    assert made.truncated == (1,)
    at = made.cut_at[1]
    assert at is not None
    # What was kept is read to the end, and the very next word is not.
    text = session.encode([long[:at].strip(), long[: at + 4].strip()])
    assert text.cut_at[0] is None
    assert text.cut_at[1] is not None


def test_a_bar_is_shown_only_where_somebody_may_watch(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    session.generate("a star", steps=2, seed=0)
    assert capsys.readouterr().err == ""
    session.generate("a star", steps=2, seed=0, progress=True)
    assert "2/2" in capsys.readouterr().err


@pytest.mark.parametrize("memory", ["auto", "low", "high"])
def test_saving_memory_does_not_change_the_picture(
    memory: str, tiny_sdxl: Path, sessions: dict[str, Session]
) -> None:
    expected = sessions["sdxl"].generate("a star", seed=1, **SETTINGS).to_tensor().int()
    made = Session(tiny_sdxl, device="cpu", memory=memory).generate("a star", seed=1, **SETTINGS)
    assert int((made.to_tensor().int() - expected).abs().max()) <= 1


def test_nan_weights_are_an_error_and_never_a_picture(tiny_sd: Path) -> None:
    session = Session(tiny_sd, device="cpu")
    with torch.no_grad():
        unet(session).conv_in.weight[0, 0] = torch.nan
    with pytest.raises(
        sdkit.InvalidPixels, match="pixels must be finite, got 1 of 1 images with NaN or infinity"
    ):
        session.generate("a star", seed=0, **SETTINGS)


def test_generate_keeps_a_few_sessions_and_unload_lets_them_go(tiny_sd: Path, tiny_sdxl: Path) -> None:
    sdkit.unload()
    made: list[Generation] = [
        sdkit.generate("a star", model=model, steps=2, seed=0, device="cpu")
        for model in (tiny_sd, tiny_sdxl, "shapes", "shapes")
    ]
    assert [generation.timings.load_s > 0 for generation in made] == [True, True, True, False]
    assert sdkit.unload() == 2
    assert sdkit.generate("a star", model="shapes", steps=2, seed=0, device="cpu").timings.load_s > 0
