"""A run's folder: written whole or not at all, and read back as it was."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eval.hardware_plan import HardwarePlan
from eval.identity import EncoderKey, Score, ScoreKey
from eval.measured import Conditions, Curve, CurvePoint, Measured, Memory, Timing
from eval.records import (
    Cell,
    CellResult,
    GridPlan,
    ImageRow,
    MetricsPlan,
    ModelPlan,
    Plan,
    PromptSet,
    ReferencePlan,
    Window,
)
from eval.running import atomic
from eval.running.atomic import RunFolderError, probe, require_space, write_atomic, write_together
from eval.running.batch_file import BatchRecord, unpack
from eval.running.loading import load_features, load_reference, load_run
from eval.running.serial import decode, encode
from eval.running.store import RunFolder
from eval.scoring.cell_scores import Seen
from eval.scoring.moments import Moments

CELL = Cell("f" * 16, "ddim", 4, 3.0, "d" * 64, 2, 0, 8, 6, "float32", "cpu")
PLAN = Plan(
    model=ModelPlan("m", "m", "cpu", "float32"),
    prompts=PromptSet("p", ("a red star", "=b")),
    reference=ReferencePlan("none", 0),
    metrics=MetricsPlan("shapes", ("shapes-clip",), ("clip_score", "fid")),
    grid=GridPlan(("ddim",), (4,), (3.0,), 0),
    hardware=HardwarePlan(2, 1, 1),
    folder="x",
    windows=(Window("clip_score", 29.0, 31.0, "somebody"),),
)
ENCODER = EncoderKey(
    "open_clip x", "sha256:0", "64x64 bicubic", "none", "embedding 8", ("torch 2", "pillow 12")
)
RESULT = CellResult(
    cell=CELL,
    device="a CPU",
    model_evals=4,
    scores=(
        Score(
            ScoreKey("clip_score", 2, "100*cos", ENCODER, "captions", ("open_clip 3",)),
            30.5,
            True,
            29.0,
            32.0,
        ),
        Score(ScoreKey("fid[x]", 2, "squared distance"), None, False, reason="too few"),
        Score(ScoreKey("saturation", 2, "0..1"), 0.5, None, unreliable="unreliable: 2 pictures"),
    ),
    measured=Measured(
        timing=Timing(2, (1.0,), (0.5, 0.6), 2.0, 0.55, 0.6, 0.4, 0.1, None, None),
        memory=Memory(None, None, 123, "cpu"),
        conditions=Conditions(1.0, 0.9, 1980.0, None, 61.0, ("power cap",), 0, 0.01, "a CPU", 2, 1),
        curve=Curve((CurvePoint(1, 2.0, 5), CurvePoint(2, None, None, "out of memory")), 1, "memory"),
    ),
    generate_s=2.5,
)
ROWS = tuple(
    ImageRow(
        CELL.key,
        i,
        i,
        PLAN.prompts.texts[i],
        f"cells/{CELL.key}/images/0000{i}.png",
        {"clip_score": 30.0 + i, "zero_shot": 1.0},
        {"shape": i == 0},
    )
    for i in (0, 1)
)
FEATURES = {"clip_image": np.ones((2, 3), np.float32), "inception": np.zeros((2, 4), np.float32)}
SEEN = Seen(
    {"inception": FEATURES["inception"]},
    {"zero_shot": np.array([1.0, 0.0]), "clip_score": np.array([30.0, 31.0])},
    ({"shape": True, "relation": False}, {"size": True}),
    FEATURES["clip_image"],
)
RECORD = BatchRecord(0, 2, (), "look", 1.5, SEEN)
PIXELS = torch.randint(0, 256, (2, 3, 6, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.prepare()
    made.write_head(PLAN, "a: 1\n", {"python": "3"}, [CELL])
    made.open_cell(CELL)
    return made


def test_a_run_is_read_back_as_it_was_written(folder: RunFolder) -> None:
    folder.write_batch(CELL, RECORD, PIXELS)
    folder.write_cell(RESULT, ROWS, "setup")
    run = load_run(folder.root)
    assert run.plan == PLAN
    assert run.results == (RESULT,)
    assert run.images == {CELL.key: ROWS}
    assert run.environment == {"python": "3"}
    assert run.config_yaml == "a: 1\n"
    found = load_features(folder.root, CELL.key)
    assert {name: rows.tolist() for name, rows in found.items()} == {
        name: rows.tolist() for name, rows in FEATURES.items()
    }


def test_a_batch_is_read_back_as_it_was_written(folder: RunFolder) -> None:
    latents = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    written = folder.write_batch(CELL, replace(RECORD, latents=latents), PIXELS)
    (found,) = folder.read_batches(CELL)
    assert (found.span, found.pictures, found.look, found.generate_s) == (
        (0, 2), written.pictures, "look", 1.5,
    )  # fmt: skip
    assert found.latents is not None
    np.testing.assert_array_equal(found.latents, latents)
    assert found.seen is not None
    assert found.seen.verdicts == SEEN.verdicts
    assert list(found.seen.values) == list(SEEN.values)
    for name, rows in SEEN.features.items():
        np.testing.assert_array_equal(found.seen.features[name], rows)
    pixels = folder.read_images(CELL, 0, 2)
    assert pixels is not None
    torch.testing.assert_close(pixels, PIXELS, rtol=0, atol=0)
    assert folder.read_images(CELL, 0, 3) is None


def test_a_batch_that_is_looked_at_again_has_one_record(folder: RunFolder) -> None:
    folder.write_batch(CELL, RECORD, PIXELS)
    folder.write_record(CELL, replace(folder.read_batches(CELL)[0], look="other"))
    (found,) = folder.read_batches(CELL)
    assert found.look == "other"
    assert folder.read_batch(CELL, 0, 2) is not None
    assert folder.read_batch(CELL, 0, 1) is None


def test_features_that_are_the_scorers_own_are_written_once(folder: RunFolder) -> None:
    rows = SEEN.clip_image
    folder.write_batch(CELL, replace(RECORD, seen=replace(SEEN, features={"shapes-clip": rows})), PIXELS)
    (path,) = (folder.cell_folder(CELL.key) / "batches").iterdir()
    with np.load(path) as stored:
        assert not any(name.startswith("feature/") for name in stored.files)
    (found,) = folder.read_batches(CELL)
    assert found.seen is not None
    assert found.seen.features["shapes-clip"] is found.seen.clip_image


def test_a_record_torn_at_any_byte_is_no_record(folder: RunFolder) -> None:
    folder.write_batch(CELL, RECORD, PIXELS)
    (path,) = (folder.cell_folder(CELL.key) / "batches").iterdir()
    payload = path.read_bytes()
    for length in range(0, len(payload), 7):
        path.write_bytes(payload[:length])
        with pytest.raises(ValueError, match="not those that were written"):
            unpack(path)


OLD = ("batch", "batch_samples_s", "latency_samples_s", "images_per_s", "latency_p50_s", "latency_p95_s")
OLD += ("denoise_s", "decode_s", "text_s", "reason")


def _of_schema_2() -> str:
    """cell.json as the version before wrote it: no hashes, and time and memory beside the scores."""
    result = json.loads(encode(RESULT))
    measured = result.pop("measured")
    result["timing"] = {name: measured["timing"][name] for name in OLD}
    names = ("gpu_allocated_bytes", "gpu_reserved_bytes", "process_peak_rss_bytes", "reason")
    result["memory"] = {name: measured["memory"][name] for name in names}
    return json.dumps({"schema_version": 2, "setup": "setup", "result": result})


def test_a_run_of_schema_2_is_read_and_its_cells_are_not_taken_for_whole(folder: RunFolder) -> None:
    cell = folder.cell_folder(CELL.key)
    (cell / "cell.json").write_text(_of_schema_2())
    (cell / "images.json").write_bytes(encode(ROWS))
    np.savez(cell / "features.npz", **FEATURES)
    run = load_run(folder.root)
    assert RESULT.measured is not None
    assert run.results == (
        replace(RESULT, measured=Measured(RESULT.measured.timing, RESULT.measured.memory)),
    )
    assert run.images == {CELL.key: ROWS}
    assert set(load_features(folder.root, CELL.key)) == set(FEATURES)
    assert folder.read_cell(CELL, "setup", pictures=True) is None


def test_pictures_of_schema_2_are_kept_and_only_looked_at_again(folder: RunFolder) -> None:
    cell = folder.cell_folder(CELL.key)
    (cell / "cell.json").write_text(_of_schema_2())
    folder.write_batch(CELL, RECORD, PIXELS)
    for path in (cell / "batches").iterdir():
        path.unlink()
    folder.take_up_earlier(CELL, 1)
    first, second = folder.read_batches(CELL)
    assert (first.span, second.span, first.seen, first.look) == ((0, 1), (1, 2), None, "")
    (folder.root / folder.image_path(CELL.key, 1)).write_bytes(b"torn")
    assert [record.span for record in folder.read_batches(CELL)] == [(0, 1)]


def test_a_cell_that_is_not_whole_is_left_out_of_the_run(folder: RunFolder) -> None:
    assert load_run(folder.root).results == ()


def test_a_whole_cell_is_reused_and_says_so(folder: RunFolder) -> None:
    folder.write_cell(RESULT, ROWS, "setup")
    found = folder.read_cell(CELL, "setup")
    assert found == RESULT
    assert found.reused
    assert not load_run(folder.root).results[0].reused


def test_a_cell_that_was_scored_otherwise_or_failed_is_not_reused(folder: RunFolder) -> None:
    folder.write_cell(RESULT, ROWS, "setup")
    assert folder.read_cell(CELL, "other") is None
    folder.write_cell(CellResult(CELL, "a CPU", 4, error="out of memory"), (), "setup")
    assert folder.read_cell(CELL, "setup") is None


def test_the_references_moments_come_back_and_a_run_without_has_none(folder: RunFolder) -> None:
    folder.write_reference("inception", Moments(7, np.array([1.0, 2.0]), np.eye(2)))
    folder.write_reference("dinov2-vit-l-14", Moments(None, np.zeros(1), np.ones((1, 1))))
    found = load_reference(folder.root, "inception")
    assert found is not None
    assert (found.n, found.mean.tolist(), found.covariance.tolist()) == (
        7,
        [1.0, 2.0],
        [[1.0, 0.0], [0.0, 1.0]],
    )
    unknown = load_reference(folder.root, "dinov2-vit-l-14")
    assert unknown is not None
    assert unknown.n is None
    assert load_reference(folder.root, "shapes-clip") is None
    (folder.root / "reference-inception.npz").write_bytes(b"PK damaged")
    with pytest.raises(RunFolderError, match="run the sweep again"):
        load_reference(folder.root, "inception")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "cell.json"
    write_atomic(target, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(RunFolderError, match="no space left"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["cell.json"]


def test_files_that_are_written_together_are_all_there_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"old")
    contents = {str(number): bytes([number]) * 9000 for number in range(3)}
    write_together(tmp_path, contents.items())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == contents


def test_writing_together_that_fails_leaves_the_old_files_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1").write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(RunFolderError, match="no space left to write .*/0"):
        write_together(tmp_path, (("0", b"new"), ("1", b"new")))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"1": b"old"}


def test_no_file_has_its_name_before_all_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def killed(file: int) -> None:
        synced.append(file)
        assert not [path for path in tmp_path.iterdir() if path.name[0] != "."]
        if len(synced) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_together(tmp_path, ((str(number), b"new") for number in range(3)))
    assert atomic.discard_temporaries(tmp_path) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_cell_whose_writing_broke_off_is_not_whole(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def broken(source: Any, target: Any) -> None:
        if Path(target).name == "cell.json":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(KeyboardInterrupt):
        folder.write_cell(RESULT, ROWS, "setup")
    assert folder.read_cell(CELL, "setup") is None


def test_a_file_in_the_way_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    for path in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(RunFolderError, match="out=FOLDER"):
            probe(path)


@pytest.mark.parametrize(("code", "said"), [(errno.EACCES, "no permission"), (errno.EROFS, "no permission")])
def test_no_permission_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunFolderError, match=said):
        probe(tmp_path / "run")


def test_too_little_space_is_said_before_work(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="needs about"):
        require_space(tmp_path, 10**18)


def test_a_run_of_another_version_is_refused_by_name(folder: RunFolder) -> None:
    folder.write_cell(RESULT, ROWS, "setup")
    path = folder.cell_folder(CELL.key) / "cell.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 0}))
    with pytest.raises(RunFolderError, match="schema 0, this version reads 3"):
        load_run(folder.root)
    assert folder.read_cell(CELL, "setup") is None


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"plan\.json cannot be read"):
        load_run(tmp_path)


def test_decoding_names_what_is_wrong() -> None:
    stored = json.loads(encode(RESULT))
    assert decode(CellResult, stored) == RESULT
    with pytest.raises(ValueError, match=r"CellResult\.cell\.steps must be of type int, got '4'"):
        decode(CellResult, {**stored, "cell": {**stored["cell"], "steps": "4"}})
    with pytest.raises(ValueError, match="unknown field 'new'"):
        decode(CellResult, {**stored, "new": 1})
    with pytest.raises(ValueError, match="device"):
        decode(CellResult, {key: value for key, value in stored.items() if key != "device"})


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(Score("x", float("nan"), 1, True, "id"))
