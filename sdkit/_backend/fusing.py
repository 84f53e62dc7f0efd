"""Modules of a network replaced by ones that say the same to rounding, and take less time on a CPU.

Only modules whose layers are plain float32 ones are replaced: under a LoRA a layer is more than its weights, and in
half precision sums of weights would be rounded before they are used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class StandIn(nn.Module):
    """A module in another's place, which it keeps and is taken for by who looks at weights or channels."""

    plain: Any

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.plain = plain

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("plain"), name)


_LEAST_ROWS = 512
"""Fewer are as fast by torch's own product, on one core and on two."""
_PICTURES = 16
"""With one thread torch gives oneDNN a 1x1 convolution of so many pictures or more, and others to the same product."""


def product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`nn.functional.linear` of many rows, (..., C) to (..., C'), as a 1x1 convolution, which is oneDNN's.

    torch's own product is MKL's, which leaves half of an AMD processor's AVX-512 unused: 90 to 100 GFLOP/s on a core
    where oneDNN makes 180 to 200 (EPYC, family 26). On other processors it was not measured.
    """
    count, width = rows.shape[:-1].numel(), rows.shape[-1]
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not onednn or count < _LEAST_ROWS or count % _PICTURES:
        return nn.functional.linear(rows, weight, bias)
    pictures = _PICTURES if torch.get_num_threads() == 1 else 1
    pixels = rows.reshape(pictures, count // pictures, 1, width).permute(0, 3, 1, 2)
    found = nn.functional.conv2d(pixels, weight[:, :, None, None], bias)
    return found.permute(0, 2, 3, 1).reshape(*rows.shape[:-1], len(weight))


class PointwiseLinear(nn.Linear):
    """A linear layer by `product`; its weights are those of the layer it is made of."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features, plain.bias is not None, device="meta")
        self.weight, self.bias = plain.weight, plain.bias
        self.train(plain.training)

    def forward(self, input: Tensor) -> Tensor:
        """(..., C) to (..., C')."""
        return product(input, self.weight, self.bias)


class FusedUpsample(StandIn):
    """Nearest upsampling by 2 and a 3x3 convolution as one transposed convolution: 4x4, stride 2.

    A pixel of the result reads 9 upsampled pixels, which are 4 of the input: taps that read the same one are summed
    beforehand. That leaves 4 of 9 products, and the large picture between the two is never made. The weights are
    kept twice, for a caller may ask for another size.
    """

    def __init__(self, plain: Any) -> None:
        super().__init__(plain)
        # The larger pixel i is seen at 2i + r, r in (0, 1), by tap t of the result's pixel 2i + r - t + 1.
        taps = torch.tensor(
            [[float(place + tap - 2 in (0, 1)) for tap in range(3)] for place in range(4)]
        ).double()
        weight = torch.einsum("oiyx,py,qx->iopq", plain.conv.weight.double(), taps, taps)
        self.weight = nn.Parameter(weight.float().contiguous(), requires_grad=False)

    def forward(self, hidden_states: Tensor, output_size: Any = None, *others: Any, **named: Any) -> Tensor:
        """(N, C, h, w) to (N, C', 2h, 2w)."""
        if output_size is not None:
            asked: Tensor = self.plain(hidden_states, output_size, *others, **named)
            return asked
        return nn.functional.conv_transpose2d(
            hidden_states, self.weight, self.plain.conv.bias, stride=2, padding=1
        )


class FusedGate(StandIn):
    """A GEGLU whose halves are products of their own, so that neither is a strided view of one large tensor."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """(..., width) to (..., half of what the projection makes)."""
        proj = self.plain.proj
        values, gates = proj.weight.chunk(2)
        value_bias, gate_bias = (None, None) if proj.bias is None else proj.bias.chunk(2)
        gate = self.plain.gelu(product(hidden_states, gates, gate_bias))
        return product(hidden_states, values, value_bias).mul_(gate)


class FusedResnet(StandIn):
    """A residual block that writes over what nobody reads again, and divides nothing by 1: the same, bit for bit."""

    def forward(self, input_tensor: Tensor, temb: Tensor | None = None, *others: Any, **named: Any) -> Tensor:
        """(N, C, h, w) to (N, C', h, w)."""
        plain = self.plain
        if torch.is_grad_enabled() or (temb is None) != (plain.time_emb_proj is None):
            asked: Tensor = plain(input_tensor, temb, *others, **named)
            return asked
        silu = nn.functional.silu
        hidden: Tensor = plain.conv1(silu(plain.norm1(input_tensor), inplace=True))
        if temb is not None:
            hidden.add_(plain.time_emb_proj(silu(temb))[:, :, None, None])
        hidden = plain.conv2(silu(plain.norm2(hidden), inplace=True))
        shortcut = input_tensor if plain.conv_shortcut is None else plain.conv_shortcut(input_tensor)
        return hidden.add_(shortcut)


class ChannelsLastNorm(StandIn):
    """A GroupNorm that goes over small channels-last pictures along their channels, which are adjacent in memory.

    torch 2.15 goes over such a picture group by group, as far as it has fewer than 1024 pixels, and takes 2 to 4
    times as long. Variances are what torch's own channels-last kernel takes, the mean square less the squared mean.
    """

    _PIXELS = range(64, 1024)

    def forward(self, sample: Tensor) -> Tensor:
        """(N, C, ...) to the same."""
        plain = self.plain
        if not self._is_for(sample):
            asked: Tensor = plain(sample)
            return asked
        count, channels, height, width = sample.shape
        rows = sample.permute(0, 2, 3, 1).view(count, height * width, channels)
        shape, each = (count, plain.num_groups, -1), height * width * channels // plain.num_groups
        means = rows.sum(1).view(shape).sum(-1, dtype=torch.float64).div_(each)
        squares = (rows * rows).sum(1).view(shape).sum(-1, dtype=torch.float64).div_(each)
        spread = torch.addcmul(squares, means, means, value=-1).clamp_(min=0).add_(plain.eps).rsqrt_()
        scale = plain.weight.view(shape[1:]) * spread.float()[..., None]
        shift = torch.addcmul(plain.bias.view(shape[1:]), means.float()[..., None], scale, value=-1)
        found = torch.addcmul(shift.view(count, 1, channels), rows, scale.view(count, 1, channels))
        return found.view(count, height, width, channels).permute(0, 3, 1, 2)

    def _is_for(self, sample: Tensor) -> bool:
        small = sample.ndim == 4 and sample.shape[2:].numel() in self._PIXELS
        last = (
            small and not sample.is_contiguous() and sample.is_contiguous(memory_format=torch.channels_last)
        )
        return last and sample.dtype == torch.float32


def fuse_modules(network: nn.Module) -> int:
    """Replaces in place what can be replaced, at any depth, and says how many modules that were."""
    from diffusers.models.activations import GEGLU
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.upsampling import Upsample2D

    fused = 0
    adapted = {part for each in network.modules() if hasattr(each, "base_layer") for part in each.modules()}
    for parent in list(network.modules()):
        if isinstance(parent, StandIn | GEGLU) or parent in adapted:  # of a GEGLU only the weights are read
            continue
        for name, child in list(parent.named_children()):
            if type(child) is Upsample2D and _fits(child):
                setattr(parent, name, FusedUpsample(child))
            elif type(child) is GEGLU and is_plain(child.proj, nn.Linear):
                setattr(parent, name, FusedGate(child))
            elif type(child) is nn.Linear and is_plain(child, nn.Linear):
                setattr(parent, name, PointwiseLinear(child))
            elif type(child) is ResnetBlock2D and _is_usual(child):
                setattr(parent, name, FusedResnet(child))
            elif type(child) is nn.GroupNorm and child.affine and child.weight.dtype == torch.float32:
                setattr(parent, name, ChannelsLastNorm(child))
            else:
                continue
            fused += 1
    return fused


def _fits(upsample: Any) -> bool:
    """Whether it doubles by nearest pixels, and then convolves 3x3 as most networks do."""
    conv = getattr(upsample, "conv", None)
    if upsample.norm is not None or not upsample.interpolate or not is_plain(conv, nn.Conv2d):
        return False
    assert isinstance(conv, nn.Conv2d)
    usual = (conv.kernel_size, conv.stride, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    return usual and conv.groups == 1 and conv.padding_mode == "zeros"


def _is_usual(resnet: Any) -> bool:
    """Whether it keeps the picture's size, adds its timestep if it has one, and weighs nothing: Stable Diffusion's."""
    timed, kind = resnet.time_emb_proj is not None, resnet.time_embedding_norm
    adds = kind == "default" if timed else kind != "scale_shift"
    same_size = resnet.upsample is None and resnet.downsample is None
    weighs = resnet.output_scale_factor != 1 or resnet.dropout.p > 0 or resnet.skip_time_act
    convs = (resnet.conv1, resnet.conv2, *([] if resnet.conv_shortcut is None else [resnet.conv_shortcut]))
    silu = type(resnet.nonlinearity) is nn.SiLU
    return adds and same_size and silu and not weighs and all(is_plain(conv, nn.Conv2d) for conv in convs)


def is_plain(layer: Any, kind: type[nn.Module]) -> bool:
    """Whether a layer is its float32 weights and nothing more."""
    own = nn.Linear if type(layer) is PointwiseLinear else type(layer)
    return own is kind and layer.weight.dtype == torch.float32
