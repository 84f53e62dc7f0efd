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

from eval.hashing import file_sha256
from eval.identity import EncoderKey
from eval.scoring.activations import wrong_activation
from eval.scoring.batching import Array, Batched, Batching
from eval.scoring.weight_files import first_line, versions
from eval.scoring.weights import ClipSource, locate
from sdkit._errors import ModelCorrupt, UnsafeModel

if TYPE_CHECKING:
    from torch import Tensor


class ImageEncoder(Protocol):
    """Turns pictures into features; what it does is all in its key."""

    @property
    def key(self) -> EncoderKey: ...
    @property
    def width(self) -> int:
        """D, the features' length."""
        ...

    @property
    def device(self) -> str: ...
    @property
    def model(self) -> Any: ...
    def images(self, pixels: Tensor) -> Array:
        """Features (N, D) float32 of pictures (N, 3, H, W) uint8, whatever N: they do not depend on the batch."""
        ...


@dataclass(frozen=True)
class ClipEncoder(Batched):
    """A loaded CLIP with its own preprocessing and tokenizer."""

    key: EncoderKey
    width: int
    """D, the embedding's length."""
    size_px: tuple[int, int]
    """Height and width that its image tower sees."""
    device: str
    model: Any
    preprocess: Any
    tokenizer: Any
    batching: Batching

    def _encode(self, pixels: Tensor) -> Array:
        import torch

        with torch.inference_mode():
            inputs = self.prepare(pixels).to(self.device)
            return np.asarray(self.model.encode_image(inputs).float().cpu().numpy())

    def texts(self, captions: Sequence[str], *, batch: int = 256) -> Array:
        """Features (N, D) float32, unnormalised, of captions; `batch` at once is halved when memory runs out.

        Raises:
            OutOfMemory: one caption alone does not fit.
        """
        if not captions:
            return np.zeros((0, self.width), np.float32)
        return Batching(batch).over(self._encode_texts, list(captions))

    def _encode_texts(self, captions: list[str]) -> Array:
        import torch

        with torch.inference_mode():
            tokens = self.tokenizer(captions).to(self.device)
            return np.asarray(self.model.encode_text(tokens).float().cpu().numpy())

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


def load_clip(spec: str, device: str, *, batch: int | None = None) -> ClipEncoder:
    """The encoder that `metrics.clip` names.

    Args:
        spec: "shapes" (bundled), a folder with open_clip's own config and weights, "hf-hub:owner/name", or
            "architecture/tag" or "architecture/weights file" as open_clip names them; "architecture+gelu/file" says
            that a file's weights were trained with plain GELU, where their architecture knows both.
        device: where it runs, in float32.
        batch: pictures at once; None finds it by trying.

    Raises:
        InvalidRequest: no such architecture or tag, or a file that does not say its activation.
        ModelNotFound, ModelCorrupt, HubUnreachable: the weights are absent, broken, or out of reach.
        ModelError: an activation that the weights were not trained with.
        UnsafeModel: weights or a tokenizer that would run code.
    """
    import open_clip

    source = locate(spec)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="QuickGELU mismatch")
            # Weights other than safetensors go through torch's weights-only reader, open_clip's own default.
            model, preprocess = open_clip.create_model_from_pretrained(
                source.model_name,
                source.pretrained,
                precision="fp32",
                device=device,
                weights_only=True,
                **_published_preprocessing(source),
            )
        tokenizer = _tokenizer(source)
    except UserWarning as error:
        raise wrong_activation(source.label) from error
    except UnsafeModel:
        raise
    except Exception as error:  # open_clip raises whatever torch, json and safetensors do
        raise ModelCorrupt(f"scorer {source.label!r} cannot be loaded: {first_line(error)}") from error
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    features = _embedding_width(model, height, width)
    return ClipEncoder(
        key=_key(source, model, (int(height), int(width)), features),
        width=features,
        size_px=(int(height), int(width)),
        device=device,
        model=model.eval().requires_grad_(False),
        preprocess=preprocess,
        tokenizer=tokenizer,
        batching=Batching(batch),
    )


def _published_preprocessing(source: ClipSource) -> dict[str, Any]:
    """What all published weights of a file's architecture are normalised and resized by, where they agree.

    For a file open_clip would take OpenAI's, which for SigLIP or CLIPA is wrong and gives no warning. Where the tags
    disagree its own choice stands, and the key says which it was.
    """
    import open_clip

    if source.settings is not None or source.pretrained != str(source.weights):
        return {}  # a folder's config says it, and a tag's entry
    names = ("mean", "std", "interpolation", "resize_mode")
    tags = open_clip.list_pretrained_tags_by_model(source.model_name)
    configs = [open_clip.get_pretrained_cfg(source.model_name, tag) for tag in tags]
    found = {tuple((name, each.get(name)) for name in names) for each in configs}
    if len(found) != 1:
        return {}
    return {f"image_{name}": value for name, value in found.pop() if value is not None}


def _tokenizer(source: ClipSource) -> Any:
    """The model's tokenizer, without code of its own: a config may ask for that, and is overruled."""
    import open_clip

    text = (open_clip.get_model_config(source.model_name) or {}).get("text_cfg", {})
    if not text.get("hf_tokenizer_name"):  # open_clip's own tokenizer, which takes no such option
        return open_clip.get_tokenizer(source.model_name)
    try:
        return open_clip.get_tokenizer(source.model_name, trust_remote_code=False)
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise UnsafeModel(
                f"scorer {source.label!r} brings a tokenizer with code of its own, which is never run; "
                "give one whose tokenizer is a tokenizer.json"
            ) from error
        raise


def _key(source: ClipSource, model: Any, size_px: tuple[int, int], width: int) -> EncoderKey:
    import open_clip

    config = open_clip.get_model_preprocess_cfg(model)
    mode = str(config.get("resize_mode"))
    settings = () if source.settings is None else (f"config {source.settings}",)
    return EncoderKey(
        name=" ".join(("open_clip", source.label, *settings, f"({activation(model)})")),
        weights=f"sha256:{file_sha256(source.weights)[:16]}",
        resize=f"{size_px[1]}x{size_px[0]} {config.get('interpolation')} {mode} PIL, normalised by "
        f"{_rounded(config.get('mean'))} and {_rounded(config.get('std'))}",
        crop="centre" if mode == "shortest" else "none",
        layer=f"image embedding {width}",
        versions=versions("open_clip_torch", "torch", "torchvision", "pillow"),
    )


def _rounded(levels: Any) -> str:
    """The channels' levels, once where they are one."""
    texts = [f"{level:.4g}" for level in levels]
    return texts[0] if len(set(texts)) == 1 else "/".join(texts)


def activation(model: Any) -> str:
    """Which GELU the towers were built with: numbers of the two must never pass for each other."""
    names = {type(module).__name__ for module in model.modules() if "gelu" in type(module).__name__.lower()}
    quick = any(
        name.startswith("QuickGELU") for name in names
    )  # transformers calls its own QuickGELUActivation
    return "QuickGELU" if quick else "GELU" if names else "no GELU"


def _embedding_width(model: Any, height: int, width: int) -> int:
    """Asked of the model itself: its towers name their width differently."""
    import torch

    device = next(model.parameters()).device
    with torch.inference_mode():
        return int(model.eval().encode_image(torch.zeros(1, 3, height, width, device=device)).shape[1])
