"""Which model is meant, with all that is put on top of it. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypedDict

from sdkit._checks import check_choice, check_flag, check_number, check_source
from sdkit._errors import InvalidRequest

BUNDLED = "shapes"
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
QUANTISATIONS = ("fp8",)
MAX_LORA_WEIGHT = 10.0


@dataclass(frozen=True)
class Lora:
    """A LoRA and how strongly it acts.

    Example:
        >>> from sdkit import Lora
        >>> Lora("styles/ink.safetensors", 0.8).weight
        0.8
    """

    source: str
    """A `.safetensors` file, a folder that holds one, or a hub id."""
    weight: float = 1.0
    """-10..10; 1 as it was trained, 0 without effect, below 0 the other way."""


class ModelOptions(TypedDict, total=False):
    """What `sdkit.Session` takes beside the model; `sdkit.generate` documents each."""

    revision: str | None
    config: str | Path | None
    prediction_type: str | None
    vae: str | Path | None
    loras: Iterable[str | Path | Lora | tuple[str | Path, float]]
    embeddings: Mapping[str, str | Path] | Iterable[str | Path]
    controlnet: str | Path | Iterable[str | Path] | None
    refiner: str | Path | None
    quantise: str | None
    allow_pickle: bool
    local_files_only: bool


@dataclass(frozen=True)
class ModelSpec:
    """A model by name, and what is loaded on top of it; equal specs are the same model."""

    model: str = BUNDLED
    revision: str | None = None
    """A branch, tag or commit of the hub's repository."""
    config: str | None = None
    """A diffusers folder that tells what a single file is made of."""
    prediction_type: str | None = None
    """Overrules what the model's scheduler file says, or what was detected."""
    vae: str | None = None
    loras: tuple[Lora, ...] = ()
    embeddings: tuple[tuple[str, str], ...] = ()
    """Token and file of each textual inversion; token "" is the one that the file names."""
    controlnets: tuple[str, ...] = ()
    refiner: str | None = None
    quantise: str | None = None
    """What the denoiser's large linear layers are turned to: "fp8", or None."""
    allow_pickle: bool = False
    local_files_only: bool = False

    def options(self) -> dict[str, object]:
        """The fields that differ from the default, but for the model; plain values, for a record."""
        plain: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "model" and value != field.default:
                plain[field.name] = value
        if self.loras:
            plain["loras"] = [[lora.source, lora.weight] for lora in self.loras]
        return plain


def make_spec(
    model: str | Path | None = None,
    *,
    revision: str | None = None,
    config: str | Path | None = None,
    prediction_type: str | None = None,
    vae: str | Path | None = None,
    loras: Iterable[str | Path | Lora | tuple[str | Path, float]] = (),
    embeddings: Mapping[str, str | Path] | Iterable[str | Path] = (),
    controlnet: str | Path | Iterable[str | Path] | None = None,
    refiner: str | Path | None = None,
    quantise: str | None = None,
    allow_pickle: bool = False,
    local_files_only: bool = False,
) -> ModelSpec:
    """The checked spec.

    Raises:
        InvalidRequest: a value is of the wrong kind; what lies behind a name is looked up later.
    """
    if model is not None and (not isinstance(model, (str, Path)) or not str(model).strip()):
        raise InvalidRequest(f"model must be None, a folder, a file or a hub id, got {model!r}")
    if prediction_type is not None:
        check_choice("prediction_type", prediction_type, PREDICTION_TYPES)
    if quantise is not None:
        check_choice("quantise", quantise, QUANTISATIONS)
    if revision is not None and (not isinstance(revision, str) or not revision.strip()):
        raise InvalidRequest(f"revision must be a branch, tag or commit, got {revision!r}")
    return ModelSpec(
        model=BUNDLED if model is None else str(model),
        revision=revision,
        config=None if config is None else check_source("config", config),
        prediction_type=prediction_type,
        vae=None if vae is None else check_source("vae", vae),
        loras=_check_loras(loras),
        embeddings=_check_embeddings(embeddings),
        controlnets=_check_controlnets(controlnet),
        refiner=None if refiner is None else check_source("refiner", refiner),
        quantise=quantise,
        allow_pickle=check_flag("allow_pickle", allow_pickle),
        local_files_only=check_flag("local_files_only", local_files_only),
    )


def _check_loras(loras: object) -> tuple[Lora, ...]:
    if isinstance(loras, (str, Path, Lora)) or not isinstance(loras, Iterable):
        raise InvalidRequest(f"loras must be a list of files, or of (file, weight), got {loras!r}")
    return tuple(_check_lora(f"loras[{i}]", given) for i, given in enumerate(loras))


def _check_lora(name: str, given: object) -> Lora:
    source: object
    weight: object
    if isinstance(given, Lora):
        source, weight = given.source, given.weight
    elif isinstance(given, (tuple, list)) and len(given) == 2:
        source, weight = given
    elif isinstance(given, (str, Path)):
        source, weight = given, 1.0
    else:
        raise InvalidRequest(f"{name} must be a file, or (file, weight), got {given!r}")
    number = check_number(f"{name}: weight", weight, -MAX_LORA_WEIGHT, MAX_LORA_WEIGHT)
    return Lora(check_source(name, source), number)


def _check_embeddings(embeddings: object) -> tuple[tuple[str, str], ...]:
    if isinstance(embeddings, Mapping):
        for token in embeddings:
            if not isinstance(token, str) or not token or any(letter.isspace() for letter in token):
                raise InvalidRequest(f"embeddings must map tokens without spaces to files, got {token!r}")
        return tuple((t, check_source(f"embeddings[{t!r}]", file)) for t, file in embeddings.items())
    if isinstance(embeddings, (str, Path)) or not isinstance(embeddings, Iterable):
        raise InvalidRequest(
            f"embeddings must map tokens to files, or be a list of files, got {embeddings!r}"
        )
    return tuple(("", check_source(f"embeddings[{i}]", file)) for i, file in enumerate(embeddings))


def _check_controlnets(controlnet: object) -> tuple[str, ...]:
    if controlnet is None:
        return ()
    if isinstance(controlnet, (str, Path)) or not isinstance(controlnet, Iterable):
        return (check_source("controlnet", controlnet),)
    return tuple(check_source(f"controlnet[{i}]", source) for i, source in enumerate(controlnet))
