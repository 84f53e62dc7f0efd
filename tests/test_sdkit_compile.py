"""Compiled and quantised denoisers: what is refused, what is left alone, and that pictures stay what they were."""

from __future__ import annotations

import importlib.util
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tiny_models import seeded

import sdkit
from sdkit import GenerationError, InvalidRequest, ModelError, Session
from sdkit._backend.compiling import _guarded, compile_denoiser, denoisers, fuse_qkv
from sdkit._backend.quantising import check_fp8, is_large_linear, quantise_fp8
from sdkit._compile import AUTO, MODES, _lacking, pick_mode
from sdkit._infotext import read_png
from sdkit._models import resolve
from sdkit._spec import make_spec

needs_compiler = pytest.mark.skipif(_lacking("cpu") != "", reason=f"compiling needs {_lacking('cpu')}")
PROMPTS = ("a red star", "a blue ring")


def pictures(session: Session) -> torch.Tensor:
    """(2, 3, H, W) int32."""
    text = session.encode(PROMPTS)
    made = session.sample(text, sampler="ddim", steps=3, guidance_scale=3.0, seeds=[1, 2])
    return made.images.int()


def assert_within_one_level(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.shape == expected.shape
    assert int((actual - expected).abs().max()) <= 1


def graphs_compiled() -> int:
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def settings_of_torch() -> tuple[object, ...]:
    """What compiling touches of the process: its settings, and the state of its random numbers."""
    import torch._dynamo.config
    import torch._inductor.config

    return (
        torch._dynamo.config.get_config_copy(),
        torch._inductor.config.get_config_copy(),
        torch.get_rng_state().tolist(),
        random.getstate(),
    )


class Layer(torch.nn.Module):
    """A denoiser of one layer."""

    def __init__(self) -> None:
        super().__init__()
        with seeded(0):
            self.layer = torch.nn.Linear(4, 4)

    def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.layer(sample).relu(),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"compile": "fast"},
            "compile must be one of auto, off, fused, default, max, freeze, graphs, got 'fast'",
        ),
        ({"compile": True}, "compile must be one of .*, got True"),
        ({"compile": "max"}, "compile must be one of auto, off, fused, default, freeze on cpu, got 'max'"),
        (
            {"compile": "graphs"},
            "compile must be one of auto, off, fused, default, freeze on cpu, got 'graphs'",
        ),
        ({"compile": "freeze", "memory": "low"}, "'freeze' needs weights that stay .*; use memory='high'"),
        ({"quantise": "int4"}, "quantise must be one of fp8, got 'int4'"),
        ({"quantise": "fp8"}, r"quantise='fp8' needs a GPU of CUDA compute capability 8\.9 or more, got cpu"),
    ],
)
def test_what_cannot_be_is_refused_before_a_weight_is_read(
    tiny_sd: Path, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdkit._backend.backend.load", None)
    with pytest.raises(InvalidRequest, match=message):
        Session(tiny_sd, device="cpu", **options)


def test_without_a_compiler_every_mode_that_compiles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setenv("CXX", "no-such-c++")
    for name in ("default", "freeze"):
        with pytest.raises(
            InvalidRequest, match=r"needs a C\+\+ compiler, and no-such-c\+\+ is not to be found"
        ):
            pick_mode(name, "cpu", "auto")
    for name in ("off", "fused"):
        assert pick_mode(name, "cpu", "low").name == name
    assert not pick_mode(None, "cpu", "low").compiles


def test_a_gpu_needs_triton_and_a_c_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        InvalidRequest, match="compile='max' needs triton, which is not installed; install it"
    ):
        pick_mode("max", "cuda", "auto")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    with pytest.raises(InvalidRequest, match="needs a C compiler for triton, and gcc or clang or cc is not"):
        pick_mode("max", "cuda", "auto")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert pick_mode("max", "cuda", "auto").tuning == "max-autotune-no-cudagraphs"


@pytest.mark.parametrize("device_type", sorted(AUTO))
def test_auto_is_a_mode_that_the_device_has_and_says_why(device_type: str) -> None:
    choice = AUTO[device_type]
    assert device_type in MODES[choice.mode].devices
    assert choice.because


def test_off_leaves_every_module_as_it_was(tiny_sd: Path) -> None:
    session = Session(tiny_sd, device="cpu", compile="off")
    session.load()
    unet = session._loaded()._loaded.pipeline.unet
    assert session.compile == "off"
    assert all(module._compiled_call_impl is None for module in unet.modules())
    assert not any(getattr(module, "fused_projections", False) for module in unet.modules())


@needs_compiler
def test_default_compiles_once_and_keeps_the_pictures() -> None:
    session = Session("shapes", device="cpu", compile="default")
    session.load()
    settings, graphs = settings_of_torch(), graphs_compiled()
    made, compiled = pictures(session), graphs_compiled()
    assert compiled > graphs
    assert settings_of_torch() == settings
    assert torch.equal(pictures(session), made)
    assert graphs_compiled() == compiled
    assert_within_one_level(made, pictures(Session("shapes", device="cpu", compile="off")))


@needs_compiler
def test_freeze_folds_the_weights_in_and_leaves_torchs_settings() -> None:
    layer, sample = Layer(), torch.ones(2, 4)
    expected, settings = layer(sample)[0].detach(), settings_of_torch()
    compile_denoiser(layer, MODES["freeze"])
    with torch.no_grad():
        frozen = layer(sample)[0]
        layer.layer.weight.zero_()
        torch.testing.assert_close(frozen, expected)
        torch.testing.assert_close(layer(sample)[0], expected)
    assert settings_of_torch() == settings


