"""Fused modules: the same numbers as the modules they stand for, and only where they are the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.activations import GEGLU
from diffusers.models.upsampling import Upsample2D
from tiny_models import make_refiner, seeded, unet_options, vae_options

from sdkit import Session
from sdkit._backend.fusing import FusedGate, FusedUpsample, fuse_modules


@pytest.fixture(autouse=True)
def same_weights() -> Iterator[None]:
    with seeded(3), torch.no_grad():
        yield


def upsample(channels: int = 6, **options: object) -> torch.nn.Module:
    return torch.nn.Sequential(Upsample2D(channels, use_conv=True, **options))


def gate() -> torch.nn.Module:
    return torch.nn.Sequential(GEGLU(6, 10))


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 3), (8, 8)])
@pytest.mark.parametrize("options", [{}, {"out_channels": 4}, {"bias": False}])
def test_an_upsampling_with_its_convolution_is_one_transposed_convolution(
    size: tuple[int, int], options: dict[str, object]
) -> None:
    network, sample = upsample(**options), torch.randn(2, 6, *size)
    expected = network(sample)
    assert fuse_modules(network) == 1
    assert isinstance(network[0], FusedUpsample)
    close(network(sample), expected)
    assert network(sample).shape == (2, options.get("out_channels", 6), 2 * size[0], 2 * size[1])


def test_another_size_is_upsampled_as_before() -> None:
    network, sample = upsample(), torch.randn(1, 6, 4, 4)
    expected = network[0](sample, output_size=(7, 8))
    fuse_modules(network)
    assert torch.equal(network[0](sample, output_size=(7, 8)), expected)


def test_a_gates_halves_are_products_of_their_own() -> None:
    network, sample = gate(), torch.randn(2, 5, 6)
    expected = network(sample)
    assert fuse_modules(network) == 1
    assert isinstance(network[0], FusedGate)
    close(network(sample), expected)


def test_nothing_is_fused_twice() -> None:
    network = torch.nn.Sequential(upsample(), gate())
    assert (fuse_modules(network), fuse_modules(network)) == (2, 0)


def under_lora(network: torch.nn.Module) -> torch.nn.Module:
    from peft import LoraConfig, inject_adapter_in_model

    return inject_adapter_in_model(LoraConfig(target_modules=["proj", "conv"]), network)


@pytest.mark.parametrize(
    "network",
    [
        lambda: upsample(kernel_size=1, padding=0),
        lambda: upsample(kernel_size=5, padding=2),
        lambda: upsample(norm_type="ln_norm", eps=1e-5, elementwise_affine=True),
        lambda: upsample(interpolate=False),
        lambda: torch.nn.Sequential(Upsample2D(6, use_conv=False)),
        lambda: torch.nn.Sequential(Upsample2D(6, use_conv_transpose=True)),
        lambda: torch.nn.Sequential(Upsample2D(6, use_conv=True, name="Conv2d_0")),
        lambda: upsample().bfloat16(),
        lambda: gate().bfloat16(),
        lambda: under_lora(upsample()),
        lambda: under_lora(gate()),
    ],
)
def test_what_is_something_else_is_left_alone(network: object) -> None:
    made = network()
    before = [type(module) for module in made.modules()]
    assert fuse_modules(made) == 0
    assert [type(module) for module in made.modules()] == before


def test_whole_networks_say_the_same() -> None:
    unet, vae = (
        UNet2DConditionModel(**unet_options(cross_attention_dim=8)).eval(),
        AutoencoderKL(**vae_options(3)).eval(),
    )
    sample, latents = torch.randn(2, unet.config.in_channels, 8, 8), torch.randn(2, 4, 8, 8)
    text = torch.randn(2, 5, unet.config.cross_attention_dim)

    def outputs() -> tuple[torch.Tensor, torch.Tensor]:
        return unet(sample, 500, encoder_hidden_states=text).sample, vae.decode(latents).sample

    expected = outputs()
    assert fuse_modules(unet) > 1
    assert fuse_modules(vae) == 2
    for actual, plain in zip(outputs(), expected, strict=True):
        close(actual, plain)


@pytest.mark.parametrize("refined", [False, True])
def test_pictures_stay_what_they_were(refined: bool, tiny_sdxl: Path, tmp_path: Path) -> None:
    refiner, made = str(make_refiner(tmp_path)) if refined else None, {}
    for name in ("off", "fused"):
        session = Session(tiny_sdxl if refined else "shapes", device="cpu", compile=name, refiner=refiner)
        assert session.compile == name
        text = session.encode(["a red star", "a blue ring"])
        batch = session.sample(text, sampler="ddim", steps=4, guidance_scale=3.0, seeds=[1, 2])
        made[name] = batch.images.int()
        networks = list(session._loaded()._loaded.networks("unet", "vae"))
        fused = [any(isinstance(part, FusedUpsample) for part in one.modules()) for one in networks]
        assert fused == [name == "fused"] * (4 if refined else 2)
    assert int((made["fused"] - made["off"]).abs().max()) <= 1
