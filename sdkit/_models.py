"""What `model=` may mean, and what a model's folder says before a weight is read. No torch here.

A model is the bundled one, a diffusers folder, or a hub id. Only safetensors are ever read, only the
two pipeline classes below are ever built, and no code that comes with a model is ever run.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdkit._errors import InvalidRequest, ModelCorrupt, ModelError, ModelNotFound, first_line
from sdkit._hub import HUB_ID, fetch_snapshot, is_variant
from sdkit._request import DEFAULT_GUIDANCE, DEFAULT_STEPS, check_guidance, check_range
from sdkit._samplers import MAX_STEPS

BUNDLED = "shapes"
PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
_LIBRARIES = ("diffusers", "transformers")
# Named in model_index.json, never loaded: they judge or read pictures, they do not make them.
_LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")
_PICKLES = ("*.bin", "*.ckpt", "*.pt")
_SINGLE_FILES = (".safetensors", ".ckpt", ".pt", ".bin")


@dataclass(frozen=True)
class ModelFolder:
    """A diffusers folder that has passed every check which needs no weights."""

    path: Path
    name: str
    pipeline: str
    """Class name in diffusers, one of PIPELINES."""
    variant: str | None
    """"fp16" when the folder holds only that variant's files."""
    files: tuple[Path, ...]
    """All files that decide pixels: settings, tokenizers, weights."""
    width: int
    height: int
    """The size the model was made for, pixels."""
    min_px: int
    """Smallest side that survives the model's own downsampling."""
    guidance_scale: float
    steps: int
    """Defaults; the folder's `sdkit.json` may set them."""

    def fingerprint(self) -> str:
        """Sixteen hex digits over the names and contents of `files`; the folder's own name does not count."""
        whole = hashlib.sha256()
        for file in self.files:
            whole.update(f"{file.relative_to(self.path).as_posix()}\0{_file_digest(file)}\n".encode())
        return whole.hexdigest()[:16]


def resolve(model: str | Path | None, *, local_files_only: bool = False) -> ModelFolder:
    """The checked folder of a model; a hub id is downloaded if it is not in the local cache.

    Raises:
        ModelNotFound: nothing there.
        ModelCorrupt: a file that cannot be read.
        HubUnreachable: a hub id that is not cached, and no hub.
        ModelError: a kind of model that is not supported.
    """
    if model is not None and not isinstance(model, (str, Path)):
        raise InvalidRequest(f"model must be None, a folder or a hub id, got {model!r}")
    if model is None or str(model) == BUNDLED:
        return _bundled()
    path = Path(model).expanduser()
    if path.is_dir():
        return _read_folder(path, path.resolve().name)
    if path.suffix in _SINGLE_FILES:
        raise _single_file(path)
    if isinstance(model, str) and HUB_ID.fullmatch(model):
        return _read_folder(fetch_snapshot(model, _LEFT_OUT, local_files_only=local_files_only), model)
    raise ModelNotFound(
        f'model must be "{BUNDLED}", a diffusers folder or a hub id owner/name, got {str(model)!r}'
    )


def _bundled() -> ModelFolder:
    path = Path(__file__).parent / "shapes" / "weights" / "pipeline"
    if not path.is_dir():
        raise ModelNotFound(f"the bundled model must lie in {path}, and does not; reinstall sdkit-t2i")
    return _read_folder(path, BUNDLED)


def _single_file(path: Path) -> ModelError:
    if not path.is_file():
        return ModelNotFound(f"model file {path} does not exist")
    return ModelError(
        f"model must be a diffusers folder or a hub id, got the single file {path}; convert it with"
        " diffusers' from_single_file(...).save_pretrained(folder)"
    )


def _read_folder(path: Path, name: str) -> ModelFolder:
    if not (path / "model_index.json").is_file():
        raise ModelNotFound(
            f"model folder {path} must hold model_index.json, as diffusers' save_pretrained writes it"
        )
    index = _read_json(path / "model_index.json")
    pipeline = index.get("_class_name")
    if pipeline not in PIPELINES:
        raise ModelError(f"model {name} must be a {' or '.join(PIPELINES)}, got {pipeline!r}")
    components = _components(index, name)
    weighed = [part for part in components if part not in ("scheduler", "tokenizer", "tokenizer_2")]
    variant = "fp16" if not _weights(path / "unet", None) and _weights(path / "unet", "fp16") else None
    weights = [file for part in weighed for file in _checked_weights(path / part, variant)]
    settings = [
        file for part in components for kind in ("*.json", "*.txt") for file in (path / part).glob(kind)
    ]
    unet, vae = _read_json(path / "unet" / "config.json"), _read_json(path / "vae" / "config.json")
    width, height, min_px = _sizes(unet, vae, name)
    guidance_scale, steps = _defaults(path)
    files = (path / "model_index.json", *sorted([*settings, *weights]))
    return ModelFolder(
        path, name, str(pipeline), variant, files, width, height, min_px, guidance_scale, steps
    )


