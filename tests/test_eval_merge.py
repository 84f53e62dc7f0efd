"""Several runs in one report: every row told apart, nothing twice, and what differs between them said."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image
from rendering import found_in

from eval import report
from eval.hardware_plan import HardwarePlan
from eval.hashing import file_sha256
from eval.identity import EncoderKey, Incomparable, Score, ScoreKey
from eval.measured import Measured, Timing
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
    Run,
)
from eval.reporting import axes
from eval.reporting.evidence import evidence
from eval.reporting.figures import quality_against_cost
from eval.reporting.html import render
from eval.reporting.merged import open_runs
from eval.reporting.merging import PlacedCell, merge_runs, run_names
from eval.reporting.panels import panels
from eval.reporting.sheet import sheet
from eval.reporting.tables import cells_frame, images_frame
from eval.running.batch_file import BatchRecord
from eval.running.store import RunFolder
from eval.scoring.cell_scores import Seen
from eval.scoring.moments import moments

PROMPTS = tuple(f"prompt {i}" for i in range(80))
CAPTIONS = "80 captions"
FID = "fid[shapes-clip]"
RNG = np.random.default_rng(7)
BASE = RNG.normal(30, 3, len(PROMPTS))


def score(name: str, value: float, encoder: str = "a", reference: str = CAPTIONS) -> Score:
    seen = EncoderKey("shapes", f"sha256:{encoder}", "none", "none", "6", ())
    return Score(ScoreKey(name, len(PROMPTS), "unit", seen, reference), value, not name.startswith("fid"))


def run(
    model: str = "sd15",
    device: str = "NVIDIA A100",
    *,
    fingerprint: str | None = None,
    samplers: tuple[str, ...] = ("euler", "ddim"),
    dtype: str = "float16",
    latency_s: float = 1.0,
    shift: float = 0.0,
    encoder: str = "a",
    reference: str = "ref",
    plan: Mapping[str, object] | None = None,
) -> Run:
    """One cell a sampler; the scores of every sampler but the first are lower by 1."""
    found = Plan(
        ModelPlan(model, model, "cuda", dtype),
        PromptSet("few", PROMPTS),
        ReferencePlan("shapes", 64),
        MetricsPlan("shapes", ("shapes-clip",), ("clip_score", "fid")),
        GridPlan(samplers, (20,), (5.0,), 0),
        HardwarePlan(4, 1, 1),
        "nowhere",
    )
    found = replace(found, **dict(plan or {}))  # type: ignore[arg-type]
    results, images = [], {}
    for place, sampler in enumerate(samplers):
        digest = found.prompts.digest
        cell = Cell(fingerprint or f"f-{model}", sampler, 20, 5.0, digest, 80, 0, 8, 8, dtype, "cuda")
        clip = BASE - shift - place + RNG.normal(0, 0.1, len(PROMPTS))
        images[cell.key] = tuple(
            ImageRow(cell.key, i, i, prompt, f"cells/{cell.key}/images/{i:05d}.png", {"clip_score": clip[i]})
            for i, prompt in enumerate(found.prompts.rows)
        )
        scores = (
            score("clip_score", float(clip.mean()), encoder, digest),
            score(FID, 2.0 + place, encoder, reference),
        )
        timing = Timing(4, (), (), 4 / latency_s, latency_s, latency_s, None, None, None)
        results.append(CellResult(cell, device, 20, scores, Measured(timing)))
    return Run(found, tuple(results), images, {"torch": "2.11", "device": device}, f"model: {model}\n")


def labels(merged: Run) -> list[str]:
    return [result.cell.label for result in merged.results]


def test_rows_of_two_models_say_which_and_nothing_else() -> None:
    merged = merge_runs({"one": run("sd15"), "two": run("sdxl")})
    assert labels(merged)[0] == "sd15 · euler · 20 steps · g 5"
    assert labels(merged)[2] == "sdxl · euler · 20 steps · g 5"
    frame = cells_frame(merged.results)
    assert list(frame["model"]) == ["sd15", "sd15", "sdxl", "sdxl"]
    assert list(frame["run"]) == ["one", "one", "two", "two"]


def test_one_cell_from_two_devices_is_two_rows_with_keys_of_their_own() -> None:
    merged = merge_runs({"one": run(), "two": run(device="NVIDIA H100")})
    assert len(merged.results) == len({result.cell.key for result in merged.results}) == 4
    assert labels(merged)[0] == "NVIDIA A100 · euler · 20 steps · g 5"
    assert {len(rows) for rows in merged.images.values()} == {len(PROMPTS)}
    assert all(row.cell_key == key for key, rows in merged.images.items() for row in rows)


def test_a_cell_that_two_runs_hold_with_the_same_setup_is_taken_once() -> None:
    first, second = run(), run(samplers=("euler", "heun"))
    merged = merge_runs({"one": first, "two": second})
    assert labels(merged) == ["euler · 20 steps · g 5", "ddim · 20 steps · g 5", "heun · 20 steps · g 5"]
    assert merged.results[0].scores == first.results[0].scores
    assert "Taken once, as two runs hold the same: 1 cell." in merged.notes
    assert merged.planned == 3


def test_of_a_failed_cell_and_a_whole_one_the_whole_one_is_taken() -> None:
    failed, whole = run(samplers=("euler",)), run(samplers=("euler",))
    failed = replace(failed, results=(replace(failed.results[0], scores=(), error="out of memory"),))
    merged = merge_runs({"one": failed, "two": whole})
    assert [result.error for result in merged.results] == [None]
    assert merged.images[merged.results[0].cell.key]


@pytest.mark.parametrize(
    "other",
    [
        run(plan={"hardware": HardwarePlan(8, 1, 1)}),
        run(encoder="b"),
        run(dtype="bfloat16"),
        run(fingerprint="another"),
        run(plan={"grid": GridPlan(("euler", "ddim"), (20,), (5.0,), 0), "prompts": PromptSet("x", PROMPTS[:9])}),
    ],
    ids=["batch", "encoder", "dtype", "model of one name", "prompts"],
)  # fmt: skip
def test_no_two_rows_are_indistinguishable(other: Run) -> None:
    merged = merge_runs({"one": run(), "two": other})
    assert len(set(labels(merged))) == len(merged.results) == 4
    series = {(result.cell.series, result.cell.steps, result.cell.guidance) for result in merged.results}
    assert len(series) == 4


def test_three_runs_of_two_models_on_two_devices_are_all_told_apart() -> None:
    merged = merge_runs({"a": run(), "b": run(device="NVIDIA H100"), "c": run("sdxl", "NVIDIA H100")})
    assert labels(merged)[-1] == "sdxl · NVIDIA H100 · ddim · 20 steps · g 5"
    assert [column.title for column in sheet(merged.results).columns][:3] == ["Model", "Device", "Sampler"]


def test_scores_of_other_encoders_stand_in_columns_of_their_own() -> None:
    frame = cells_frame(merge_runs({"one": run(), "two": run("sdxl", encoder="b")}).results)
    assert list(frame["clip_score"].isna()) == [False, False, True, True]
    assert list(frame["clip_score #2"].isna()) == [True, True, False, False]


def test_what_differs_between_runs_is_said() -> None:
    other = run(
        device="NVIDIA H100",
        plan={
            "prompts": PromptSet("fewer", PROMPTS[:9]),
            "reference": ReferencePlan("folder", 0, "/pictures"),
            "hardware": HardwarePlan(16, 1, 1),
        },
    )
    notes = " ".join(merge_runs({"one": run(), "two": other}).notes)
    for said in (
        "different prompts (one: 80 of few; two: 9 of fewer)",
        "different references (one: 64 shapes; two: all folder /pictures)",
        "different devices (NVIDIA A100, NVIDIA H100)",
        "different ways (one: batch 4",
    ):
        assert said in notes
    assert merge_runs({"one": run(), "two": run("sdxl")}).notes == ()


def test_costs_of_two_devices_stand_on_an_axis_that_says_so() -> None:
    merged = merge_runs({"one": run(), "two": run(device="NVIDIA H100", latency_s=0.4)})
    cost = axes.cost_of(merged.results)
    assert cost.mixed == "measured on different devices: NVIDIA A100, NVIDIA H100"
    figure = quality_against_cost(merged, axes.CLIP)
    assert cost.mixed in figure.layout.xaxis.title.text
    assert [trace.name for trace in figure.data][1:] == [
        "NVIDIA A100 · euler", "NVIDIA A100 · ddim", "NVIDIA H100 · euler", "NVIDIA H100 · ddim",
    ]  # fmt: skip
    found = found_in(merged)
    assert found.decision.chosen is not None
    assert found.decision.chosen.device == "NVIDIA H100"
    said = evidence(found.decision, found.quality, merged.results)
    assert any("of the choice is of NVIDIA H100" in sentence for sentence in said)


def test_evaluations_of_two_models_are_said_to_cost_differently() -> None:
    merged = merge_runs({"one": run(), "two": run("sdxl")})
    untimed = [replace(result, measured=None) for result in merged.results]
    assert "cost differently" in axes.cost_of(untimed).mixed
    assert axes.cost_of(run().results).mixed == ""


def test_one_device_and_one_model_leave_nothing_to_say() -> None:
    merged = merge_runs({"one": run(), "two": run(samplers=("heun",))})
    assert merged.notes == ()
    assert axes.cost_of(merged.results) is axes.LATENCY
    assert labels(merged)[-1] == "heun · 20 steps · g 5"


def test_every_figure_keeps_the_cells_of_two_runs_apart() -> None:
    merged = merge_runs({"one": run(), "two": run(device="NVIDIA H100", shift=2)})
    for panel in panels(merged):
        points = [y for trace in panel.figure.data if trace.type == "scatter" for y in trace.y]
        maps = [z for trace in panel.figure.data if trace.type == "heatmap" for row in trace.z for z in row]
        assert len([value for value in (*points, *maps) if value is not None]) >= 4, panel.anchor


def test_the_environment_and_the_configuration_name_their_run_where_they_differ() -> None:
    merged = merge_runs({"one": run(), "two": run("sdxl", "NVIDIA H100")})
    assert merged.environment == {
        "torch": "2.11",
        "device (one)": "NVIDIA A100",
        "device (two)": "NVIDIA H100",
    }
    assert "# two\nmodel: sdxl" in merged.config_yaml


def test_cells_that_are_not_run_yet_are_counted() -> None:
    whole = run()
    merged = merge_runs({"one": replace(whole, results=whole.results[:1]), "two": run("sdxl")})
    assert merged.planned == 4
    assert "3 of 4 done" in render(merged, found_in(merged), Path("nowhere"))


def test_the_page_says_whose_the_decision_is_and_what_differs() -> None:
    merged = merge_runs({"one": run(), "two": run(device="NVIDIA <H100>")})
    page = render(merged, found_in(merged), Path("nowhere"))
    assert "Before runs are compared" in page
    assert "NVIDIA &lt;H100&gt; · euler" in page
    assert "NVIDIA <H100>" not in page


def test_runs_are_named_by_as_much_of_their_path_as_tells_them_apart() -> None:
    assert run_names([PurePosixPath("/x/a"), PurePosixPath("/x/b")]) == ("a", "b")
    assert run_names([PurePosixPath("/x/a/run"), PurePosixPath("/x/b/run")]) == ("a/run", "b/run")


def test_pictures_of_merged_runs_say_their_model_and_run() -> None:
    merged = merge_runs({"one": run(), "two": run("sdxl")})
    rows = [row for rows in merged.images.values() for row in rows]
    frame = images_frame(rows, merged.results)
    assert list(frame.columns)[:3] == ["model", "run", "cell_key"]
    assert set(frame["run"]) == {"one", "two"}
    assert "run" not in images_frame(rows).columns


def on_disk(root: Path, found: Run, *, spread: float = 1.0) -> Path:
    """The run's folder, with pictures, features and a reference."""
    disk = RunFolder(root)
    disk.prepare()
    disk.write_head(found.plan, found.config_yaml, found.environment, [r.cell for r in found.results])
    disk.write_reference("shapes-clip", moments(RNG.normal(0, spread, (400, 6))))
    for result in found.results:
        disk.open_cell(result.cell)
        rows = found.images[result.cell.key]
        for row in rows:
            Image.new("RGB", (8, 8), (row.index, 90, 90)).save(root / row.path)
        features = RNG.normal(0, 1, (len(rows), 6)).astype(np.float32)
        hashes = tuple(file_sha256(root / row.path) for row in rows)
        seen = Seen({"shapes-clip": features}, {}, None, features)
        disk.write_record(result.cell, BatchRecord(0, len(rows), hashes, "look", None, seen))
        disk.write_cell(result, rows, "setup")
    return root


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_two_folders_become_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = on_disk(tmp_path / "runs" / "sd15-1", run())
    two = on_disk(tmp_path / "runs" / "sd15-2", run(device="NVIDIA H100", shift=1))
    out = tmp_path / "all"
    assert report.main([str(one), str(two), f"out={out}", str(one)]) == 0
    assert capsys.readouterr().out.endswith(f"\nreport: {out / 'report.html'}\n")
    cells, images = read(out / "cells.csv"), read(out / "images.csv")
    assert [(row["run"], row["sampler"], row["device"]) for row in cells] == [
        ("sd15-1", "euler", "NVIDIA A100"), ("sd15-1", "ddim", "NVIDIA A100"),
        ("sd15-2", "euler", "NVIDIA H100"), ("sd15-2", "ddim", "NVIDIA H100"),
    ]  # fmt: skip
    assert {row["cell_key"] for row in images} == {row["key"] for row in cells}
    assert all((out / row["path"]).is_file() for row in images)
    compared = {
        row["metric"]: row for row in read(out / "comparisons.csv") if row["cell_key"] == cells[2]["key"]
    }
    assert compared[FID]["difference"]
    assert compared["clip_score"]["cell"].startswith("NVIDIA H100 · euler")
    page = (out / "report.html").read_text()
    assert '"homes":["../runs/sd15-1/","../runs/sd15-2/"]' in page
    assert '"present":null' in page, "every picture is there"


