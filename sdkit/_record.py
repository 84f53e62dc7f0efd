"""From a picture's file back to the request that made it, and the text that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdkit._checks import DTYPES, check_choice
from sdkit._doctor import sdkit_version
from sdkit._errors import InvalidRequest
from sdkit._infotext import Parameters, from_text, png_info, read_png
from sdkit._inputs import digest
from sdkit._request import Request, make_request
from sdkit._sampler_names import find_sampler
from sdkit._samplers import SCHEDULE_TITLES
from sdkit._spec import ModelSpec, make_spec

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

    from sdkit._result import Generation

_VERSION = 1
# Fields of a request that a record holds under the name of generate's argument.
_PLAIN = ("negative_prompt", "steps", "guidance_scale", "guidance_interval", "seed", "width", "height", "strength",
          "image_guidance_scale", "refiner_start")  # fmt: skip


def read(
    path: str | Path,
    *,
    model: str | Path | None = None,
    image: Any = None,
    mask: Any = None,
    control_image: Any = None,
    allow_pickle: bool = False,
    local_files_only: bool = False,
) -> Request:
    """The request that made a picture, from its PNG; `sdkit.replay` makes the same picture again.

    PNGs by the WebUI are understood too, as far as their text goes.

    Args:
        path: a PNG that `Generation.save` or the WebUI wrote.
        model: where the model lies now; None is where it lay.
        image: the picture that it was made from, where it was; a file holds only its digest. `mask` and
            `control_image` likewise.
        allow_pickle: as in `sdkit.generate`; a picture's file is never believed in this.
        local_files_only: never ask the hub, only its local cache.
    Raises:
        InvalidRequest: no PNG, none that says how it was made, or an input of it is not given.
    Example:
        >>> import pathlib, sdkit, tempfile
        >>> made = sdkit.generate("a red star", steps=4, seed=7, device="cpu")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     request = sdkit.read(*made.save(pathlib.Path(folder) / "star.png"))
        >>> request.prompts, request.steps, request.sampler.name
        (('a red star',), 4, 'dpmpp_2m_karras')
    """
    text, record = read_png(Path(path).expanduser())
    trust = {"allow_pickle": allow_pickle, "local_files_only": local_files_only}
    if record is not None:
        inputs = {"image": image, "mask": mask, "control_image": control_image}
        return _from_record(str(path), record, model, inputs, trust)
    if text is None:
        raise InvalidRequest(f"{path} must be a PNG that says how it was made, and has no such text")
    return _from_parameters(str(path), from_text(text), model, trust)


def png_text(made: Generation, index: int) -> PngInfo:
    """What a PNG of picture `index` carries: the WebUI's text, and our own record."""
    request = single(made.request, index)
    sampler = request.sampler
    assert sampler is not None
    solver = sampler if sampler.family == "own" else find_sampler(sampler.solver)
    extra = [] if request.strength is None else [("Denoising strength", f"{request.strength:g}")]
    if request.spec.quantise is not None:
        extra.append(("Quantise", request.spec.quantise))
    if request.guidance_interval is not None:
        extra.append(("Guidance interval", "{:g} to {:g}".format(*request.guidance_interval)))
    parameters = Parameters(
        prompt=request.prompts[0],
        negative_prompt=request.negative_prompt,
        steps=request.steps or 0,
        sampler=solver.title,
        schedule=SCHEDULE_TITLES[sampler.schedule],
        guidance_scale=1.0 if request.guidance_scale is None else request.guidance_scale,
        seed=request.seed,
        width=made.width,
        height=made.height,
        model=made.model.rsplit("/", 1)[-1],
        model_hash=made.model_fingerprint[:10],
        extra=(*extra, ("RNG", "CPU"), ("Version", f"sdkit {sdkit_version()}")),
    )
    return png_info(parameters, to_record(request))


def single(request: Request, index: int) -> Request:
    """The request of one of a request's images."""
    prompt = index // request.num_images

    def own(pictures: tuple[Image, ...]) -> tuple[Image, ...]:
        return pictures if len(pictures) < 2 else (pictures[prompt],)

    return replace(
        request,
        prompts=(request.prompts[prompt],),
        num_images=1,
        seed=request.seed + index,
        images=own(request.images),
        masks=own(request.masks),
        batch_size=1,
        trajectory=None,
    )


