"""What only a GPU can show: `make test ARGS='-m gpu'` on a machine that has one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import sdkit
from sdkit import Session, samplers

pytestmark = pytest.mark.gpu
DIFFUSION = [sampler for sampler in samplers() if sampler.family == "diffusion"]
PROMPTS = ["a large red star at the center on a blue background", "a small green ring at the left"]


@pytest.fixture(autouse=True)
def a_gpu() -> Iterator[None]:
    if not torch.cuda.is_available():
        pytest.skip("NO GPU: nothing of this file was tested")
    yield
    sdkit.unload()


@pytest.mark.parametrize("sampler", DIFFUSION, ids=lambda sampler: sampler.name)
def test_the_gpu_draws_what_the_cpu_draws_in_float32(sampler: sdkit.Sampler) -> None:
    made = [
        Session("shapes", device=device, dtype="float32")
        .generate(PROMPTS, sampler=sampler, steps=max(6, sampler.min_steps), guidance_scale=2.0, seed=7)
        .to_tensor()
        .float()
        for device in ("cpu", "cuda")
    ]
    # The same noise from the same CPU generators: pictures agree but where an edge falls otherwise by rounding.
    assert float((made[0] - made[1]).abs().gt(8).float().mean()) < 0.01


@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16"])
def test_fewer_bits_draw_the_same_picture(dtype: str | None) -> None:
    reference = (
        Session("shapes", device="cuda", dtype="float32").generate(PROMPTS, seed=7).to_tensor().float()
    )
    made = Session("shapes", device="cuda", dtype=dtype).generate(PROMPTS, seed=7)
    assert made.dtype == (dtype or "bfloat16")
    assert float((made.to_tensor().float() - reference).abs().gt(32).float().mean()) < 0.05


@pytest.mark.parametrize("memory", ["low", "high"])
def test_moving_weights_in_turn_does_not_change_the_picture(memory: str, tiny_sdxl: Path) -> None:
    made = [
        Session(tiny_sdxl, device="cuda", dtype="float32", memory=each)
        .generate("a red star", steps=4, seed=1)
        .to_tensor()
        .int()
        for each in ("auto", memory)
    ]
    assert int((made[0] - made[1]).abs().max()) <= 1


def test_a_batch_that_does_not_fit_is_halved(tiny_sd: Path) -> None:
    session = Session(tiny_sd, device="cuda", dtype="float32")
    session.load()
    free_bytes, whole_bytes = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (whole_bytes - free_bytes + 2**28) / whole_bytes))
    try:
        made = session.generate(
            "a red star", num_images=512, batch_size=512, width=256, height=256, steps=2, seed=0
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert made.batch_size < 512
    assert len(made) == 512
