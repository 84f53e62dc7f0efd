"""Reference pictures: which ones, in which order, under which key, and in how much memory."""

from __future__ import annotations

import json
import tracemalloc
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from reference_sets import Array, MeanEncoder, fill, plan_of

from eval.records import ReferencePlan
from eval.scoring import reference_pictures
from eval.scoring.moments import Moments, moments
from eval.scoring.moments_file import write_moments
from eval.scoring.references import BATCH, Reference, check_reference, open_reference, reference_features
from sdkit import InvalidRequest
from sdkit.shapes import world


def _open(plan: ReferencePlan) -> Reference:
    reference = open_reference(plan)
    assert reference is not None
    return reference


def test_no_reference_is_none() -> None:
    assert open_reference(ReferencePlan("none", 0)) is None


def test_renders_are_the_same_every_time_whatever_the_batch(tmp_path: Path) -> None:
    plans = [ReferencePlan("shapes", 10, cache=str(tmp_path / name)) for name in "ab"]
    first, second = map(_open, plans)
    assert first.key == second.key == _open(plans[0]).key
    torch.testing.assert_close(torch.cat(list(first.batches(3))), torch.cat(list(second.batches(10))))
    assert first.key.startswith("10 fresh renders of held-out scenes")
    assert "sha256:" in first.key


def test_more_renders_are_another_reference(tmp_path: Path) -> None:
    keys = {_open(ReferencePlan("shapes", count, cache=str(tmp_path))).key for count in (8, 9)}
    assert len(keys) == 2


def test_renders_are_drawn_once_for_their_hash(tmp_path: Path) -> None:
    hashed: list[int] = []
    for _ in range(2):
        open_reference(ReferencePlan("shapes", 10, cache=str(tmp_path)), on_hashed=hashed.append)
    assert hashed == [10]


def test_renders_are_not_drawn_again_to_be_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def render(scenes: Sequence[world.Scene], seeds: Sequence[int]) -> torch.Tensor:
        drawn.append(len(seeds))
        return as_it_was(scenes, seeds)

    drawn: list[int] = []
    as_it_was = world.render
    monkeypatch.setattr(world, "render", render)
    monkeypatch.setattr(reference_pictures, "_DRAWN", 5)
    reference_pictures._renders.cache_clear()
    reference_features(_open(ReferencePlan("shapes", 18, cache=str(tmp_path))), MeanEncoder(), features=False)
    assert drawn == [5, 5, 5, 3]
    reference_pictures._renders.cache_clear()


def test_a_folder_is_searched_through_and_every_picture_comes_once(tmp_path: Path) -> None:
    fill(tmp_path / "r", 3)
    fill(tmp_path / "r" / "deep", 4)
    reference = _open(plan_of(tmp_path / "r", tmp_path / "cache"))
    batches = list(reference.numbered(2))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(7))
    assert reference.count == 7
    assert all(batch.pixels.dtype == torch.uint8 and batch.pixels.shape[1] == 3 for batch in batches)
    assert all(len(batch.rows) == len(batch.pixels) <= 2 for batch in batches)


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 9))
def test_features_stand_in_the_files_order_whatever_the_batch(
    tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "ordered"
    if not folder.exists():
        fill(folder, 12)
    reference = _open(plan_of(folder, folder.parent / "ordered-cache"))
    for batch in reference.numbered(size):
        for row, pixels in zip(batch.rows, batch.pixels, strict=True):
            expected = np.array(Image.open(folder / f"{row}.png"))
            np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), expected)


def test_the_key_follows_the_contents_not_the_place(tmp_path: Path) -> None:
    first = _open(plan_of(fill(tmp_path / "a", 3), tmp_path / "cache"))
    copied = _open(plan_of(fill(tmp_path / "b", 3), tmp_path / "cache"))
    (tmp_path / "list.txt").write_text("a/0.png\na/1.png\n\nb/2.png\n")
    listed = _open(ReferencePlan("list", 0, str(tmp_path / "list.txt"), cache=str(tmp_path / "cache")))
    assert first.key == copied.key == listed.key
    assert first.key.startswith("3 pictures, sha256:")


