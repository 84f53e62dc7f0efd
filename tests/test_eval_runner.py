"""A run that survives: killed, torn, full, stopped, out of memory; what was whole is kept and never made twice."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_bench import Appending, FakeGenerator, contents, leftovers, plan, run

from eval.records import CellResult
from eval.running import atomic
from eval.running.atomic import RunFolderGaveOut
from eval.running.loading import load_features, load_images, load_run
from eval.running.lock import sole_writer
from eval.running.reuse import other_runs
from eval.running.stopping import Stop, Stopped, stopping
from eval.running.store import RunFolder
from sdkit import InvalidPixels, OutOfMemory

COUNT = 10


def made_once(made: list[tuple[str, float, tuple[int, ...]]]) -> list[tuple[str, float, int]]:
    """Every scored picture that was made, each time it was."""
    return [(sampler, scale, seed) for sampler, scale, seeds in made for seed in seeds if seed < COUNT]


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """What an undisturbed run leaves."""
    run(tmp_path / "whole")
    return contents(tmp_path / "whole")


def test_a_run_makes_every_picture_once_and_reads_back(tmp_path: Path) -> None:
    generator = FakeGenerator()
    found = run(tmp_path, generator=generator)
    results = [found.results[place] for place in range(4)]
    assert [result.error for result in results] == [None] * 4
    scored = [each for each in made_once(generator.made) if each[0] != "dpmpp_2m_karras"]
    assert len(scored) == len(set(scored)) == 4 * COUNT
    again = load_run(tmp_path)
    assert [each.scores for each in again.results] == [each.scores for each in results]
    assert all(len(rows) == COUNT for rows in again.images.values())
    assert load_features(tmp_path, results[0].cell.key)["fake"].shape == (COUNT, 3)
    assert results[0].generate_s is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_ten_times_it_ends_with_the_same_bytes_and_makes_no_whole_batch_twice(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    root, draws = tmp_path / "run", random.Random(3)
    kills = 0
    for _ in range(200):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                generator = FakeGenerator(seconds=0.01)
                run(root, plan(root), generator, said=Appending(tmp_path / "log"))
                code = 0
            finally:
                os._exit(code)
        time.sleep(draws.uniform(0.0, 0.25))
        if kills < 10:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
        else:
            assert os.waitstatus_to_exitcode(status) == 0
            if kills >= 10:
                break
    assert kills == 10
    assert contents(root) == whole
    assert leftovers(root) == []
    written = [line.partition(": made in")[0] for line in (tmp_path / "log").read_text().splitlines()]
    batches = [line for line in written if ": pictures " in line]
    assert len(batches) == len(set(batches)), "a whole batch was made twice"


def test_a_cell_file_torn_at_any_byte_is_found_and_done_again(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    asked = plan(tmp_path, guidances=(1.0,), samplers=("ddim",))
    first = run(tmp_path, asked).results[0]
    path = RunFolder(tmp_path).cell_folder(first.cell.key) / "cell.json"
    stored = path.read_bytes()
    folder, setup = RunFolder(tmp_path), _setup(path)
    for length in range(len(stored) - 1):
        path.write_bytes(stored[:length])
        assert folder.read_cell(first.cell, setup) is None, f"torn after {length} bytes"
        path.unlink(missing_ok=True)
    assert any((tmp_path / "quarantine").iterdir())
    generator, said = FakeGenerator(), list[str]()
    path.write_bytes(stored[: len(stored) // 2])
    again = run(tmp_path, asked, generator, said=said)
    assert again.results[0].scores == first.scores
    assert made_once([each for each in generator.made if each[0] == "ddim"]) == []
    assert any("cell.json put into quarantine/" in line for line in said)


def _setup(path: Path) -> str:
    import json

    return str(json.loads(path.read_text())["setup"])


def _edit_json(path: Path) -> None:
    path.write_text(path.read_text().replace('"model_evals": 2', '"model_evals": 3'))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    payload = bytearray(path.read_bytes())
    payload[len(payload) // 2] ^= 1
    path.write_bytes(bytes(payload))


DAMAGE = {
    "a hand-edited result": ("cell.json", _edit_json, 0),
    "hand-edited rows": ("images.json", _flip, 0),
    "lost rows": ("images.json", Path.unlink, 0),
    "a torn record": ("batches/000004-*.npz", _cut, 4),
    "a flipped bit in a record": ("batches/000004-*.npz", _flip, 4),
    "a lost record": ("batches/000004-*.npz", Path.unlink, 4),
    "a torn picture": ("images/00005.png", _cut, 4),
    "a foreign picture": ("images/00005.png", lambda path: path.write_bytes(b"GIF89a"), 4),
    "a lost picture": ("images/00005.png", Path.unlink, 4),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_torn_changed_or_lost_is_found_and_only_its_part_is_done_again(
    tmp_path: Path, damage: str
) -> None:
    pattern, spoil, remade = DAMAGE[damage]
    asked = plan(tmp_path, guidances=(1.0,), samplers=("ddim",))
    first = run(tmp_path, asked).results[0]
    before = contents(tmp_path)
    (path,) = RunFolder(tmp_path).cell_folder(first.cell.key).glob(pattern)
    spoil(path)
    generator, said = FakeGenerator(), list[str]()
    again = run(tmp_path, asked, generator, said=said)
    assert not again.results[0].reused
    assert contents(tmp_path) == before
    assert again.results[0].scores == first.scores
    assert len(made_once([each for each in generator.made if each[0] == "ddim"])) == remade
    assert any("quarantine" in line for line in said) or "lost" in damage


def test_a_whole_run_is_reused_without_making_or_looking(tmp_path: Path) -> None:
    run(tmp_path)
    generator = FakeGenerator()
    again = run(tmp_path, generator=generator)
    assert all(result.reused for result in again.results.values())
    assert generator.made == []


def test_a_folder_moved_elsewhere_goes_on_there(tmp_path: Path, whole: dict[str, bytes]) -> None:
    run(tmp_path / "here")
    (tmp_path / "there" / "deep").mkdir(parents=True)
    (tmp_path / "here").rename(tmp_path / "there" / "deep" / "run")
    root = tmp_path / "there" / "deep" / "run"
    generator = FakeGenerator()
    assert all(result.reused for result in run(root, generator=generator).results.values())
    assert generator.made == []
    assert contents(root) == whole


def test_another_batch_size_fills_the_gaps_and_keeps_what_is_there(tmp_path: Path) -> None:
    asked = plan(tmp_path, guidances=(1.0,), samplers=("ddim",))
    first = run(tmp_path, asked).results[0]
    cell = RunFolder(tmp_path).cell_folder(first.cell.key)
    (cell / "cell.json").unlink()
    next((cell / "batches").glob("000004-*")).unlink()
    generator = FakeGenerator()
    wider = replace(asked, hardware=replace(asked.hardware, batch=3))
    run(tmp_path, wider, generator)
    ours = [seeds for sampler, _, seeds in generator.made if sampler == "ddim" and max(seeds) < COUNT]
    assert ours == [(4, 5, 6), (7,)]


@pytest.mark.parametrize("fits", [8, 4, 2, 1])
def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path, fits: int) -> None:
    def before(asked: dict[str, Any]) -> None:
        if len(asked["seeds"]) > fits:
            raise OutOfMemory("the device is too small for the batch")

    asked = plan(tmp_path, batch=10, guidances=(1.0,), samplers=("ddim",))
    asked = replace(asked, hardware=replace(asked.hardware, timing_batch=1))
    whole = run(tmp_path / "whole", asked).results[0]
    said: list[str] = []
    generator = FakeGenerator(before)
    if fits < 3:  # the converged run of three pictures does not fit either
        asked = replace(asked, metrics=replace(asked.metrics, scores=("clip_score", "kid")))
    found = run(tmp_path / "small", asked, generator, said=said).results[0]
    if fits >= 3:
        assert found.error is None
        assert found.scores == whole.scores
    ours = [seeds for sampler, _, seeds in generator.made if sampler == "ddim" and max(seeds) < COUNT]
    assert [seed for seeds in ours for seed in seeds] == list(range(COUNT))
    assert max(map(len, ours)) <= fits
    assert any("out of memory with 10 pictures at once; 5 from here on" in line for line in said)


def test_one_picture_that_does_not_fit_is_a_row_with_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    def before(asked: dict[str, Any]) -> None:
        if asked["guidance_scale"] == 2.0:
            raise OutOfMemory("the device is too small for one picture")

    found = run(tmp_path, generator=FakeGenerator(before))
    errors = [found.results[place].error for place in range(4)]
    assert errors == [None, "the device is too small for one picture"] * 2
    assert [result.error for result in load_run(tmp_path).results] == errors


def test_nan_at_a_step_costs_its_cell_and_keeps_the_batches_before_it(tmp_path: Path) -> None:
    def before(asked: dict[str, Any]) -> None:
        if asked["sampler"] == "ddim" and asked["seeds"][0] == 4:
            raise InvalidPixels("NaN at step 1 of 2")

    found = run(tmp_path, generator=FakeGenerator(before))
    assert [found.results[place].error for place in range(4)] == ["NaN at step 1 of 2"] * 2 + [None] * 2
    generator = FakeGenerator()
    again = run(tmp_path, generator=generator)
    assert all(result.error is None for result in again.results.values())
    ours = [seeds for sampler, _, seeds in generator.made if sampler == "ddim" and max(seeds) < COUNT]
    assert ours == [(4, 5, 6, 7), (8, 9)] * 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("after", [0, 1, 5, 9, 14])
def test_a_disk_that_gives_out_stops_the_run_and_keeps_what_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes], code: int, after: int
) -> None:
    root, real, writes = tmp_path / "run", os.fsync, [0]
    run(root, plan(root, samplers=("ddim",), guidances=(1.0,)))

    def failing(handle: int) -> None:
        writes[0] += 1
        if writes[0] > 10 + after:  # the head of the run is written before the first cell
            raise OSError(code, os.strerror(code))
        real(handle)

    monkeypatch.setattr(atomic.os, "fsync", failing)
    with pytest.raises(RunFolderGaveOut, match="cells are whole and kept"):
        run(root)
    monkeypatch.setattr(atomic.os, "fsync", real)
    assert leftovers(root) == []
    assert (
        contents(root).items()
        >= {name: payload for name, payload in whole.items() if name in contents(root)}.items()
    )
    generator = FakeGenerator()
    again = run(root, generator=generator)
    assert again.results[0].reused
    assert contents(root) == whole


def test_a_clock_that_jumps_moves_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]
) -> None:
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 - 3600.0 * next(jumps))
    run(tmp_path / "run")
    assert contents(tmp_path / "run") == whole


def test_two_writers_of_one_folder_are_refused_and_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with sole_writer(tmp_path):
            (tmp_path / "held").touch()
            time.sleep(60)
        os._exit(0)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with (
        pytest.raises(atomic.RunFolderError, match=rf"being written by process {child} on .* since 20"),
        sole_writer(tmp_path),
    ):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with sole_writer(tmp_path):
        pass


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_batch_and_stops(
    tmp_path: Path, whole: dict[str, bytes], signum: signal.Signals, code: int
) -> None:
    sent = []

    def before(asked: dict[str, Any]) -> None:
        if asked["sampler"] == "ddim" and asked["seeds"][0] == 4 and not sent:
            sent.append(signum)
            os.kill(os.getpid(), signum)

    root = tmp_path / "run"
    with stopping() as stop, pytest.raises(Stopped) as stopped:
        run(root, generator=FakeGenerator(before), stop=stop)
    assert stopped.value.exit_code == code
    cell = next((root / "cells").iterdir())
    assert sorted(path.name[:13] for path in (cell / "batches").iterdir()) == [
        "000000-000004",
        "000004-000008",
    ]
    run(root)
    assert contents(root) == whole


def test_a_second_signal_stops_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with stopping() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signum == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert "once more stops at once" in capsys.readouterr().err


def test_a_stop_before_the_first_batch_makes_none(tmp_path: Path) -> None:
    generator = FakeGenerator()
    with pytest.raises(Stopped):
        run(tmp_path, generator=generator, stop=Stop(signal.SIGTERM))
    assert generator.made == []


def test_whole_cells_of_another_run_are_taken_over_and_the_log_says_from_where(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    generator, said = FakeGenerator(), list[str]()
    found = run(
        tmp_path / "run", generator=generator, said=said, elsewhere=other_runs(tmp_path / "run", None)
    )
    assert generator.made == []
    assert all(result.reused for result in found.results.values())
    assert contents(tmp_path / "run") == whole
    assert sum(f"taken over from {tmp_path / 'whole'}" in line for line in said) == 4
    picture = next((tmp_path / "run").rglob("00000.png"))
    assert load_images(tmp_path / "run", picture.parents[1].name)


def test_a_damaged_cell_of_another_run_is_not_taken_over_and_left_as_it_is(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    spoilt = next((tmp_path / "whole").rglob("00003.png"))
    spoilt.write_bytes(b"x")
    generator = FakeGenerator()
    found = run(tmp_path / "run", generator=generator, elsewhere=other_runs(tmp_path / "run", None))
    assert sum(result.reused for result in found.results.values()) == 3
    assert contents(tmp_path / "run") == whole
    assert spoilt.read_bytes() == b"x"


def test_a_cell_of_another_setup_is_not_taken_over(tmp_path: Path, whole: dict[str, bytes]) -> None:
    asked = plan(tmp_path / "run")
    slower = replace(asked, hardware=replace(asked.hardware, latency_repeats=2))
    found = run(tmp_path / "run", slower, elsewhere=other_runs(tmp_path / "run", None))
    assert not any(result.reused for result in found.results.values())


def test_who_is_told_of_cells_hears_of_reused_ones_too(tmp_path: Path) -> None:
    heard: list[CellResult] = []
    for reused in (False, True):
        heard.clear()
        run(tmp_path, on_done=heard.append)
        assert [result.reused for result in heard] == [reused] * 4
