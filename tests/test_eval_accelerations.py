"""Two lossy accelerations as axes: the product of cells, names that tell of them, and older names that stay."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from asking import Ask
from fake_bench import FakeGenerator, plan, run

from eval import sweep
from eval.accelerations import finest
from eval.measured import Measured, Memory
from eval.records import Cell, CellResult, ConvergedPlan, Run, digest
from eval.report import rebuild
from eval.reporting.frames import cells_frame
from eval.reporting.run_pairs import Side, pair_runs
from eval.running.converged import ConvergedRuns
from eval.running.loading import load_run
from eval.running.precision import ModelOptions, doubt_memory, model_options, refuse_precision
from eval.running.store import RunFolder
from eval.scoring import weights
from eval.tracking.readings import accelerated, short_name
from sdkit import InvalidRequest, Session

PLAIN = Cell("f00d", "ddim", 4, 2.0, "p", 3, 0, 64, 64, "float32", "cpu")
LIMITED = replace(PLAIN, guidance_interval=(0.3, 5.0))
HALF = replace(LIMITED, precision="bfloat16", dtype="bfloat16")
AXES = {"guidance_intervals": (None, (0.3, 5.0)), "precisions": ("float32", "bfloat16")}


def test_what_was_made_before_there_were_accelerations_keeps_its_key_and_its_folder(ask: Ask) -> None:
    assert PLAIN.key == "1963e7351546a4d6"
    assert digest(ask().asked).startswith("47da0f3b8779c21f")
    assert len({PLAIN.key, LIMITED.key, HALF.key, replace(PLAIN, precision="float32").key}) == 4


def test_every_name_of_a_setting_tells_what_accelerates_it_and_nothing_else() -> None:
    assert PLAIN.label == "ddim · 4 steps · g 2"
    assert LIMITED.label == "ddim · 4 steps · g 2 at σ 0.3–5"
    assert HALF.label == "ddim · 4 steps · g 2 at σ 0.3–5 · bfloat16"
    assert [each.series for each in (PLAIN, LIMITED, HALF)] == [
        "ddim",
        "ddim · guided at σ 0.3–5",
        "ddim · guided at σ 0.3–5 · bfloat16",
    ]
    assert [short_name(each) for each in (PLAIN, HALF)] == ["ddim-4-g2", "ddim-4-g2-s0.3-5-bfloat16"]
    assert accelerated(PLAIN) == {}
    assert accelerated(HALF) == {"guidance_interval": "(0.3, 5.0)", "precision": "bfloat16"}


def test_the_grid_is_the_product_but_without_guidance_there_is_nothing_to_limit(tmp_path: Path) -> None:
    grid = plan(tmp_path, samplers=("ddim",), guidances=(1.0, 2.0), **AXES).grid
    found = [(each.precision, each.guidance, each.guidance_interval) for each in grid.points]
    assert found == [
        (precision, guidance, interval)
        for precision in ("float32", "bfloat16")
        for guidance, interval in ((1.0, None), (2.0, None), (2.0, (0.3, 5.0)))
    ]
    assert grid.series == (
        "ddim · float32", "ddim · guided at σ 0.3–5 · float32",
        "ddim · bfloat16", "ddim · guided at σ 0.3–5 · bfloat16",
    )  # fmt: skip
    assert plan(tmp_path).grid.series == plan(tmp_path).grid.samplers


def test_the_configuration_holds_both_axes(ask: Ask) -> None:
    grid = ask(
        "grid.guidance_interval=[null,[0.3,5],[0.3,5.0]]", "grid.precision=[bfloat16,float32,bfloat16]"
    ).grid
    assert grid.guidance_intervals == (None, (0.3, 5.0))
    assert grid.precisions == ("bfloat16", "float32")
    assert finest(grid.precisions) == "float32"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["grid.guidance_interval=[]"], r"grid.guidance_interval must be a list of \[low, high\] and null, got \[\]"),
        (["grid.guidance_interval=5"], r"grid.guidance_interval must be a list of \[low, high\] and null, got 5"),
        (["grid.guidance_interval=[0.3,5]"], "grid.guidance_interval must be two noise levels, .* got 0.3"),
        (["grid.guidance_interval=[[5,0.3]]"], "0 <= low < high, got 5, 0.3"),
        (["grid.guidance_interval=[[a,b]]"], r"0 <= low < high, got \['a', 'b'\]"),
        (["grid.guidance_interval=[[0.3,5]]", "grid.guidance=[1]"], "must come with a guidance scale above 1"),
        (["grid.precision=[]"], r"grid.precision must hold at least one value, got \[\]"),
        (["grid.precision=[int8]"], "grid.precision must be one of float32, float16, bfloat16, fp8, got 'int8'"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_before_a_weight_is_read(ask: Ask, overrides: list[str], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        ask(*overrides)


def test_a_precision_is_a_number_format_of_the_model_and_fp8_needs_a_gpu_that_has_it() -> None:
    assert model_options("bfloat16") == ModelOptions("bfloat16")
    assert model_options("fp8") == ModelOptions("bfloat16", "fp8")
    refuse_precision("float16", "cpu")
    with pytest.raises(InvalidRequest, match="got 'fp8': quantise='fp8' needs a GPU .*got cpu; leave it out"):
        refuse_precision("fp8", "cpu")


def test_a_process_that_holds_several_precisions_doubts_its_own_memory() -> None:
    found = Measured(None, Memory(None, None, 10**9))
    assert doubt_memory(found, 0) == doubt_memory(found, 1) == found
    memory = doubt_memory(found, 2).memory
    assert memory is not None
    assert memory.unreliable == "the process holds the model's weights in 2 precisions"


def test_a_run_makes_every_combination_once_and_takes_itself_up_again(tmp_path: Path) -> None:
    asked = plan(tmp_path, count=6, samplers=("ddim",), guidances=(2.0,), **AXES)
    generator = FakeGenerator()
    found = run(tmp_path, asked, generator).results
    cells = [found[place].cell for place in range(4)]
    assert [(each.precision, each.dtype, each.guidance_interval) for each in cells] == [
        (precision, precision, interval)
        for precision in ("float32", "bfloat16")
        for interval in (None, (0.3, 5.0))
    ]
    assert [each.error for each in found.values()] == [None] * 4
    pictures = {RunFolder(tmp_path).read_images(cell, 0, 6).numpy().tobytes() for cell in cells}  # type: ignore[union-attr]
    assert len(pictures) == 4
    again = FakeGenerator()
    assert all(result.reused for result in run(tmp_path, asked, again).results.values())
    assert again.made == []
    assert [result.cell for result in load_run(tmp_path).results] == cells


def test_the_report_tells_the_accelerations_where_there_are_any(tmp_path: Path) -> None:
    run(tmp_path / "with", plan(tmp_path / "with", count=6, guidances=(2.0,), **AXES))
    page = rebuild(tmp_path / "with").report.read_text(encoding="utf-8")
    label = json.dumps("ddim · 2 steps · g 2 at σ 0.3–5 · bfloat16")  # the scripts' own, in ASCII
    for text in (label, "Guided at", "every σ", "float32, bfloat16"):
        assert text in page
    for series in ("ddim · float32", "euler_a · guided at σ 0.3–5 · bfloat16"):
        assert f'value="{series}"' in page
        assert f'data-series="{series}"' in page
    run(tmp_path / "without", plan(tmp_path / "without", count=6, guidances=(2.0,)))
    page = rebuild(tmp_path / "without").report.read_text(encoding="utf-8")
    assert "Guided at" not in page
    assert "σ" not in page


def test_tables_have_the_columns_only_where_a_setting_has_a_value() -> None:
    plain = cells_frame([CellResult(PLAIN, "a CPU", 4)])
    assert not {"guidance_interval_low", "guidance_interval_high", "precision"} & set(plain)
    both = cells_frame([CellResult(PLAIN, "a CPU", 4), CellResult(HALF, "a CPU", 4)])
    assert both["guidance_interval_low"].tolist() == [pd.NA, 0.3]
    assert both["guidance_interval_high"].tolist() == [pd.NA, 5.0]
    assert both["precision"].isna().tolist() == [True, False]
    assert both["precision"][1] == "bfloat16"


def test_runs_are_paired_by_their_accelerations_too(tmp_path: Path) -> None:
    sides = []
    for letter, more in (("a", {}), ("b", {"guidance_intervals": AXES["guidance_intervals"]})):
        asked = plan(tmp_path, samplers=("ddim",), guidances=(2.0,), **more)
        cells = [
            replace(PLAIN, steps=2, guidance_interval=each)
            for each in asked.grid.guidance_intervals or (None,)
        ]
        found = Run(asked, tuple(CellResult(cell, "a CPU", 2) for cell in cells), {}, {}, "")
        sides.append(Side(letter, letter, found, tmp_path, lambda key: {}, lambda name: None))
    found = pair_runs(*sides)
    assert [pair.label for pair in found.pairs] == ["ddim · 2 steps · g 2"]
    (alone,) = found.alone
    assert alone.label == "ddim · 2 steps · g 2 at σ 0.3–5"
    assert alone.why == "a made it with different guidance interval"


def test_the_converged_picture_is_made_without_any_acceleration(tmp_path: Path) -> None:
    fine, coarse = (Session("shapes", device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16"))
    prompts = ["a red star", "a blue ring", "a green square"]
    own = {each.dtype: (each, each.encode(prompts).rows) for each in (fine, coarse)}
    runs = ConvergedRuns(ConvergedPlan("dpmpp_2m", 12, 3), fine, own["float32"][1], tmp_path, own)
    whole = replace(PLAIN, sampler="dpmpp_2m", steps=12)

    def distance(cell: Cell) -> float:
        return float(np.mean(runs.measure(cell, None).values["latent_rmse"]))

    assert distance(whole) == distance(replace(whole, precision="float32")) == 0
    assert distance(replace(whole, precision="bfloat16", dtype="bfloat16")) > 0
    assert distance(replace(whole, guidance_interval=(0.3, 5.0))) > 0
    assert len(list(tmp_path.glob("*.npz"))) == 1


def test_a_sweep_of_two_precisions_is_planned_made_and_found_whole(
    tiny_sd: Path,
    tiny_scorer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(weights, "bundled_scorer", lambda: tiny_scorer)
    command = [
        "model=folder", f"model.source={tiny_sd}", f"out={tmp_path / 'run'}", "grid.sampler=[ddim]", "grid.steps=[2]",
        "grid.guidance=[3]", "grid.guidance_interval=[[0.3,5]]", "grid.precision=[float32,bfloat16]",
        "prompts.count=2", "reference.count=8", "hardware.batch=2", "hardware.latency_repeats=1",
        "hardware.throughput_repeats=1", "metrics.batch=2", "metrics.converged.steps=3", "metrics.converged.count=1",
    ]  # fmt: skip
    assert sweep.main([*command, "plan=true"]) == 0
    assert "ddim · 2 steps · g 3 at σ 0.3–5 · bfloat16  2 pictures" in (said := capsys.readouterr().out)
    assert "by a calibration of 4 pictures on" in said
    assert sweep.main(command) == 0
    results = load_run(tmp_path / "run").results
    assert [(each.cell.dtype, each.error) for each in results] == [("float32", None), ("bfloat16", None)]
    rmse = [each.score("latent_rmse") for each in results]
    assert all(score is not None and score.value for score in rmse)
    assert rmse[0] != rmse[1]
    capsys.readouterr()
    assert sweep.main([*command, "plan=true"]) == 0
    assert "2 cells, 2 whole" in capsys.readouterr().out
    refused = [*command, "grid.precision=[float32,fp8]", "hardware.device=cpu"]
    assert sweep.main(refused) == 2
    assert "grid.precision must be had on cpu, got 'fp8'" in capsys.readouterr().err