def test_a_changed_added_or_touched_pixel_changes_the_key(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 3)
    plan = plan_of(folder, tmp_path / "cache")
    keys = {_open(plan).key}
    pixels = np.array(Image.open(folder / "1.png"))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(folder / "1.png")
    keys.add(_open(plan).key)
    fill(folder, 4)
    keys.add(_open(plan).key)
    keys.add(_open(replace(plan, crop="centre")).key)
    keys.add(_open(replace(plan, count=2)).key)
    assert len(keys) == 5


def test_the_centre_crop_is_cut_before_the_encoder(tmp_path: Path) -> None:
    plan = plan_of(fill(tmp_path / "a", 4), tmp_path / "cache", crop="centre")
    (batch,) = _open(plan).batches(4)
    assert batch.shape == (4, 3, 8, 8)  # two sizes before, one after


def test_count_takes_the_first_files_as_people_count(tmp_path: Path) -> None:
    plan = plan_of(fill(tmp_path / "a", 11), tmp_path / "cache")
    names = [file.name for file in _open(replace(plan, count=3)).files]
    assert names == ["0.png", "1.png", "2.png"]
    with pytest.raises(InvalidRequest, match=r"reference\.count must be 0 \(all\) to 11"):
        check_reference(replace(plan, count=12))


def test_coco_gives_its_images_by_id(tmp_path: Path) -> None:
    fill(tmp_path / "val", 4)
    images = [
        {"id": 30, "file_name": "0.png"},
        {"id": 4, "file_name": "3.png"},
        {"id": 7, "file_name": "1.png"},
    ]
    path = tmp_path / "captions_val.json"
    path.write_text(json.dumps({"images": images, "annotations": []}))
    plan = ReferencePlan("coco", 0, str(path), str(tmp_path / "val"), cache=str(tmp_path / "cache"))
    assert [file.name for file in _open(plan).files] == ["3.png", "1.png", "0.png"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([{"id": 1, "file_name": "0.png"}, {"id": 2, "file_name": "gone.png"}], r"1 reference .* missing: .*gone"),
        ([{"id": 1, "file_name": "0.png"}, {"id": 1, "file_name": "1.png"}], "ids of their own"),
        ([{"id": 1, "file_name": "../0.png"}, {"id": 2, "file_name": "1.png"}], "outside reference.images"),
        ([{"id": 1}], "must be COCO's annotations with images of id and file_name"),
        ([], "at least 2 pictures, got 0"),
    ],
)  # fmt: skip
def test_annotations_that_do_not_fit_are_one_line(
    tmp_path: Path, images: list[dict[str, object]], message: str
) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": images}))
    with pytest.raises(InvalidRequest, match=message) as caught:
        check_reference(ReferencePlan("coco", 0, str(path), str(fill(tmp_path / "val", 2))))
    assert "\n" not in str(caught.value)


