"""Prompts, settings and PNGs that the tests of the WebUI's text share."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image
from sd_parsers import ParserManager
from sd_parsers.data import PromptInfo

from sdkit import InvalidRequest
from sdkit._infotext import Parameters, png_info, read_png

STAR = Parameters(
    prompt="a red star, on grey",
    negative_prompt="blurry",
    steps=20,
    sampler="DPM++ 2M",
    schedule="Karras",
    guidance_scale=7.5,
    seed=18446744073709551615,
    width=512,
    height=768,
    model="sd_xl_base_1.0",
    model_hash="31e35c80fc",
    extra=(("Denoising strength", "0.6"), ("RNG", "CPU"), ("Version", "sdkit 0.1.0")),
)
LAST_LINE = (
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 18446744073709551615,"
    " Size: 512x768, Model hash: 31e35c80fc, Model: sd_xl_base_1.0, Denoising strength: 0.6, RNG: CPU,"
    " Version: sdkit 0.1.0"
)
HOSTILE_LINE = "Steps: 5, Sampler: Heun, CFG scale: 1, Seed: 3, Size: 8x8"

PIECES = (
    *(
        "(a:1.2)",
        "[b|c]",
        "((d))",
        r"\(e\)",
        "<lora:x:1>",
        "BREAK",
        "f:g",
        '"h"',
        "'",
        "\\",
        "{i}",
        ", ",
        ",",
        ":",
    ),
    *("\n", "\n\n", "\t", " ", "\x1f", "\x85", "\u2028", "\u00a0", "\ufeff", "星の絵", "é", "👩\u200d🚀"),
    *("Steps: 5", "Seed: 3, ", f"\n{HOSTILE_LINE}\n", "negative prompt:", 'Hashes: {"j"}'),
)
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")
# What the format has room for: all of Unicode but NUL, CR, halves of surrogate pairs and its own label.
ORDINARY = (
    st.lists(st.sampled_from(PIECES) | LETTERS, max_size=12)
    .map("".join)
    .filter(lambda text: "Negative prompt:" not in text)
)
UNICODE = st.characters(exclude_categories=["Cs"])
UNHOLDABLE = ("Negative prompt:", "\0", "\r", "\r\n")
ANY = st.lists(st.sampled_from((*PIECES, *UNHOLDABLE)) | UNICODE, max_size=12).map("".join)
VALUE = st.lists(st.sampled_from(PIECES) | UNICODE, max_size=6).map("".join)
PARAMETERS = st.builds(
    Parameters,
    prompt=ORDINARY.map(str.strip),
    negative_prompt=ORDINARY.map(str.strip),
    steps=st.integers(1, 1000),
    sampler=st.sampled_from(["Euler a", "DPM++ 2M", "DPM++ 2M Karras", "PLMS"]),
    schedule=st.sampled_from(["", "Karras", "Automatic"]),
    guidance_scale=st.floats(allow_nan=False, allow_infinity=False),
    seed=st.integers(0, 2**64 - 1),
    width=st.integers(8, 4096),
    height=st.integers(8, 4096),
    model=VALUE,
    model_hash=st.sampled_from(["", "31e35c80fc"]),
    extra=VALUE.map(lambda value: (("Lora hashes", value), ("Version", "sdkit 0.1.0"))),
)
quick = settings(derandomize=True, deadline=None, max_examples=200, database=None)


def png(parameters: Parameters, record: dict[str, object] | None = None) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "PNG", pnginfo=png_info(parameters, record or {}))
    return buffer.getvalue()


def parsed(parameters: Parameters) -> PromptInfo:
    """What sd-parsers makes of it."""
    info = ParserManager().parse(io.BytesIO(png(parameters)))
    assert info is not None
    assert info.generator == "AUTOMATIC1111"
    assert len(info.samplers) == 1
    return info


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(kind: bytes, body: bytes, *, behind_pixels: bool = False) -> bytes:
    """A PNG without any text of ours, and this chunk put in."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "PNG")
    raw = buffer.getvalue()
    at = len(raw) - 12 if behind_pixels else 8 + 25
    return raw[:at] + chunk(kind, body) + raw[at:]


def error_of(path: Path) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read_png(path)
    return str(caught.value)


# --- what is written
