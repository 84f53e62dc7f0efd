"""Whole sweeps through the command's own main: small models with random weights, real scorer, real report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval import sweep
from eval.running import bench
from eval.running.loading import load_features, load_run
from eval.running.store import RunFolder
from eval.scoring import weights
from eval.scoring.uncertainty import mean_interval
from sdkit import InvalidPixels, InvalidRequest

SMALL = [
    "grid.sampler=[ddim]",
    "grid.steps=[2]",
    "grid.guidance=[1,3]",
    "prompts.count=4",
    "reference.count=16",
]
SIDES = ["model.width=64", "model.height=64"]
QUICK = ["hardware.batch=2", "hardware.timing_batch=1", "hardware.latency_repeats=2", "metrics.batch=3"]
QUICK += ["metrics.converged.steps=6", "metrics.converged.count=3"]
BY_FEATURES = ("fid", "fid_inf", "kid", "cmmd", "precision", "recall", "density", "coverage")


@pytest.fixture(autouse=True)
def _scorer(tiny_scorer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled scorer's place is taken by a small one with random weights."""
    monkeypatch.setattr(weights, "bundled_scorer", lambda: tiny_scorer)


@pytest.fixture
def command(tiny_sd: Path, tmp_path: Path) -> list[str]:
    return ["model=folder", f"model.source={tiny_sd}", f"out={tmp_path / 'run'}", *SMALL, *QUICK]


