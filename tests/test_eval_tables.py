"""Cells and pictures as CSV: every cell a row, nothing missing as a number, nothing run as a formula."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from eval.identity import EncoderKey, Score, ScoreKey
from eval.measured import Conditions, Curve, CurvePoint, Energy, Measured, Memory, Price, Timing
from eval.records import Cell, CellResult, ImageRow
from eval.reporting.accelerated import COLUMNS as ACCELERATED
from eval.reporting.columns import FIXED, cell_columns, image_columns, kind_of
from eval.reporting.frames import cells_frame, comparisons_frame, images_frame, scores_frame
from eval.reporting.sheet import sheet
from eval.reporting.tables import write_cells_csv, write_images_csv, write_parquet
from eval.scoring.catalogue import title_of

README = Path(__file__).resolve().parents[1] / "reports" / "README.md"


def key(name: str, encoder: str = "A") -> ScoreKey:
    return ScoreKey(name, 8, "unit", EncoderKey(encoder, "sha256:0", "none", "none", "last", ()))


def result(sampler: str = "ddim", **changes: object) -> CellResult:
    cell = Cell("f00d", sampler, 10, 4.0, "p", 8, 2**64 - 9, 64, 64, "float32", "cpu")
    timing = Timing(8, (1.0,), (0.1, 0.2), 8.0, 0.15, 0.195, 0.1, 0.01, None, reason=None)
    scores = (
        Score(key("clip_score"), -0.5, True, -0.75, -0.25),
        Score(key("fid[shapes-clip]"), None, False, reason="needs 65 pictures"),
    )
    memory = Memory(None, None, 900, "no GPU")
    return replace(CellResult(cell, "CPU", 10, scores, Measured(timing, memory), 2.5), **changes)


def image(index: int = 0, prompt: str = "a star", **changes: object) -> ImageRow:
    row = ImageRow("f00d", index, 7 + index, prompt, f"{index}.png", {"clip_score": 30.0})
    return replace(row, **changes)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_cell_is_a_row_with_scores_costs_reasons_and_identity(tmp_path: Path) -> None:
    write_cells_csv([result()], tmp_path / "cells.csv")
    (row,) = read(tmp_path / "cells.csv")
    assert row["key"] == result().cell.key
    assert (row["clip_score"], row["clip_score_low"], row["clip_score_high"]) == ("-0.5", "-0.75", "-0.25")
    assert (row["latency_p50_s"], row["latency_p95_s"], row["images_per_s"]) == ("0.15", "0.195", "8.0")
    assert (row["model_evals"], row["process_peak_rss_bytes"], row["generate_s"]) == ("10", "900", "2.5")
    assert row["reasons"] == "fid[shapes-clip]: needs 65 pictures; memory: no GPU"
    told = "n 8; scale unit; encoder.name A; encoder.weights sha256:0; encoder.resize none"
    assert row["identity"].startswith(f"clip_score: {told}")
    assert f" | fid[shapes-clip]: {told}" in row["identity"]
    assert row["seed"] == str(2**64 - 9)


def test_what_is_not_known_is_an_empty_field_and_never_zero(tmp_path: Path) -> None:
    write_cells_csv([result(), result("heun", scores=(), measured=None)], tmp_path / "cells.csv")
    first, second = read(tmp_path / "cells.csv")
    assert (
        first["fid[shapes-clip]"] == first["gpu_allocated_bytes"] == first["text_s"] == first["error"] == ""
    )
    for name in ("clip_score", "clip_score_low", "latency_p50_s", "images_per_s", "process_peak_rss_bytes"):
        assert second[name] == ""


def measured_fully() -> Measured:
    timing = Timing(
        8, (1.0,), (0.1, 0.2), 8.0, 0.15, None, 0.1, 0.01, None, reason="latency_p95_s: few",
        throughput_unreliable="another process computed on the GPU", throughput_spread=0.2, cold_s=3.0,
    )  # fmt: skip
    return Measured(
        timing,
        Memory(5, 6, 7, gpu_driver_bytes=8, unreliable="another process held memory of the GPU"),
        Conditions(1.0, 0.9, 1980.0, 2619.0, 61.0, ("power cap",), 1, 0.01, "a CPU", 2, 1),
        Energy(80.0, 8, 10.0, 80.0),
        price=Price(0.25, "EUR"),
        curve=Curve(
            (CurvePoint(1, 2.0, 5_000_000), CurvePoint(2, None, None, "out of memory")), 1, "memory ran out"
        ),
    )


def test_what_was_measured_is_in_columns_with_its_marks(tmp_path: Path) -> None:
    write_cells_csv([result(measured=measured_fully())], tmp_path / "cells.csv")
    (row,) = read(tmp_path / "cells.csv")
    assert row["throughput_unreliable"] == "another process computed on the GPU"
    assert (row["latency_unreliable"], row["latency_p95_s"], row["latency_p99_s"]) == ("", "", "")
    assert row["memory_unreliable"] == "another process held memory of the GPU"
    assert (row["cold_s"], row["throughput_spread"], row["gpu_driver_bytes"]) == ("3.0", "0.2", "8")
    assert (row["joules_per_image"], row["sm_clock_mhz"], row["throttle"]) == ("10.0", "1980.0", "power cap")
    assert (row["cost_per_1000_images"], row["currency"]) == ("0.25", "EUR")
    assert row["batch_curve"] == "1: 2/s 5 MB; 2: failed. memory ran out"
    assert "timing: latency_p95_s: few" in row["reasons"]


def test_a_noisy_measurement_is_marked_beside_its_figures_in_the_report() -> None:
    found = sheet([result(measured=measured_fully()), result("heun")])
    marks = {
        column.title: [row.fields[place].unreliable for row in found.rows]
        for place, column in enumerate(found.columns)
    }
    assert marks["Pictures/s"] == ["unreliable: another process computed on the GPU", ""]
    assert marks["J a picture"][0] == marks["EUR for 1,000"][0] == marks["Pictures/s"][0]
    assert marks["Latency p50 (ms)"] == ["", ""]
    assert "held memory" in marks["GPU by driver (MB)"][0]


def test_a_failed_cell_keeps_its_row_and_its_error(tmp_path: Path) -> None:
    failed = result("heun", scores=(), measured=None, model_evals=None, error="out of memory")
    write_cells_csv([result(), failed], tmp_path / "cells.csv")
    assert [row["error"] for row in read(tmp_path / "cells.csv")] == ["", "out of memory"]


def test_integers_stay_integers_beside_missing_ones() -> None:
    frame = cells_frame([result(), result("heun", model_evals=None)])
    assert str(frame["model_evals"].dtype) == "Int64"
    assert frame["model_evals"].isna().tolist() == [False, True]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_looks_like_a_formula_is_kept_as_text(tmp_path: Path, start: str) -> None:
    write_images_csv([image(prompt=f"{start}cmd()")], tmp_path / "images.csv")
    write_cells_csv([result(error=f"{start}cmd()")], tmp_path / "cells.csv")
    assert read(tmp_path / "images.csv")[0]["prompt"] == f"'{start}cmd()"
    assert read(tmp_path / "cells.csv")[0]["error"] == f"'{start}cmd()"


def test_numbers_are_untouched_by_the_guard_and_keep_every_digit(tmp_path: Path) -> None:
    score = -1 / 3
    write_images_csv([image(values={"clip_score": score}), image(1, values={})], tmp_path / "images.csv")
    rows = read(tmp_path / "images.csv")
    assert float(rows[0]["clip_score"]) == score
    assert rows[1]["clip_score"] == ""


def test_line_breaks_in_a_prompt_do_not_break_its_row(tmp_path: Path) -> None:
    prompts = ["a\rb", "a\nb", 'a "b", c']
    write_images_csv([image(i, prompt=prompt) for i, prompt in enumerate(prompts)], tmp_path / "images.csv")
    assert [row["prompt"] for row in read(tmp_path / "images.csv")] == prompts


def test_verdicts_are_a_column_an_attribute_and_empty_where_nobody_judged() -> None:
    rows = [image(judge={"shape": True, "size": False}), image(1, judge={"shape": False}), image(2)]
    frame = images_frame(rows)
    assert frame["judge_shape"].tolist() == [True, False, pd.NA]
    assert frame["judge_size"].tolist() == [False, pd.NA, pd.NA]


def test_scores_of_different_identity_are_never_in_one_column() -> None:
    other = result("heun", scores=(Score(key("clip_score", "B"), 99.0, True),))
    frame = cells_frame([result(), result("euler"), other])
    assert frame["clip_score"].isna().tolist() == [False, False, True]
    assert frame["clip_score #2"].isna().tolist() == [True, True, False]


def test_an_empty_run_gives_a_table_of_headings(tmp_path: Path) -> None:
    write_cells_csv([], tmp_path / "cells.csv")
    write_images_csv([], tmp_path / "images.csv")
    assert (tmp_path / "cells.csv").read_text().startswith("key,sampler,steps,guidance,model_evals,")
    assert (tmp_path / "images.csv").read_text() == "cell_key,index,seed,prompt,path,clip_score\n"


def test_a_table_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("old")
    write_cells_csv([result()], tmp_path / "cells.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["cells.csv"]
    assert "ddim" in (tmp_path / "cells.csv").read_text()


def test_an_unreliable_value_has_its_reason_in_a_column_beside_it(tmp_path: Path) -> None:
    why = "=unreliable: 8 pictures, of 2048 needed"
    doubted = result(scores=(Score(key("fid[shapes-clip]"), 3.5, False, unreliable=why),))
    write_cells_csv([doubted, result("heun", scores=())], tmp_path / "cells.csv")
    first, second = read(tmp_path / "cells.csv")
    assert first["fid[shapes-clip]"] == "3.5"
    assert first["fid[shapes-clip]_unreliable"] == f"'{why}"
    assert second["fid[shapes-clip]_unreliable"] == ""


def test_a_different_count_of_pictures_is_a_column_of_its_own() -> None:
    fewer = Score(replace(key("clip_score"), n=4), 31.0, True)
    frame = cells_frame([result(), result("euler"), result("heun", scores=(fewer,))])
    assert frame["clip_score #2"].isna().tolist() == [True, True, False]


def test_every_value_of_a_picture_is_a_column() -> None:
    frame = images_frame([image(values={"clip_score": 30.0, "saturation": 0.4}), image(1, values={})])
    assert frame["saturation"].tolist() == [0.4, pd.NA]
    assert list(frame.columns).count("clip_score") == 1


def test_scores_of_no_cell_are_one_row_in_the_same_columns() -> None:
    (row,) = scores_frame(result().scores).to_dict("records")
    assert (row["images"], row["clip_score"], row["clip_score_low"]) == (8, -0.5, -0.75)
    assert row["reasons"] == "fid[shapes-clip]: needs 65 pictures"
    assert set(cells_frame([result()]).columns) >= set(row)


def sheet_of(*scores: Score) -> dict[str, tuple[object, object]]:
    """Column title -> its head and its field in the first row."""
    found = sheet([result(scores=scores), result("heun", scores=())])
    return {
        head.title: (head, field) for head, field in zip(found.columns, found.rows[0].fields, strict=True)
    }


def test_a_score_without_direction_has_no_best_value() -> None:
    found = sheet_of(Score(key("saturation"), 0.4, None), Score(key("clip_score"), 30.0, True))
    head, field = found["Saturation"]
    assert head.hint == "neither direction is better"
    assert not field.best
    assert found["CLIP score"][1].best


def test_the_table_folds_all_but_the_main_scores_and_never_a_second_identity_of_those() -> None:
    names = ("clip_score", "fid[a]", "fid[b]", "kid[a]", "judge_all", "ssim", "latent_rmse")
    results = [result("euler", scores=tuple(Score(key(name), 0.5, True) for name in names))] * 2
    other = result("heun", scores=(Score(key("fid[a]", "B"), 2.0, True),))
    found = sheet([*results, other])
    folded = {column.title for column in found.columns if not column.main}
    assert folded == {title_of("fid[b]"), title_of("kid[a]"), title_of("ssim")}
    assert found.folded == 3


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("judge_all", 0.5, "50.0 %"),
        ("zero_shot", 0.125, "12.5 %"),
        ("precision[inception]", 0.8, "80.0 %"),
        ("clipped", 0.01, "1.0 %"),
        ("clip_score", 30.126, "30.13"),
        ("kid[inception]", 0.00123456, "0.001235"),
        ("density[inception]", 0.9, "0.9"),
    ],
)
def test_shares_are_read_in_per_cent_and_the_rest_in_plain_digits(name: str, value: float, text: str) -> None:
    assert sheet_of(Score(key(name), value, True))[title_of(name)][1].text == text


def test_parquet_reads_back_with_its_types_and_its_text_as_it_is(tmp_path: Path) -> None:
    rows = [image(prompt="=cmd()\x00"), image(1, values={}), image(2, seed=None)]
    for name, frame in (("cells", cells_frame([result()])), ("images", images_frame(rows))):
        write_parquet(frame, tmp_path / f"{name}.parquet")
        found = pd.read_parquet(tmp_path / f"{name}.parquet")
        assert list(found.columns) == list(frame.columns)
        assert found["seed"].dtype == "UInt64"
        for column in set(found.columns) - {"seed"}:
            assert str(found[column].dtype) == str(frame[column].dtype), column
            assert found[column].tolist() == frame[column].tolist() or found[column].isna().any()
    assert found["prompt"].tolist()[0] == "=cmd()\x00"
    assert found["seed"].tolist()[:2] == [7, 8]
    assert found["seed"].isna().tolist() == [False, False, True]


def test_columns_stand_in_one_order_whichever_cell_comes_first() -> None:
    names = ("fid[b]", "judge_all", "clip_score", "fid[a]", "mine")
    each = [result(f"s{i}", scores=(Score(key(name), 0.5, True),)) for i, name in enumerate(names)]
    orders = {
        tuple(cells_frame(list(order)).columns)
        for order in itertools.islice(itertools.permutations(each), 0, 120, 17)
    }
    assert len(orders) == 1
    found = [name for name in orders.pop() if name in names]
    assert found == ["clip_score", "fid[a]", "fid[b]", "judge_all", "mine"]


def test_a_second_identity_stands_right_behind_the_first() -> None:
    names = ("clip_score #2", "fid[a]", "clip_score #10", "clip_score")
    found = [name for name in cell_columns(names, placed=False) if name in names]
    assert found == ["clip_score", "clip_score #2", "clip_score #10", "fid[a]"]


def test_verdicts_and_values_stand_in_one_order_whichever_picture_comes_first() -> None:
    rows = [
        image(judge={"size": True, "shape": True}, values={"saturation": 0.5}),
        image(1, judge={"shape": True, "place": True}, values={"clip_score": 30.0, "zero_shot": 1.0}),
    ]
    assert list(images_frame(rows).columns) == list(images_frame(rows[::-1]).columns)
    assert list(images_frame(rows).columns)[5:] == [
        "clip_score", "zero_shot", "saturation", "judge_place", "judge_shape", "judge_size",
    ]  # fmt: skip


def test_whole_numbers_stay_exact_beside_missing_ones() -> None:
    rows = [image(seed=2**64 - 1), image(1, seed=None), image(2, seed=2**53 + 1)]
    assert images_frame(rows)["seed"].tolist() == [2**64 - 1, pd.NA, 2**53 + 1]


def documented(table: str) -> dict[str, str]:
    """Column -> kind, as `reports/README.md` has them."""
    section = README.read_text(encoding="utf-8").partition(f"### {table}.csv\n")[2].partition("\n### ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    assert all(len(row) == 5 and row[3].strip() for row in rows), (
        "name, kind, unit, meaning, when it is empty"
    )
    return {row[0].strip(" `"): row[1].strip() for row in rows}


def test_the_readme_documents_every_column_in_its_place_with_its_kind() -> None:
    cells = cell_columns(["<score>"], placed=True, accelerated=True)
    assert list(documented("cells").items()) == list(cells.items())
    assert (
        documented("comparisons")
        == FIXED["comparisons"]
        == comparisons_frame([]).dtypes.astype(str).to_dict()
    )
    pictures = image_columns(["<value>"], ["<attribute>"], placed=True)
    assert list(documented("images").items()) == list(pictures.items())


def test_the_frames_have_the_documented_columns_and_kinds() -> None:
    frame = cells_frame([result(measured=measured_fully())])
    expected = {name: kind for name, kind in documented("cells").items() if "<" not in name}
    for name in ("model", "run", *ACCELERATED):
        del expected[name]
    assert [name for name in frame.columns if name in expected] == list(expected)
    assert all(str(frame[name].dtype) == kind_of("cells", name) for name in frame.columns)
    assert {
        name.replace("clip_score", "<score>") for name in frame.columns if name.startswith("clip_score")
    } == {name for name in documented("cells") if "<" in name}
    pictures = images_frame([image(values={"clip_score": 1.0, "ssim": 0.5}, judge={"shape": True})])
    assert all(str(pictures[name].dtype) == kind_of("images", name) for name in pictures.columns)
    assert set(pictures.columns) - set(documented("images")) == {"ssim", "judge_shape"}
