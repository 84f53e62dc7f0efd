"""Each client for real, with the network closed: what it was told is read back by its own means."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tracked_runs import CELLS, CONFIG, ENVIRONMENT, FILES, TrackedRun, make_run, png

from eval.records import MlflowPlan, TrackingPlan, WandbPlan
from eval.tracking.kept import read_kept
from sdkit import InvalidRequest


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No connection leaves the machine; the clients' own variables and folders are of this test."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"the network was asked for {address}")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "WANDB_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "NETRC"):
        monkeypatch.setenv(variable, str(tmp_path / variable))


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """MLflow's tables, whose making takes seconds."""
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    file = tmp_path_factory.mktemp("empty") / "all.db"
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        warnings.filterwarnings("ignore", message="The ``noload``", category=DeprecationWarning)
        MlflowClient(f"sqlite:///{file}").search_experiments()
    return file.read_bytes()


class TestTensorboard:
    @pytest.fixture
    def run(self, tmp_path: Path) -> TrackedRun:
        pytest.importorskip("tensorboard")
        return make_run(tmp_path / "run", TrackingPlan(("tensorboard",), images=2))

    def test_figures_pictures_and_remarks_are_read_back(self, run: TrackedRun) -> None:
        assert run.go() == ("tensorboard: run tensorboard in tensorboard",)
        found = _events(run.folder / "tensorboard")
        clip = [(event.step, event.value) for event in found.Scalars("scores/clip_score")]
        assert clip == [(0, 30.5), (2, 31.5)]
        assert [event.value for event in found.Scalars("scores/clip_score_high")] == [31.5, 32.5]
        assert "scores/fid_inf.shapes-clip" not in found.Tags()["scalars"]
        assert found.Images("ddim-4-g3/00001")[0].encoded_image_string == png(1)
        assert sorted(tag for tag in found.Tags()["images"] if "g3" in tag) == [
            "ddim-4-g3/00000",
            "ddim-4-g3/00001",
        ]
        assert "the picture is wholly black" in _text(found, "failed/ddim-4-g2.5")
        assert "3 pictures, of 2048 needed" in _text(found, "remarks/ddim-4-g1")
        assert "grid.steps: [4, 8]" in _text(found, "settings")

    @pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated:DeprecationWarning")
    def test_a_hostile_prompt_is_shown_and_is_no_markup(self, run: TrackedRun) -> None:
        from tensorboard.plugin_util import markdown_to_safe_html

        run.go()
        html = markdown_to_safe_html(_text(_events(run.folder / "tensorboard"), "captions/ddim-4-g1"))
        assert "spy.png" in html
        for markup in ("<script", "<img", "<a ", "<h1"):
            assert markup not in html

    def test_each_cell_is_a_session_with_its_settings(self, run: TrackedRun) -> None:
        run.go()
        session = _events(run.folder / "tensorboard" / "ddim-4-g2.5", missing=True)
        assert session is None
        session = _events(run.folder / "tensorboard" / "ddim-4-g3")
        assert session.Scalars("scores/clip_score")[0].value == 31.5
        assert "hparams" in session.summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name

    def test_a_resumed_run_goes_on_in_the_same_folder(self, run: TrackedRun) -> None:
        run.go(run.results[:1])
        run.go(run.reused)
        clip = _events(run.folder / "tensorboard").Scalars("scores/clip_score")
        assert sorted(event.step for event in clip) == [0, 2]

    def test_events_that_were_deleted_are_written_again(self, run: TrackedRun) -> None:
        run.go()
        shutil.rmtree(run.folder / "tensorboard")
        run.go(run.reused)
        clip = _events(run.folder / "tensorboard").Scalars("scores/clip_score")
        assert [event.step for event in clip] == [0, 2]


