"""What a UNet does before its first attention, once for rows that differ in nothing but their text.

A guided picture has two rows, which read the same latents at the same timestep. In a UNet of Stable Diffusion's kind
the text has no say before the first attention.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from sdkit._backend.common_rows import common_rows
from sdkit._backend.fusing import StandIn


class Trunk(StandIn):
    """A part of a UNet that text has no say in; rows of one input go through it once."""

    def forward(self, *given: Any, **named: Any) -> Any:
        """As the part itself; every tensor has a row for each of the batch."""
        inputs = common_rows().inputs
        if inputs is None:
            return self.plain(*given, **named)
        few, few_named = tree_map_only(Tensor, lambda each: each[inputs.first], (given, named))
        return tree_map_only(Tensor, lambda each: each[inputs.of], self.plain(*few, **few_named))


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
