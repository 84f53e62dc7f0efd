"""Pictures of the report: which are there, how they reach the page, and to which prompt they belong."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_runs import (
    CELLS,
    EVIL,
    FAILED,
    PROMPTS,
    cell,
    clip_score,
    keep_film,
    png,
    result,
    row,
    run_on_disk,
)

from eval.records import ImageRow, PromptSet, Run
from eval.reporting.gallery import EMBEDDED_BYTES, gallery
from eval.reporting.merging import merge_runs
from eval.reporting.picture_files import address, cell_files
from eval.reporting.pictures import NOT_JUDGED, layout, picture_columns, telling_prompts
from eval.reporting.thumbnails import embedded
from eval.running.loading import load_run

LEAD = CELLS[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = run_on_disk(tmp_path_factory.mktemp("run"))
    keep_film(root, LEAD)
    return root


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


def columns(run: Run, folder: Path, **options: Any) -> dict[str, Any]:
    found = gallery(run, folder, LEAD.key, **options)
    read: dict[str, Any] = json.loads(found.json)
    return read


def floats(text: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_each_picture_has_its_score_and_verdict_in_the_cells_order(run: Run, folder: Path) -> None:
    said = columns(run, folder)
    assert said["keys"] == [at.key for at in CELLS]
    clip = floats(said["clip"]).reshape(len(CELLS), len(PROMPTS))
    for i, at in enumerate(CELLS):
        expected = [np.nan if at == FAILED else clip_score(at, index) for index in range(len(PROMPTS))]
        np.testing.assert_allclose(clip[i], expected, rtol=1e-6)
    judge = np.frombuffer(base64.b64decode(said["judge"]), np.uint8).reshape(clip.shape)
    assert said["attributes"] == ["shape", "size"]
    assert judge[0].tolist() == [int(i == 3) for i in range(len(PROMPTS))]
    assert (judge[CELLS.index(FAILED)] == NOT_JUDGED).all()
    assert said["failed"] == [CELLS.index(FAILED)]


def test_the_json_holds_no_markup_whatever_the_prompts(run: Run, folder: Path) -> None:
    text = gallery(run, folder).json
    assert not set("<>&\x00") & set(text)
    assert json.loads(text)["prompts"] == list(PROMPTS)


def test_missing_linked_and_misplaced_pictures_are_not_there(tmp_path: Path) -> None:
    root = run_on_disk(tmp_path / "run")
    outside = tmp_path / "secret.png"
    outside.write_bytes(png((1, 2, 3)))
    images = root / "cells" / LEAD.key / "images"
    (images / "00000.png").unlink()
    (images / "00001.png").unlink()
    (images / "00001.png").symlink_to(outside)
    other = root / "cells" / CELLS[1].key / "images"
    other.rename(tmp_path / "elsewhere")
    other.symlink_to(tmp_path / "elsewhere")
    run = load_run(root)
    strayed = {**run.images, CELLS[2].key: (replace(run.images[CELLS[2].key][0], path="../secret.png"),)}
    said = columns(replace(run, images=strayed), root)
    bits = np.unpackbits(np.frombuffer(base64.b64decode(said["present"]), np.uint8), bitorder="little")
    present = bits[: len(CELLS) * len(PROMPTS)].reshape(len(CELLS), len(PROMPTS))
    assert present[0].tolist() == [0, 0] + [1] * (len(PROMPTS) - 2)
    assert not present[1].any(), "a folder that leads out of the run's"
    assert not present[2].any(), "a row that names another place"
    assert present[3].all()
    inside = columns(replace(run, images=strayed), root, mode="embedded")["pictures"]
    assert not {"1", "2"} & {place for place, found in inside.items() if found}


def test_pictures_are_embedded_byte_for_byte_when_small_and_reduced_when_large(tmp_path: Path) -> None:
    (tmp_path / "small.png").write_bytes(png((255, 0, 0), (64, 64)))
    (tmp_path / "large.png").write_bytes(png((255, 0, 0), (1024, 512)))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    small, large = embedded(tmp_path / "small.png"), embedded(tmp_path / "large.png")
    assert small is not None
    assert base64.b64decode(small.split(",")[1]) == (tmp_path / "small.png").read_bytes()
    assert large is not None
    assert large.startswith("data:image/jpeg;")
    assert len(large) < 20_000
    assert embedded(tmp_path / "broken.png") is embedded(tmp_path / "none.png") is embedded(tmp_path) is None


def test_an_embedding_page_carries_a_choice_of_prompts_with_the_chosen_cells_worst(
    run: Run, folder: Path
) -> None:
    said = columns(run, folder, mode="embedded")
    assert said["mode"] == "embedded"
    assert {0, len(PROMPTS) - 1} <= set(said["shown"]), "both ends of the file"
    assert 3 in said["shown"], "wrong by the judge"
    assert len(said["shown"]) < len(PROMPTS)
    for place, found in said["pictures"].items():
        assert set(found) == {str(prompt) for prompt in said["shown"]}, place
    assert len(said["pictures"]) == len(CELLS) - 1
    assert list(said["strips"]["0"]) == ["0"]
    assert sum(len(uri) for found in said["pictures"].values() for uri in found.values()) < EMBEDDED_BYTES
    assert "file:" not in gallery(run, folder, mode="embedded").policy


def test_large_pictures_get_small_copies_beside_the_report_once(tmp_path: Path) -> None:
    at = cell("ddim", 5, 4.0, side=300)
    root = tmp_path / "run"
    (root / "cells" / at.key / "images").mkdir(parents=True)
    rows = tuple(row(at, i, prompt) for i, prompt in enumerate(PROMPTS))
    for each in rows:
        (root / each.path).write_bytes(png((9, 9, 9), (300, 300)))
    run = replace(load_run(run_on_disk(tmp_path / "small")), results=(result(at),), images={at.key: rows})
    copies = columns(run, root)["pictures"]["0"]
    assert set(copies) == {str(i) for i in range(24)}, "those that the page shows first"
    written = {
        path.relative_to(root).as_posix(): path.stat().st_mtime_ns
        for path in (root / "thumbnails").rglob("*.jpg")
    }
    assert set(copies.values()) == set(written)
    columns(run, root)
    assert {path: (root / path).stat().st_mtime_ns for path in written} == written
    os.utime(root / rows[0].path, (2**33, 2**33))
    columns(run, root)
    assert (root / copies["0"]).stat().st_mtime_ns > written[copies["0"]]


def test_small_pictures_have_no_copies(run: Run, folder: Path) -> None:
    assert columns(run, folder)["pictures"] == {}
    assert not (folder / "thumbnails").exists()


def test_without_pictures_nothing_is_read_or_said(run: Run, folder: Path) -> None:
    assert gallery(run, folder, mode="none").columns is None
    assert gallery(replace(run, images={}), folder).columns is None
    with pytest.raises(ValueError, match="beside, embedded, none"):
        gallery(run, folder, mode="some")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "said",
    [
        [],
        "film",
        {"pictures": [0]},
        {"pictures": ["../x"], "steps": [0], "frame_width": 8, "frame_height": 8},
        {"pictures": [0], "steps": [-1], "frame_width": 8, "frame_height": 8},
        {"pictures": [0], "steps": [True], "frame_width": 8, "frame_height": 8},
        {"pictures": [0], "steps": [0], "frame_width": 10**9, "frame_height": 8},
        {"pictures": [0], "steps": [0], "frame_width": 8, "frame_height": 0},
        {"pictures": [7], "steps": [0], "frame_width": 8, "frame_height": 8},
        {"pictures": [0], "steps": [0] * 1001, "frame_width": 8, "frame_height": 8},
    ],
)
def test_a_film_that_is_not_ours_is_no_film(tmp_path: Path, said: object) -> None:
    keep_film_in = tmp_path / "cells" / LEAD.key
    keep_film_in.mkdir(parents=True)
    keep_film(tmp_path, LEAD, said)
    assert cell_files(LEAD, tmp_path, {}).film is None


def test_a_film_is_read_with_the_strips_that_are_there(folder: Path) -> None:
    film = cell_files(LEAD, folder, {}).film
    assert film is not None
    assert (film.pictures, film.steps, film.width_px, film.height_px) == ((0,), (0, 2, 5), 8, 8)


def test_a_folders_name_cannot_end_or_leave_its_address(tmp_path: Path) -> None:
    odd = tmp_path / "a b#c?d%20\"'é"
    assert address(odd, tmp_path / "out") == "../a%20b%23c%3Fd%2520%22%27%C3%A9/"
    assert address(tmp_path, tmp_path) == ""


def test_pictures_of_a_prompt_with_several_seeds_are_its_own(run: Run, folder: Path) -> None:
    prompts = PromptSet("few", ("a star", "a ring", "a star"), 2)
    rows = {LEAD.key: tuple(row(LEAD, i, prompt) for i, prompt in enumerate(prompts.rows))}
    few = replace(run, plan=replace(run.plan, prompts=prompts), results=(result(LEAD),), images=rows)
    found = picture_columns(few, layout(few), {})
    assert layout(few).texts == prompts.texts
    assert found.index.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert layout(few).draws == 2


def test_a_row_of_another_prompt_is_not_shown_under_this_one(run: Run) -> None:
    rows = (row(LEAD, 1, "something else"), row(LEAD, 2, PROMPTS[2]))
    one = replace(run, results=(result(LEAD),), images={LEAD.key: rows})
    found = picture_columns(one, layout(one), {LEAD.key: {1, 2}})
    assert found.present[0].tolist() == [i == 2 for i in range(len(PROMPTS))]


def test_merged_runs_of_other_prompts_share_the_rows_of_equal_ones(run: Run) -> None:
    texts = ("new", PROMPTS[2], PROMPTS[0])
    other = cell("ddim", 5, 4.0, "beef")
    rows: dict[str, tuple[ImageRow, ...]] = {
        other.key: tuple(row(other, i, text) for i, text in enumerate(texts))
    }
    plan = replace(run.plan, prompts=PromptSet("three", texts))
    second = replace(run, plan=plan, results=(result(other),), images=rows)
    merged = merge_runs({"one": run, "two": second})
    plan_of_both = layout(merged)
    assert plan_of_both.texts == (*PROMPTS, "new")
    found = picture_columns(merged, plan_of_both, {})
    assert found.index[-1].tolist()[:3] == [2, -1, 1]
    assert found.index[-1, -1] == 0
    assert found.index[0, -1] == -1
    assert found.clip[-1, 0] == pytest.approx(clip_score(other, 2))


def test_telling_prompts_without_a_chosen_cell_are_spread(run: Run) -> None:
    plan = layout(run)
    found = picture_columns(run, plan, {})
    assert telling_prompts(found, plan, None, 4) == [0, 10, 19, 29]
    assert telling_prompts(found, plan, None, 99) == list(range(len(PROMPTS)))


def test_a_thousand_cells_of_two_hundred_prompts_take_less_than_three_megabytes(
    run: Run, tmp_path: Path
) -> None:
    cells = [cell("ddim", steps, guidance) for steps in range(1, 101) for guidance in range(10)]
    texts = tuple(f"a picture of number {i}, in oil, by nobody" for i in range(200))
    first = tuple(row(cells[0], i, text) for i, text in enumerate(texts))
    rows = {at.key: first for at in cells}
    plan = replace(run.plan, prompts=PromptSet("many", texts))
    many = replace(run, plan=plan, results=tuple(map(result, cells)), images=rows)
    assert len(gallery(many, tmp_path, cells[3].key).json) < 3_000_000


def test_hostile_prompts_are_the_ones_tested() -> None:
    assert EVIL in PROMPTS
    assert max(map(len, PROMPTS)) == 10_000
