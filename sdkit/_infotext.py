"""What a PNG says of how it was made: text that other tools read, and our own record. No torch here.

The text is the WebUI's: the prompt, a line "Negative prompt: ...", and one last line of settings. It has no
escapes for prompts, so they are written into it with whitespace cut off at both ends, CRLF and CR as LF, NUL
and halves of surrogate pairs as U+FFFD, and "Negative prompt:" as "Negative prompt :", wherever it stands:
sd-parsers cuts there, and fails on a second one; CLIP reads the same tokens. What comes back unchanged:

    by the record                  every prompt that is Unicode
    by from_text and sd-parsers    every prompt that has none of the above
    by the WebUI                   of these, every one whose lines neither begin nor end with whitespace

sd-parsers tries JSON first: it fails on a prompt that begins with a thousand "[" or over 4,300 digits.

Source: the AUTOMATIC1111 WebUI v1.10, modules/processing.py (writes) and modules/infotext_utils.py (reads).
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdkit._errors import InvalidRequest, first_line

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

_TEXT_KEY = "parameters"
_RECORD_KEY = "sdkit"
_MAX_CHARACTERS = 4 * 2**20
_NEGATIVE = "Negative prompt:"
# The WebUI takes a last line with fewer settings for a part of the prompt.
_MIN_SETTINGS = 3
_OWN_KEYS = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model")

_KEY = re.compile(r"\w[\w /-]*[\w/-]")
_NO_KEY = re.compile(r"[^\w /-]+")
# What a pair of quotation marks holds, if a comma or the end follows; otherwise all up to the next comma.
_VALUE = re.compile(r'\s*("(?:[^\\"]|\\.)*+"(?=,|\Z)|[^,]*)')
_NEEDS_QUOTES = re.compile(r'^$|^[\s"]|[,:\x00-\x1f\x7f]|\s$')
# Readers such as sd-parsers cut the line at every comma, in quotation marks or not.
_LOOKS_LIKE_SETTING = re.compile(rf"(?:^|,)\s*(?:{'|'.join(_OWN_KEYS)}|ENSD)\s*:|Hashes:")
_NOT_UNICODE = re.compile("[\ud800-\udfff]")

_WHOLE = re.compile(r"[0-9]{1,9}")
_SEED = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,3})?")
_SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")


@dataclass(frozen=True)
class Parameters:
    """What the text says of one picture."""

    prompt: str
    negative_prompt: str
    """"" is none."""
    steps: int
    sampler: str
    """Its title in the WebUI; its older versions joined the schedule on: "DPM++ 2M Karras"."""
    schedule: str
    """The schedule's title in the WebUI; "" where the text names none."""
    guidance_scale: float
    seed: int
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    model: str
    """"" when unknown."""
    model_hash: str
    """"" when unknown."""
    extra: tuple[tuple[str, str], ...] = ()
    """Further settings in their order."""


def to_text(parameters: Parameters) -> str:
    """The text as the WebUI writes it; the prompts are changed as this module says.

    Raises:
        InvalidRequest: the guidance scale is not finite, the sampler has no title, or the name of a further
            setting is taken, or cannot be told from what stands around it.
    """
    if not math.isfinite(parameters.guidance_scale):
        raise InvalidRequest(f"guidance_scale must be finite, got {parameters.guidance_scale}")
    if not parameters.sampler.strip():
        raise InvalidRequest(f"sampler must be a title such as 'Euler a', got {parameters.sampler!r}")
    _check_names([name for name, _ in parameters.extra])
    settings = [
        ("Steps", str(parameters.steps)),
        ("Sampler", parameters.sampler),
        ("Schedule type", parameters.schedule),
        ("CFG scale", repr(float(parameters.guidance_scale)).removesuffix(".0")),
        ("Seed", str(parameters.seed)),
        ("Size", f"{parameters.width}x{parameters.height}"),
        ("Model hash", parameters.model_hash),
        ("Model", parameters.model),
    ]
    pairs = [*((name, value) for name, value in settings if value), *parameters.extra]
    negative = _as_written(parameters.negative_prompt)
    lines = [
        _as_written(parameters.prompt),
        f"{_NEGATIVE} {negative}" if negative else "",
        ", ".join(f"{name}: {_quoted(value)}" for name, value in pairs),
    ]
    return "\n".join(line for line in lines if line)


