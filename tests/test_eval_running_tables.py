"""The committed table of a hundred kills holds what it must."""

from __future__ import annotations

import re
from pathlib import Path

from eval.running import benchmarks

FOLDER = Path(str(benchmarks.__file__)).parent


def _table(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def test_a_hundred_kills_lost_nothing_and_made_nothing_twice() -> None:
    found = dict(re.findall(r"^\| (.+?) \| (\d+) \|$", _table("kill.md"), re.M))
    assert int(found["kills"]) >= 100
    assert int(found["whole batches that were made twice"]) == 0
    assert int(found["pictures, rows and images.csv that differ from the undisturbed run's"]) == 0
    assert int(found["files left that the undisturbed run does not leave"]) == 0
