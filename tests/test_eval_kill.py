"""What the benchmark of kills counts as lost, and what as rounding."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.running.benchmarks.kill import Found, contents, hold


def _png(level: int, moved: int = 0, by: int = 1) -> bytes:
    """4 x 4 pixels of one level, of whose 48 values `moved` are `by` further."""
    pixels = np.full((4, 4, 3), level, np.uint8)
    pixels.reshape(-1)[:moved] += np.uint8(by)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _json(score: float, index: int = 0, kid: float = 1e6) -> bytes:
    values = {"clip_score": score, "kid[shapes-clip]": kid}
    return json.dumps([{"index": index, "values": values}]).encode()


WHOLE = {
    "a/0.png": _png(7),
    "a/images.json": _json(30.0),
    "images.csv": b"index,clip_score\n0,30.0\n",
    "a/b": b"",
}


def _held(change: Mapping[str, bytes]) -> Found:
    found = Found()
    hold(WHOLE, WHOLE | change, found)
    return found


def test_the_same_bytes_are_the_same() -> None:
    assert _held({}) == Found(values=48)


def test_a_level_and_a_thousandth_are_rounding() -> None:
    near = {
        "a/0.png": _png(7, moved=5),
        "a/images.json": _json(30.02),
        "images.csv": b"index,clip_score\n0,29.98\n",
    }
    assert _held(near) == Found(values=48, moved=5, other=3)


def test_a_pictures_part_in_kid_is_not_held() -> None:
    found = _held({"a/images.json": _json(30.0, kid=1.002e6)})
    assert (found.differing, found.other) == (0, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"a/0.png": _png(7, moved=1, by=2)},
        {"a/images.json": _json(30.04)},
        {"a/images.json": _json(30.0, index=1)},
        {"a/images.json": b"[]"},
        {"images.csv": b"index,clip_score\n0,31.0\n"},
        {"images.csv": b"index,clip_score\n0,\n"},
        {"images.csv": b"index,clip_score\n"},
    ],
)
def test_what_is_further_differs(change: dict[str, bytes]) -> None:
    found = _held(change)
    assert (found.differing, found.other) == (1, 1)


def test_a_picture_of_another_size_differs() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, format="PNG")
    assert _held({"a/0.png": buffer.getvalue()}).differing == 1


def test_what_is_missing_and_what_is_left_are_counted_apart() -> None:
    found = Found()
    hold(
        WHOLE, {name: WHOLE[name] for name in ("a/images.json", "images.csv", "a/b")} | {"a/.tmp": b""}, found
    )
    assert (found.lost, found.left, found.differing) == (1, 1, 0)


def test_files_that_are_named_by_their_contents_are_known_by_the_rest(tmp_path: Path) -> None:
    for name in (
        "cells/k/batches/000000-000008.0123456789abcdef.npz",
        "converged/k.0123456789abcdef.npz",
        "run.log",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"times")
    assert contents(tmp_path) == {"cells/k/batches/000000-000008": b"", "converged/k": b"", "run.log": b""}
