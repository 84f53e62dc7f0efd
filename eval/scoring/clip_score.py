"""Pictures and captions by one CLIP: the score of a pair, and whether the own caption is nearest. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def clip_scores(images: Array, texts: Array) -> Array:
    """100 · cosine of each picture with its own caption, (N,) float64 in -100..100, higher is better, never clipped.

    Args:
        images: (N, D) float, of any length.
        texts: (N, D) float, row i belongs to picture i.

    Raises:
        ValueError: the shapes differ, or a row is zero or not finite and so has no direction.

    Source: Hessel et al., CLIPScore (2021), without its factor 2.5 and its clipping at 0.
    """
    if images.shape != texts.shape or images.ndim != 2:
        raise ValueError(f"each picture needs its caption, got features {images.shape} and {texts.shape}")
    return np.asarray(100 * (unit(images) * unit(texts)).sum(axis=1))


def zero_shot_hits(images: Array, captions: Array, distractors: Array) -> Array:
    """Whether each picture is nearer to its own caption than to every distractor, (N,) bool; a tie is a miss.

    Args:
        images: (N, D) float.
        captions: (N, D) float, row i belongs to picture i.
        distractors: (N, K, D) float, K >= 1 other captions for each picture.

    Raises:
        ValueError: shapes that do not belong together.

    Source: the classification by captions of Radford et al., Learning Transferable Visual Models (2021).
    """
    n, width = images.shape
    if captions.shape != (n, width) or distractors.ndim != 3 or distractors.shape[::2] != (n, width):
        shapes = f"{images.shape}, {captions.shape} and {distractors.shape}"
        raise ValueError(f"features must be (N, D), (N, D) and (N, K, D), got {shapes}")
    pictures = unit(images)
    own = (pictures * unit(captions)).sum(axis=1)
    others = np.einsum("nd,nkd->nk", pictures, unit(distractors))
    return np.asarray(own > others.max(axis=1))


def pick_distractors(texts: Sequence[str], k: int, *, seed: int) -> Array:
    """For each text the places of k others that read differently, (N, k) int64, each other text once at most.

    Args:
        texts: captions; repeats of one text are one caption.
        seed: with the texts' contents, decides the choice: the order of the texts and their places do not.

    Raises:
        ValueError: k < 1, or fewer than k other captions.
    """
    first: dict[str, int] = {}
    for index, text in enumerate(texts):
        first.setdefault(text, index)
    distinct = sorted(first)
    if not 1 <= k < len(distinct):
        raise ValueError(f"distractors must be 1..{len(distinct) - 1} for {len(distinct)} captions, got {k}")
    places = {text: place for place, text in enumerate(distinct)}
    chosen = {}
    for text in distinct:
        drawn = np.random.default_rng([seed, _number(text)]).choice(len(distinct) - 1, size=k, replace=False)
        chosen[text] = [first[distinct[i + (i >= places[text])]] for i in drawn]  # its own place is skipped
    return np.array([chosen[text] for text in texts], dtype=np.int64)


def unit(rows: Array) -> Array:
    """The rows (..., D) at unit length, float64. Raises ValueError where a row is zero or not finite."""
    wide = rows.astype(np.float64)
    norms = np.linalg.norm(wide, axis=-1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise ValueError("features must be finite and not all zero: such a row has no direction")
    return np.asarray(wide / norms)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
