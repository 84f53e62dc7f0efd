"""Cells in object storage: machines that share no disk go on where another stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_bench import FakeGenerator, contents, plan, run

from eval.execution_plan import ExecutionPlan
from eval.records import Plan
from eval.running.mirror import open_mirror
from sdkit import InvalidRequest


def stored(root: Path, tmp_path: Path) -> Plan:
    return replace(plan(root), execution=ExecutionPlan(store=f"file://{tmp_path / 'bucket'}"))


def test_another_machine_takes_everything_from_the_storage(tmp_path: Path) -> None:
    run(tmp_path / "one", stored(tmp_path / "one", tmp_path))
    generator = FakeGenerator()
    found = run(tmp_path / "two", stored(tmp_path / "two", tmp_path), generator)
    assert generator.made == []
    assert all(result.reused for result in found.results.values())
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_another_machine_goes_on_within_a_cell(tmp_path: Path) -> None:
    def before(asked: dict[str, Any]) -> None:
        if asked["sampler"] == "ddim" and asked["seeds"][0] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "one", stored(tmp_path / "one", tmp_path), FakeGenerator(before))
    generator = FakeGenerator()
    run(tmp_path / "two", stored(tmp_path / "two", tmp_path), generator)
    ours = [
        seeds for name, scale, seeds in generator.made if (name, scale) == ("ddim", 1.0) and max(seeds) < 10
    ]
    assert ours == [(8, 9)]
    run(tmp_path / "plain")
    assert contents(tmp_path / "two") == contents(tmp_path / "plain")


def test_a_damaged_object_is_found_and_done_again(tmp_path: Path) -> None:
    run(tmp_path / "one", stored(tmp_path / "one", tmp_path))
    spoilt = next((tmp_path / "bucket").rglob("00005.png"))
    spoilt.write_bytes(b"x")
    said: list[str] = []
    run(tmp_path / "two", stored(tmp_path / "two", tmp_path), said=said)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert any("quarantine" in line for line in said)
    assert spoilt.read_bytes() != b"x"
    assert run(tmp_path / "three", stored(tmp_path / "three", tmp_path)).results[0].reused


def test_a_record_that_was_replaced_is_gone_from_the_storage_too(tmp_path: Path) -> None:
    run(tmp_path / "one", stored(tmp_path / "one", tmp_path))
    for path in (tmp_path / "one" / "cells").rglob("cell.json"):
        path.unlink()
    for path in (tmp_path / "one" / "cells").rglob("000004-*.npz"):
        path.unlink()
    for path in (tmp_path / "bucket").rglob("*"):
        if path.name == "cell.json" or path.name.startswith("000004-"):
            path.unlink()
    run(tmp_path / "one", stored(tmp_path / "one", tmp_path))
    assert len(list((tmp_path / "bucket").rglob("000004-*.npz"))) == 4


def test_a_folder_is_no_storage_and_an_unknown_one_is_refused() -> None:
    assert open_mirror(None, "run") is None
    assert open_mirror("some/folder", "run") is None
    with pytest.raises(InvalidRequest, match="nowhere://x cannot be opened"):
        open_mirror("nowhere://x", "run")
