"""Fused modules: the same numbers as the modules they stand for, and only where they are the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from tiny_models import make_refiner, seeded, unet_options, vae_options

from sdkit import Session
from sdkit._backend.fusing import (
    ChannelsLastNorm,
    FusedGate,
    FusedResnet,
    FusedUpsample,
    PointwiseLinear,
    fuse_modules,
)


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


def resnet(channels: int = 6, **options: object) -> torch.nn.Module:
    usual = {"in_channels": channels, "temb_channels": 5, "groups": 2, "eps": 1e-5}
    return torch.nn.Sequential(ResnetBlock2D(**(usual | options))).eval()


@pytest.mark.parametrize(
    ("options", "temb"),
    [
        ({}, True),
        ({"out_channels": 4}, True),
        ({"temb_channels": None}, False),
        ({"temb_channels": None, "time_embedding_norm": "group", "out_channels": 4}, False),
    ],
)
def test_a_residual_block_writes_over_its_own_tensors_only(options: dict[str, object], temb: bool) -> None:
    network, sample = resnet(**options), torch.randn(2, 6, 8, 8)
    given = (sample, torch.randn(2, 5) if temb else None)
    kept = [None if each is None else each.clone() for each in given]
    expected = network[0](*given)
    fuse_modules(network)
    assert isinstance(network[0], FusedResnet)
    calls = plain_calls(network)
    assert torch.equal(network[0](*given), expected)
    assert torch.equal(given[0], kept[0])
    assert given[1] is None or torch.equal(given[1], kept[1])
    assert not calls


def test_a_residual_block_that_is_learning_goes_the_plain_way() -> None:
    network, sample, temb = resnet(), torch.randn(1, 6, 8, 8), torch.randn(1, 5)
    fuse_modules(network)
    calls = plain_calls(network)
    with torch.enable_grad():
        network[0](sample, temb).sum().backward()
    assert calls
    assert network[0].plain.conv1.weight.grad is not None


def plain_linear(bias: bool = True) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(6, 10, bias=bias))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "pointwise"),
    [((2, 512), True), ((1024,), True), ((4, 8, 32), True), ((2, 8), False), ((3, 171), False)],
)
def test_a_product_of_many_rows_is_a_convolution(
    shape: tuple[int, ...], pointwise: bool, bias: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, before = plain_linear(bias), torch.get_num_threads()
    sample = torch.randn(*shape, 12)[..., ::2]  # strided, as views of others are
    expected, weight = network(sample), network[0].weight
    assert fuse_modules(network) == 1
    assert isinstance(network[0], PointwiseLinear)
    assert network[0].weight is weight
    assert list(network.state_dict()) == (["0.weight", "0.bias"] if bias else ["0.weight"])
    convolved, conv2d = [], torch.nn.functional.conv2d
    monkeypatch.setattr(
        torch.nn.functional, "conv2d", lambda *given: [convolved.append(given[0].shape), conv2d(*given)][1]
    )
    torch.set_num_threads(threads)
    try:
        found = network(sample)
    finally:
        torch.set_num_threads(before)
    assert found.shape == (*shape, 10)
    assert found.is_contiguous()
    close(found, expected)
    assert [each[0] for each in convolved] == ([16 if threads == 1 else 1] if pointwise else [])


def test_nothing_is_fused_twice() -> None:
    network = torch.nn.Sequential(upsample(), gate(), norm(), resnet(), plain_linear())
    fused = fuse_modules(network)
    assert fused == 8, "one each, and a residual block's two norms and the product of its timestep"
    assert fuse_modules(network) == 0


def under_lora(network: torch.nn.Module, *names: str) -> torch.nn.Module:
    from peft import LoraConfig, inject_adapter_in_model

    return inject_adapter_in_model(LoraConfig(target_modules=[*(names or ("proj", "conv"))]), network)


@pytest.mark.parametrize(
    "options",
    [
        {"up": True},
        {"down": True},
        {"time_embedding_norm": "scale_shift"},
        {"output_scale_factor": 2.0},
        {"dropout": 0.5},
        {"skip_time_act": True},
        {"non_linearity": "gelu"},
    ],
)
def test_other_residual_blocks_stay(options: dict[str, object]) -> None:
    network = resnet(**options)
    fuse_modules(network)
    assert type(network[0]) is ResnetBlock2D


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
        lambda: plain_linear().bfloat16(),
        lambda: under_lora(torch.nn.Sequential(plain_linear()), "0.0"),
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