def test_without_out_equal_sets_of_runs_share_one_folder_whatever_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "ROOT", tmp_path)
    one, two = on_disk(tmp_path / "one", run()), on_disk(tmp_path / "two", run("sdxl"))
    assert report.main([str(one), str(two)]) == report.main([str(two), str(one)]) == 0
    (folder,) = (tmp_path / "reports").iterdir()
    assert re.fullmatch(r"merged-[0-9a-f]{8}", folder.name)


def test_one_run_may_be_reported_elsewhere(tmp_path: Path) -> None:
    one = on_disk(tmp_path / "one", run())
    assert report.main([str(one), f"out={tmp_path / 'out'}"]) == 0
    assert not (one / "report.html").exists()
    assert (tmp_path / "out" / "report.html").is_file()


def test_runs_without_a_reference_in_common_give_no_difference_of_fid_but_the_reason(tmp_path: Path) -> None:
    one = on_disk(tmp_path / "one", run())
    two = on_disk(tmp_path / "two", run("sdxl", reference="other"))
    with pytest.raises(Incomparable, match="2 references"):
        open_runs([one, two]).reference("shapes-clip")
    assert report.main([str(one), str(two), f"out={tmp_path / 'out'}"]) == 0
    rows = [row for row in read(tmp_path / "out" / "comparisons.csv") if row["metric"].startswith(FID)]
    assert rows
    assert not any(row["difference"] for row in rows)


@pytest.mark.parametrize("broken", ["absent", "other schema", "not JSON"])
def test_an_unreadable_run_is_one_line_that_names_it(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = on_disk(tmp_path / "one", run()), tmp_path / "two"
    if broken != "absent":
        on_disk(two, run("sdxl"))
        file = next(two.glob("cells/*/cell.json"))
        file.write_text('{"schema_version": 0}' if broken == "other schema" else "{")
    assert report.main([str(one), str(two), f"out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(two) in said
    assert not (tmp_path / "out").exists()


def test_a_run_is_never_written_over_by_a_merged_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = on_disk(tmp_path / "one", run()), on_disk(tmp_path / "two", run("sdxl"))
    assert report.main([str(one), str(two), f"out={one}"]) == 2
    assert "is a run's folder" in capsys.readouterr().err


def test_a_merged_cell_is_still_the_cell() -> None:
    merged = merge_runs({"one": run()})
    cell = merged.results[0].cell
    assert isinstance(cell, PlacedCell)
    assert cell.own_key == run().results[0].cell.key
    assert cell.seeds(0, 2) == (0, 1)
