"""The tables on disk: any text comes back to the letter, kinds as they were, and no field begins a formula."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from eval.identity import Score, ScoreKey
from eval.measured import Measured, Timing
from eval.records import Cell, CellResult, ImageRow
from eval.reporting import read_cells, read_comparisons, read_images
from eval.reporting.comparisons import Comparison
from eval.reporting.csv_text import from_csv, to_csv
from eval.reporting.frames import cells_frame, comparisons_frame, images_frame
from eval.reporting.tables import write_parquet, write_tables
from sdkit._errors import InvalidRequest

HOSTILE = (
    '=HYPERLINK("http://x", "y")', "'=1", "'", "''", "", " ", "=1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", "\r\n",
    "  =1", "\u200f=1", "\ufeff=1", "\u200b+1", "\x00=1", "\uff1d1+1", "nul \x00 here", "\u2400", "\u24000", "\x000",
    "\u2400\u2400\x00\u2400", 'a "b", c', '"', '""', ",", "a\rb", "a\nb", "a\r\nb", "\u202eright to left\u202c", "🦊",
    "x" * 10_000, "'" * 10_000, "NA", "null", "nan", "None", "True", "1", "1e5", "-0.5", "\x1a", "a\x85b\u2028c",
    "</script><script>alert(1)</script>",
)  # fmt: skip
TEXT = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=40), st.text("='\"\r\n\t,\x00\u24000 +-@", max_size=6)
)
FORMULA = re.compile(
    "[\\s\x00-\x1f\x7f\ufeff\u200b-\u200f\u202a-\u202e\u2060-\u2069]*[=+\\-@\uff1d\uff0b\uff0d\uff20]"
)


def runs(field: str) -> bool:
    """Whether a spreadsheet could take the field for a formula; a number is none."""
    try:
        float(field)
    except ValueError:
        return FORMULA.match(field) is not None
    return False


def fields(payload: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(payload.decode(), newline="")))


@given(st.lists(st.one_of(st.none(), TEXT), min_size=1, max_size=6), TEXT)
@example(list(HOSTILE), "=score")
@example([None, None], "'")
@settings(max_examples=100, deadline=None)
def test_any_text_comes_back_to_the_letter_and_is_no_formula(texts: list[str | None], name: str) -> None:
    name = f"{name}_"  # an empty name is none that pandas can keep
    frame = pd.DataFrame({name: pd.Series(texts, dtype="object").astype("str"), "n": range(len(texts))})
    payload = to_csv(frame)
    assert b"\x00" not in payload
    assert not any(runs(field) for row in fields(payload) for field in row)
    back = from_csv(payload)
    assert list(back.columns) == [name, "n"]
    assert [None if pd.isna(text) else text for text in back[name]] == texts
    assert pd.read_csv(io.BytesIO(payload))["n"].tolist() == list(range(len(texts)))


def cell(sampler: str, **changes: object) -> Cell:
    return replace(Cell("f00d", sampler, 10, 4.0, "p", 8, 2**64 - 9, 64, 64, "float32", "cpu"), **changes)


def results() -> list[CellResult]:
    timing = Timing(8, (1.0,), (0.1, 0.2), 8.0, 1 / 3, None, 0.1, 0.01, None, cold_s=1e-300)
    scores = (
        Score(ScoreKey("clip_score", 8, "unit"), -1 / 3, True, -0.75, 0.1, unreliable="=few"),
        Score(ScoreKey("=fid", 8, "unit"), 1e300, False),
    )
    whole = [CellResult(cell(text), text, 10, scores, Measured(timing)) for text in HOSTILE]
    return [*whole, CellResult(cell("failed"), "CPU", None, error="@out of\nmemory")]


def pictures() -> list[ImageRow]:
    first = [
        ImageRow("f00d", i, 2**64 - 1 - i, text, f"{i}.png", {"clip_score": i / 3, "kid[a]": -1e-17}, {"size": i > 3})
        for i, text in enumerate(HOSTILE)
    ]  # fmt: skip
    return [*first, ImageRow("f00d", 99, None, "unknown", "99.png")]


COMPARED = (
    Comparison("clip_score", "=a", "b", -0.1, -0.2, 0.0, "max-T", 8, None, None, "k", "l"),
    Comparison("fid[a]", None, None, None, None, None, None, None, None, "no cell has a value"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("tables")
    write_tables(found, results(), pictures(), COMPARED)
    return found


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_every_table_is_read_back_as_it_was(folder: Path, ending: str) -> None:
    assert_frame_equal(read_cells(folder / f"cells.{ending}"), cells_frame(results()), check_exact=True)
    assert_frame_equal(read_images(folder / f"images.{ending}"), images_frame(pictures()), check_exact=True)
    found = read_comparisons(folder / f"comparisons.{ending}")
    assert_frame_equal(found, comparisons_frame(COMPARED), check_exact=True)


def test_a_runs_folder_stands_for_its_tables(folder: Path) -> None:
    assert_frame_equal(read_images(str(folder)), read_images(folder / "images.csv"))


def test_no_field_of_any_table_begins_a_formula_its_head_included(folder: Path) -> None:
    for name in ("cells", "images", "comparisons"):
        rows = fields((folder / f"{name}.csv").read_bytes())
        assert len({len(row) for row in rows}) == 1
        assert [field for row in rows for field in row if runs(field)] == []
    assert "'=fid" in fields((folder / "cells.csv").read_bytes())[0]


def test_plain_pandas_reads_the_right_numbers(folder: Path) -> None:
    cells, images = pd.read_csv(folder / "cells.csv"), pd.read_csv(folder / "images.csv")
    assert cells["clip_score"].tolist()[:-1] == [-1 / 3] * len(HOSTILE)
    assert cells["latency_p50_s"].dtype == cells["steps"].astype("float64").dtype == "float64"
    assert cells["steps"].tolist() == [10] * (len(HOSTILE) + 1)
    assert cells["clip_score"].isna().tolist() == [False] * len(HOSTILE) + [True]
    assert images["index"].tolist() == [*range(len(HOSTILE)), 99]
    assert images["clip_score"].tolist()[:4] == [0, 1 / 3, 2 / 3, 1]


def test_a_missing_text_and_an_empty_one_are_told_apart(tmp_path: Path) -> None:
    rows = [ImageRow("f00d", 0, 1, "", "0.png")]
    write_tables(tmp_path, [], rows, ())
    found = read_images(tmp_path)
    assert found["prompt"].tolist() == [""]
    assert found["clip_score"].isna().all()


def test_tables_without_rows_keep_their_kinds(tmp_path: Path) -> None:
    write_tables(tmp_path, [], [], ())
    assert_frame_equal(read_cells(tmp_path), cells_frame([]))
    assert_frame_equal(read_images(tmp_path), images_frame([]))
    assert_frame_equal(read_comparisons(tmp_path / "comparisons.parquet"), comparisons_frame(()))


def test_half_a_letter_in_a_files_name_is_replaced_and_loses_no_table(tmp_path: Path) -> None:
    write_tables(tmp_path, [], [ImageRow("", 0, None, "a", "b\udcff.png")], ())
    assert read_images(tmp_path)["path"].tolist() == ["b\ufffd.png"]
    assert read_images(tmp_path / "images.parquet")["path"].tolist() == ["b\ufffd.png"]


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "No columns"),
        (b"a,b\r\n1,2\r\n", "no column 'key'"),
        (b"key,sampler,steps\r\nk,ddim,many\r\n", "invalid literal"),
        (b"key,sampler,steps\r\n\xff,ddim,1\r\n", "utf-8"),
        (b'key,sampler,steps\r\nk,"ddim,1\r\n', "EOF"),
    ],
)
def test_what_is_no_table_is_said_in_one_line_that_names_it(
    tmp_path: Path, payload: bytes, said: str
) -> None:
    path = tmp_path / "cells.csv"
    path.write_bytes(payload)
    with pytest.raises(InvalidRequest, match=said) as refused:
        read_cells(path)
    assert str(path) in str(refused.value)


def test_a_broken_parquet_file_is_refused_alike(tmp_path: Path) -> None:
    (tmp_path / "cells.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InvalidRequest, match="is no cells table"):
        read_cells(tmp_path / "cells.parquet")
    write_parquet(images_frame([]), tmp_path / "cells.parquet")
    with pytest.raises(InvalidRequest, match="no column 'key'"):
        read_cells(tmp_path / "cells.parquet")
