"""Large runs: what makes them quick changes nothing that is read, paired or compared."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from eval.records import CellResult, ImageRow, Run
from eval.reporting.benchmarks.large_run import fill
from eval.reporting.comparisons import compare
from eval.reporting.fid_rows import Kept, fid_samples
from eval.reporting.shared_rows import shared_rows
from eval.running.films import read_film
from eval.running.loading import load_features, load_reference, load_run
from eval.running.serial import decode
from eval.running.store import RunFolder
from eval.scoring.threads import SMALL_WIDTH, threads_for

FID = "fid[shapes-clip]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large") / "run"
    fill(root, 12, 80)
    return root


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


def test_the_benchmarks_run_is_whole_as_a_sweeps(folder: Path, run: Run) -> None:
    assert len(run.results) == 12
    for result in run.results:
        assert RunFolder(folder).read_cell(result.cell, "setup", pictures=True) is not None
        assert read_film(folder / "cells" / result.cell.key) is not None
        assert len(result.scores) == 16
    rows = compare(run, partial(load_features, folder), partial(load_reference, folder))
    assert {row.metric for row in rows if row.low is not None} >= {"clip_score", FID}


def test_rows_in_another_order_pair_off_by_prompt_and_seed(run: Run) -> None:
    first, other = run.results[0], run.results[1]
    plain = shared_rows(first, run.results, run.images, "latent_rmse")
    turned = dict(run.images) | {other.cell.key: run.images[other.cell.key][::-1]}
    found = shared_rows(first, run.results, turned, "latent_rmse")
    assert plain is not None
    assert found is not None
    assert plain.pictures == 8
    np.testing.assert_array_equal(plain.values, found.values)
    assert found.apart == ()


@pytest.mark.parametrize("change", [{"seed": 99}, {"prompt": "another"}, {"values": {}}])
def test_a_cell_of_other_pictures_stands_apart(run: Run, change: dict[str, object]) -> None:
    first, other = run.results[0], run.results[1]
    rows = list(run.images[other.cell.key])
    rows[3] = replace(rows[3], **change)  # type: ignore[arg-type]
    found = shared_rows(first, run.results, dict(run.images) | {other.cell.key: rows}, "clip_score")
    assert found is not None
    assert [each.cell.key for each in found.apart] == [other.cell.key]


def test_features_are_read_once_a_cell_and_a_kept_sample_serves_no_other_pictures(
    folder: Path, run: Run
) -> None:
    keys, asked = [result.cell.key for result in run.results], list[str]()
    reference = load_reference(folder, "shapes-clip")
    assert reference is not None

    def features(key: str) -> dict[str, np.ndarray]:
        asked.append(key)
        return load_features(folder, key)

    kept: Kept = {}
    first, _ = fid_samples(keys, "shapes-clip", reference, run.images, features, kept)
    again, reasons = fid_samples(keys, "shapes-clip", reference, run.images, features, kept)
    assert asked == keys
    assert again == first
    assert reasons == {}
    spoilt = dict(run.images) | {keys[2]: [replace(row, seed=99) for row in run.images[keys[2]]]}
    _, reasons = fid_samples(keys, "shapes-clip", reference, spoilt, features, kept)
    assert reasons == {keys[2]: "its pictures are not the best cell's"}


def test_only_small_matrices_are_held_to_one_thread() -> None:
    pytest.importorskip("scipy.linalg")  # whose BLAS is counted before it is held

    def most() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    before = most()
    with threads_for(SMALL_WIDTH):
        assert set(most()) == {1}
    with threads_for(SMALL_WIDTH + 1):
        assert most() == before
    assert most() == before


def test_a_value_of_the_wrong_type_is_named_by_the_way_to_it() -> None:
    row = {
        "cell_key": "k",
        "index": 0,
        "seed": None,
        "prompt": "p",
        "path": "x",
        "values": {"a": 1.0, "b": 2},
    }
    (found,) = decode(tuple[ImageRow, ...], [row])
    assert found == ImageRow("k", 0, None, "p", "x", {"a": 1.0, "b": 2.0})
    assert type(found.values["b"]) is float
    row["values"] = {"a": 1.0, "b": True}
    with pytest.raises(ValueError, match=r"^rows\[1\]\.values\.b must be of type float, got True$"):
        decode(tuple[ImageRow, ...], [row | {"values": {}}, row], where="rows")
    with pytest.raises(ValueError, match=r"^CellResult: .*missing .*'cell'"):
        decode(CellResult, {"device": "d", "model_evals": 1})
    with pytest.raises(ValueError, match=r"^rows\[0\]: unknown field 'new'; it was written by another"):
        decode(tuple[ImageRow, ...], [row | {"new": 1}], where="rows")
