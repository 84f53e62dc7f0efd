"""Weights files: found or fetched, known by hash, and read without running what lies in them."""

from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

from eval.hashing import file_sha256
from sdkit._errors import HubUnreachable, ModelCorrupt, ModelNotFound, UnsafeModel


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type's name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def versions(*packages: str) -> tuple[str, ...]:
    """ "name version" of each package that has a part in a number."""
    return tuple(f"{package} {metadata.version(package)}" for package in packages)


def weights_file(what: str, path: str, setting: str) -> Path:
    """A local weights file that a setting names. Raises ModelNotFound where there is none."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ModelNotFound(f"{setting} must be a file of {what}, got {path!r}; there is none")
    return file


def fetch(what: str, url: str, place: Path, sha256: str, setting: str) -> Path:
    """A weights file from its place, or downloaded there; its hash is checked either way.

    Args:
        what: for messages: "TF-Inception weights".
        sha256: all of the published hash, or its beginning.
        setting: how a local file is named instead: "metrics.weights.inception".

    Raises:
        ModelCorrupt: another hash. HubUnreachable: absent, and not to be downloaded.
    """
    import torch

    if not place.is_file():
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(place), hash_prefix=sha256, progress=True)
        except Exception as error:  # urllib's, OSError, and RuntimeError for a wrong hash
            raise HubUnreachable(
                f"{what} are not on this machine and cannot be downloaded: {first_line(error)}; put {url} "
                f"(sha256 {sha256[:16]}...) at {place}, or name a file with {setting}=FILE"
            ) from error
    if not file_sha256(place).startswith(sha256):
        raise ModelCorrupt(f"{what} {place} must have sha256 {sha256[:16]}..., delete the file")
    return place


def read_tensors(what: str, path: Path) -> dict[str, Any]:
    """Tensors of a .safetensors, or of a pickle by torch's weights-only reader, which runs none.

    Raises:
        ModelCorrupt: neither of them. UnsafeModel: a TorchScript archive.
    """
    import torch

    refuse_torchscript(what, path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
        return dict(found.get("state_dict", found) if isinstance(found, dict) else found)
    except Exception as error:  # torch raises pickle, zip, runtime and key errors here
        raise ModelCorrupt(f"{what} {path} cannot be loaded: {first_line(error)}") from error


def refuse_torchscript(what: str, path: Path) -> None:
    """Refuse a TorchScript archive, which holds code beside its tensors. Raises UnsafeModel."""
    if is_torchscript(path):
        raise UnsafeModel(
            f"{what}: {path} is a TorchScript archive, which can run code; give the state dict as .safetensors, or "
            "the tag that open_clip downloads"
        )


def is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name or name.endswith("constants.pkl") for name in archive.namelist())
