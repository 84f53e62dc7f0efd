"""The 2015 TF-Inception of torch-fidelity under three ways of resizing, which are three different FIDs.

`inception` resizes by TF 1's bilinear kernel, as FID was defined; `inception-pytorch-fid` by torch's bilinear
kernel without antialiasing; `inception-clean-fid` by Pillow's bicubic kernel in floats. Network and weights are one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.hashing import file_sha256
from eval.identity import EncoderKey
from eval.scoring.batching import Array, Batched, Batching
from eval.scoring.weight_files import fetch, first_line, read_tensors, versions, weights_file
from sdkit._errors import ModelCorrupt

if TYPE_CHECKING:
    from torch import Tensor

WIDTH, SIDE_PX = 2048, 299
SHA256_PREFIX = "6726825d"
"""Of the published file, which carries it in its name."""
_WHAT = "TF-Inception weights"


@dataclass(frozen=True)
class InceptionEncoder(Batched):
    """Pool features of TF-Inception."""

    key: EncoderKey
    width: int
    device: str
    model: Any
    to_input: Callable[[Tensor], Tensor] | None
    """uint8 (N, 3, H, W) to the network's input, (N, 3, 299, 299) in -1..1; None leaves it to torch-fidelity."""
    batching: Batching

    def logits(self, features: Array) -> Array:
        """Class logits (N, 1008) float32 of features, without the bias, as the Inception score takes them."""
        weight = self.model.fc.weight.detach().cpu().numpy()
        return np.asarray(features @ weight.T, dtype=np.float32)

    def _encode(self, pixels: Tensor) -> Array:
        import torch

        with torch.inference_mode():
            if self.to_input is None:
                (features,) = self.model(pixels.to(self.device))
            else:
                body = torch.nn.Sequential(
                    *list(self.model.children())[:-1]
                )  # all but the classifier, in order
                features = body(self.to_input(pixels).to(self.device)).flatten(1)
        return np.asarray(features.float().cpu().numpy())


def load_inception(
    name: str, weights: str | None, device: str, *, batch: int | None = None
) -> InceptionEncoder:
    """The extractor, from `weights` or from torch's cache, into which it is downloaded if need be.

    Args:
        name: "inception", "inception-pytorch-fid" or "inception-clean-fid".

    Raises:
        ModelNotFound, ModelCorrupt, HubUnreachable: the file is absent, broken, or out of reach.
    """
    resize, to_input = RESIZES[name]
    path = locate(weights, name)
    sha256 = file_sha256(path)
    kind = "published" if sha256.startswith(SHA256_PREFIX) else "not the published file"
    return InceptionEncoder(
        key=EncoderKey(
            name=f"TF-Inception 2015 ({kind})",
            weights=f"sha256:{sha256[:16]}",
            resize=f"{SIDE_PX}x{SIDE_PX} {resize}",
            crop="none",
            layer=f"pool {WIDTH}",
            versions=versions("torch-fidelity", "torch", *(("pillow",) if "PIL" in resize else ())),
        ),
        width=WIDTH,
        device=device,
        model=_network(path).to(device),
        to_input=to_input,
        batching=Batching(batch),
    )


def locate(weights: str | None, name: str) -> Path:
    """The weights' file of an extractor of this name. Raises as `load_inception`."""
    setting = f"metrics.weights.{name}"
    if weights is not None:
        return weights_file(_WHAT, weights, setting)
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    cached = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    return fetch(_WHAT, URL_INCEPTION_V3, cached, SHA256_PREFIX, setting)


def _network(path: Path) -> Any:
    """torch-fidelity's network. It reads whatever it is given as a pickle: give it a copy of what was read safely."""
    import io

    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    safe = io.BytesIO()
    torch.save(read_tensors(_WHAT, path), safe)
    safe.seek(0)
    try:
        return FeatureExtractorInceptionV3(
            "inception-v3-compat", [str(WIDTH)], feature_extractor_weights_path=safe
        )
    except Exception as error:  # torch raises runtime and key errors for another network's weights
        raise ModelCorrupt(f"{_WHAT} {path} cannot be loaded: {first_line(error)}") from error


def as_pytorch_fid(pixels: Tensor) -> Tensor:
    """pytorch-fid's input: 0..1, bilinear without antialiasing to 299 px, then -1..1."""
    from torch.nn.functional import interpolate

    resized = interpolate(pixels.float() / 255, (SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
    return 2 * resized - 1


def as_clean_fid(pixels: Tensor) -> Tensor:
    """clean-fid's input: each channel by Pillow's bicubic kernel in floats, clipped to 0..255, then (x - 128) / 128.

    Source: Parmar et al., On Aliased Resizing and Surprising Subtleties in GAN Evaluation (2022).
    """
    import torch
    from PIL import Image

    planes = pixels.reshape(-1, *pixels.shape[-2:]).numpy().astype(np.float32)
    bicubic = Image.Resampling.BICUBIC
    resized = [np.asarray(Image.fromarray(plane).resize((SIDE_PX, SIDE_PX), bicubic)) for plane in planes]
    levels = np.stack(resized).clip(0, 255).reshape(len(pixels), 3, SIDE_PX, SIDE_PX)
    return (torch.from_numpy(levels) - 128) / 128


RESIZES: dict[str, tuple[str, Callable[[Tensor], Tensor] | None]] = {
    "inception": ("bilinear TF1", None),
    "inception-pytorch-fid": ("bilinear torch, no antialiasing", as_pytorch_fid),
    "inception-clean-fid": ("bicubic PIL in floats", as_clean_fid),
}
"""Extractor -> its kernel, and how its input is made."""
