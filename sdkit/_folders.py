"""What a diffusers folder says before a weight is read: its parts, its files, its sizes. No torch here.

Only safetensors are read, unless pickles are allowed by name, and no code that comes with a model is ever run.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdkit._checks import check_guidance, check_range
from sdkit._errors import InvalidRequest, ModelCorrupt, ModelError, ModelNotFound, UnsafeModel, first_line
from sdkit._hub import LEFT_OUT, is_variant
from sdkit._samplers import MAX_STEPS

_LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
_WEIGHTLESS = re.compile(r"(scheduler|tokenizer|processor|feature_extractor)")
_PICKLES = ("*.bin", "*.ckpt", "*.pt")
_DENOISERS = ("unet", "transformer")


@dataclass(frozen=True)
class Sizes:
    """Pixels that a model can draw."""

    width: int | None
    """The size the model was made for; None where its files do not say."""
    height: int | None
    min_px: int
    """Smallest side that survives the model's own downsampling."""
    multiple_px: int
    """Every side must be a multiple of it."""


@dataclass(frozen=True)
class Folder:
    """A diffusers folder that has passed every check which needs no weights."""

    path: Path
    pipeline: str
    """Class name in diffusers."""
    variant: str | None
    """"fp16" when the folder holds only that variant's files."""
    parts: tuple[str, ...]
    """Names of the components that are loaded."""
    files: tuple[Path, ...]
    """All files that decide pixels: settings, tokenizers, weights."""
    scheduler: dict[str, Any]
    """Contents of scheduler_config.json."""
    sizes: Sizes
    own_defaults: dict[str, Any]
    """Sampler, steps and guidance scale by the folder's own `sdkit.json`, where it has one."""
    needs_aesthetics: bool
    """True for the SDXL refiner, which can only redraw pictures."""


def read_folder(path: Path, name: str, *, allow_pickle: bool = False, weights: bool = True) -> Folder:
    """The checked folder.

    Args:
        weights: False for a folder that only tells what a single file is made of.
    Raises:
        ModelNotFound: no model_index.json there.
        ModelCorrupt: a file that is not whole.
        UnsafeModel: pickled weights alone, or a part that needs code of its own.
    """
    index, parts = read_index(path, name)
    weighed = [part for part in parts if weights and not _WEIGHTLESS.search(part)]
    plain = any(_weights(path / part, None) for part in weighed)
    fp16 = any(_weights(path / part, "fp16") for part in weighed)
    variant = "fp16" if fp16 and not plain else None
    checked = [
        file for part in weighed for file in checked_weights(path / part, variant, allow_pickle=allow_pickle)
    ]
    settings = [
        file for part in parts for kind in ("*.json", "*.txt", "*.model") for file in (path / part).glob(kind)
    ]
    return Folder(
        path=path,
        pipeline=index["_class_name"],
        variant=variant,
        parts=parts,
        files=(path / "model_index.json", *sorted([*settings, *checked])),
        scheduler=read_json(path / "scheduler" / "scheduler_config.json") if "scheduler" in parts else {},
        sizes=read_sizes(path, parts, index["_class_name"]),
        own_defaults=_own_defaults(path),
        needs_aesthetics=bool(index.get("requires_aesthetics_score")),
    )


