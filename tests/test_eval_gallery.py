"""Pictures of the report: which file is read, how it is embedded, and to which prompt it belongs."""

from __future__ import annotations

import base64
from pathlib import Path

from PIL import Image

from eval.identity import Score, ScoreKey
from eval.records import (
    Cell,
    CellResult,
    GridPlan,
    HardwarePlan,
    ImageRow,
    MetricsPlan,
    ModelPlan,
    Plan,
    PromptSet,
    ReferencePlan,
    Run,
)
from eval.reporting.gallery import embedded, gallery

PROMPTS = ("a star", "a ring", "a star")


def run_of(*results: CellResult, seeds_per_prompt: int = 1) -> Run:
    plan = Plan(
        ModelPlan("shapes", "shapes", "cpu", "float32"),
        PromptSet("few", PROMPTS, seeds_per_prompt),
        ReferencePlan("none", 0),
        MetricsPlan("shapes", (), ("clip_score",)),
        GridPlan(("ddim", "heun"), (5,), (4.0, 9.0), 0),
        HardwarePlan(3, 1, 1),
        "nowhere",
    )
    images = {
        each.cell.key: tuple(
            ImageRow(each.cell.key, i, i, prompt, f"{i}.png", {"clip_score": float(i)})
            for i, prompt in enumerate(plan.prompts.rows)
        )
        for each in results
    }
    return Run(plan, results, images, {}, "")


def result(sampler: str, guidance: float, *scores: tuple[str, float, bool | None]) -> CellResult:
    cell = Cell("f00d", sampler, 5, guidance, "p", 3, 0, 8, 8, "float32", "cpu")
    found = tuple(Score(ScoreKey(name, 3, "unit"), value, rising) for name, value, rising in scores)
    return CellResult(cell, "CPU", 5, found)


def test_pictures_are_embedded_byte_for_byte_when_small_and_reduced_when_large(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "small.png")
    Image.new("RGB", (1024, 512), "red").save(tmp_path / "large.png")
    uri, small = embedded(tmp_path, "small.png")
    assert small
    assert uri is not None
    assert base64.b64decode(uri.split(",")[1]) == (tmp_path / "small.png").read_bytes()
    uri, small = embedded(tmp_path, "large.png")
    assert not small
    assert uri is not None
    assert len(uri) < 20_000


def test_only_pictures_inside_the_run_folder_are_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (run / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (run / "link.png").symlink_to(tmp_path / "secret.png")
    for path in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "broken.png", "none.png", "."):
        assert embedded(run, path) == (None, True)


def test_pictures_of_a_prompt_with_several_seeds_are_its_own(tmp_path: Path) -> None:
    shown = gallery(run_of(result("ddim", 4.0), seeds_per_prompt=2), tmp_path)
    assert [row.prompt for row in shown.rows] == list(PROMPTS)
    assert [row.pictures[0].note for row in shown.rows] == [
        "seed 0, CLIP score 0.0",
        "seed 2, CLIP score 2.0",
        "seed 4, CLIP score 4.0",
    ]


def test_the_guidance_shown_is_the_best_by_the_judge_then_by_clip_score(tmp_path: Path) -> None:
    judged = (
        result("ddim", 4.0, ("judge_all", 0.9, True), ("clip_score", 20.0, True)),
        result("ddim", 9.0, ("judge_all", 0.5, True), ("clip_score", 30.0, True)),
    )
    assert [each.cell.guidance for each in gallery(run_of(*judged), tmp_path).cells] == [4.0]
    unjudged = (
        result("ddim", 4.0, ("clip_score", 20.0, True), ("fid[x]", 1.0, False)),
        result("ddim", 9.0, ("clip_score", 20.0, True), ("fid[x]", 0.5, False)),
    )
    assert [each.cell.guidance for each in gallery(run_of(*unjudged), tmp_path).cells] == [9.0]


def test_pictures_without_any_score_are_still_shown(tmp_path: Path) -> None:
    results = (result("ddim", 4.0), result("heun", 9.0, ("saturation", 0.4, None)))
    assert gallery(run_of(*results), tmp_path).cells == results
