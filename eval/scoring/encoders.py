"""Pixels and captions to features, by open_clip: the encoder of CLIP score, and of `fid[shapes-clip]`.

The bundled scorer is an open_clip folder; others are named as open_clip names them. Features leave
unnormalised and in float32: CLIP score normalises, FID takes them as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from eval.scoring.weights import file_sha256, first_line, locate, wrong_activation
from sdkit._errors import ModelCorrupt

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[np.float32]]


class ImageEncoder(Protocol):
    """Turns pictures into features for FID."""

    @property
    def identity(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def model(self) -> Any: ...
    def images(self, pixels: Tensor) -> Array: ...


@dataclass(frozen=True)
class ClipEncoder:
    """A loaded CLIP with its own preprocessing and tokenizer."""

    identity: str
    """Architecture, weights' hash, resize and library version."""
    width: int
    """D, the embedding's length."""
    size_px: tuple[int, int]
    """Height and width that its image tower sees."""
    device: str
    model: Any
    preprocess: Any
    tokenizer: Any

    def images(self, pixels: Tensor) -> Array:
        """Features (N, D) float32, unnormalised, of pictures (N, 3, H, W) uint8."""
        import torch

        with torch.inference_mode():
            inputs = self.prepare(pixels).to(self.device)
            return np.asarray(self.model.encode_image(inputs).float().cpu().numpy())

    def texts(self, captions: Sequence[str], *, batch: int = 256) -> Array:
        """Features (N, D) float32, unnormalised, of captions."""
        import torch

        parts = [list(captions[start : start + batch]) for start in range(0, len(captions), batch)]
        with torch.inference_mode():
            encoded = [
                self.model.encode_text(self.tokenizer(part).to(self.device)).float().cpu() for part in parts
            ]
        return np.asarray(torch.cat(encoded).numpy())

    def truncated(self, captions: Sequence[str]) -> int:
        """How many captions are longer than the text tower reads, and so are cut."""
        length = int(self.tokenizer.context_length)
        tokens = self.tokenizer(["", *captions], context_length=8 * length)
        padding = tokens[0, -1]
        return int((tokens[1:, length:] != padding).any(dim=1).sum())

    def prepare(self, pixels: Tensor) -> Tensor:
        """The model's own preprocessing, (N, 3, S, S) float32.

        Pictures of the model's own size skip PIL: resize and crop then change nothing, and what is
        left, scaling and normalising, is done by the same transform on the whole batch.
        """
        import torch
        from PIL import Image

        if tuple(pixels.shape[-2:]) == self.size_px:
            normalised: Tensor = self.preprocess.transforms[-1](pixels.float().div(255))
            return normalised
        pictures = (Image.fromarray(each) for each in pixels.permute(0, 2, 3, 1).numpy())
        return torch.stack([self.preprocess(picture) for picture in pictures])


def load_clip(spec: str, device: str) -> ClipEncoder:
    """The encoder that `metrics.clip` names.

    Args:
        spec: "shapes" (bundled), a folder with open_clip's own config and weights, or "architecture/tag" or
            "architecture/weights file" as open_clip names them.
        device: where it runs, in float32.

    Raises:
        InvalidRequest: no such architecture or tag, or an activation that the weights were not trained with.
        ModelNotFound, ModelCorrupt, HubUnreachable: the weights are absent, broken, or out of reach.
    """
    import open_clip

    source = locate(spec)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="QuickGELU mismatch")
            model, preprocess = open_clip.create_model_from_pretrained(
                source.model_name, source.pretrained, precision="fp32", device=device
            )
        tokenizer = open_clip.get_tokenizer(source.model_name)
    except UserWarning as error:
        raise wrong_activation(source.label) from error
    except Exception as error:  # open_clip raises whatever torch, json and safetensors do
        raise ModelCorrupt(f"scorer {source.label!r} cannot be loaded: {first_line(error)}") from error
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return ClipEncoder(
        identity=f"open_clip {open_clip.__version__} {source.label} "
        f"sha256:{file_sha256(source.weights)[:16]} {width}x{height} px {_resize(model)}",
        width=_embedding_width(model, height, width),
        size_px=(int(height), int(width)),
        device=device,
        model=model.eval().requires_grad_(False),
        preprocess=preprocess,
        tokenizer=tokenizer,
    )


def _embedding_width(model: Any, height: int, width: int) -> int:
    """Asked of the model itself: its towers name their width differently."""
    import torch

    device = next(model.parameters()).device
    with torch.inference_mode():
        return int(model.eval().encode_image(torch.zeros(1, 3, height, width, device=device)).shape[1])


def _resize(model: Any) -> str:
    import open_clip

    config = open_clip.get_model_preprocess_cfg(model)
    return f"{config.get('interpolation')} {config.get('resize_mode')}"
