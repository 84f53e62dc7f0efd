"""The trunk of a UNet: rows of one input go through it once, and say what they would say alone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_models import seeded, unet_options

from sdkit import Session
from sdkit._backend.common_rows import reading
from sdkit._backend.trunk import Trunk, share_trunk

INPUTS = [0, 0, 1, 2, 2]
ATTENDING = ("CrossAttnDownBlock2D", "DownBlock2D")


def unet(blocks: tuple[str, ...] = ATTENDING, **more: object) -> UNet2DConditionModel:
    ups = tuple(block.replace("Down", "Up") for block in reversed(blocks))
    options = unet_options(down_block_types=blocks, up_block_types=ups, cross_attention_dim=8, **more)
    with seeded(4):
        return UNet2DConditionModel(**options).eval()


def run(network: UNet2DConditionModel, inputs: list[int]) -> torch.Tensor:
    with seeded(5):
        latents, text = torch.randn(max(inputs) + 1, 4, 8, 8), torch.randn(len(inputs), 5, 8)
    times = torch.tensor([900.0, 500.5, 3.0])[inputs]
    with torch.no_grad():
        output: torch.Tensor = network(latents[inputs], times, encoder_hidden_states=text).sample
    return output


def seen(network: UNet2DConditionModel) -> list[int]:
    """Rows that each part of the trunk is given, from now on."""
    rows: list[int] = []
    for module in network.modules():
        if isinstance(module, Trunk):
            told = lambda _, given, named: rows.append(len([*given, *named.values()][0]))  # noqa: E731
            module.plain.register_forward_pre_hook(told, with_kwargs=True)
    return rows


@pytest.mark.parametrize(
    ("blocks", "parts"),
    [(ATTENDING, 2), (("DownBlock2D", "CrossAttnDownBlock2D"), 3), (("DownBlock2D",) * 2, 3)],
)
def test_rows_of_one_input_go_through_the_trunk_once(blocks: tuple[str, ...], parts: int) -> None:
    network = unet(blocks)
    expected = run(network, INPUTS)
    share_trunk(network)
    rows = seen(network)
    with reading(INPUTS):
        torch.testing.assert_close(run(network, INPUTS), expected, rtol=1e-5, atol=2e-6)
    assert rows == [3] * parts


def test_outside_and_with_an_input_a_row_nothing_is_shared() -> None:
    network = unet()
    expected = run(network, INPUTS), run(network, [0, 1, 2])
    share_trunk(network)
    rows = seen(network)
    assert torch.equal(run(network, INPUTS), expected[0])
    with reading([0, 1, 2]):
        assert torch.equal(run(network, [0, 1, 2]), expected[1])
    assert rows == [5, 5, 3, 3]


def test_a_part_of_the_trunk_is_seen_as_what_it_is() -> None:
    network = unet()
    weight = network.conv_in.weight
    share_trunk(network)
    assert network.conv_in.weight is weight
    assert network.conv_in.in_channels == 4
    assert hasattr(network.down_blocks[0], "attentions")
    with pytest.raises(AttributeError, match="no attribute 'kernel'"):
        _ = network.conv_in.kernel


def test_another_threads_rows_are_its_own() -> None:
    network, found = unet(), []
    expected = run(network, [0, 1])
    share_trunk(network)
    with reading([0, 0]):
        thread = threading.Thread(target=lambda: found.append(run(network, [0, 1])))
        thread.start()
        thread.join()
    assert torch.equal(found[0], expected)


def test_a_unet_whose_timesteps_carry_text_is_left_alone(tiny_sdxl: Path) -> None:
    session = Session(tiny_sdxl, device="cpu", compile="fused")
    session.load()
    (network, _) = session._loaded()._loaded.networks("unet", "vae")
    assert not any(isinstance(module, Trunk) for module in network.modules())


@pytest.mark.parametrize("mode", ["off", "fused"])
def test_a_denoiser_is_told_who_reads_what(mode: str) -> None:
    session = Session("shapes", device="cpu", compile=mode)
    denoiser = session.denoiser(session.encode(["a red star", "a blue ring"]))
    noise = denoiser.noise([1, 2], session.plan("ddim", 4)).first()
    rows = [-1, 0, 1, -1]
    alone = denoiser.predict(noise[[0, 0, 1, 1]], [999.0, 999.0, 749.0, 749.0], rows)
    together = denoiser.predict(noise, [999.0, 749.0], rows, [0, 0, 1, 1])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