def from_text(text: str) -> Parameters:
    """What such a text says, by whichever tool it was written.

    Unlike the WebUI it leaves whitespace around the inner lines of a prompt. Of settings given twice the last
    one counts.

    Raises:
        InvalidRequest: the last line holds fewer than three settings, or not the steps, sampler, guidance
            scale, seed and size that are needed, or one that is no number.
    """
    if len(text) > _MAX_CHARACTERS:
        raise InvalidRequest(
            f"parameters text must have at most {_MAX_CHARACTERS} characters, got {len(text)}"
        )
    *lines, last = text.replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    pairs = _settings(last)
    if len(pairs) < _MIN_SETTINGS:
        raise InvalidRequest(
            "parameters text must end in a line such as 'Steps: 20, Sampler: Euler a, CFG scale: 7', got "
            f"{_shown(last)}"
        )
    settings = dict(pairs)
    prompt, negative_prompt = _prompts(lines)
    size = _matched(settings, "Size", _SIZE, "width x height in pixels such as 512x768")
    return Parameters(
        prompt=prompt,
        negative_prompt=negative_prompt,
        steps=int(_matched(settings, "Steps", _WHOLE, "a whole number")[0]),
        sampler=_needed(settings, "Sampler"),
        schedule=settings.get("Schedule type", ""),
        guidance_scale=_finite(_matched(settings, "CFG scale", _NUMBER, "a number")[0]),
        seed=int(_matched(settings, "Seed", _SEED, "a whole number")[0]),
        width=int(size[1]),
        height=int(size[2]),
        model=settings.get("Model", ""),
        model_hash=settings.get("Model hash", ""),
        extra=tuple((name, value) for name, value in settings.items() if name not in _OWN_KEYS),
    )


def png_info(parameters: Parameters, record: Mapping[str, object]) -> PngInfo:
    """Two text chunks for a PNG: "parameters" for other tools, "sdkit" with our record as JSON.

    The same values give the same bytes.

    Args:
        record: whatever JSON has; no NaN or infinity.
    Raises:
        InvalidRequest: a value that `to_text` or JSON cannot hold, or more than `read_png` takes back.
    """
    from PIL.PngImagePlugin import PngInfo

    try:
        as_json = json.dumps(
            dict(record), sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":")
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"record must hold what JSON has, and does not ({first_line(error)})") from error
    chunks = PngInfo()
    for key, text in ((_TEXT_KEY, to_text(parameters)), (_RECORD_KEY, as_json)):
        if len(text) > _MAX_CHARACTERS:
            raise InvalidRequest(f"{key} must have at most {_MAX_CHARACTERS} characters, got {len(text)}")
        # Latin-1 goes into tEXt, all else into iTXt as UTF-8, as in the WebUI's own files.
        chunks.add_text(key, text)
    return chunks


def read_png(path: Path) -> tuple[str | None, dict[str, object] | None]:
    """The text for other tools and our record, each None where the file has none.

    Args:
        path: a PNG; every checksum of it is checked. Nothing in it is trusted, and the values in the record
            may be anything that JSON has.
    Raises:
        InvalidRequest: no file, no PNG, a damaged one, more than 4 Mi characters in one of the two, or a
            record that is no JSON object.
    """
    texts = _read_texts(path)
    for key, text in texts.items():
        if len(text) > _MAX_CHARACTERS:
            raise InvalidRequest(
                f"{path} must hold at most {_MAX_CHARACTERS} characters of {key}, got {len(text)}"
            )
    record = texts.get(_RECORD_KEY)
    return texts.get(_TEXT_KEY), None if record is None else _parse_record(path, record)


