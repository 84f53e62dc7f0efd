"""The 2015 TF-Inception of torch-fidelity, a local file or a hash-checked download: `fid[inception]`."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.scoring.encoders import Array
from eval.scoring.weights import file_sha256, first_line
from sdkit._errors import HubUnreachable, ModelCorrupt, ModelNotFound

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 2048
SHA256_PREFIX = "6726825d"
"""Of the published file, which carries it in its name."""


@dataclass(frozen=True)
class InceptionEncoder:
    """Pool features of TF-Inception; pictures are resized by TF 1's bilinear, as FID was defined."""

    identity: str
    width: int
    device: str
    model: Any

    def images(self, pixels: Tensor) -> Array:
        """Features (N, 2048) float32 of pictures (N, 3, H, W) uint8."""
        import torch

        with torch.inference_mode():
            (features,) = self.model(pixels.to(self.device))
        return np.asarray(features.float().cpu().numpy())


def load_inception(weights: str | None, device: str) -> InceptionEncoder:
    """The extractor, from `weights` or from torch's cache, into which it is downloaded if need be.

    Raises:
        ModelNotFound, ModelCorrupt, HubUnreachable: the file is absent, broken, or out of reach.
    """
    import torch
    import torch_fidelity
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = locate(weights)
    sha256 = file_sha256(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        # torch-fidelity reads whatever it is given as a pickle: give it a copy of what was read safely.
        safe = io.BytesIO()
        torch.save(state, safe)
        safe.seek(0)
        model = FeatureExtractorInceptionV3(
            "inception-v3-compat", [str(WIDTH)], feature_extractor_weights_path=safe
        )
    except Exception as error:  # torch raises pickle, zip, runtime and key errors here
        raise ModelCorrupt(f"TF-Inception weights {path} cannot be loaded: {first_line(error)}") from error
    kind = "published" if sha256.startswith(SHA256_PREFIX) else "not the published file"
    return InceptionEncoder(
        identity=f"torch-fidelity {torch_fidelity.__version__} TF-Inception 2015 pool {WIDTH}-d "
        f"sha256:{sha256[:16]} ({kind}) 299 px TF1 bilinear",
        width=WIDTH,
        device=device,
        model=model.to(device),
    )


def locate(weights: str | None) -> Path:
    """The weights' file. Raises as `load_inception`."""
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise ModelNotFound(f"metrics.inception_weights must be a file, got {weights!r}; there is none")
        return path
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    cached: Path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    if not cached.is_file():
        _download(URL_INCEPTION_V3, cached)
    if not file_sha256(cached).startswith(SHA256_PREFIX):
        raise ModelCorrupt(
            f"TF-Inception weights {cached} must have sha256 {SHA256_PREFIX}..., delete the file"
        )
    return cached


def _download(url: str, path: Path) -> None:
    import torch

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=SHA256_PREFIX, progress=True)
    except Exception as error:  # urllib's, OSError, and RuntimeError for a wrong hash
        raise HubUnreachable(
            f"TF-Inception weights are not on this machine and cannot be downloaded: {first_line(error)}; "
            "give a file with metrics.inception_weights=FILE, or use metrics.fid=shapes-clip"
        ) from error
