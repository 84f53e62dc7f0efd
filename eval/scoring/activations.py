"""Which GELU a CLIP was trained with: open_clip takes weights under the other one, and at most warns."""

from __future__ import annotations

import re
from pathlib import Path

from eval.hashing import file_sha256
from sdkit._errors import InvalidRequest, ModelError

QUICK, PLAIN = "-quickgelu", "+gelu"
"""How a spec's architecture states its activation; the second is ours, for where open_clip has no word."""


def require_activation(architecture: str, file: Path, *, plain: bool) -> None:
    """Close the trap that open_clip leaves open: a weights file tells nobody which GELU it was trained with.

    Published files are known by their hash, or by their tag in their name, and open_clip's table says what each was
    trained with. Of any other, whoever names it must say it where the architecture knows both:
    "ViT-B-32-quickgelu/FILE" or "ViT-B-32+gelu/FILE". A file that was renamed and saved anew is taken at that word.

    Raises:
        ModelError: published weights under the other activation.
        InvalidRequest: nothing says which.
    """
    import open_clip

    quick = architecture.endswith(QUICK)
    base = architecture.removesuffix(QUICK)
    if not quick and f"{base}{QUICK}" not in open_clip.list_models():
        return
    known = _published_activation(base, file)
    if known is not None and known != quick:
        raise wrong_activation(f"{architecture}/{file.name}")
    if known is None and not quick and not plain:
        raise InvalidRequest(
            f"metrics.clip={architecture}/{file.name} must say which activation its weights were trained with: "
            f"{architecture}{QUICK}/FILE for QuickGELU (OpenAI, DFN, MetaCLIP), {architecture}{PLAIN}/FILE for GELU"
        )


def _published_activation(architecture: str, file: Path) -> bool | None:
    """Whether published weights were trained with QuickGELU; None where neither hash nor name tells whose they are."""
    import open_clip

    sha256 = file_sha256(file)
    if sha256 in openai_hashes():
        return True
    name = re.sub("[-.]", "_", file.name.lower())
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    for tag in sorted(tags, key=len, reverse=True):  # "dfn2b_s39b" is not "dfn2b"
        config = open_clip.get_pretrained_cfg(architecture, tag)
        stem = Path(
            config.get("url", "")
        ).stem  # of LAION's own releases, it ends in eight digits of the hash
        prefix = stem.rpartition("-")[2]
        if (re.fullmatch("[0-9a-f]{8}", prefix) and sha256.startswith(prefix)) or tag.lower() in name:
            return bool(config.get("quick_gelu"))
    return True if "openai" in str(file).lower() or "quickgelu" in name else None


def openai_hashes() -> frozenset[str]:
    """SHA-256 of the CLIP files that OpenAI published, as torch-fidelity checks them."""
    from torch_fidelity.feature_extractor_clip import MODEL_METADATA

    return frozenset(each["hash"] for each in MODEL_METADATA.values())


def wrong_activation(label: str) -> ModelError:
    """The refusal of weights under an architecture whose activation they were not trained with."""
    import open_clip

    plain = label.partition("/")[0].removesuffix(QUICK)
    other = plain if QUICK in label.partition("/")[0] else f"{plain}{QUICK}"
    mend = (
        f"use {other}"
        if other in open_clip.list_models()
        else "use another scorer: open_clip has no fit for them"
    )
    return ModelError(
        f"scorer {label!r} pairs weights with an activation they were not trained with, by open_clip's table; {mend}"
    )
