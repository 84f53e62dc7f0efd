"""Text in PNGs: the same bytes each time, every prompt in the record, and nothing believed that is damaged."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from infotexts import ANY, LAST_LINE, STAR, chunk, error_of, png, quick, with_chunk
from PIL import Image

from sdkit import InvalidRequest
from sdkit._infotext import png_info, read_png, to_text


@pytest.mark.parametrize(
    ("prompt", "kind"), [("a star", b"tEXt"), ("un café brûlé ×2", b"tEXt"), ("星 👩‍🚀", b"iTXt")]
)
def test_pillow_reads_the_text(tmp_path: Path, prompt: str, kind: bytes) -> None:
    path = tmp_path / "star.png"
    path.write_bytes(png(replace(STAR, prompt=prompt)))
    text = f"{prompt}\nNegative prompt: blurry\n{LAST_LINE}"
    with Image.open(path) as image:
        assert image.info["parameters"] == text
        assert image.text["parameters"] == text  # type: ignore[attr-defined]
    assert kind + b"parameters\0" in path.read_bytes()
    assert read_png(path) == (text, {})


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("infotext") / "any.png"


@quick
@given(prompt=ANY, negative_prompt=ANY)
@example(prompt="a\0b\r\nNegative prompt: c", negative_prompt="\0")
def test_the_record_holds_every_prompt_as_it_is(scratch: Path, prompt: str, negative_prompt: str) -> None:
    parameters = replace(STAR, prompt=prompt, negative_prompt=negative_prompt)
    record = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "seed": 2**63,
        "scale": 0.1,
        "hires": None,
    }
    scratch.write_bytes(png(parameters, record))
    assert read_png(scratch) == (to_text(parameters), record)


def test_the_same_values_give_the_same_bytes() -> None:
    record = {"seed": 7, "prompt": "星", "on_top": {"b": [1, 2.5], "a": True}}
    shuffled = {"on_top": {"a": True, "b": [1, 2.5]}, "prompt": "星", "seed": 7}
    assert png(STAR, record) == png(STAR, shuffled)
    expected = rb"tEXtsdkit" b"\0" rb'{"on_top":{"a":true,"b":[1,2.5]},"prompt":"\u661f","seed":7}'
    assert expected in png(STAR, record)
    assert png(STAR, record) != png(replace(STAR, seed=7), record)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "Out of range float values are not JSON compliant"),
        ({1, 2}, "Object of type set is not JSON serializable"),
        ({1: 2, "a": 3}, "'<' not supported between instances of 'str' and 'int'"),
    ],
)
def test_a_record_that_is_no_json_is_refused(value: object, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        png_info(STAR, {"value": value})
    assert str(caught.value).startswith(f"record must hold what JSON has, and does not ({reason}")


def test_what_could_not_be_read_again_is_not_written() -> None:
    with pytest.raises(InvalidRequest, match=r"^sdkit must have at most 4194304 characters, got 4194310$"):
        png_info(STAR, {"a": "b" * (4 * 2**20 - 2)})
    with pytest.raises(InvalidRequest, match=r"^parameters must have at most 4194304 characters, got "):
        png_info(replace(STAR, prompt="b" * 4 * 2**20), {})


def test_a_png_without_our_text_has_neither(tmp_path: Path) -> None:
    path = tmp_path / "plain.png"
    path.write_bytes(with_chunk(b"tEXt", b"Title\0a star"))
    assert read_png(path) == (None, None)


@pytest.mark.parametrize("behind_pixels", [False, True])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"tEXt", b"parameters\0" + "é".encode("latin-1")),
        (b"zTXt", b"parameters\0\0" + zlib.compress("é".encode("latin-1"))),
        (b"iTXt", b"parameters\0\0\0\0\0" + "é".encode()),
        (b"iTXt", b"parameters\0\1\0de\0x\0" + zlib.compress("é".encode())),
    ],
)
def test_text_is_read_however_a_png_stores_it(
    tmp_path: Path, kind: bytes, body: bytes, behind_pixels: bool
) -> None:
    path = tmp_path / "other.png"
    path.write_bytes(with_chunk(kind, body, behind_pixels=behind_pixels))
    text, record = read_png(path)
    assert (text, record, type(text)) == ("é", None, str)


def test_what_is_no_png_is_one_line_that_names_it(tmp_path: Path) -> None:
    missing, jpeg, text = tmp_path / "missing.png", tmp_path / "photo.png", tmp_path / "notes.png"
    Image.new("RGB", (4, 4)).save(jpeg, "JPEG")
    text.write_text(to_text(STAR))
    assert error_of(missing) == f"{missing} must be a PNG, and does not exist"
    assert error_of(tmp_path) == f"{tmp_path} must be a PNG, and is no file"
    assert error_of(jpeg) == f"{jpeg} must be a PNG, and is another thing or damaged"
    assert error_of(text) == f"{text} must be a PNG, and is another thing or damaged"


def test_a_file_that_ends_early_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path, whole = tmp_path / "cut.png", png(STAR, {"prompt": "a"})
    # The last four bytes are the checksum of an empty chunk; no reader asks for them.
    for length in range(len(whole) - 4):
        path.write_bytes(whole[:length])
        message = error_of(path)
        assert message.startswith(f"{path} must be a PNG, and ")
        assert "\n" not in message
    path.write_bytes(whole[:-20])
    assert error_of(path) == f"{path} must be a PNG, and cannot be read as one (Truncated File Read)"


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path, whole = tmp_path / "flipped.png", png(STAR, {"prompt": "a"})
    path.write_bytes(whole)
    expected, refused = read_png(path), 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 32]) + whole[at + 1 :])
        try:
            found = read_png(path)
        except InvalidRequest:
            refused += 1
        else:
            assert found == expected
    # All but the length and the checksum of the last, empty chunk.
    assert refused >= len(whole) - 8


@pytest.mark.parametrize("behind_pixels", [False, True])
def test_a_bomb_of_text_does_not_go_off(tmp_path: Path, behind_pixels: bool) -> None:
    path, bomb = tmp_path / "bomb.png", zlib.compress(b" " * 50_000_000, 9)
    path.write_bytes(with_chunk(b"iTXt", b"sdkit\0\1\0\0\0" + bomb, behind_pixels=behind_pixels))
    assert len(bomb) < 50_000
    assert error_of(path) == (
        f"{path} must be a PNG, and cannot be read as one"
        " (Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK)"
    )


def test_a_mountain_of_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mountain.png"
    path.write_bytes(with_chunk(b"tEXt", b"parameters\0" + b"a" * (4 * 2**20 + 1)))
    assert error_of(path) == f"{path} must hold at most 4194304 characters of parameters, got 4194305"


def test_more_pixels_than_pillow_allows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pixels.png"
    whole = png(STAR)
    path.write_bytes(
        whole[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**20, 2**20, 8, 2, 0, 0, 0)) + whole[33:]
    )
    message = error_of(path)
    assert message.startswith(
        f"{path} must be a PNG, and cannot be read as one (Image size (1099511627776 pixels)"
    )


def test_a_png_without_pixels_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "empty.png", png(STAR)
    path.write_bytes(whole[: whole.index(b"IDAT") - 4] + chunk(b"IEND", b""))
    assert error_of(path) == f"{path} must be a PNG, and cannot be read as one (no pixels)"


def test_whatever_pillow_trips_over_is_one_line_of_error(tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(with_chunk(b"iCCP", b"", behind_pixels=True))
    assert error_of(path) == f"{path} must be a PNG, and cannot be read as one (index out of range)"
    # An animation that says it has three frames, and has two.
    frame = struct.pack(">IIIIHHBB", 4, 4, 0, 0, 1, 1, 0, 0)
    animated = with_chunk(b"acTL", struct.pack(">II", 3, 0))
    at = animated.index(b"IDAT") - 4
    first, second = (chunk(b"fcTL", struct.pack(">I", number) + frame) for number in (0, 1))
    path.write_bytes(animated[:at] + first + animated[at:-12] + second + animated[-12:])
    assert error_of(path) == f"{path} must be a PNG, and cannot be read as one (no more images in APNG file)"


def test_what_pillow_only_warns_of_is_read_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(with_chunk(b"acTL", struct.pack(">II", 0, 0)))
    assert read_png(path) == (None, None)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("", "a record in JSON, got none (Expecting value: line 1 column 1 (char 0))"),
        ('{"a":', "a record in JSON, got none (Expecting value: line 1 column 6 (char 5))"),
        ('{"a": NaN}', "a record in JSON, got none (numbers must be finite, got 'NaN')"),
        ('{"a": 1e999}', "a record in JSON, got none (numbers must be finite, got '1e999')"),
        ("[" * 100_000, "a record in JSON, got none (maximum recursion depth exceeded"),
        ("9" * 10_000, "a record in JSON, got none (Exceeds the limit (4300 digits) for integer string"),
        ("[1,\n2]", r"a record that is a JSON object, got '[1,\n2]'"),
        ('"' + "a" * 100 + '"', f"a record that is a JSON object, got '\"{'a' * 59}...'"),
    ],
)
def test_a_record_that_is_no_json_object_is_one_line_of_error(
    tmp_path: Path, record: str, message: str
) -> None:
    path = tmp_path / "record.png"
    path.write_bytes(with_chunk(b"tEXt", b"sdkit\0" + record.encode()))
    assert error_of(path).startswith(f"{path} must hold {message}")
    assert "\n" not in error_of(path)


def test_reading_text_needs_neither_torch_nor_pillow() -> None:
    code = "import sys, sdkit._infotext; print({'torch', 'diffusers', 'PIL', 'numpy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
