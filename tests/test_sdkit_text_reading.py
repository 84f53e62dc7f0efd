"""Attention to text whose prompts are known: the same numbers, each prompt read once for all calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from tiny_models import seeded, unet_options

from sdkit import Session
from sdkit._backend import text_reading
from sdkit._backend.common_rows import Texts, reading
from sdkit._backend.text_reading import TextAttention, keep_text

ROWS = torch.tensor([0, 2, 0, 1])


@pytest.fixture(autouse=True)
def same_weights() -> Iterator[None]:
    with seeded(3), torch.no_grad():
        yield


def attention(**options: object) -> torch.nn.Module:
    made = {"cross_attention_dim": 10, "heads": 2, "dim_head": 8, **options}
    return torch.nn.Sequential(Attention(12, **made)).eval()


def prompts(tokens: int = 5) -> torch.Tensor:
    return torch.randn(3, tokens, 10)


def read_calls(network: torch.nn.Module) -> list[int]:
    """Prompts in each call of the keys' projection, from now on."""
    found: list[int] = []
    layer = network[0].to_k  # type: ignore[index]
    layer.register_forward_pre_hook(lambda _, given: found.append(len(given[0])))
    return found


def run(network: torch.nn.Module, table: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    text = table[ROWS]
    with reading([0, 1, 2, 3], Texts(table, ROWS, text)):
        output: torch.Tensor = network[0](hidden, encoder_hidden_states=text)  # type: ignore[index]
    return output


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6)


def test_a_prompt_is_read_once_for_all_calls() -> None:
    network, table = attention(), prompts()
    several = torch.randn(2, 4, 7, 12)
    expected = [network[0](hidden, encoder_hidden_states=table[ROWS]) for hidden in several]
    assert keep_text(network) == 1
    calls = read_calls(network)
    for hidden, plain in zip(several, expected, strict=True):
        close(run(network, table, hidden), plain)
    assert calls == [3]


def test_other_prompts_are_read_anew() -> None:
    network, hidden = attention(), torch.randn(4, 7, 12)
    keep_text(network)
    calls = read_calls(network)
    for table in (prompts(), prompts(4)):
        close(run(network, table, hidden), network[0].plain(hidden, encoder_hidden_states=table[ROWS]))
    assert calls == [3, 4, 3, 4]  # ours, and the plain one's four rows


def test_of_more_prompts_than_may_be_kept_each_of_the_call_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_reading, "_KEPT_BYTES", 0)
    network, table, hidden = attention(), torch.cat([prompts(), prompts()]), torch.randn(4, 7, 12)
    expected = network[0](hidden, encoder_hidden_states=table[ROWS])
    keep_text(network)
    calls = read_calls(network)
    close(run(network, table, hidden), expected)
    close(run(network, table, hidden), expected)
    assert calls == [3, 3]


def test_what_is_kept_goes_with_its_prompts() -> None:
    network, table = attention(), prompts()
    keep_text(network)
    run(network, table, torch.randn(4, 7, 12))
    held, _ = network[0]._kept
    assert held() is table
    del table
    assert held() is None


@pytest.mark.parametrize(
    "case", ["nothing known", "another text", "a mask", "no text", "many tokens", "more"]
)
def test_what_is_not_known_is_asked_of_the_plain_one(case: str) -> None:
    network = attention(cross_attention_dim=12)
    tokens = 8 if case == "many tokens" else 5
    table, hidden = torch.randn(3, tokens, 12), torch.randn(4, 7, 12)
    text = table[ROWS]
    given = {
        "encoder_hidden_states": {"another text": text + 1, "no text": None}.get(case, text),
        "attention_mask": torch.randn(4, 1, tokens) if case == "a mask" else None,
    }
    more = {"temb": None} if case == "more" else {}
    expected = network[0](hidden, **given)
    keep_text(network)
    calls = read_calls(network)
    if case == "nothing known":
        found = network[0](hidden, **given)
    else:
        with reading([0, 1, 2, 3], Texts(table, ROWS, text)):
            found = network[0](hidden, **given, **more)
    assert torch.equal(found, expected)
    assert calls == [4]


def under_lora(network: torch.nn.Module) -> torch.nn.Module:
    from peft import LoraConfig, inject_adapter_in_model

    return inject_adapter_in_model(LoraConfig(target_modules=["to_v"]), network)


def processed() -> torch.nn.Module:
    network = attention()
    network[0].set_processor(AttnProcessor())
    return network


@pytest.mark.parametrize(
    "network",
    [
        lambda: attention(cross_attention_dim=None),
        lambda: attention(bias=True),
        lambda: attention(out_bias=False),
        lambda: attention(dropout=0.1),
        lambda: attention(kv_heads=1),
        lambda: attention(qk_norm="layer_norm"),
        lambda: attention(cross_attention_norm="layer_norm"),
        lambda: attention(norm_num_groups=2),
        lambda: attention(residual_connection=True),
        lambda: attention(rescale_output_factor=2.0),
        lambda: attention(added_kv_proj_dim=10),
        lambda: attention().bfloat16(),
        lambda: under_lora(attention()),
        processed,
    ],
)
def test_what_is_something_else_is_left_alone(network: object) -> None:
    made = network()  # type: ignore[operator]
    before = [type(module) for module in made.modules()]
    assert keep_text(made) == 0
    assert [type(module) for module in made.modules()] == before


def test_a_whole_network_says_the_same() -> None:
    network = UNet2DConditionModel(**unet_options(cross_attention_dim=10)).eval()
    hidden, table = torch.randn(4, network.config.in_channels, 8, 8), prompts(2)
    text = table[ROWS]
    expected = network(hidden, 500, encoder_hidden_states=text).sample
    assert keep_text(network) > 0
    assert keep_text(network) == 0
    with reading([0, 1, 2, 3], Texts(table, ROWS, text)):
        close(network(hidden, 500, encoder_hidden_states=text).sample, expected)
    kept = [module._kept for module in network.modules() if isinstance(module, TextAttention)]
    assert all(each is not None for each in kept)


def test_a_denoiser_tells_of_its_prompts() -> None:
    made = {}
    texts = (["a red star", "a blue ring"], ["a green disc", "two blue rings", "a red star"])
    for mode in ("off", "fused"):
        session = Session("shapes", device="cpu", compile=mode)
        denoisers = [session.denoiser(session.encode(each)) for each in texts]
        noise = denoisers[0].noise([1, 2], session.plan("ddim", 4)).first()
        made[mode] = [
            denoiser.predict(noise, [999.0, 749.0], [-1, 1]) for _ in (0, 1) for denoiser in denoisers
        ]
    (network, _) = session._loaded()._loaded.networks("unet", "vae")
    assert sum(isinstance(module, TextAttention) for module in network.modules()) == 4
    torch.testing.assert_close(made["fused"], made["off"], rtol=1e-5, atol=1e-5)
