"""`python eval/score.py`: pictures from anywhere, with the metrics and columns of a sweep."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval import score, sweep
from eval.identity import Score
from eval.records import Run
from eval.running.loading import load_run
from eval.running.serial import decode
from eval.scoring import weights

COUNT = 12


@pytest.fixture(autouse=True)
def _scorer(tiny_scorer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled scorer's place is taken by a small one with random weights."""
    monkeypatch.setattr(weights, "bundled_scorer", lambda: tiny_scorer)


@pytest.fixture(scope="module")
def swept(tiny_sd: Path, tiny_scorer: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A small sweep with its one cell's pictures."""
    out = tmp_path_factory.mktemp("sweep") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "bundled_scorer", lambda: tiny_scorer)
        asked = ["model=folder", f"model.source={tiny_sd}", f"out={out}", f"prompts.count={COUNT}"]
        small = ["grid.sampler=[ddim]", "grid.steps=[2]", "grid.guidance=[2]", "reference.count=40"]
        quick = ["hardware.latency_repeats=0", "hardware.throughput_repeats=0", "metrics.converged.count=0"]
        assert sweep.main([*asked, *small, *quick]) == 0
    return out, load_run(out)


def _lines(folder: Path, run: Run) -> Path:
    path = folder / "prompts.txt"
    path.write_text("".join(f"{text}\n" for text in run.plan.prompts.texts), encoding="utf-8")
    return path


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _scores(folder: Path) -> dict[str, Score]:
    found: tuple[Score, ...] = decode(tuple[Score, ...], json.loads((folder / "scores.json").read_text()))
    return {each.name: each for each in found}


def test_the_pictures_of_a_cell_get_the_scores_that_the_sweep_gave_them(
    swept: tuple[Path, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = swept
    (result,) = run.results
    images = out / "cells" / result.cell.key / "images"
    asked = [f"images={images}", f"prompts={_lines(tmp_path, run)}", "reference=shapes", "reference.count=40"]
    assert score.main([*asked, "metrics=shapes", f"out={tmp_path / 'scores'}"]) == 0
    found = _scores(tmp_path / "scores")
    for expected in result.scores:
        if expected.name in ("latent_rmse", "ssim"):
            assert found[expected.name].reason == "no converged run was made"
            continue
        assert found[expected.name].key == expected.key
        assert found[expected.name].value == pytest.approx(expected.value, rel=1e-5, abs=1e-5)
    rows = _read(tmp_path / "scores" / "images.csv")
    assert [row["path"] for row in rows] == [f"{index:05d}.png" for index in range(COUNT)]
    assert [row["prompt"] for row in rows] == list(run.plan.prompts.texts)
    assert rows[0]["seed"] == "", "nobody knows the seed of a picture from elsewhere"
    assert float(rows[3]["clip_score"]) == pytest.approx(run.images[result.cell.key][3].values["clip_score"])
    (row,) = _read(tmp_path / "scores" / "scores.csv")
    assert float(row["fid[shapes-clip]"]) == pytest.approx(result.scores[2].value, rel=1e-5)
    assert "of 2048 needed" in row["fid[shapes-clip]_unreliable"]
    printed = capsys.readouterr().out
    assert "unreliable" in printed
    assert "scores: " in printed


def test_a_folder_an_npz_a_list_and_coco_are_told_apart_by_their_names() -> None:
    told = score.spelled_out(["reference=a/b", "reference=m.npz", "reference=l.txt", "reference=c.json"])
    assert told == [
        *("reference=folder", "reference.path='a/b'", "reference=moments", "reference.path='m.npz'"),
        *("reference=list", "reference.path='l.txt'", "reference=coco", "reference.path='c.json'"),
    ]
    assert score.spelled_out(["prompts=my prompts.tsv", "prompts=parti", "metrics=shapes"]) == [
        *("prompts=file", "prompts.path='my prompts.tsv'", "prompts=parti", "metrics=shapes")
    ]


@pytest.mark.parametrize("name", ["it's, {odd} [name] $x.txt", "a=b.txt", "back\\slash.txt"])
def test_a_path_may_hold_whatever_hydra_reads_as_its_own(
    name: str, swept: tuple[Path, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = swept
    prompts = _lines(tmp_path, run).rename(tmp_path / name)
    images = out / "cells" / run.results[0].cell.key / "images"
    asked = [f"images={images}", f"prompts={prompts}", "metrics=shapes", "metrics.scores=[saturation]"]
    assert score.main([*asked, f"out={tmp_path / 'scores'}"]) == 0, capsys.readouterr().err


def test_pictures_of_several_sizes_keep_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    levels = (10, 200, 60, 120)
    for index, level in enumerate(levels):
        Image.new("RGB", (20 + 4 * (index % 2), 24), (level, 0, 0)).save(folder / f"{index}.png")
    (tmp_path / "p.txt").write_text("a\nb\nc\nd\n")
    asked = [f"images={folder}", f"prompts={tmp_path / 'p.txt'}", "metrics=shapes"]
    assert score.main([*asked, "metrics.scores=[contrast,saturation]", f"out={tmp_path / 'out'}"]) == 0
    rows = _read(tmp_path / "out" / "images.csv")
    assert [row["path"] for row in rows] == ["0.png", "1.png", "2.png", "3.png"]
    assert {float(row["saturation"]) for row in rows} == {1.0}
    assert len(rows) == len(levels)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["images=null"], "images must be a folder of pictures, got nothing"),
        (["images=/nowhere/at/all"], "/nowhere/at/all"),
        (["prompts=shapes"], "prompts must be a file for score.py"),
        (["prompts=/nowhere.txt"], "/nowhere.txt"),
        (["reference=/nowhere.npz"], "/nowhere.npz"),
        (["metrics.scores=[clip_scor]"], "clip_score"),
        (["image=x"], "nearest: images"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    asked: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.txt").write_text("a\n")
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "pictures" / "1.png")
    base = [f"images={tmp_path / 'pictures'}", f"prompts={tmp_path / 'p.txt'}", "metrics=shapes"]
    base.append(f"out={tmp_path / 'out'}")
    assert score.main([*base, *asked]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert len(captured.err.splitlines()) == 1
    assert said in captured.err


def test_a_corrupt_picture_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise: Any = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(folder / "1.png")
    (folder / "2.png").write_bytes((folder / "1.png").read_bytes()[:900])
    (tmp_path / "p.txt").write_text("a\nb\n")
    asked = [f"images={folder}", f"prompts={tmp_path / 'p.txt'}", "metrics=shapes"]
    assert score.main([*asked, f"out={tmp_path / 'out'}"]) == 2
    assert "2.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
