"""What is kept between runs: found by content, checked, made anew where it is damaged, and read alone."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference_sets import MeanEncoder, fill, opened_files, plan_of

from eval.records import ReferencePlan
from eval.scoring import reference_cache
from eval.scoring.moments import Moments, moments
from eval.scoring.reference_cache import ReferenceCache
from eval.scoring.references import ReferenceFeatures, open_reference, reference_features
from sdkit import InvalidRequest


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the pictures had been written long ago."""
    monkeypatch.setattr(reference_cache, "RACY_NS", -(10**12))


def _features(plan: ReferencePlan, encoder: MeanEncoder, *, features: bool = True) -> ReferenceFeatures:
    reference = open_reference(plan)
    assert reference is not None
    return reference_features(reference, encoder, features=features)


def _assert_equal(first: ReferenceFeatures, second: ReferenceFeatures) -> None:
    assert first.key == second.key
    assert first.moments.n == second.moments.n
    np.testing.assert_array_equal(first.moments.mean, second.moments.mean)
    np.testing.assert_array_equal(first.moments.covariance, second.moments.covariance)


def test_features_are_what_the_encoder_gives_in_the_files_order(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 9)
    found = _features(plan_of(folder, tmp_path / "cache"), MeanEncoder())
    assert found.features is not None
    assert found.features.dtype == np.float32
    assert not found.features.flags.writeable
    expected = [np.array(Image.open(folder / f"{i}.png")).mean(axis=(0, 1)) for i in range(9)]
    # float32 means of 100 values of at most 255: 100 roundings of 2^-24 each
    np.testing.assert_allclose(found.features[:, :3], expected, rtol=100 * 2.0**-24)
    direct = moments(found.features)
    np.testing.assert_allclose(found.moments.covariance, direct.covariance, rtol=1e-10)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("features", [True, False])
def test_the_second_call_opens_nothing_but_the_cache(tmp_path: Path, features: bool) -> None:
    plan = plan_of(fill(tmp_path / "a", 9), tmp_path / "cache")
    encoder = MeanEncoder()
    first = _features(plan, encoder, features=features)
    done = sum(encoder.seen)
    with opened_files() as opened:
        second = _features(plan, encoder, features=features)
    _assert_equal(first, second)
    assert done == sum(encoder.seen) == 9
    assert opened
    assert all(path.startswith(str(tmp_path / "cache")) for path in opened)
    assert second.notes == ()


def test_the_record_of_opened_files_sees_pictures_too(tmp_path: Path) -> None:
    with opened_files() as opened:
        _features(plan_of(fill(tmp_path / "a", 3), tmp_path / "cache"), MeanEncoder())
    assert sum(path.startswith(str(tmp_path / "a")) for path in opened) >= 3


@pytest.mark.usefixtures("settled")
def test_a_changed_picture_is_seen_though_size_and_time_are_as_before(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 3)
    picture = folder / "1.bmp"
    Image.new("RGB", (4, 4), "red").save(picture)
    plan = plan_of(folder, tmp_path / "cache")
    before, status = _features(plan, MeanEncoder()), picture.stat()
    with picture.open("r+b") as file:
        file.seek(60)
        file.write(b"\x01")
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = _features(plan, MeanEncoder())
    assert picture.stat().st_size == status.st_size
    assert picture.stat().st_mtime_ns == status.st_mtime_ns
    assert before.key != after.key
    assert (before.moments.mean != after.moments.mean).any()


def test_a_file_just_written_is_hashed_again_next_time(tmp_path: Path) -> None:
    plan = plan_of(fill(tmp_path / "a", 3), tmp_path / "cache")
    open_reference(plan)
    with opened_files() as opened:
        open_reference(plan)
    assert sum(path.startswith(str(tmp_path / "a")) for path in opened) == 3


@pytest.mark.usefixtures("settled")
def test_only_the_changed_file_is_hashed_again(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 5)
    plan = plan_of(folder, tmp_path / "cache")
    open_reference(plan)
    Image.new("RGB", (9, 9)).save(folder / "2.png")
    with opened_files() as opened:
        open_reference(plan)
    assert [path for path in opened if path.startswith(str(folder))] == [str(folder / "2.png")]


def test_a_moved_copy_is_not_encoded_again(tmp_path: Path) -> None:
    encoder = MeanEncoder()
    first = _features(plan_of(fill(tmp_path / "a", 5), tmp_path / "cache"), encoder)
    shutil.move(tmp_path / "a", tmp_path / "b")
    second = _features(plan_of(tmp_path / "b", tmp_path / "cache"), encoder)
    _assert_equal(first, second)
    assert sum(encoder.seen) == 5


