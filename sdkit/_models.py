"""What a model may be called, and which files that means: bundled, folder, hub id, single file. No torch here."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from sdkit._errors import InvalidRequest, ModelError, ModelNotFound
from sdkit._folders import Folder, check_header, checked_weights, read_folder, read_json
from sdkit._hub import HUB_ID, fetch_file, fetch_part, fetch_snapshot
from sdkit._known import Defaults, defaults, family
from sdkit._single_file import Detected, detect, layout_folder, pipeline_of
from sdkit._spec import BUNDLED, ModelSpec

_SINGLE_FILES = (".safetensors", ".ckpt", ".pt", ".bin")
_LORA_FILE = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """One model on disk, checked as far as that needs no weights."""

    name: str
    folder: Folder
    """The model's own, or for a single file the one that tells what it is made of."""
    single: Path | None = None
    detected: Detected | None = None
    """What the single file was taken for."""

    @property
    def pipeline(self) -> str:
        """Class name in diffusers."""
        return (
            self.folder.pipeline
            if self.detected is None
            else pipeline_of(self.detected, self.folder.pipeline)
        )

    @property
    def family(self) -> str:
        """ "diffusion", "flow", or "own": which samplers fit."""
        return family(self.folder.scheduler)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits over the names and contents of the files; where they lie does not count."""
        whole = hashlib.sha256()
        if self.single is not None:
            whole.update(f"{_file_digest(self.single)}\n".encode())
            settings = [file for file in self.folder.files if file.suffix != ".safetensors"]
        else:
            settings = list(self.folder.files)
        for file in settings:
            whole.update(f"{file.relative_to(self.folder.path).as_posix()}\0{_file_digest(file)}\n".encode())
        return whole.hexdigest()[:16]


@dataclass(frozen=True)
class PartFiles:
    """A VAE or a ControlNet on disk: a folder with its config, or a VAE's single file."""

    name: str
    path: Path
    files: tuple[Path, ...]
    class_name: str
    """In diffusers; "" for a single file."""
    variant: str | None = None


@dataclass(frozen=True)
class Resolved:
    """All files that a spec stands for."""

    spec: ModelSpec
    base: ModelFiles
    refiner: ModelFiles | None
    vae: PartFiles | None
    loras: tuple[Path, ...]
    embeddings: tuple[Path, ...]
    controlnets: tuple[PartFiles, ...]

    @property
    def defaults(self) -> Defaults:
        """Sampler, steps and guidance where a request names none."""
        folder = self.base.folder
        names = [self.base.name, *(lora.source for lora in self.spec.loras)]
        found = defaults(self.base.pipeline, folder.scheduler, names)
        own = folder.own_defaults if self.base.single is None else {}
        return Defaults(
            found.sampler, own.get("steps", found.steps), own.get("guidance_scale", found.guidance_scale)
        )

    @cached_property
    def fingerprint(self) -> str:
        """Of everything together; the base model's own where nothing stands on top of it."""
        loras = zip(self.loras, self.spec.loras, strict=True)
        embeddings = zip(self.embeddings, self.spec.embeddings, strict=True)
        extra = [
            *(f"lora {_file_digest(file)} {lora.weight!r}" for file, lora in loras),
            *(f"embedding {token} {_file_digest(file)}" for file, (token, _) in embeddings),
            *(f"{kind} {_file_digest(file)}" for kind, part in self._parts for file in part.files),
        ]
        if self.refiner is not None:
            extra.append(f"refiner {self.refiner.fingerprint}")
        if self.spec.prediction_type is not None:
            extra.append(f"prediction_type {self.spec.prediction_type}")
        if self.spec.quantise is not None:
            extra.append(f"quantise {self.spec.quantise}")
        if not extra:
            return self.base.fingerprint
        return hashlib.sha256("\n".join([self.base.fingerprint, *extra]).encode()).hexdigest()[:16]

    @property
    def _parts(self) -> list[tuple[str, PartFiles]]:
        vae = [] if self.vae is None else [("vae", self.vae)]
        return [*vae, *(("controlnet", part) for part in self.controlnets)]


def resolve(spec: ModelSpec) -> Resolved:
    """The checked files of a spec; what has a hub id is downloaded if it is not in the local cache.

    Raises:
        ModelNotFound: nothing there.
        ModelCorrupt: a file that cannot be read.
        UnsafeModel: pickles or code, which are not run.
        HubUnreachable: a hub id that is not cached, and no hub.
        ModelError: a kind of model that does not belong there.
    """
    base = _resolve_model("model", spec.model, spec)
    if spec.config is not None and base.single is None:
        raise InvalidRequest(
            f"config must come with a single file, got config={spec.config!r} for {base.name}"
        )
    return Resolved(
        spec=spec,
        base=base,
        refiner=None if spec.refiner is None else _resolve_model("refiner", spec.refiner, spec),
        vae=None if spec.vae is None else _resolve_part("vae", spec.vae, spec),
        loras=tuple(_resolve_file("loras", lora.source, spec) for lora in spec.loras),
        embeddings=tuple(_resolve_file("embeddings", file, spec) for _, file in spec.embeddings),
        controlnets=tuple(_resolve_part("controlnet", source, spec) for source in spec.controlnets),
    )