def test_missing_files_of_a_list_are_named_and_counted(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    path = tmp_path / "list.txt"
    path.write_text("\n".join(["0.png", "1.png", *(f"gone{index}.png" for index in range(7))]))
    with pytest.raises(InvalidRequest, match=r"7 reference pictures .* are missing: .*gone4\.png and 2 more"):
        check_reference(ReferencePlan("list", 0, str(path)))
    path.write_text("0.png\n1.png\n0.png\n")
    with pytest.raises(InvalidRequest, match=r"1 reference pictures are listed more than once .*0\.png"):
        check_reference(ReferencePlan("list", 0, str(path)))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (ReferencePlan("folder", 0), r"reference\.path must be a folder of pictures, got nothing"),
        (ReferencePlan("folder", 0, "/nowhere"), "there is none"),
        (ReferencePlan("list", 0, "/nowhere"), "/nowhere cannot be read: No such file"),
        (ReferencePlan("coco", 0, "/nowhere"), r"reference\.images must be the folder"),
        (ReferencePlan("coco", 0, "/nowhere", "/nowhere"), r"reference\.images must be a folder"),
        (ReferencePlan("moments", 0, "/nowhere.npz"), "does not exist"),
        (ReferencePlan("moments", 0, "/nowhere.npz", crop="centre"), r"reference\.crop must be none"),
        (ReferencePlan("shapes", 1), r"reference\.count must be 2..50000, got 1"),
        (ReferencePlan("other", 0), r"reference\.kind must be one of shapes, folder"),
        (ReferencePlan("none", 0, crop="left"), r"reference\.crop must be one of none, centre, got 'left'"),
    ],
)
def test_what_can_be_known_before_reading_is_said_in_one_line(plan: ReferencePlan, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        check_reference(plan)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_or_a_single_picture_is_no_reference(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="got none below"):
        check_reference(ReferencePlan("folder", 0, str(tmp_path)))
    fill(tmp_path, 1)
    with pytest.raises(InvalidRequest, match="at least 2 pictures, got 1"):
        check_reference(ReferencePlan("folder", 0, str(tmp_path)))


def test_bad_pictures_are_named_and_counted_after_all_were_read(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 12)
    plan = plan_of(folder, tmp_path / "cache")
    (folder / "3.png").write_bytes(b"not a picture")
    with pytest.raises(InvalidRequest, match=r"picture .*/3\.png cannot be read: no picture format"):
        list(_open(plan).batches(4))
    for index in range(4, 11):
        (folder / f"{index}.png").write_bytes(b"nor this")
    with pytest.raises(InvalidRequest, match=r"8 reference pictures of 12 .*7\.png and 3 more") as caught:
        reference_features(_open(plan), MeanEncoder(), features=True)
    assert "\n" not in str(caught.value)
    assert "8.png" not in str(caught.value)
    assert not list((tmp_path / "cache" / "features").iterdir())


def test_a_picture_that_changes_between_hash_and_use_is_an_error(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 3)
    reference = _open(plan_of(folder, tmp_path / "cache"))
    fill(folder, 3, seed=1)
    with pytest.raises(InvalidRequest, match="changed while it was used"):
        list(reference.batches(4))


def test_moments_are_a_reference_without_pictures(tmp_path: Path) -> None:
    given_moments = moments(np.random.default_rng(0).normal(size=(30, 4)))
    write_moments(tmp_path / "m.npz", given_moments, style="sdkit")
    write_moments(tmp_path / "n.npz", given_moments, style="pytorch-fid")
    ours, theirs = (ReferencePlan("moments", 0, str(tmp_path / name)) for name in ("m.npz", "n.npz"))
    found = reference_features(_open(ours), MeanEncoder(), features=True)
    assert found.features is None
    assert found.moments.n == 30
    assert found.key.startswith("moments of 30 pictures, sha256:")
    assert _open(theirs).key.startswith("moments of an unknown number of pictures")
    assert _open(replace(theirs, count=30)).key == found.key
    assert list(_open(ours).batches(4)) == []


def test_moments_must_fit_the_encoder_and_their_own_count(tmp_path: Path) -> None:
    write_moments(tmp_path / "m.npz", Moments(30, np.zeros(3), np.eye(3)), style="sdkit")
    plan = ReferencePlan("moments", 0, str(tmp_path / "m.npz"))
    with pytest.raises(InvalidRequest, match="must have 4 features for mean, got 3"):
        reference_features(_open(plan), MeanEncoder(), features=False)
    with pytest.raises(InvalidRequest, match=r"reference\.count must be 0 or 30"):
        check_reference(replace(plan, count=31))


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 1024)
    peaks = []
    for count in (512, 512, 1024):  # the first one pays for imports
        plan = replace(plan_of(folder, tmp_path / f"cache{len(peaks)}"), count=count)
        reference = _open(plan)
        tracemalloc.start()
        reference_features(reference, MeanEncoder(), features=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    one_picture = 8 * 10 * 3
    assert peaks[2] - peaks[1] < 512 * one_picture / 2


def test_of_the_renders_no_batch_outlives_the_next(tmp_path: Path) -> None:
    """torch's memory is not in tracemalloc, so what lives is counted."""
    given_before: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    class Watching(MeanEncoder):
        def images(self, pixels: torch.Tensor) -> Array:
            alive.append(sum(batch() is not None for batch in given_before))
            given_before.append(weakref.ref(pixels))
            return super().images(pixels)

    reference = _open(ReferencePlan("shapes", 5 * BATCH, cache=str(tmp_path)))
    reference_features(reference, Watching(), features=True)
    assert len(alive) == 5
    assert max(alive) <= 1
