"""Every kind of features that FID and its relatives can rest on, by the name that stands in their brackets."""

from __future__ import annotations

import difflib

from eval.scoring.encoders import ImageEncoder
from sdkit._errors import InvalidRequest

SHAPES_CLIP = "shapes-clip"
EXTRACTORS = (
    SHAPES_CLIP,
    "inception",
    "inception-pytorch-fid",
    "inception-clean-fid",
    "dinov2-vit-s-14",
    "dinov2-vit-b-14",
    "dinov2-vit-l-14",
    "dinov2-vit-g-14",
    "clip-vit-b-32",
    "clip-vit-b-16",
    "clip-vit-l-14",
    "clip-vit-l-14-336px",
)


def load_extractor(
    name: str, device: str, *, weights: str | None = None, batch: int | None = None
) -> ImageEncoder:
    """The extractor of this name on a device, in float32.

    Args:
        weights: a local file; None takes what is bundled, or downloads a file whose published hash is known.
        batch: pictures at once; None finds it by trying.

    Raises:
        InvalidRequest: no extractor of this name.
        ModelNotFound, ModelCorrupt, HubUnreachable, UnsafeModel: the weights are absent, broken, out of reach,
            or would run code.
    """
    if name not in EXTRACTORS:
        near = difflib.get_close_matches(name, EXTRACTORS, n=3, cutoff=0.4)
        raise InvalidRequest(
            f"extractor must be one of {', '.join(EXTRACTORS)}, got {name!r}; nearest: {', '.join(near) or 'none'}"
        )
    if name == SHAPES_CLIP:
        from eval.scoring.encoders import load_clip
        from eval.scoring.weights import SHAPES

        return load_clip(weights or SHAPES, device, batch=batch)
    if name.startswith("inception"):
        from eval.scoring.inception import load_inception

        return load_inception(name, weights, device, batch=batch)
    from eval.scoring.foreign import load_dinov2, load_fidelity_clip

    load = load_dinov2 if name.startswith("dinov2") else load_fidelity_clip
    return load(name, weights, device, batch=batch)