def _read_texts(path: Path) -> dict[str, str]:
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise InvalidRequest(
            f"{path} must be a PNG, and {'is no file' if path.exists() else 'does not exist'}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG",)) as image:
                texts = _ours(image.info)
                if not image.tile:
                    raise OSError("no pixels")
                if texts:
                    image.verify()
                    return texts
                # Some tools write text behind the pixels: only decoding them all comes by it.
                return _ours(image.text)  # type: ignore[attr-defined]
    except UnidentifiedImageError as error:
        raise InvalidRequest(f"{path} must be a PNG, and is another thing or damaged") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise InvalidRequest(
            f"{path} must be a PNG, and cannot be read as one ({first_line(error)})"
        ) from error


def _ours(texts: Mapping[Any, object]) -> dict[str, str]:
    return {key: str(texts[key]) for key in (_TEXT_KEY, _RECORD_KEY) if isinstance(texts.get(key), str)}


def _parse_record(path: Path, text: str) -> dict[str, object]:
    try:
        record = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} must hold a record in JSON, got none ({first_line(error)})") from error
    if not isinstance(record, dict):
        raise InvalidRequest(f"{path} must hold a record that is a JSON object, got {_shown(text)}")
    return record


def _as_written(prompt: str) -> str:
    text = prompt.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    return _NOT_UNICODE.sub("\ufffd", text).replace(_NEGATIVE, f"{_NEGATIVE[:-1]} :").strip()


def _quoted(value: str) -> str:
    """The value as it stands in the line of settings: in JSON's quotation marks where it needs them."""
    text = _NOT_UNICODE.sub("\ufffd", value)
    if not _NEEDS_QUOTES.search(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    if _LOOKS_LIKE_SETTING.search(text):
        quoted = quoted.replace(",", r"\u002c").replace(":", r"\u003a")
    return quoted


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return _NOT_UNICODE.sub("\ufffd", json.loads(value))
    except ValueError:
        return value


def _settings(line: str) -> list[tuple[str, str]]:
    """All `name: value` of a line, in time linear in its length; what is neither is passed over."""
    pairs, start = [], 0
    while (colon := line.find(":", start)) >= 0:
        name = _NO_KEY.split(line[start:colon])[-1].lstrip(" -/")
        start = colon + 1
        # A single letter is no name to the WebUI.
        if len(name) > 1 and (value := _VALUE.match(line, start)):
            start = value.end() + 1
            # Nor is a name without a value a setting.
            if value[1].strip():
                pairs.append((name.rstrip(), _unquoted(value[1].strip())))
    return pairs


def _prompts(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt; a second line "Negative prompt:" goes on with the negative one."""
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for line in lines:
        if line.lstrip().startswith(_NEGATIVE):
            current = negative
            current.append(line.lstrip().removeprefix(_NEGATIVE).lstrip())
        else:
            current.append(line)
    return "\n".join(prompt).strip(), "\n".join(negative).strip()


def _check_names(names: list[str]) -> None:
    for index, name in enumerate(names):
        if not _KEY.fullmatch(name):
            allowed = "two or more letters, digits, spaces, _, - or / with no space around them"
            raise InvalidRequest(f"extra must have names of {allowed}, got {name!r}")
        if name in _OWN_KEYS or name in names[:index]:
            raise InvalidRequest(f"extra must not set {name} a second time; leave it out")


def _needed(settings: Mapping[str, str], name: str) -> str:
    value = settings.get(name)
    if not value:
        raise InvalidRequest(f"parameters text must hold {name}, got only {_shown(', '.join(settings))}")
    return value


def _matched(settings: Mapping[str, str], name: str, pattern: re.Pattern[str], kind: str) -> re.Match[str]:
    value = _needed(settings, name)
    match = pattern.fullmatch(value)
    if match is None:
        raise InvalidRequest(f"{name} must be {kind}, got {_shown(value)}")
    return match


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidRequest(f"numbers must be finite, got {_shown(text)}")
    return number


def _shown(text: str, characters: int = 60) -> str:
    """The text on one line, for an error, and not all of it when it is long."""
    return repr(text if len(text) <= characters else f"{text[:characters]}...")
