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
from sdkit._backend.fusing import ChannelsLastNorm, FusedGate, FusedUpsample, fuse_modules


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


def norm(**options: object) -> torch.nn.Module:
    made = torch.nn.GroupNorm(3, 12, **options)  # type: ignore[arg-type]
    for each in made.parameters():
        torch.nn.init.normal_(each)
    return torch.nn.Sequential(made)


def plain_calls(network: torch.nn.Module) -> list[int]:
    """Grows with each call of the module that the first one stands for."""
    found: list[int] = []
    network[0].plain.register_forward_hook(lambda *_: found.append(1))  # type: ignore[index, union-attr]
    return found


@pytest.mark.parametrize("mean", [0.0, 3.0, 30.0])
@pytest.mark.parametrize("size", [(8, 8), (3, 40), (1023, 1)])
def test_small_channels_last_pictures_are_normed_along_their_channels(
    size: tuple[int, int], mean: float
) -> None:
    sample = (mean + torch.randn(40, 12, *size)).to(memory_format=torch.channels_last)
    network = norm(eps=1e-3)
    exact = network.double()(sample.double())
    plain = network.float()(sample)
    assert fuse_modules(network) == 1
    assert isinstance(network[0], ChannelsLastNorm)
    calls = plain_calls(network)
    found = network(sample)
    assert not calls
    assert found.stride() == sample.stride()
    # Both take the squared mean from the mean square; ours sums in double precision at the end.
    off, torchs = (float((each - exact).abs().max()) for each in (found, plain))
    assert off <= max(torchs, 1e-6)


def test_equal_pixels_are_normed_to_the_bias() -> None:
    network = norm(eps=1e-3)
    fuse_modules(network)
    sample = torch.full((2, 12, 8, 8), 0.1).to(memory_format=torch.channels_last)
    close(network(sample), network[0].bias[:, None, None].expand(2, 12, 8, 8))


@pytest.mark.parametrize(
    "sample",
    [
        lambda: torch.randn(2, 12, 8, 8),
        lambda: torch.randn(2, 12, 64),
        lambda: torch.randn(2, 12, 7, 9).to(memory_format=torch.channels_last),
        lambda: torch.randn(2, 12, 32, 32).to(memory_format=torch.channels_last),
        lambda: torch.randn(2, 12, 16, 8).to(memory_format=torch.channels_last)[:, :, ::2],
    ],
)
def test_other_pictures_are_normed_as_before(sample: object) -> None:
    network, given = norm(), sample()  # type: ignore[operator]
    expected = network(given)
    fuse_modules(network)
    calls = plain_calls(network)
    assert torch.equal(network(given), expected)
    assert calls


def test_nothing_is_fused_twice() -> None:
    network = torch.nn.Sequential(upsample(), gate(), norm())
    assert (fuse_modules(network), fuse_modules(network)) == (3, 0)


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
        lambda: norm().bfloat16(),
        lambda: norm(affine=False),
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
    assert fuse_modules(vae) > 2
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
