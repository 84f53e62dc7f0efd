"""What can be written on the command line: every option with its help, and how its text becomes a value.

What a value must be is checked where it is used: by `sdkit.generate`, for all callers alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sdkit._checks import DTYPES, MAX_GUIDANCE, MEMORY
from sdkit._compile import NAMES
from sdkit._errors import InvalidRequest
from sdkit._samplers import MAX_STEPS, SCHEDULE_TITLES, samplers
from sdkit._spec import PREDICTION_TYPES, QUANTISATIONS, Lora

_WEIGHT_FILES = (".safetensors", ".ckpt", ".pt", ".bin")


def complete_sampler(incomplete: str) -> list[tuple[str, str]]:
    """Sampler names that begin so, with titles; where none does, names with a schedule, then aliases."""
    listed = [(s.name, s.title) for s in samplers()]
    joined = [
        (f"{s.solver}_{name}", f"{s.title} {SCHEDULE_TITLES[name]}")
        for s in samplers()
        for name in s.schedules
        if name != "default"
    ]
    aliases = [(alias, s.title) for s in samplers() for alias in s.aliases]
    for names in (listed, joined, aliases):
        found = [(name, title) for name, title in names if name.startswith(incomplete)]
        if found:
            return found
    return []


def _one_of(names: Sequence[str]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def _model(flag: str, metavar: str | None, words: str, names: Sequence[str] = ()) -> Any:
    return _option(flag, metavar, words, "The model", names)


def _picture(flag: str, metavar: str, words: str, names: Sequence[str] = ()) -> Any:
    return _option(flag, metavar, words, "The picture", names)


def _start(flag: str, metavar: str, words: str) -> Any:
    return _option(flag, metavar, words, "What it starts from")


def _running(flag: str, metavar: str, words: str, names: Sequence[str] = ()) -> Any:
    return _option(flag, metavar, words, "How it runs", names)


def _option(flag: str, metavar: str | None, words: str, panel: str, names: Sequence[str] = ()) -> Any:
    complete = _one_of(names) if names else None
    return typer.Option(flag, metavar=metavar, help=words, rich_help_panel=panel, autocompletion=complete)


Prompts = Annotated[list[str], typer.Argument(metavar="PROMPT", help="One or several, each in quotes.")]
Out = Annotated[
    str, typer.Option("-o", "--out", metavar="FILE", help="Several pictures become FILE-0000.png ...")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]

Model = Annotated[
    str | None, _model("--model", "MODEL", "Folder, file or hub id; `sdkit models` lists some.")
]
Revision = Annotated[str | None, _model("--revision", "NAME", "Branch, tag or commit on the hub.")]
Config = Annotated[str | None, _model("--config", "FOLDER", "Tells what a single file is made of.")]
PredictionType = Annotated[
    str | None,
    _model("--prediction-type", "TYPE", f"{', '.join(PREDICTION_TYPES)}: overrules.", PREDICTION_TYPES),
]
Vae = Annotated[str | None, _model("--vae", "MODEL", "Another VAE: folder, file or hub id.")]
Loras = Annotated[
    list[str] | None, _model("--lora", "FILE[:WEIGHT]", "Folder, file or hub id; can be repeated.")
]
Embeddings = Annotated[
    list[str] | None, _model("--embedding", "[TOKEN=]FILE", "Textual inversion; can be repeated.")
]
Controlnets = Annotated[
    list[str] | None, _model("--controlnet", "MODEL", "Folder or hub id; can be repeated.")
]
Refiner = Annotated[
    str | None, _model("--refiner", "MODEL", "An SDXL refiner, for the last part of the way.")
]
Quantise = Annotated[
    str | None,
    _model("--quantise", "NAME", f"{', '.join(QUANTISATIONS)}: faster, other pictures.", QUANTISATIONS),
]
AllowPickle = Annotated[
    bool, _model("--allow-pickle", None, "Read .ckpt, .pt and .bin too, without running their code.")
]
LocalFilesOnly = Annotated[
    bool, _model("--local-files-only", None, "Never ask the hub, only its local cache.")
]

Negative = Annotated[str | None, _picture("--negative", "PROMPT", "What to steer away from.")]
SamplerName = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        metavar="NAME",
        help="`sdkit samplers` lists them; left out: the model's own.",
        rich_help_panel="The picture",
        autocompletion=complete_sampler,
    ),
]
Schedule = Annotated[
    str | None,
    _picture("--schedule", "NAME", f"Noise levels: {', '.join(SCHEDULE_TITLES)}.", tuple(SCHEDULE_TITLES)),
]
Steps = Annotated[int | None, _picture("--steps", "N", f"1..{MAX_STEPS}; left out: the model's own.")]
Guidance = Annotated[
    float | None, _picture("--guidance", "G", f"1..{MAX_GUIDANCE:g}, 1 is off; left out: the model's own.")
]
GuidanceInterval = Annotated[
    tuple[float, float] | None,
    _picture("--guidance-interval", "LOW HIGH", "Noise levels, as sigmas, at which guidance is applied."),
]
Seed = Annotated[int | None, _picture("--seed", "N", "Of the first picture; left out: drawn, and printed.")]
NumImages = Annotated[int, _picture("--num-images", "N", "Pictures of each prompt.")]
Width = Annotated[int | None, _picture("--width", "PX", "A multiple of 8; left out: the model's own.")]
Height = Annotated[int | None, _picture("--height", "PX", "Likewise.")]
RefinerStart = Annotated[
    float, _picture("--refiner-start", "SHARE", "Where the refiner takes over, 0..1 of the noise schedule.")
]
Options = Annotated[
    list[str] | None,
    _picture("--option", "NAME=JSON", "Further argument of the diffusers pipeline; can be repeated."),
]
Trajectory = Annotated[
    int | None, _picture("--trajectory", "K", "Also write K stages of each picture, as FILE-filmstrip.png.")
]

Images = Annotated[list[str] | None, _start("--image", "FILE", "A picture to redraw; one, or one a prompt.")]
Strength = Annotated[float | None, _start("--strength", "SHARE", "How much of --image is drawn anew, 0..1.")]
Masks = Annotated[list[str] | None, _start("--mask", "FILE", "White where --image is drawn anew.")]
ImageGuidance = Annotated[
    float | None, _start("--image-guidance", "G", "InstructPix2Pix: how closely --image is kept, 1..50.")
]
ControlImages = Annotated[
    list[str] | None, _start("--control-image", "FILE", "What a ControlNet reads; one for each.")
]
ControlScales = Annotated[
    list[float] | None,
    _start("--control-scale", "S", "How strongly it is followed, 0..10; one for all or each."),
]

BatchSize = Annotated[int, _running("--batch-size", "N", "Pictures made at once.")]
Device = Annotated[
    str | None,
    _running("--device", "NAME", "cpu, cuda, cuda:1, mps; left out: a GPU.", ("cpu", "cuda", "mps")),
]
Dtype = Annotated[
    str | None, _running("--dtype", "NAME", f"{', '.join(DTYPES)}; left out: what suits the device.", DTYPES)
]
Memory = Annotated[
    str,
    _running("--memory", "MODE", "low moves weights to the device in turn; high keeps them there.", MEMORY),
]
Compile = Annotated[
    str | None,
    _running("--compile", "MODE", f"{', '.join(NAMES)}: pays where many pictures are made.", NAMES),
]


def one_or_all(values: Sequence[Any] | None) -> Any:
    """None, the value itself where it is the only one, or all: what an argument takes that may be a list."""
    if not values:
        return None
    return values[0] if len(values) == 1 else list(values)


def read_lora(text: str) -> Lora:
    """The LoRA of "FILE" or "FILE:WEIGHT"; colons in paths, such as a drive letter's, stay part of the file.

    Raises:
        InvalidRequest: what follows a weights file's name is no number.
    """
    head, colon, tail = text.rpartition(":")
    # "C:0.5" is a file of drive C.
    if not colon or len(head) < 2 or Path(text).expanduser().exists():
        return Lora(text)
    try:
        return Lora(head, float(tail))
    except ValueError as error:
        if head.lower().endswith(_WEIGHT_FILES):
            raise InvalidRequest(f"--lora must be FILE or FILE:WEIGHT, got {text!r}") from error
    return Lora(text)


def read_embeddings(texts: Sequence[str]) -> dict[str, str] | list[str]:
    """Files by token, or files alone, of several "TOKEN=FILE" or "FILE".

    Raises:
        InvalidRequest: some name a token and some do not, or two name the same.
    """
    pairs = [_token_and_file(text) for text in texts]
    named = {token: file for token, file in pairs if token}
    if not named:
        return [file for _, file in pairs]
    if len(named) != len(pairs):
        raise InvalidRequest(
            f"--embedding must name a token for each file or for none, and each once, got {', '.join(texts)}"
        )
    return named


def read_options(texts: Sequence[str]) -> dict[str, object] | None:
    """Values by name, of several "NAME=JSON"; None for none.

    Raises:
        InvalidRequest: no "=", or what follows is no JSON.
    """
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            if not (name and equals):
                raise ValueError
            found[name] = json.loads(value)
        except ValueError as error:
            raise InvalidRequest(
                f"--option must be NAME=JSON such as clip_skip=2 or name='\"text\"', got {text!r}"
            ) from error
    return found or None


def _token_and_file(text: str) -> tuple[str, str]:
    token, equals, file = text.partition("=")
    # A folder's name may hold "=" too; a token holds no slash.
    if not equals or "/" in token or "\\" in token or Path(text).expanduser().exists():
        return "", text
    return token, file