class Told(Layer):
    """Writes down how it was compiled, and is not."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, dict[str, Any]]] = []

    def compile(self, **options: Any) -> None:
        self.told.append(("whole", options))
        self._compiled_call_impl = self._call_impl

    def compile_repeated_blocks(self, **options: Any) -> None:
        self.told.append(("blocks", options))


@pytest.mark.parametrize(
    ("name", "repeated", "told"),
    [
        ("off", ["Linear"], []),
        ("fused", ["Linear"], []),
        ("default", ["Linear"], [("blocks", {"fullgraph": True})]),
        ("default", ["Conv2d"], [("whole", {"mode": None})]),
        ("default", None, [("whole", {"mode": None})]),
        ("freeze", ["Linear"], [("whole", {"mode": None})]),
        ("max", ["Linear"], [("whole", {"mode": "max-autotune-no-cudagraphs"})]),
        ("graphs", ["Linear"], [("whole", {"mode": "reduce-overhead"})]),
    ],
)
def test_each_mode_compiles_what_it_says(name: str, repeated: list[str] | None, told: list[Any]) -> None:
    module, sample = Told(), torch.ones(1, 4)
    module._repeated_blocks = repeated
    expected = module(sample)[0]
    compile_denoiser(module, MODES[name])
    assert module.told == told
    torch.testing.assert_close(module(sample)[0], expected)


def test_graphs_hand_out_copies_of_what_the_next_call_overwrites() -> None:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    buffer = torch.zeros(2)
    for output in ((buffer,), UNet2DConditionOutput(sample=buffer)):
        kept = _guarded(lambda output=output: output, MODES["graphs"], "UNet")()
        buffer.add_(1)
        assert type(kept) is type(output)
        assert torch.equal(kept[0], buffer - 1)


def test_what_torch_cannot_compile_is_an_error_of_ours() -> None:
    from torch._dynamo.exc import FailOnRecompileLimitHit, Unsupported

    for error in (Unsupported("a generator"), FailOnRecompileLimitHit("too often")):

        def call(error: Exception = error) -> None:
            raise error

        with pytest.raises(GenerationError, match=r"compile='max' failed on UNet: .*; use compile='off'"):
            _guarded(call, MODES["max"], "UNet")()


def test_a_pipeline_without_a_denoiser_is_refused() -> None:
    with pytest.raises(ModelError, match="must have a unet or a transformer, object has neither"):
        denoisers(object())


def test_fused_projections_keep_the_pictures(tiny_sdxl: Path) -> None:
    for model in ("shapes", str(tiny_sdxl)):
        session = Session(model, device="cpu", compile="off")
        apart = pictures(session)
        unet = session._loaded()._loaded.pipeline.unet
        assert fuse_qkv(unet)
        assert any(getattr(module, "fused_projections", False) for module in unet.modules())
        assert_within_one_level(pictures(session), apart)


def test_under_a_lora_nothing_is_fused() -> None:
    module = Layer()
    module.fuse_qkv_projections = pytest.fail
    module.layer.base_layer = torch.nn.Linear(4, 4)
    assert not fuse_qkv(module)


@pytest.mark.parametrize(
    ("capability", "dtype", "installed", "message"),
    [
        ((8, 6), torch.bfloat16, True, r"needs a GPU of CUDA compute capability 8\.9 or more, got Card"),
        ((8, 9), torch.float16, True, r"needs dtype='bfloat16', got float16"),
        ((9, 0), torch.bfloat16, False, r"needs torchao, which is not installed; pip install torchao"),
    ],
)
def test_fp8_is_refused_in_one_sentence(
    capability: tuple[int, int],
    dtype: torch.dtype,
    installed: bool,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if installed else None)
    with pytest.raises(InvalidRequest, match=f"^quantise='fp8' {message}$"):
        check_fp8(torch.device("cuda"), dtype)


def test_fp8_turns_large_linear_layers_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    torchao, calls = ModuleType("torchao.quantization"), []
    torchao.Float8DynamicActivationFloat8WeightConfig = lambda **options: options  # type: ignore[attr-defined]
    torchao.PerRow = lambda: "a row"  # type: ignore[attr-defined]
    torchao.quantize_ = lambda *given, **options: calls.append((*given, options))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchao", ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.quantization", torchao)
    module = Layer()
    quantise_fp8(module)
    config = {"granularity": "a row", "set_inductor_config": False}
    assert calls == [(module, config, {"filter_fn": is_large_linear})]
    sizes = {(512, 1024): True, (512, 511): False, (1000, 1024): False, (256, 1024): False}
    found = {size: is_large_linear(torch.nn.Linear(*size, device="meta"), "") for size in sizes}
    assert found == sizes
    assert not is_large_linear(torch.nn.Conv2d(512, 512, 1, device="meta"), "")


def test_quantised_weights_are_another_model_and_compiled_ones_are_not(tiny_sd: Path) -> None:
    plain, quantised = (resolve(make_spec(tiny_sd, quantise=name)).fingerprint for name in (None, "fp8"))
    assert plain != quantised
    assert plain == Session(tiny_sd, device="cpu", compile="off").fingerprint


def test_a_picture_says_that_it_was_quantised(tiny_sd: Path, tmp_path: Path) -> None:
    made = Session(tiny_sd, device="cpu").generate("a star", steps=2, seed=1)
    (plain,) = made.save(tmp_path / "plain.png")
    request = replace(made.request, spec=make_spec(tiny_sd, quantise="fp8"))
    (file,) = replace(made, request=request).save(tmp_path / "a.png")
    text, _ = read_png(file)
    assert "Quantise: fp8" in (text or "")
    assert "Quantise" not in (read_png(plain)[0] or "")
    assert sdkit.read(file).spec == request.spec
    with pytest.raises(InvalidRequest, match="quantise='fp8' needs a GPU"):
        sdkit.replay(file, device="cpu")