class _Watched:
    """A generator that counts its calls, and fails where told to."""

    def __init__(self, real: Any, fail_at: float | None, error: BaseException) -> None:
        self.real, self.fail_at, self.error = real, fail_at, error
        self.made: list[tuple[int, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def denoiser(self, text: Any, **size: Any) -> Any:
        raise InvalidRequest("calls of `sample` are watched here")

    def sample(self, text: Any, **asked: Any) -> Any:
        if asked["guidance_scale"] == self.fail_at:
            raise self.error
        self.made.append(tuple(asked["seeds"]))
        return self.real.sample(text, **asked)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Any:
    seen: list[_Watched] = []
    real = bench.open_session

    def start(fail_at: float | None = None, error: BaseException | None = None) -> list[_Watched]:
        def opened(plan: Any) -> _Watched:
            seen.append(_Watched(real(plan), fail_at, error or InvalidPixels("the picture is wholly black")))
            return seen[-1]

        monkeypatch.setattr(bench, "open_session", opened)
        return seen

    return start


@pytest.mark.parametrize("kind", ["tiny_sd", "tiny_sdxl"])
def test_a_random_model_goes_through_a_whole_sweep(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    source = request.getfixturevalue(kind)
    assert sweep.main(["model=folder", f"model.source={source}", f"out={out}", *SMALL, *QUICK, *SIDES]) == 0
    run = load_run(out)
    assert [result.cell.guidance for result in run.results] == [1.0, 3.0]
    for result in run.results:
        assert result.error is None
        found = {score.name: score.n for score in result.scores}
        assert found == {
            **dict.fromkeys(("clip_score", "zero_shot", "saturation", "contrast", "clipped", "judge_all"), 4),
            **{f"{name}[shapes-clip]": 4 for name in BY_FEATURES},
            **dict.fromkeys(("latent_rmse", "ssim"), 3),
        }
        for score in result.scores:
            assert score.value is not None or score.reason
        assert result.timing is not None
        assert len(result.timing.latency_samples_s) == 2
        assert result.memory is not None
        assert result.memory.gpu_allocated_bytes is None
        assert result.memory.process_peak_rss_bytes
        rows = run.images[result.cell.key]
        assert [(row.index, row.seed) for row in rows] == [(i, i) for i in range(4)]
        assert all((out / row.path).is_file() and row.judge for row in rows)
        assert [("latent_rmse" in row.values, "ssim" in row.values) for row in rows] == [(True, True)] * 3 + [
            (False, False)
        ]
        assert load_features(out, result.cell.key)["clip_image"].shape == (4, 8)
    assert {path.name for path in out.iterdir()} >= {"cells.csv", "images.csv", "report.html", "config.yaml"}
    printed = capsys.readouterr().out
    assert "Best CLIP score" in printed
    assert "report.html" in printed
    assert "time: " in printed


def test_few_pictures_give_a_fid_that_is_labelled_and_none_that_is_extrapolated(
    command: list[str], tmp_path: Path
) -> None:
    assert sweep.main(command) == 0
    result = load_run(tmp_path / "run").results[0]
    fid, extrapolated = result.score("fid[shapes-clip]"), result.score("fid_inf[shapes-clip]")
    assert fid is not None
    assert fid.value is not None
    assert fid.unreliable is not None
    assert fid.unreliable == "4 pictures and 16 reference pictures, of 2048 needed"
    assert extrapolated is not None
    assert extrapolated.value is None
    assert "at least 9 pictures" in str(extrapolated.reason)
    assert "of 2048 needed" in (tmp_path / "run" / "cells.csv").read_text()
    assert "of 2048 needed" in (tmp_path / "run" / "report.html").read_text()


def test_with_enough_pictures_fid_is_a_number_with_its_reference_in_the_identity(
    command: list[str], tmp_path: Path
) -> None:
    assert sweep.main([*command, "prompts.count=10", "grid.guidance=[3]", "hardware.batch=10"]) == 0
    fid = load_run(tmp_path / "run").results[0].score("fid[shapes-clip]")
    assert fid is not None
    assert fid.value is not None
    assert fid.value > 0
    assert "16 fresh renders" in str(fid.key.reference)


def test_the_same_command_again_reuses_whole_cells_and_says_so(
    command: list[str], watch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = watch()
    assert sweep.main(command) == 0
    assert sweep.main(command) == 0
    assert "0 cells computed; 2 whole cells reused" in capsys.readouterr().out
    assert seen[0].made
    assert not seen[1].made


def test_a_changed_metric_scores_the_pictures_on_disk_again(
    command: list[str], watch: Any, tmp_path: Path
) -> None:
    seen = watch()
    command = [*command, "metrics.converged.count=0"]
    assert sweep.main(command) == 0
    before = load_run(tmp_path / "run").results[0]
    assert sweep.main([*command, "reference.count=20"]) == 0
    assert all(min(seeds) >= 4 for seeds in seen[1].made), "only timing makes pictures, with seeds of its own"
    after = load_run(tmp_path / "run").results[0]
    assert before.score("clip_score") == after.score("clip_score")
    assert "20 fresh renders" in str(
        next(score.key.reference for score in after.scores if score.name.startswith("fid"))
    )
    assert after.generate_s == before.generate_s, "the batches' records keep what making them took"


def test_an_interrupted_cell_goes_on_from_its_last_whole_batch(
    command: list[str], watch: Any, tmp_path: Path
) -> None:
    seen = watch()
    command = [*command, "metrics.converged.count=0"]
    assert sweep.main(command) == 0
    run = RunFolder(tmp_path / "run")
    key = load_run(run.root).results[0].cell.key
    whole = (run.root / run.image_path(key, 3)).read_bytes()
    (run.cell_folder(key) / "cell.json").unlink()
    (run.root / run.image_path(key, 3)).unlink()
    assert sweep.main(command) == 0
    assert [seeds for seeds in seen[1].made if min(seeds) < 4] == [(2, 3)]
    assert (run.root / run.image_path(key, 3)).read_bytes() == whole


def test_a_cell_that_fails_is_a_row_and_the_others_go_on(
    command: list[str], watch: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(fail_at=1.0)
    assert sweep.main(command) == 3
    failed, whole = load_run(tmp_path / "run").results
    assert failed.error == "the picture is wholly black"
    assert failed.scores == ()
    assert whole.error is None
    assert "1 of 2 cells FAILED" in capsys.readouterr().out


def test_an_unexpected_error_costs_one_cell_and_leaves_its_traceback(
    command: list[str], watch: Any, tmp_path: Path
) -> None:
    watch(fail_at=3.0, error=IndexError("list index out of range"))
    assert sweep.main(command) == 3
    failed = load_run(tmp_path / "run").results[1]
    assert failed.error == "IndexError: list index out of range"
    assert "Traceback" in (tmp_path / "run" / "cells" / failed.cell.key / "error.txt").read_text()


def test_an_interrupt_keeps_what_is_whole(
    command: list[str], watch: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(fail_at=3.0, error=KeyboardInterrupt())
    assert sweep.main(command) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert len(load_run(tmp_path / "run").results) == 1


def test_scored_pictures_and_timed_ones_never_share_a_seed(command: list[str], watch: Any) -> None:
    seen = watch()
    assert sweep.main(command) == 0
    singles = [seeds for seeds in seen[0].made if len(seeds) == 1]
    assert all(seeds[0] >= 4 for seeds in singles)


def test_several_seeds_a_prompt_are_pictures_of_their_own_and_clustered(
    command: list[str], tmp_path: Path
) -> None:
    assert sweep.main([*command, "prompts.seeds_per_prompt=3", "grid.guidance=[2]"]) == 0
    run = load_run(tmp_path / "run")
    (result,) = run.results
    rows = run.images[result.cell.key]
    assert [row.seed for row in rows] == list(range(12))
    assert [row.prompt for row in rows] == [text for text in run.plan.prompts.texts for _ in range(3)]
    clip = result.score("clip_score")
    expected = mean_interval(
        [row.values["clip_score"] for row in rows], clusters=[row.prompt for row in rows]
    )
    assert clip is not None
    assert (clip.n, clip.low, clip.high) == (12, expected.low, expected.high)


@pytest.mark.parametrize(
    ("engine", "mode", "most"), [("percell", "off", 0), ("percell", "fused", 1), ("shared", "fused", 1)]
)
def test_one_shared_seed_gives_one_prompt_one_picture(
    command: list[str], tmp_path: Path, engine: str, mode: str, most: int
) -> None:
    (tmp_path / "p.txt").write_text("a red star\nblue\na red star\n")
    asked = [
        "prompts=file",
        f"prompts.path={tmp_path / 'p.txt'}",
        "prompts.count=null",
        "grid.shared_seed=true",
        f"engine={engine}",
        f"hardware.compile={mode}",
    ]
    assert sweep.main([*command, *asked, "grid.guidance=[2]"]) == 0
    run = load_run(tmp_path / "run")
    rows = run.images[run.results[0].cell.key]
    assert {row.seed for row in rows} == {0}
    first, other, again = (np.asarray(Image.open(tmp_path / "run" / row.path)) for row in rows)
    apart = [np.abs(first.astype(int) - each).max() for each in (again, other)]
    assert apart[0] <= most < apart[1], "to rounding where rows of a call are not for themselves"


def test_scores_are_held_against_published_windows(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    windows = "windows=[{score: clip_score, low: -100, high: 100, source: somebody}]"
    assert sweep.main([*command, windows]) == 0
    assert "lies inside the published window -100 to 100 (somebody)" in capsys.readouterr().out


def test_a_folder_of_pictures_serves_as_reference(command: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "reference"
    folder.mkdir()
    for index in range(12):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (40, 50, 3), np.uint8)).save(
            folder / f"{index}.png"
        )
    assert sweep.main([*command, "reference=folder", f"reference.path={folder}", "reference.count=0"]) == 0


def test_without_a_reference_no_extractor_is_loaded_and_fid_says_why(
    command: list[str], tiny_scorer: Path, tmp_path: Path
) -> None:
    asked = ["reference=none", "metrics.extractors=[inception]", "metrics.weights.inception=/nowhere.pth"]
    assert sweep.main([*command, *asked, f"metrics.clip={tiny_scorer}"]) == 0
    fid = load_run(tmp_path / "run").results[0].score("fid[inception]")
    assert fid is not None
    assert (fid.value, fid.reason) == (None, "no reference pictures were given (reference=none)")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (["grid.sampler=[eular]"], "nearest: euler"),
        (["model=sdlx"], "sdxl"),
        (["grid.step=[4]"], "nearest: grid.steps"),
        (["grid.steps=[0]"], "steps must be 1..1000, got 0"),
        (["grid.steps=[1000000]"], "got 1000000"),
        (["model.width=65"], "try 64"),
        (["prompts.count=0"], "prompts.count"),
        (["reference=folder", "reference.path=/nowhere"], "there is none"),
        (["model.source=/nowhere/at/all"], "/nowhere/at/all"),
        (["hardware.device=cuda:99"], "cuda:99"),
        (["out=/dev/null/run"], "out=FOLDER"),
        (["metrics.clip=ViT-B-23/openai"], "ViT-B-32"),
        (["metrics.extractors=[inception]", "metrics.weights.inception=/nowhere.pth"], "/nowhere.pth"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    command: list[str], bad: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert sweep.main([*command, *bad]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert not (tmp_path / "run").exists(), "nothing is left of work that was not begun"


def test_corrupt_weights_are_one_line_and_exit_code_2(
    command: list[str], tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(tiny_sd, broken)
    next((broken / "unet").glob("*.safetensors")).write_bytes(b"\x08")
    assert sweep.main([*command, f"model.source={broken}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_unreadable_reference_picture_is_one_line_before_work(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "reference"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"no picture")
    assert sweep.main([*command, "reference=folder", f"reference.path={folder}", "reference.count=0"]) == 2
    assert "a.png cannot be read" in capsys.readouterr().err


def test_what_will_run_can_be_seen_without_running_it(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main([*command, "--cfg", "job"]) == 0
    assert "source:" in capsys.readouterr().out


def test_a_run_records_the_machine_and_the_software(command: list[str], tmp_path: Path) -> None:
    assert sweep.main([*command, "grid.guidance=[1]"]) == 0
    found = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert found["torch"][0].isdigit()
    assert found["prompts cut by the model's text encoder"].endswith("of 4")
