"""Reference pictures: fresh renders, or a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.records import ReferencePlan
from eval.scoring.references import open_reference, reference_files
from sdkit import InvalidRequest


def _fill(folder: Path, count: int = 3) -> ReferencePlan:
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(0, 256, (8, 10 if index else 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / ("deep" if index else ".") / f"{index}.png")
    return ReferencePlan("folder", 0, str(folder))


def test_no_reference_is_none() -> None:
    assert open_reference(ReferencePlan("none", 0)) is None


def test_renders_are_the_same_every_time_whatever_the_batch() -> None:
    reference = open_reference(ReferencePlan("shapes", 10))
    again = open_reference(ReferencePlan("shapes", 10))
    assert reference is not None
    assert again is not None
    assert reference.identity == again.identity
    torch.testing.assert_close(torch.cat(list(reference.batches(3))), torch.cat(list(again.batches(10))))
    assert "sha256:" in reference.identity


def test_more_renders_are_another_reference() -> None:
    first, second = (open_reference(ReferencePlan("shapes", count)) for count in (8, 9))
    assert first is not None
    assert second is not None
    assert first.identity != second.identity


def test_a_folder_is_searched_through_and_every_picture_comes_once(tmp_path: Path) -> None:
    reference = open_reference(_fill(tmp_path / "r", 5))
    assert reference is not None
    batches = list(reference.batches(2))
    assert sum(len(batch) for batch in batches) == reference.count == 5
    assert all(batch.dtype == torch.uint8 and batch.shape[1] == 3 for batch in batches)


def test_the_hash_follows_the_contents_not_the_names(tmp_path: Path) -> None:
    plan = _fill(tmp_path / "r")
    before = open_reference(plan)
    moved = tmp_path / "elsewhere"
    (tmp_path / "r").rename(moved)
    after = open_reference(ReferencePlan("folder", 0, str(moved)))
    assert before is not None
    assert after is not None
    assert before.identity == after.identity
    Image.new("RGB", (10, 8)).save(moved / "0.png")
    changed = open_reference(ReferencePlan("folder", 0, str(moved)))
    assert changed is not None
    assert changed.identity != before.identity


def test_count_takes_the_first_files(tmp_path: Path) -> None:
    plan = _fill(tmp_path / "r")
    assert len(reference_files(ReferencePlan("folder", 2, plan.path))) == 2
    with pytest.raises(InvalidRequest, match=r"reference\.count must be 0 \(all\) to 3"):
        reference_files(ReferencePlan("folder", 4, plan.path))


def test_a_missing_or_empty_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"reference\.path must be a folder"):
        reference_files(ReferencePlan("folder", 0, None))
    with pytest.raises(InvalidRequest, match="there is none"):
        reference_files(ReferencePlan("folder", 0, str(tmp_path / "none")))
    with pytest.raises(InvalidRequest, match="got none below"):
        reference_files(ReferencePlan("folder", 0, str(tmp_path)))


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    plan = _fill(tmp_path / "r")
    (tmp_path / "r" / "bad.png").write_bytes(b"not a picture")
    reference = open_reference(plan)
    assert reference is not None
    with pytest.raises(InvalidRequest, match=r"bad\.png cannot be read"):
        list(reference.batches(4))