def _resolve_model(argument: str, source: str, spec: ModelSpec) -> ModelFiles:
    if source == BUNDLED:
        return _bundled()
    path = Path(source).expanduser()
    if path.is_dir():
        return ModelFiles(
            path.resolve().name, read_folder(path, path.resolve().name, allow_pickle=spec.allow_pickle)
        )
    if path.suffix in _SINGLE_FILES:
        return _single(_resolve_file(argument, source, spec), spec)
    if HUB_ID.fullmatch(source):
        revision = spec.revision if argument == "model" else None
        local = fetch_snapshot(source, revision=revision, local_files_only=spec.local_files_only)
        return ModelFiles(source, read_folder(local, source))
    raise ModelNotFound(
        f'{argument} must be "{BUNDLED}", a diffusers folder, a .safetensors file or a hub id owner/name,'
        f" got {source!r}"
    )


def _bundled() -> ModelFiles:
    path = Path(__file__).parent / "shapes" / "weights" / "pipeline"
    if not path.is_dir():
        raise ModelNotFound(f"the bundled model must lie in {path}, and does not; reinstall sdkit-t2i")
    return ModelFiles(BUNDLED, read_folder(path, BUNDLED))


def _single(file: Path, spec: ModelSpec) -> ModelFiles:
    detected = detect(file, allow_pickle=spec.allow_pickle).overruled(spec.prediction_type)
    shipped = spec.config is None
    config = layout_folder(detected) if shipped else _config_folder(str(spec.config))
    folder = read_folder(config, file.stem, weights=False)
    side = detected.default_px
    if shipped and side is not None:
        folder = replace(folder, sizes=replace(folder.sizes, width=side, height=side))
    return ModelFiles(file.stem, folder, file, detected)


def _config_folder(config: str) -> Path:
    if config == BUNDLED:
        return _bundled().folder.path
    path = Path(config).expanduser()
    if not path.is_dir():
        raise ModelNotFound(f"config must be a diffusers folder, got {config!r}, which is none")
    return path


def _resolve_part(argument: str, source: str, spec: ModelSpec) -> PartFiles:
    path = Path(source).expanduser()
    if path.is_file() or (path.suffix in _SINGLE_FILES and not HUB_ID.fullmatch(source)):
        file = _resolve_file(argument, source, spec)
        if argument != "vae":
            raise ModelError(f"{argument} must be a diffusers folder or a hub id, got the file {source}")
        if file.suffix == ".safetensors":
            check_header(file)
        return PartFiles(file.stem, file, (file,), "")
    if path.is_dir():
        folder = path / "vae" if argument == "vae" and (path / "vae").is_dir() else path
    elif HUB_ID.fullmatch(source):
        folder = fetch_part(source, local_files_only=spec.local_files_only)
    else:
        raise ModelNotFound(f"{argument} must be a folder or a hub id owner/name, got {source!r}")
    if not (folder / "config.json").is_file():
        raise ModelNotFound(f"{argument} folder {folder} must hold config.json, as save_pretrained writes it")
    kind = str(read_json(folder / "config.json").get("_class_name", ""))
    wanted = "Autoencoder" if argument == "vae" else "ControlNet"
    if wanted not in kind:
        raise ModelError(
            f"{argument} must be of a kind {wanted}..., got {source}, which is {kind or 'of no kind'}"
        )
    weights = checked_weights(folder, None, allow_pickle=spec.allow_pickle)
    plain = any(not re.search(r"\.fp16\.", file.name) for file in weights)
    return PartFiles(
        source, folder, (folder / "config.json", *sorted(weights)), kind, None if plain else "fp16"
    )


def _resolve_file(argument: str, source: str, spec: ModelSpec) -> Path:
    """A file by path, the one in a folder, or one of a hub's repository: owner/name or owner/name/file."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        found = _split_hub(source)
        if found is None or (path.suffix in _SINGLE_FILES and not found[1]):
            raise ModelNotFound(f"{argument} file {source} does not exist")
        repository, inner = found
        if inner:
            return fetch_file(repository, inner, local_files_only=spec.local_files_only)
        path = fetch_part(repository, local_files_only=spec.local_files_only)
    files = sorted(path.glob("*.safetensors"))
    if (path / _LORA_FILE) in files:
        return path / _LORA_FILE
    if len(files) != 1:
        raise ModelNotFound(
            f"{argument} folder {source} must hold one .safetensors file, has {len(files)}; name the file"
        )
    return files[0]


def _split_hub(source: str) -> tuple[str, str] | None:
    """Repository and file of "owner/name" or "owner/name/some/file"; None when it is neither."""
    pieces = source.split("/", 2)
    if len(pieces) < 2 or not HUB_ID.fullmatch("/".join(pieces[:2])):
        return None
    return "/".join(pieces[:2]), pieces[2] if len(pieces) == 3 else ""


def _file_digest(file: Path) -> str:
    """SHA-256 of the contents; the hub's cache names large files by it, which saves reading gigabytes."""
    blob = file.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
