"""What a network's attention to text reads of a prompt, once for all calls: its weights and the prompt decide it.

With keys K = T Wk and values V = T Wv of a prompt's tokens T, a head gives softmax(x Wq K' / sqrt(d)) V Wo. Wq K' and
V Wo are the same at every step of every picture of the prompt. What is left is two products that are as wide as there
are tokens and heads, instead of four that are as wide as the network.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from sdkit._backend.common_rows import Texts, common_rows
from sdkit._backend.fusing import StandIn, is_plain

_KEPT_BYTES = 2**26
"""What one attention may keep of all prompts; of more it reads those of the call, each once."""

_Read = tuple[Tensor, Tensor]
"""Wq K' / sqrt(d) of each prompt, (P, query width, heads * tokens), and V Wo, (P, heads * tokens, output width)."""


class TextAttention(StandIn):
    """An attention to text which knows, within `common_rows.reading`, what it reads of the table's prompts."""

    def __init__(self, plain: Any) -> None:
        super().__init__(plain)
        self._kept: tuple[weakref.ref[Tensor], _Read] | None = None

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **named: Any,
    ) -> Tensor:
        """(B, n, query width) to (B, n, output width)."""
        texts, plain = common_rows().texts, self.plain
        more = attention_mask is not None or bool(named)
        if texts is None or texts.given is not encoder_hidden_states or more or not self._pays(texts):
            asked: Tensor = plain(hidden_states, encoder_hidden_states, attention_mask, **named)
            return asked
        (keys, values), picked = self._of(texts)
        scores = torch.bmm(hidden_states, keys[picked])
        shares = scores.view(*scores.shape[:2], plain.heads, -1).softmax(-1).view(scores.shape)
        return torch.baddbmm(plain.to_out[0].bias, shares, values[picked])

    def _pays(self, texts: Texts) -> bool:
        """Whether there are fewer products this way."""
        return bool(self.plain.heads * texts.table.shape[1] < self.plain.inner_dim)

    def _of(self, texts: Texts) -> tuple[_Read, Tensor]:
        """What is read of some prompts, and which of them each row has."""
        kept = self._kept
        if kept is not None and kept[0]() is texts.table:
            return kept[1], texts.picked
        prompts, tokens, _ = texts.table.shape
        plain = self.plain
        width = plain.to_q.in_features + plain.to_out[0].out_features
        if 4 * prompts * tokens * plain.heads * width > _KEPT_BYTES:
            own, places = torch.unique(texts.picked, return_inverse=True)
            return self._read(texts.table[own]), places
        read = self._read(texts.table)
        self._kept = weakref.ref(texts.table), read
        return read, texts.picked

    def _read(self, text: Tensor) -> _Read:
        """Of prompts (P, tokens, width)."""
        plain = self.plain
        keys, values = (
            layer(text).unflatten(-1, (plain.heads, -1)).transpose(1, 2) for layer in (plain.to_k, plain.to_v)
        )
        asking = plain.to_q.weight.unflatten(0, (plain.heads, -1))  # heads, d, query width
        giving = plain.to_out[0].weight.T.unflatten(0, (plain.heads, -1))  # heads, d, output width
        scale = keys.shape[-1] ** -0.5
        return (
            (keys @ asking).mul_(scale).flatten(1, 2).transpose(1, 2).contiguous(),
            (values @ giving).flatten(1, 2),
        )


def keep_text(network: nn.Module) -> int:
    """Replaces in place the attentions to text that can be, at any depth, and says how many these were."""
    from diffusers.models.attention_processor import Attention

    found = 0
    for parent in list(network.modules()):
        if isinstance(parent, StandIn):
            continue
        for name, child in list(parent.named_children()):
            if type(child) is Attention and _fits(child):
                setattr(parent, name, TextAttention(child))
                found += 1
    return found


def _fits(attention: Any) -> bool:
    """Whether it is softmax(x Wq K' / sqrt(d)) V Wo + b of its text, and nothing more."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    projections = (attention.to_q, attention.to_k, attention.to_v)
    plain = all(is_plain(each, nn.Linear) for each in (*projections, attention.to_out[0]))
    if not plain or type(attention.processor) is not AttnProcessor2_0:
        return False
    more = ("group_norm", "spatial_norm", "norm_cross", "norm_q", "norm_k", "add_k_proj")
    alone = all(getattr(attention, name, None) is None for name in more)
    unbiased = all(each.bias is None for each in projections) and attention.to_out[0].bias is not None
    ends = attention.rescale_output_factor == 1.0 and not attention.residual_connection
    wide = attention.inner_kv_dim == attention.inner_dim  # as many heads of keys as of queries
    undropped = attention.to_out[1].p == 0.0
    return bool(attention.is_cross_attention and alone and unbiased and ends and wide and undropped)