def test_another_encoder_or_crop_is_another_entry(tmp_path: Path) -> None:
    folder, cache = fill(tmp_path / "a", 5), tmp_path / "cache"
    plain, other = MeanEncoder(), MeanEncoder(weights="sha256:1")
    _features(plan_of(folder, cache), plain)
    _features(plan_of(folder, cache), other)
    _features(plan_of(folder, cache, crop="centre"), plain)
    assert (sum(plain.seen), sum(other.seen)) == (10, 5)


def test_features_asked_for_later_are_added(tmp_path: Path) -> None:
    plan, encoder = plan_of(fill(tmp_path / "a", 5), tmp_path / "cache"), MeanEncoder()
    assert _features(plan, encoder, features=False).features is None
    assert _features(plan, encoder).features is not None
    assert _features(plan, encoder, features=False).moments.n == 5
    assert sum(encoder.seen) == 10


@pytest.mark.parametrize("room", ["moments", "features"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.999])
def test_a_flipped_byte_is_found_said_and_mended(tmp_path: Path, room: str, place: float) -> None:
    plan, encoder = plan_of(fill(tmp_path / "a", 5), tmp_path / "cache"), MeanEncoder()
    first = _features(plan, encoder)
    assert first.features is not None
    before = np.array(first.features)  # `features` itself looks into the file that is damaged now
    (file,) = (tmp_path / "cache" / room).iterdir()
    contents = bytearray(file.read_bytes())
    contents[int(place * len(contents))] ^= 0x55
    file.write_bytes(contents)
    second = _features(plan, encoder)
    _assert_equal(first, second)
    assert second.features is not None
    np.testing.assert_array_equal(before, second.features)
    if second.notes:  # a zip's own padding may change without harm
        assert sum(encoder.seen) == 10
        assert "damaged" in second.notes[0]
        assert "computed again" in second.notes[0]
    assert second.notes or room == "moments"
    assert _features(plan, encoder).notes == ()


@pytest.mark.parametrize("room", ["moments", "features", "hashes"])
@pytest.mark.parametrize("contents", [b"", b"x", None])
def test_a_cut_or_missing_file_is_made_again(tmp_path: Path, room: str, contents: bytes | None) -> None:
    plan, encoder = plan_of(fill(tmp_path / "a", 5), tmp_path / "cache"), MeanEncoder()
    first = _features(plan, encoder)
    for file in (tmp_path / "cache" / room).glob("*"):
        file.unlink() if contents is None else file.write_bytes(contents)
    _assert_equal(first, _features(plan, encoder))
    assert sum(encoder.seen) == (5 if room == "hashes" else 10)


def test_another_format_version_is_made_again_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, found = ReferenceCache(tmp_path), Moments(3, np.zeros(2), np.eye(2))
    cache.keep("key", found)
    monkeypatch.setattr(reference_cache, "FORMAT_VERSION", reference_cache.FORMAT_VERSION + 1)
    kept = cache.find("key", features=False)
    assert kept.moments is None
    assert "another format version" in str(kept.damaged)


def test_the_kept_moments_say_what_they_are(tmp_path: Path) -> None:
    found = Moments(3, np.arange(2.0), np.eye(2))
    ReferenceCache(tmp_path).keep("the key", found)
    (path,) = (tmp_path / "moments").iterdir()
    with np.load(path, allow_pickle=False) as held:
        assert {"version", "n", "mean", "covariance", "key", "sha256"} <= set(held.files)
        assert str(held["key"]) == "the key"


def test_writers_at_one_time_leave_one_whole_file(tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path)
    found = Moments(3, np.arange(50.0), np.eye(50))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache.keep("key", found), range(64)))
        kept = list(pool.map(lambda _: cache.find("key", features=False), range(8)))
    assert all(each.moments is not None for each in kept)
    assert len(list((tmp_path / "moments").iterdir())) == 1


def test_the_folder_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SDKIT_EVAL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert ReferenceCache.at().folder == tmp_path / ".cache" / "sdkit-eval"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert ReferenceCache.at().folder == Path("/xdg/sdkit-eval")
    monkeypatch.setenv("SDKIT_EVAL_CACHE", "/chosen")
    assert ReferenceCache.at().folder == Path("/chosen")
    assert ReferenceCache.at("/given").folder == Path("/given")


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        InvalidRequest, match=r"reference\.cache must be a folder .* give reference\.cache="
    ) as caught:
        _features(plan_of(fill(tmp_path / "a", 3), tmp_path / "file"), MeanEncoder())
    assert "\n" not in str(caught.value)
