"""Every score there is: what it is, which way is better, where it ends, and when it must not be relied on."""

from __future__ import annotations

import difflib

from eval.scoring.inception_score import SPLITS
from eval.scoring.kernels import CMMD_SCALE, CMMD_SIGMA
from eval.scoring.manifold import NEAREST_K
from eval.scoring.metric import Metric, Needs
from sdkit._errors import InvalidRequest

RELIABLE_FID_N = 2048
"""Fewer pictures than Inception's features have dimensions leave the covariance without full rank."""
_NEIGHBOURS = f"{NEAREST_K} nearest neighbours"
_SAME_ONLY = "Compare it only at one number of pictures, against one reference, on one kind of features."

_ALL = (
    Metric(
        "clip_score", "CLIP score", Needs.CAPTIONS, "100*cos, unclipped", True, -100, 100, 1,
        "100 times the cosine between a picture and its prompt, as a CLIP sees them; the mean over a cell's pictures.",
        "It says how well a picture follows its prompt, not how good it looks; high guidance fools it. It cannot be "
        "compared with a score from another encoder.",
        "Hessel et al. 2021, without its factor 2.5 and its clipping",
    ),
    Metric(
        "zero_shot", "Zero-shot accuracy", Needs.CAPTIONS, "share, 0..1", True, 0, 1, 1,
        "Share of pictures that a CLIP finds nearer to their own prompt than to any of the distractors, other prompts "
        "of the set.",
        "It depends on how alike the prompts are: compare it only over one set of prompts.",
        "Radford et al. 2021",
    ),
    Metric(
        "fid", "FID", Needs.REFERENCE, "squared distance", False, 0, None, 2,
        "Fréchet distance between two Gaussians, fitted to features of the generated and of the reference pictures.",
        "With few pictures it is biased upwards, and by how much depends on the setting. " + _SAME_ONLY
        + " On other features than Inception's it is NOT the FID of the literature.",
        "Heusel et al. 2017",
    ),
    Metric(
        "fid_inf", "FID∞", Needs.REFERENCE, "squared distance, N to infinity", False, None, None, 2,
        "FID extrapolated to infinitely many pictures, with its interval; by its error it may fall below 0.",
        "The reference is taken as it is: its own sampling error is not in the interval.",
        "Chong & Forsyth 2020",
    ),
    Metric(
        "kid", "KID", Needs.REFERENCE_FEATURES, "MMD², (x·y/D + 1)³, all pairs", False, None, None, 2,
        "Squared maximum mean discrepancy between the features, unbiased at any number of pictures; may fall below 0.",
        "It sees less of what FID's covariance sees; features' scale moves it. " + _SAME_ONLY,
        "Bińkowski et al. 2018",
    ),
    Metric(
        "cmmd", "CMMD", Needs.REFERENCE_FEATURES,
        f"{CMMD_SCALE:g} * MMD², Gaussian kernel, sigma {CMMD_SIGMA:g}, unit vectors", False, 0, None, 2,
        "Squared maximum mean discrepancy between features at unit length, without any assumption of their shape.",
        "Published values are on CLIP ViT-L/14 at 336 px; on other features it is another number.",
        "Jayasumana et al. 2024",
    ),
    Metric(
        "precision", "Precision", Needs.REFERENCE_FEATURES, f"share, {_NEIGHBOURS}", True, 0, 1, NEAREST_K + 1,
        "Share of the generated pictures that lie within the reference's manifold: fidelity.",
        "One outlier of the reference widens its manifold. " + _SAME_ONLY,
        "Kynkäänniemi et al. 2019",
    ),
    Metric(
        "recall", "Recall", Needs.REFERENCE_FEATURES, f"share, {_NEIGHBOURS}", True, 0, 1, NEAREST_K + 1,
        "Share of the reference that lies within the generated pictures' manifold: diversity.",
        "Outliers among the generated pictures raise it. " + _SAME_ONLY,
        "Kynkäänniemi et al. 2019",
    ),
    Metric(
        "density", "Density", Needs.REFERENCE_FEATURES, f"mean count / k, {_NEIGHBOURS}", True, 0, None, NEAREST_K + 1,
        "How many of the reference's neighbourhoods a generated picture lies in, over k: outliers move it less.",
        "It may pass 1. " + _SAME_ONLY,
        "Naeem et al. 2020",
    ),
    Metric(
        "coverage", "Coverage", Needs.REFERENCE_FEATURES, f"share, {_NEIGHBOURS}", True, 0, 1, NEAREST_K + 1,
        "Share of the reference's neighbourhoods that hold a generated picture: diversity.",
        "It cannot reach 1 with far fewer generated pictures than reference ones. " + _SAME_ONLY,
        "Naeem et al. 2020",
    ),
    Metric(
        "inception_score", "Inception score", Needs.LOGITS, f"exp(KL), {SPLITS} splits", True, 1, None, SPLITS,
        "How sure ImageNet's classifier is of each picture, and how varied it finds them all.",
        "It knows no prompt and no reference, and sees ImageNet's classes only.",
        "Salimans et al. 2016",
    ),
    Metric(
        "latent_rmse", "Distance to converged", Needs.CONVERGED, "RMSE of latents", False, 0, None, 1,
        "Root mean square difference between the latents of a picture and those that many steps of a deterministic "
        "solver reach from the same seed: how far the sampler has converged.",
        "A sampler that has not converged may draw a picture as good: it is another one.",
        "definition",
    ),
    Metric(
        "ssim", "SSIM to converged", Needs.CONVERGED, "structural similarity", True, -1, 1, 1,
        "Structural similarity between a picture and the one that many steps of a deterministic solver reach from the "
        "same seed.",
        "A sampler that has not converged may draw a picture as good: it is another one.",
        "Wang et al. 2004",
    ),
    Metric(
        "saturation", "Saturation", Needs.PIXELS, "mean S of HSV, 0..1", None, 0, 1, 1,
        "Mean saturation of the pixels.",
        "A guard, not a quality: strong guidance raises it while CLIP score still rises.",
        "Smith 1978",
    ),
    Metric(
        "contrast", "Contrast", Needs.PIXELS, "RMS of luma BT.601, 0..0.5", None, 0, 0.5, 1,
        "Standard deviation of luma within a picture, the mean over the pictures.",
        "A guard, not a quality: strong guidance raises it while CLIP score still rises.",
        "Peli 1990",
    ),
    Metric(
        "clipped", "Clipped values", Needs.PIXELS, "share of values at 0 or 255", False, 0, 1, 1,
        "Share of the channels' values that lie at either end of their range.",
        "A guard: pictures of flat black or white have it by nature.",
        "definition",
    ),
    Metric(
        "judge_all", "Judge: all right", Needs.JUDGE, "share, 0..1", True, 0, 1, 1,
        "Share of pictures in which a rule-based reader of pixels finds all that the prompt names: count, shape, "
        "colour, size, place, relation, background.",
        "It knows the world of the bundled model only, and says nothing about looks.",
        "sdkit.shapes.judge, no learned part",
    ),
)  # fmt: skip

