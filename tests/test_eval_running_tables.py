"""The committed tables of kills hold what they must."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eval.running import benchmarks

FOLDER = Path(str(benchmarks.__file__)).parent


def _table(name: str) -> dict[str, int]:
    text = (FOLDER / name).read_text(encoding="utf-8")
    return {what: int(count) for what, count in re.findall(r"^\| (.+?) \| (\d+) \|$", text, re.M)}


@pytest.mark.parametrize(("name", "kills"), [("kill.md", 100), ("kill_percell.md", 30)])
def test_kills_lost_nothing_and_made_nothing_twice(name: str, kills: int) -> None:
    found = _table(name)
    assert found["kills"] >= kills
    assert found["whole batches that were made twice"] == 0
    assert found["files of the undisturbed run that are missing"] == 0
    assert found["files left that the undisturbed run does not leave"] == 0
    further = "pictures further from it than a level of 255, rows and images.csv (but KID's) than 1e-3"
    assert found[further] == 0


def test_the_plain_path_ends_with_the_same_bytes() -> None:
    found = _table("kill_percell.md")
    assert found["pictures, rows and images.csv that have other bytes"] == 0