def read_index(path: Path, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The contents of model_index.json, and the names of the parts that are loaded."""
    if not (path / "model_index.json").is_file():
        raise ModelNotFound(
            f"model folder {path} must hold model_index.json, as diffusers' save_pretrained writes it"
        )
    index = read_json(path / "model_index.json")
    if not isinstance(index.get("_class_name"), str):
        raise UnsafeModel(
            f"model {name} needs a pipeline of its own ({index.get('_class_name')!r}), which is never run"
        )
    parts = []
    for part, origin in index.items():
        if part.startswith("_") or part in LEFT_OUT or not isinstance(origin, list) or origin[:1] == [None]:
            continue
        if origin[0] not in _LIBRARIES:
            raise UnsafeModel(
                f"model {name} needs code of its own for {part} ({origin[0]}), which is never run"
            )
        parts.append(part)
    if not {"scheduler", "vae"} & set(parts):
        raise ModelError(f"model {name} must have every part of its pipeline, lacks scheduler and vae")
    return index, tuple(parts)


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        ModelNotFound: no such file.
        ModelCorrupt: it is no JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelNotFound(f"model file {file} is missing; copy or download the model anew") from error
    except (OSError, ValueError) as error:
        raise ModelCorrupt(f"model file {file} cannot be read ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise ModelCorrupt(f"model file {file} must hold a JSON object, got {type(content).__name__}")
    return content


def checked_weights(folder: Path, variant: str | None, *, allow_pickle: bool) -> list[Path]:
    """The weights a part will be loaded from, their headers and lengths found whole."""
    files = _weights(folder, variant) or _weights(folder, None)
    if not files:
        pickled = sorted(file for kind in _PICKLES for file in folder.glob(kind))
        if pickled and allow_pickle:
            return pickled
        if pickled:
            raise UnsafeModel(
                f"model part {folder} must hold .safetensors weights, has only pickled weights, which can run"
                " code; convert them, or allow_pickle=True to read their tensors and run nothing"
            )
        raise ModelError(f"model part {folder} must hold .safetensors weights, has none; copy it anew")
    for index in folder.glob("*.index.json"):
        absent = set(read_json(index).get("weight_map", {}).values()) - {file.name for file in files}
        plain = not is_variant(index.name) and index.name.startswith(("diffusion", "model.safetensors"))
        if absent and plain:
            raise ModelCorrupt(f"model file {folder / min(absent)} is named in {index.name} and missing")
    for file in files:
        check_header(file)
    return files


def check_header(file: Path) -> None:
    """Raises ModelCorrupt when a safetensors file is not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        with file.open("rb") as stream:
            pointer = stream.read(64).startswith(b"version https://git-lfs")
        remedy = "it is a git-lfs pointer; run git lfs pull" if pointer else "copy or download it anew"
        raise ModelCorrupt(f"model file {file} is not whole ({first_line(error)}); {remedy}") from error


def read_sizes(path: Path, parts: tuple[str, ...], pipeline: str) -> Sizes:
    """Default width and height, the smallest side (one pixel at the bottom of the denoiser), and the grain."""
    denoiser = next((read_json(path / part / "config.json") for part in _DENOISERS if part in parts), {})
    vae = read_json(path / "vae" / "config.json") if "vae" in parts else {}
    factor = _vae_factor(vae)
    latent = denoiser.get("sample_size") or (128 if "transformer" in parts else 64)
    rows, columns = latent if isinstance(latent, list) else (latent, latent)
    if "unet" in parts:
        depth = len(denoiser.get("block_out_channels", [0] * 4)) - 1
        return Sizes(int(columns) * factor, int(rows) * factor, max(8, factor * 2**depth), factor)
    # FLUX packs 2 x 2 latents into one token and calls its patch size 1.
    grain = factor * max(int(denoiser.get("patch_size") or 1), 2 if pipeline.startswith("Flux") else 1)
    known = bool(denoiser) and bool(vae)
    return Sizes(
        int(columns) * factor if known else None, int(rows) * factor if known else None, grain, grain
    )


def _vae_factor(vae: dict[str, Any]) -> int:
    widths = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or [0] * 4
    return int(2 ** (len(widths) - 1))


def _weights(folder: Path, variant: str | None) -> list[Path]:
    """The part's safetensors of a variant; None stands for the files without one."""
    files = folder.glob("*.safetensors")
    return [f for f in files if (not is_variant(f.name) if variant is None else f".{variant}." in f.name)]


def _own_defaults(path: Path) -> dict[str, Any]:
    file = path / "sdkit.json"
    own = read_json(file) if file.is_file() else {}
    try:
        if "guidance_scale" in own:
            own["guidance_scale"] = check_guidance(own["guidance_scale"])
        if "steps" in own:
            own["steps"] = check_range("steps", own["steps"], 1, MAX_STEPS)
    except InvalidRequest as error:
        raise ModelCorrupt(f"model file {file}: {error}") from error
    return {name: own[name] for name in ("guidance_scale", "steps") if name in own}