class TestMlflow:
    @pytest.fixture
    def run(self, tmp_path: Path, empty_database: bytes) -> TrackedRun:
        (tmp_path / "all.db").write_bytes(empty_database)
        given = MlflowPlan(f"sqlite:///{tmp_path}/all.db", "ours")
        return make_run(tmp_path / "run", TrackingPlan(("mlflow",), images=2, mlflow=given))

    def test_the_sweep_is_a_run_and_each_cell_one_below_it(self, run: TrackedRun) -> None:
        (line,) = run.go()
        parent, children = _mlflow(str(run.plan.tracking.mlflow.uri), "ours")
        assert parent.info.run_id in line
        assert parent.info.status == "FAILED"
        assert parent.data.params["grid.steps"] == "[4, 8]"
        assert parent.data.params["prompts.where.a.b_/c"] == "x"
        assert parent.data.tags["environment.prompts_cut_by_the_model_s_text_encoder"] == "0 of 3"
        assert [child.info.run_name for child in children] == ["ddim-4-g1", "ddim-4-g2.5", "ddim-4-g3"]
        assert [child.info.status for child in children] == ["FINISHED", "FAILED", "FINISHED"]
        assert children[1].data.tags["failed"] == "the picture is wholly black"
        assert children[1].data.metrics == {"cost/model_evals": 4.0}
        assert children[2].data.params["guidance"] == "3.0"
        assert children[2].data.metrics["scores/clip_score_low"] == 30.5
        assert "scores/fid_inf.shapes-clip" not in children[2].data.metrics
        assert children[2].data.tags["scores/fid.shapes-clip"] == "3 pictures, of 2048 needed"

    def test_pictures_captions_and_files_are_artefacts(self, run: TrackedRun) -> None:
        run.go()
        parent, children = _mlflow(str(run.plan.tracking.mlflow.uri), "ours")
        root = run.folder.parent / "artifacts"
        assert not (run.folder / "mlflow").exists()
        assert {path.name for path in (root / parent.info.run_id / "artifacts").iterdir()} == set(FILES)
        shown = root / children[0].info.run_id / "artifacts" / "pictures"
        assert sorted(path.name for path in shown.iterdir()) == ["00000.png", "00001.png", "captions.json"]
        assert (shown / "00001.png").read_bytes() == png(1)
        captions = json.loads((shown / "captions.json").read_text())
        assert captions["00000.png"].startswith("<script>")

    def test_a_resumed_run_is_the_same_run_and_a_mended_cell_has_no_error(self, run: TrackedRun) -> None:
        run.go(run.results[:2])
        run.go((run.reused[0], replace(run.results[0], cell=CELLS[1]), run.results[2]), exit_code=0)
        parent, children = _mlflow(str(run.plan.tracking.mlflow.uri), "ours")
        assert parent.info.status == "FINISHED"
        assert [child.info.status for child in children] == ["FINISHED"] * 3
        assert "failed" not in children[1].data.tags
        assert read_kept(run.folder).runs["mlflow"].run == parent.info.run_id

    def test_a_folder_that_has_moved_gets_a_new_database_with_every_cell(self, tmp_path: Path) -> None:
        pytest.importorskip("mlflow")
        run = make_run(tmp_path / "run", TrackingPlan(("mlflow",)))
        run.go()
        run.folder.rename(tmp_path / "moved")
        moved = TrackedRun(tmp_path / "moved", run.plan, run.results)
        moved.go(run.reused)
        parent, children = _mlflow(f"sqlite:///{tmp_path}/moved/mlflow/mlflow.db", "sdkit")
        assert len(children) == 3
        assert str(tmp_path / "moved") in parent.info.artifact_uri
        assert len(list((tmp_path / "moved" / "mlflow").glob("*.db"))) == 2
        assert not run.folder.exists()

    def test_a_server_that_nobody_answers_for_fails_no_sweep_and_gives_no_password_away(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("mlflow")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hush@127.0.0.1:{_free_port()}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        run = make_run(tmp_path / "run", TrackingPlan(("mlflow", "tensorboard")))
        lines = run.go()
        assert lines[0].startswith("mlflow: 3 cells are NOT logged")
        assert lines[1].startswith("tensorboard: run")
        said = capsys.readouterr().err + "".join(lines) + (run.folder / "tracking.json").read_text()
        assert "hush" not in said
        assert said.count("tracking by mlflow failed") == 1

    def test_a_store_that_breaks_in_the_middle_is_caught_up_with_by_the_same_command(
        self, run: TrackedRun, tmp_path: Path
    ) -> None:
        trackers = run.open()
        trackers.started(run.plan, CONFIG, ENVIRONMENT, CELLS)
        trackers.cell_done(run.results[0])
        (tmp_path / "all.db").rename(tmp_path / "away.db")
        (tmp_path / "all.db").write_bytes(b"torn" * 1000)
        for result in run.results[1:]:
            trackers.cell_done(result)
        (line,) = trackers.finished(1)
        assert line.startswith("mlflow: 2 cells are NOT logged")
        (tmp_path / "away.db").rename(tmp_path / "all.db")
        assert "NOT" not in run.go(run.reused)[0]
        assert len(_mlflow(str(run.plan.tracking.mlflow.uri), "ours")[1]) == 3

    def test_the_client_is_told_not_to_report_to_its_makers(
        self, run: TrackedRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
        run.open()
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


class TestWandb:
    @pytest.fixture
    def run(self, tmp_path: Path) -> TrackedRun:
        pytest.importorskip("wandb")
        return make_run(tmp_path / "run", TrackingPlan(("wandb",), images=2))

    def test_an_offline_run_holds_the_rows_pictures_and_files(
        self, run: TrackedRun, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (line,) = run.go()
        kept = read_kept(run.folder).runs["wandb"].run
        assert kept.startswith("run-")
        assert line == f"wandb: run {kept} in offline:default/sdkit"
        (folder,) = (run.folder / "wandb").glob("offline-run-*")
        rows = [row for row in _history(folder) if "cell" in row]
        assert [row["cell"] for row in rows] == [0, 1, 2]
        assert [row.get("scores/clip_score") for row in rows] == [30.5, None, 31.5]
        assert "scores/fid_inf_shapes_clip" not in rows[0]
        assert rows[0]["scores/fid_shapes_clip"] == 12.0
        assert "failed: the picture is wholly black" in rows[1]["remarks"]
        assert rows[2]["pictures/captions"][0].startswith("<script>")
        written = {path.read_bytes() for path in (folder / "files" / "media" / "images").glob("*.png")}
        assert written == {png(0), png(1)}
        staged = (run.folder / "wandb" / "artifacts" / "staging").iterdir()
        assert {path.read_bytes() for path in staged if path.is_file()} >= {
            (run.folder / FILES[0]).read_bytes()
        }
        assert capfd.readouterr().out == ""

    def test_a_resumed_run_keeps_its_id_and_numbers_its_rows_on(self, run: TrackedRun) -> None:
        run.go(run.results[:2])
        first = read_kept(run.folder).runs["wandb"].run
        time.sleep(1.1)  # the client names its folder by the second
        run.go(run.reused)
        assert read_kept(run.folder).runs["wandb"].run == first
        folders = sorted((run.folder / "wandb").glob("offline-run-*"))
        assert len(folders) == 2
        assert all(folder.name.endswith(f"-{first}") for folder in folders)
        again = [row for row in _history(folders[-1]) if "cell" in row]
        assert [(row["_step"], row["cell"]) for row in again] == [(2, 1), (3, 2)]

    def test_nothing_of_the_machine_or_the_command_line_is_written(self, run: TrackedRun) -> None:
        run.go()
        (folder,) = (run.folder / "wandb").glob("offline-run-*")
        assert _whole(folder)
        written = b"".join(path.read_bytes() for path in (run.folder / "wandb").rglob("*.wandb"))
        assert sys.executable.encode() not in written
        assert not list((run.folder / "wandb").rglob("wandb-metadata.json"))

    def test_online_without_a_key_is_refused_before_any_work(self, tmp_path: Path) -> None:
        pytest.importorskip("wandb")
        with pytest.raises(InvalidRequest, match="needs a key"):
            make_run(tmp_path / "run", TrackingPlan(("wandb",), wandb=WandbPlan(mode="online"))).open()


def _events(folder: Path, missing: bool = False) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if missing and not folder.exists():
        return None
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    return found.Reload()


def _text(found: Any, tag: str) -> str:
    (event,) = found.Tensors(f"{tag}/text_summary")
    return str(event.tensor_proto.string_val[0].decode())


def _mlflow(uri: str, experiment_name: str) -> tuple[Any, list[Any]]:
    """The sweep's run, and those below it by name."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(experiment_name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    children = [each for each in runs if "mlflow.parentRunId" in each.data.tags]
    assert len(parents) == 1
    return parents[0], sorted(children, key=lambda each: each.info.run_name or "")


def _history(folder: Path) -> list[dict[str, Any]]:
    """Rows of a run's own file, as `wandb sync` would send them."""
    rows = []
    for record in _whole(folder):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            rows.append({**row, "_step": record.history.step.num})
    return rows


def _whole(folder: Path) -> list[Any]:
    """All records of a run that has ended; the client's own process writes the last ones after the end."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("*.wandb")
    for _ in range(300):
        found = [wandb_internal_pb2.Record.FromString(raw) for raw in _records(file.read_bytes())]
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.1)
    raise AssertionError(f"{file} has no end")


def _records(raw: bytes) -> Iterator[bytes]:
    """LevelDB's log format: blocks of 32 KiB of (checksum, length, kind) and bytes, behind a head of 7 bytes."""
    place, whole = 7, b""
    while place + 7 <= len(raw):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", raw, place)
        if place + 7 + length > len(raw):  # the client's own process is still at it
            return
        whole += raw[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or a last part
            yield whole
            whole = b""


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
