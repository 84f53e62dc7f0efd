"""torch-fidelity's DINOv2 and CLIP extractors, their networks built and filled without running anybody's code.

torch-fidelity would fetch DINOv2's code from a repository and run it, and read CLIP's weights as an unchecked
archive. Here the extractors keep their own resizing and normalising, and get a network that was filled safely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.hashing import file_sha256
from eval.identity import EncoderKey
from eval.scoring.activations import openai_hashes
from eval.scoring.batching import Array, Batched, Batching
from eval.scoring.weight_files import (
    fetch,
    first_line,
    is_torchscript,
    read_tensors,
    versions,
    weights_file,
)
from sdkit._errors import ModelCorrupt, ModelNotFound, UnsafeModel

if TYPE_CHECKING:
    from torch import Tensor

DINOV2 = {
    "dinov2-vit-s-14": "vit_small_patch14_dinov2",
    "dinov2-vit-b-14": "vit_base_patch14_dinov2",
    "dinov2-vit-l-14": "vit_large_patch14_dinov2",
    "dinov2-vit-g-14": "vit_giant_patch14_dinov2",
}
"""Extractor -> the same architecture in timm."""
CLIP = {
    "clip-vit-b-32": (224, 32, 512),
    "clip-vit-b-16": (224, 16, 512),
    "clip-vit-l-14": (224, 14, 768),
    "clip-vit-l-14-336px": (336, 14, 768),
}
"""Extractor -> side and patch in px, and width of the embedding, by which its weights are told from another's."""
_PUBLISHED_GRID, _GRID, _OFFSET = 37, 16, 0.1
_DINOV2_PX = 224


@dataclass(frozen=True)
class FidelityEncoder(Batched):
    """One of torch-fidelity's extractors."""

    key: EncoderKey
    width: int
    device: str
    model: Any
    batching: Batching

    def _encode(self, pixels: Tensor) -> Array:
        import torch

        with torch.inference_mode():
            (features,) = self.model(pixels.to(self.device))
        return np.asarray(features.float().cpu().numpy())


def load_dinov2(name: str, weights: str | None, device: str, *, batch: int | None = None) -> FidelityEncoder:
    """DINOv2's class token at 224 px, from the file that its authors published.

    Args:
        weights: that file; there is no download, as its authors published no hash to check it by.

    Raises:
        ModelNotFound, ModelCorrupt: the file is absent or broken.

    Source: Oquab et al., DINOv2 (2023); Stein et al., Exposing flaws of generative model evaluation metrics (2023),
    for its Fréchet distance.
    """
    short = f"dinov2_{name.removeprefix('dinov2-').replace('-', '', 1).replace('-', '')}"
    if weights is None:
        url = f"https://dl.fbaipublicfiles.com/dinov2/{short}/{short}_pretrain.pth"
        raise ModelNotFound(
            f"{name} needs metrics.weights.{name}=FILE: its weights are published at {url} without a hash that a "
            "download could be checked by, so fetch them yourself; the file's own hash will stand in every score"
        )
    path = weights_file(f"{name} weights", weights, f"metrics.weights.{name}")
    return _encoder(
        name, path, device, batch, lambda: _dinov2(name, path), f"{_DINOV2_PX}x{_DINOV2_PX}", "class token"
    )


def load_fidelity_clip(
    name: str, weights: str | None, device: str, *, batch: int | None = None
) -> FidelityEncoder:
    """The image tower of OpenAI's CLIP under torch-fidelity's resizing: another encoder than open_clip's.

    Args:
        weights: OpenAI's .pt, known by its published hash, or a state dict of the same names as .safetensors or .pt.

    Raises:
        ModelNotFound, ModelCorrupt, HubUnreachable: the file is absent, broken, or out of reach.
        UnsafeModel: a TorchScript archive that OpenAI did not publish.
    """
    from torch_fidelity.feature_extractor_clip import MODEL_METADATA, MODEL_URLS

    what, setting = f"{name} weights", f"metrics.weights.{name}"
    if weights is None:
        import torch

        sha256 = MODEL_METADATA[name]["hash"]
        place = Path(torch.hub.get_dir()) / "checkpoints" / f"{name}-{sha256}.pt"
        path = fetch(what, MODEL_URLS[name], place, sha256, setting)
    else:
        path = weights_file(what, weights, setting)
    side = CLIP[name][0]
    return _encoder(name, path, device, batch, lambda: _clip(name, path), f"{side}x{side}", "image embedding")