def to_record(request: Request) -> dict[str, object]:
    """A request for one image as plain values: the same request always gives the same record.

    A model is recorded as it was named, but for the home folder, which becomes "~". Pictures are recorded by
    digest, and options by value, where JSON has it.
    """
    record: dict[str, object] = {"version": _VERSION, "prompt": request.prompts[0]}
    record |= {name: getattr(request, name) for name in _PLAIN if getattr(request, name) is not None}
    if request.sampler is not None:
        record["sampler"] = request.sampler.name
    record |= {
        "model": _portable(request.spec.model),
        "dtype": request.dtype,
        "fingerprint": request.fingerprint,
    }
    spec = {k: v for k, v in request.spec.options().items() if k not in ("allow_pickle", "local_files_only")}
    if spec:
        record["on_top"] = _portable(spec)
    pictures = {"image": request.images, "mask": request.masks, "control_image": request.control_images}
    inputs = {name: [digest(picture) for picture in given] for name, given in pictures.items() if given}
    if inputs:
        record["inputs"] = inputs
    if request.control_images:
        record["control_scale"] = list(request.control_scales)
    if request.options:
        record["options"] = {name: value if _is_plain(value) else None for name, value in request.options}
        record["unrecorded"] = [name for name, value in request.options if not _is_plain(value)]
    return record


def _from_record(
    path: str, record: Mapping[str, Any], model: object, inputs: dict[str, Any], trust: dict[str, bool]
) -> Request:
    if record.get("version") != _VERSION:
        raise InvalidRequest(
            f"{path} holds a record of version {record.get('version')!r}, this sdkit reads {_VERSION}"
        )
    try:
        if record.get("unrecorded"):
            lost = ", ".join(map(str, record["unrecorded"]))
            raise InvalidRequest(f"{path} was made with options that a file cannot hold: {lost}")
        spec = _spec(record, model, trust)
        settings = {
            name: record[name] for name in (*_PLAIN, "sampler", "options", "control_scale") if name in record
        }
        if settings.get("sampler") == "own":
            del settings["sampler"]
        given = _check_inputs(path, record.get("inputs") or {}, inputs)
        request = make_request(record["prompt"], **settings, **given, batch_size=1, spec=spec)
        _check_digests(path, record.get("inputs") or {}, request)
        dtype, fingerprint = record.get("dtype"), record.get("fingerprint")
        if dtype is not None:
            check_choice("dtype", dtype, DTYPES)
        return replace(request, dtype=dtype, fingerprint=None if fingerprint is None else str(fingerprint))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(f"{path} holds a record that cannot be understood ({error})") from error


def _spec(record: Mapping[str, Any], model: object, trust: dict[str, bool]) -> ModelSpec:
    on_top = dict(record.get("on_top") or {})
    # Keys and values come from a file: make_spec takes no unknown name, and checks each.
    on_top.pop("allow_pickle", None)
    on_top.pop("local_files_only", None)
    if "controlnets" in on_top:
        on_top["controlnet"] = on_top.pop("controlnets")
    if "embeddings" in on_top:
        pairs = [tuple(pair) for pair in on_top["embeddings"]]
        named = {token: file for token, file in pairs if token}
        on_top["embeddings"] = named if len(named) == len(pairs) else [file for _, file in pairs]
    return make_spec(model if model is not None else record["model"], **on_top, **trust)  # type: ignore[arg-type]


def _check_inputs(path: str, recorded: Mapping[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    for name, picture in given.items():
        if name in recorded and picture is None:
            raise InvalidRequest(
                f"{path} was made from a picture that it does not hold; give read(..., {name}=)"
            )
        if name not in recorded and picture is not None:
            raise InvalidRequest(f"{path} was made without {name}; leave it out")
    return {name: picture for name, picture in given.items() if picture is not None}


def _check_digests(path: str, recorded: Mapping[str, Any], request: Request) -> None:
    found = {"image": request.images, "mask": request.masks, "control_image": request.control_images}
    for name, digests in recorded.items():
        if [digest(picture) for picture in found.get(name, ())] != digests:
            raise InvalidRequest(f"{name} must be the picture that {path} was made from, got another one")


def _from_parameters(path: str, parameters: Parameters, model: object, trust: dict[str, bool]) -> Request:
    if model is None:
        raise InvalidRequest(
            f"{path} was made by another tool with the model {parameters.model or 'that it does not name'}; give"
            " read(..., model=) the file or folder of it"
        )
    if any(name == "Denoising strength" for name, _ in parameters.extra):
        raise InvalidRequest(
            f"{path} was made from a picture, by another tool; it cannot be made again from its text"
        )
    return make_request(
        parameters.prompt,
        negative_prompt=parameters.negative_prompt,
        sampler=find_sampler(parameters.sampler, parameters.schedule or None),
        steps=parameters.steps,
        guidance_scale=parameters.guidance_scale,
        seed=parameters.seed,
        width=parameters.width,
        height=parameters.height,
        batch_size=1,
        spec=make_spec(model, **trust),  # type: ignore[arg-type]
    )


def _portable(value: Any) -> Any:
    """The value with the home folder in paths replaced by "~", which `expanduser` undoes."""
    if isinstance(value, dict):
        return {key: _portable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(each) for each in value]
    home = str(Path.home())
    if isinstance(value, str) and len(home) > 1 and value.startswith(home + "/"):
        return "~" + value[len(home) :]
    return value


def _is_plain(value: object) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False
