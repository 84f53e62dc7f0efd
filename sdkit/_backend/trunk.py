"""What a UNet does before its first attention, once for rows that differ in nothing but their text.

A guided picture has two rows, which read the same latents at the same timestep. In a UNet of Stable Diffusion's kind
the text has no say before the first attention.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


class _Rows(NamedTuple):
    first: Tensor
    """(U,) a row of each input."""
    of: Tensor
    """(B,) the input of each row."""


_ROWS: ContextVar[_Rows | None] = ContextVar("rows", default=None)


class Trunk(nn.Module):
    """A part of a UNet that text has no say in; within `reading`, rows of one input go through it once."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.plain = plain

    def __getattr__(self, name: str) -> Any:
        """What the part itself has: a pipeline may look at its weights or channels."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("plain"), name)

    def forward(self, *given: Any, **named: Any) -> Any:
        """As the part itself; every tensor has a row for each of the batch."""
        rows = _ROWS.get()
        if rows is None:
            return self.plain(*given, **named)
        few, few_named = tree_map_only(Tensor, lambda each: each[rows.first], (given, named))
        return tree_map_only(Tensor, lambda each: each[rows.of], self.plain(*few, **few_named))


@contextlib.contextmanager
def reading(inputs: Sequence[int]) -> Iterator[None]:
    """Within it the calling thread's batches have rows whose latents and timesteps are those of `inputs`.

    Args:
        inputs: for each of the B rows the number of its latents, 0..U-1, all of them used.
    """
    first = {number: row for row, number in reversed(list(enumerate(inputs)))}
    rows = None
    if len(first) < len(inputs):
        rows = _Rows(
            torch.tensor([first[number] for number in range(len(first))]), torch.tensor(list(inputs))
        )
    token = _ROWS.set(rows)
    try:
        yield
    finally:
        _ROWS.reset(token)


def share_trunk(network: nn.Module) -> None:
    """Makes a UNet's parts before its first attention `Trunk`s; other networks are left alone, and SDXL's UNet,
    whose timesteps carry text.
    """
    from diffusers import UNet2DConditionModel

    if not isinstance(network, UNet2DConditionModel) or network.config.addition_embed_type is not None:
        return
    network.conv_in = Trunk(network.conv_in)
    for place, block in enumerate(network.down_blocks):
        if hasattr(block, "attentions"):
            block.resnets[0] = Trunk(block.resnets[0])
            return
        network.down_blocks[place] = Trunk(block)