def _encoder(
    name: str, path: Path, device: str, batch: int | None, build: Callable[[], Any], size: str, layer: str
) -> FidelityEncoder:
    import torch

    model = build().to(device).eval().requires_grad_(False)
    with torch.inference_mode():
        (found,) = model(torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device=device))
    width = int(found.shape[1])
    key = EncoderKey(
        name=f"torch-fidelity {name}",
        weights=f"sha256:{file_sha256(path)[:16]}",
        resize=f"{size} bilinear TF1",
        crop="none",
        layer=f"{layer} {width}",
        versions=versions("torch-fidelity", "torch", *(("timm",) if name in DINOV2 else ())),
    )
    return FidelityEncoder(key, width, device, model, Batching(batch))


def _dinov2(name: str, path: Path) -> Any:
    import timm
    import torch
    from timm.models.vision_transformer import checkpoint_filter_fn
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

    state = read_tensors(f"{name} weights", path)
    try:
        network: Any = timm.create_model(DINOV2[name], pretrained=False, img_size=_DINOV2_PX, num_classes=0)
        state = {**state, "pos_embed": at_224_px(state["pos_embed"])}
        network.load_state_dict(checkpoint_filter_fn(state, network))
    except (
        Exception
    ) as error:  # timm and torch raise key, runtime and value errors for another network's weights
        raise ModelCorrupt(f"{name} weights {path} cannot be loaded: {first_line(error)}") from error
    # Its own constructor runs code of a repository; its forward pass resizes, normalises and calls `model`.
    extractor = FeatureExtractorDinoV2.__new__(FeatureExtractorDinoV2)
    FeatureExtractorBase.__init__(extractor, name, ["dinov2"])
    extractor.feature_extractor_internal_dtype = torch.float32
    extractor.model = network
    return extractor


def at_224_px(positions: Tensor) -> Tensor:
    """Position embeddings (1, 1 + 37·37, D) as the published model brings them to 224 px: (1, 1 + 16·16, D).

    Bicubic by a scale of (16 + 0.1) / 37, without antialiasing; by the size alone it would be another kernel.

    Source: facebookresearch/dinov2, interpolate_pos_encoding with interpolate_offset 0.1.
    """
    import torch
    from torch.nn.functional import interpolate

    if positions.shape[1] == 1 + _GRID**2:
        return positions
    scale = (_GRID + _OFFSET) / _PUBLISHED_GRID
    grid = positions[:, 1:].reshape(1, _PUBLISHED_GRID, _PUBLISHED_GRID, -1).permute(0, 3, 1, 2).float()
    resized = interpolate(grid, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    return torch.cat([positions[:, :1].float(), resized.flatten(2).transpose(1, 2)], dim=1)


def _clip(name: str, path: Path) -> Any:
    import torch
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP, build_model

    what = f"{name} weights"
    if is_torchscript(path):
        if file_sha256(path) not in openai_hashes():
            raise UnsafeModel(
                f"{what} {path} are a TorchScript archive, which can run code, and not a file that OpenAI published; "
                "give the state dict as .safetensors"
            )
        archive: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        state = archive.state_dict()
    else:
        state = read_tensors(what, path)
    try:
        model = build_model(dict(state), torch.float32)
    except (
        Exception
    ) as error:  # torch-fidelity raises key, index and assertion errors for another network's weights
        raise ModelCorrupt(f"{what} {path} cannot be loaded: {first_line(error)}") from error
    found = (model.visual.input_resolution, model.visual.conv1.kernel_size[0], model.visual.output_dim)
    if found != CLIP[name]:
        raise ModelCorrupt(f"{what} {path} must be of {_words(CLIP[name])}, got {_words(found)}")
    extractor = FeatureExtractorCLIP.__new__(FeatureExtractorCLIP)
    FeatureExtractorBase.__init__(extractor, name, ["clip"])
    extractor.feature_extractor_internal_dtype = torch.float32
    extractor.model = model
    extractor.resolution = model.visual.input_resolution
    return extractor


def _words(network: tuple[int, int, int]) -> str:
    side, patch, width = network
    return f"{side} px in patches of {patch} to {width} numbers"
