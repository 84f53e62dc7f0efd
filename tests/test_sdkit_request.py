"""Every way to ask for something that cannot be done gets one line that says what can."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sdkit._errors import InvalidRequest
from sdkit._request import MAX_SEED, make_request

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt must be a non-empty string, got ''"),
    ({"prompt": "  "}, "prompt must be a non-empty string, got '  '"),
    ({"prompt": []}, "prompt must hold at least one string, got an empty list"),
    ({"prompt": ["a star", ""]}, r"prompt\[1\] must be a non-empty string, got ''"),
    ({"prompt": ["a star", None]}, r"prompt\[1\] must be a non-empty string, got None"),
    ({"prompt": 3}, "prompt must be a string or a list of strings, got 3"),
    ({"negative_prompt": 3}, "negative_prompt must be a string or None, got 3"),
    ({"sampler": "eulr"}, "sampler must be one of ddim, .*, got 'eulr'; nearest: euler"),
    ({"sampler": None}, "sampler must be a name, got None"),
    ({"steps": 0}, r"steps must be 1\.\.1000, got 0"),
    ({"steps": 10**6}, r"steps must be 1\.\.1000, got 1000000"),
    ({"steps": 2.5}, r"steps must be 1\.\.1000, got 2.5"),
    ({"steps": True}, r"steps must be 1\.\.1000, got True"),
    ({"steps": 2, "sampler": "heun"}, r"steps must be 3\.\.1000 for heun, got 2"),
    ({"steps": 1, "sampler": "pndm"}, r"steps must be 2\.\.1000 for pndm, got 1"),
    ({"steps": 1000, "sampler": "unipc"}, r"steps must be 1\.\.999 for unipc, got 1000"),
    ({"guidance_scale": 0.5}, r"guidance_scale must be 1\.\.50 \(1 is off\), got 0.5"),
    ({"guidance_scale": math.nan}, "guidance_scale must be .*, got nan"),
    ({"guidance_scale": math.inf}, "guidance_scale must be .*, got inf"),
    ({"guidance_scale": "7"}, r"guidance_scale must be a number 1\.\.50, got '7'"),
    ({"seed": -1}, r"seed must be 0\.\.9223372036854775806, got -1"),
    ({"seed": MAX_SEED}, "seed must be .*, got 9223372036854775807"),
    ({"num_images": 0}, r"num_images must be 1\.\.10000, got 0"),
    ({"batch_size": 0}, r"batch_size must be 1\.\.4096, got 0"),
    ({"width": 65}, r"width must be a multiple of 8 in 8\.\.4096, got 65; try 64"),
    ({"height": 4104}, r"height must be a multiple of 8 in 8\.\.4096, got 4104; try 4096"),
    ({"height": 0}, r"height must be a multiple of 8 in 8\.\.4096, got 0; try 8"),
    ({"width": "64"}, "width must be a whole number, got '64'"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_be_done_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{message}") as caught:
        make_request(**{"prompt": "a red star", **changes})
    assert "\n" not in str(caught.value)


def test_one_string_and_a_list_of_one_ask_for_the_same() -> None:
    assert make_request("a star", seed=1) == make_request(["a star"], seed=1)


def test_every_image_has_a_seed_of_its_own() -> None:
    request = make_request(["a star", "a ring"], num_images=3, seed=40)
    assert list(request.seeds) == [40, 41, 42, 43, 44, 45]


def test_without_a_seed_each_request_draws_its_own() -> None:
    seeds = {make_request("a star").seed for _ in range(8)}
    assert len(seeds) == 8


def test_numbers_of_numpy_are_taken_as_plain_ones() -> None:
    request = make_request("a star", steps=np.int64(7), guidance_scale=np.float32(2), seed=np.uint8(3))
    assert (request.steps, request.guidance_scale, request.seed) == (7, 2.0, 3)
    assert type(request.steps) is int
    assert type(request.guidance_scale) is float