CATALOGUE: dict[str, Metric] = {metric.name: metric for metric in _ALL}
_FEATURES = {
    "inception": "Inception",
    "inception-pytorch-fid": "Inception, as pytorch-fid",
    "inception-clean-fid": "Inception, as clean-fid",
}


def metric(name: str) -> Metric:
    """The metric of this name, without the extractor in brackets.

    Raises:
        InvalidRequest: there is none; the message holds the nearest.
    """
    base = base_name(name)
    if base not in CATALOGUE:
        near = difflib.get_close_matches(base, CATALOGUE, n=3, cutoff=0.4)
        raise InvalidRequest(
            f"metrics.scores must be of {', '.join(CATALOGUE)}, got {name!r}; nearest: {', '.join(near) or 'none'}"
        )
    return CATALOGUE[base]


def base_name(name: str) -> str:
    """A column's name without its extractor and without the mark of a second identity."""
    return unmarked(name).partition("[")[0]


def unmarked(name: str) -> str:
    """A column's name, with its extractor, without the mark of a second identity."""
    return name.partition(" ")[0]


def title_of(name: str) -> str:
    """A column's name as a heading: "CLIP score", "FID (Inception)", "FD-DINOv2 (ViT-L/14)"."""
    base, _, rest = name.partition("[")
    extractor, _, mark = rest.partition("]")
    if not rest:
        base, _, mark = name.partition(" ")
        mark = f" {mark}" if mark else ""
    found = CATALOGUE.get(base)
    title = found.title if found else base
    if not extractor:
        return title + mark
    if base in ("fid", "fid_inf") and extractor.startswith("dinov2-"):
        size = extractor.removeprefix("dinov2-vit-").replace("-", "/").upper()
        return f"{title.replace('FID', 'FD')}-DINOv2 (ViT-{size}){mark}"
    return f"{title} ({_FEATURES.get(extractor, extractor)}){mark}"


def unreliable_fid(n: int, width: int, reference_n: int | None) -> str | None:
    """Why a FID of so many pictures must not be relied on, or None.

    Args:
        n: pictures.
        width: D of the features: full rank needs D + 1 pictures.
        reference_n: pictures of the reference; None where nobody knows.
    """
    needed = max(RELIABLE_FID_N, width + 1)
    few = [(n, "pictures")] if n < needed else []
    few += [(reference_n, "reference pictures")] if reference_n is not None and reference_n < needed else []
    if not few:
        return None
    return f"{' and '.join(f'{count} {what}' for count, what in few)}, of {needed} needed"