def _components(index: dict[str, Any], name: str) -> list[str]:
    """Names of the parts that are loaded, each from a library we know: others could be code of their own."""
    parts = []
    for part, origin in index.items():
        if part.startswith("_") or part in _LEFT_OUT or not isinstance(origin, list) or origin[:1] == [None]:
            continue
        if origin[0] not in _LIBRARIES:
            raise ModelError(
                f"model {name} needs code of its own for {part} ({origin[0]}), which is never run"
            )
        parts.append(part)
    missing = {"unet", "vae", "text_encoder", "tokenizer", "scheduler"} - set(parts)
    if missing:
        raise ModelError(
            f"model {name} must have every part of its pipeline, lacks {', '.join(sorted(missing))}"
        )
    return parts


def _weights(folder: Path, variant: str | None) -> list[Path]:
    """The part's safetensors of a variant; None stands for the files without one."""
    files = folder.glob("*.safetensors")
    return [f for f in files if (not is_variant(f.name) if variant is None else f".{variant}." in f.name)]


def _checked_weights(folder: Path, variant: str | None) -> list[Path]:
    """The weights a part will be loaded from, their headers and lengths found whole."""
    files = _weights(folder, variant) or _weights(folder, None)
    if not files:
        pickled = any(any(folder.glob(kind)) for kind in _PICKLES)
        why = (
            "only pickled weights, which are never loaded; convert them" if pickled else "none; copy it anew"
        )
        raise ModelError(f"model part {folder} must hold .safetensors weights, has {why}")
    for index in folder.glob("*.index.json"):
        absent = set(_read_json(index).get("weight_map", {}).values()) - {file.name for file in files}
        if (
            absent
            and not is_variant(index.name)
            and index.name.startswith(("diffusion", "model.safetensors"))
        ):
            raise ModelCorrupt(f"model file {folder / min(absent)} is named in {index.name} and missing")
    for file in files:
        _check_header(file)
    return files


def _check_header(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        with file.open("rb") as stream:
            pointer = stream.read(64).startswith(b"version https://git-lfs")
        remedy = "it is a git-lfs pointer; run git lfs pull" if pointer else "copy or download it anew"
        raise ModelCorrupt(f"model file {file} is not whole ({first_line(error)}); {remedy}") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelNotFound(f"model file {file} is missing; copy or download the model anew") from error
    except (OSError, ValueError) as error:
        raise ModelCorrupt(f"model file {file} cannot be read ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise ModelCorrupt(f"model file {file} must hold a JSON object, got {type(content).__name__}")
    return content


def _sizes(unet: dict[str, Any], vae: dict[str, Any], name: str) -> tuple[int, int, int]:
    """Default width and height, and the smallest side: one pixel at the bottom of the UNet."""
    if unet.get("in_channels", 4) != vae.get("latent_channels", 4):
        raise ModelError(
            f"model {name} must turn text into pictures; its UNet wants more inputs (inpainting?)"
        )
    factor = 2 ** (len(vae.get("block_out_channels", [0])) - 1)
    depth = len(unet.get("block_out_channels", [0] * 4)) - 1
    latent = unet.get("sample_size") or 64
    rows, columns = latent if isinstance(latent, list) else (latent, latent)
    return int(columns) * factor, int(rows) * factor, max(8, factor * 2**depth)


def _defaults(path: Path) -> tuple[float, int]:
    """Guidance scale and steps of the folder's own `sdkit.json`, where it has one."""
    file = path / "sdkit.json"
    own = _read_json(file) if file.is_file() else {}
    try:
        guidance_scale = check_guidance(own.get("guidance_scale", DEFAULT_GUIDANCE))
        return guidance_scale, check_range("steps", own.get("steps", DEFAULT_STEPS), 1, MAX_STEPS)
    except InvalidRequest as error:
        raise ModelCorrupt(f"model file {file}: {error}") from error


def _file_digest(file: Path) -> str:
    """SHA-256 of the contents; the hub's cache names large files by it, which saves reading gigabytes."""
    blob = file.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
