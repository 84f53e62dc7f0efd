"""Runs compared, before and after: pairs, intervals, gates for CI, worst prompts, and pages that stay harmless."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import PHONE, visit
from PIL import Image
from playwright.sync_api import Browser

from eval import compare
from eval.hardware_plan import HardwarePlan
from eval.hashing import file_sha256
from eval.identity import EncoderKey, Score, ScoreKey
from eval.measured import Measured, Memory, Timing
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
)
from eval.reporting.change_words import one_line
from eval.reporting.compare_tables import COLUMNS
from eval.reporting.gates import parse_gate
from eval.reporting.markdown import escaped
from eval.running.batch_file import BatchRecord
from eval.running.store import RunFolder
from eval.scoring.cell_scores import Seen
from eval.scoring.frechet import frechet_distance
from eval.scoring.moments import moments
from eval.scoring.uncertainty import paired_difference
from sdkit._errors import InvalidRequest

EVIL = "</script><script>alert(1)</script>\"'&\x00\u202e=HYPERLINK(1)|@you #1\n" + "x" * 10_000
PROMPTS = (EVIL, "=cmd()", *(f"prompt {i}" for i in range(38)))
N = len(PROMPTS)
FID = "fid[shapes-clip]"
BASE = np.random.default_rng(7).normal(30, 3, N)
LOOKED = np.random.default_rng(8).normal(0, 1, (N, 4)).astype(np.float32)
REFERENCE = moments(np.random.default_rng(9).normal(0, 1, (400, 4)))
SAMPLERS = ("euler", "ddim")
Shift = Callable[[str], float]


def run(
    root: Path,
    *,
    clip: float | Shift = 0.0,
    noise: float = 0.0,
    far: float = 0.0,
    slower: float = 1.0,
    samplers: tuple[str, ...] = SAMPLERS,
    made: tuple[str, ...] | None = None,
    failed: tuple[str, ...] = (),
    encoder: str = "sha256:1",
    torch: str = "torch 2.11",
    device: str = "NVIDIA A100",
    timed: int = 9,
    model: str = "m",
    size: int = 8,
    prompts: tuple[str, ...] = PROMPTS,
) -> Path:
    """A run's folder: a cell a sampler, its pictures, features and a reference.

    Args:
        clip: added to every CLIP score, by sampler where it is a function.
        noise: deviation of what is added to each picture's.
        far: how far the features lie from the reference's.
        made: samplers that are whole; the others were asked for.
        timed: single pictures that were timed; 0 measures nothing.
    """
    plan = Plan(
        ModelPlan(model, model, "cuda", "float16"),
        PromptSet("few", prompts),
        ReferencePlan("shapes", 64),
        MetricsPlan("shapes", ("shapes-clip",), ("clip_score", "fid")),
        GridPlan(samplers, (20,), (5.0,), 0),
        HardwarePlan(4, 9, 6),
        "nowhere",
    )
    disk = RunFolder(root)
    disk.prepare()
    made = samplers if made is None else made
    cells = {
        name: Cell(
            f"f-{model}", name, 20, 5.0, plan.prompts.digest, len(prompts), 0, size, size, "float16", "cuda"
        )
        for name in samplers
    }
    disk.write_head(plan, "model: m\n", {"diffusers": torch, "python": "3.11"}, list(cells.values()))
    disk.write_reference("shapes-clip", REFERENCE)
    for name in made:
        shift = clip(name) if callable(clip) else clip
        values = BASE[: len(prompts)] + shift + noise * jitter(name)[: len(prompts)]
        result = CellResult(cells[name], device, None, error="it holds NaN")
        disk.open_cell(cells[name])
        if name in failed:
            disk.write_cell(result, (), "setup")
            continue
        features = LOOKED[: len(prompts)] + np.float32(far)
        rows = _draw(disk, cells[name], values, features, prompts)
        key = EncoderKey("shapes", encoder, "none", "none", "4", (torch,))
        scores = _scores(values, features, key)
        disk.write_cell(
            replace(result, scores=scores, error=None, model_evals=20, measured=_measured(slower, timed)),
            rows,
            "setup",
        )
    return root


def jitter(sampler: str) -> np.ndarray:
    """A cell's own noise, of mean 0 over all prompts."""
    drawn = np.random.default_rng(len(sampler)).normal(0, 1, N)
    return drawn - drawn.mean()


def _draw(
    disk: RunFolder, cell: Cell, values: np.ndarray, features: np.ndarray, prompts: tuple[str, ...]
) -> tuple[ImageRow, ...]:
    """The pictures on disk, with their record; their rows."""
    rows = tuple(
        ImageRow(cell.key, i, i, prompt, disk.image_path(cell.key, i), {"clip_score": float(values[i])})
        for i, prompt in enumerate(prompts)
    )
    for row in rows:
        Image.new("RGB", (8, 8), (row.index, 90, int(values[row.index]) % 255)).save(disk.root / row.path)
    hashes = tuple(file_sha256(disk.root / row.path) for row in rows)
    seen = Seen({"shapes-clip": features}, {}, None, features)
    disk.write_record(cell, BatchRecord(0, len(rows), hashes, "look", None, seen))
    return rows


def _scores(values: np.ndarray, features: np.ndarray, key: EncoderKey) -> tuple[Score, ...]:
    fid = frechet_distance(moments(features), REFERENCE)
    return (
        Score(ScoreKey("clip_score", len(values), "unit", key, "captions"), float(values.mean()), True),
        Score(ScoreKey(FID, len(values), "unit", key, "ref"), fid, False),
    )


def _measured(slower: float, timed: int) -> Measured | None:
    if not timed:
        return None
    singles = tuple(float(each) for each in np.random.default_rng(3).normal(1, 0.01, timed) * slower)
    middle, batches = float(np.median(singles)), singles[:6]
    reason = "latency_p95_s: 9 timed pictures, of 20 needed"
    timing = Timing(
        4, batches, singles, 4 / float(np.median(batches)), middle, None, None, None, None, reason
    )
    return Measured(timing, Memory(10**9, 2 * 10**9, None))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("base") / "before")


def compared(
    base: Path, after: Path, *arguments: str, others: tuple[str, ...] = ()
) -> tuple[int, dict[str, object], list[dict[str, str]]]:
    """Exit code, compare.json and the rows of compare.csv."""
    out = after.parent / "out"
    code = compare.main([f"a={base}", f"b={after}", f"out={out}", *arguments, *others])
    with (out / "compare.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return code, json.loads((out / "compare.json").read_text(encoding="utf-8")), rows


def of(rows: list[dict[str, str]], measure: str) -> list[dict[str, str]]:
    return [row for row in rows if row["measure"] == measure]


def test_a_run_against_itself_has_no_difference_and_every_gate_holds(base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "after")
    gates = (
        "gate.clip_score=-0",
        "gate.fid=+0%",
        "gate.latency=+0%",
        "gate.memory=+0",
        "gate.throughput=-0%",
    )
    code, found, rows = compared(base, copy, *gates)
    assert code == 0
    assert len(rows) == 2 * 7
    assert {float(row["difference"]) for row in rows} == {0.0}
    assert {row["verdict"] for row in rows} == {"level"}
    (other,) = found["others"]  # type: ignore[misc]
    assert [gate["outcome"] for gate in other["gates"]] == ["holds"] * 5
    assert other["regressions"] == other["improvements"] == other["worst_prompts"]["prompts"] == []
    assert other["differs"] == other["only_in_one"] == []


def test_a_worsened_run_breaks_the_gate(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = run(tmp_path / "after", clip=lambda name: -0.6 if name == "ddim" else 0.0, noise=0.2, slower=1.2)
    code, found, rows = compared(
        base, worse, "gate.clip_score=-0.3", "gate.latency=+30%", "gate.throughput=-10%"
    )
    assert code == 1
    said = capsys.readouterr().out
    assert "2 of 3 gates broken; 2 settings compared" in said
    (other,) = found["others"]  # type: ignore[misc]
    outcomes = {gate["gate"]: gate for gate in other["gates"]}
    assert outcomes["gate.clip_score=-0.3"]["sentence"].startswith("broken in 1 of 2 settings; worst: ddim")
    assert outcomes["gate.latency=+30%"]["outcome"] == "holds"
    assert len(outcomes["gate.throughput=-10%"]["broken"]) == 2
    slow = of(rows, "latency_p50_s")[0]
    assert float(slow["ratio"]) == pytest.approx(1.2)
    assert float(slow["ratio_low"]) > 1.15
    assert slow["verdict"] == "worse"
    broken = [row["sampler"] for row in rows if "gate.clip_score=-0.3" in row["gates_broken"]]
    assert broken == ["ddim"]


def test_an_interval_of_a_difference_is_that_of_the_pairs(base: Path, tmp_path: Path) -> None:
    worse = run(tmp_path / "after", clip=-0.6, noise=0.5, samplers=("ddim",))
    row = of(compared(base, worse)[2], "clip_score")[0]
    values = BASE - 0.6 + 0.5 * jitter("ddim")
    expected = paired_difference(values, BASE)
    assert float(row["difference"]) == pytest.approx(expected.value)
    assert expected.low is not None
    assert float(row["difference_low"]) == pytest.approx(expected.low)
    assert int(row["n"]) == N


def test_an_improvement_breaks_nothing_and_is_listed(base: Path, tmp_path: Path) -> None:
    better = run(tmp_path / "after", clip=0.6, noise=0.2, slower=0.7)
    code, found, _ = compared(base, better, "gate.clip_score=-0.1", "gate.latency=+1%", "gate.throughput=-1%")
    assert code == 0
    (other,) = found["others"]  # type: ignore[misc]
    assert {each["measure"] for each in other["improvements"]} == {
        "clip_score",
        "latency_p50_s",
        "images_per_s",
    }
    assert other["regressions"] == []


def test_noise_breaks_a_gate_by_point_and_not_by_the_rule_sure(base: Path, tmp_path: Path) -> None:
    noisy = run(tmp_path / "after", clip=-0.35, noise=3.0)
    code, found, rows = compared(base, noisy, "gate.clip_score=-0.1")
    worst = min(float(row["difference"]) for row in of(rows, "clip_score"))
    assert worst < -0.1, "the change itself must lie beyond the limit for this test to mean anything"
    assert code == 0
    (outcome,) = found["others"][0]["gates"]  # type: ignore[index]
    assert "interval reaches beyond the limit" in outcome["sentence"], "it is not passed over in silence"
    assert compared(base, noisy, "gate.clip_score=-0.1", "gate.rule=point")[0] == 1


def test_a_loss_that_all_settings_share_breaks_a_gate_before_it_is_beyond_doubt_in_any(
    base: Path, tmp_path: Path
) -> None:
    many = tuple(f"s{'x' * place}" for place in range(8))
    before = run(tmp_path / "before", samplers=many)
    noisy = run(tmp_path / "after", samplers=many, clip=-0.35, noise=1.5)
    code, found, rows = compared(before, noisy, "gate.clip_score=-0.3")
    assert {row["verdict"] for row in of(rows, "clip_score")} == {"level"}
    assert code == 1
    (outcome,) = found["others"][0]["gates"]  # type: ignore[index]
    assert outcome["sentence"].startswith("broken by the mean over 8 settings, −0.35 (−0.")
    assert outcome["broken"] == []
    compare.main([f"a={before}", f"b={noisy}", f"out={tmp_path / 'out'}"])
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "No setting got worse beyond doubt by itself, but all together did: CLIP score" in page


def test_a_worse_fid_is_found_by_its_paired_interval(base: Path, tmp_path: Path) -> None:
    far = run(tmp_path / "after", far=0.7)
    code, _, rows = compared(base, far, "gate.fid[shapes-clip]=+0.2")
    row = of(rows, FID)[0]
    assert row["verdict"] == "worse"
    assert float(row["difference_low"]) > 0
    assert "N = infinity" in row["method"]
    assert code == 1


def test_another_encoder_is_said_and_the_rest_is_compared(base: Path, tmp_path: Path) -> None:
    other = run(tmp_path / "after", encoder="sha256:2")
    code, _, rows = compared(base, other, "gate.latency=+10%")
    assert code == 0
    for row in of(rows, "clip_score"):
        assert row["reason"] == "not the same score: encoder.weights: sha256:1 against sha256:2"
        assert row["difference"] == row["before"] == row["after"] == ""
        assert row["verdict"] == "unknown"
    assert all(row["difference"] for row in of(rows, "latency_p50_s"))


@pytest.mark.parametrize(
    ("gate", "changed", "because"),
    [
        ("gate.clip_score=-0.3", {"encoder": "sha256:2"}, "not the same score: encoder.weights"),
        ("gate.latency=+10%", {"timed": 0}, "the other run has none"),
        ("gate.latency_p95=+10%", {}, "neither run has it"),
        ("gate.judge_all=-1%", {}, "neither run has it"),
        ("gate.clip_score=-0.3", {"failed": ("ddim",)}, "the cell failed: it holds NaN"),
        ("gate.clip_score=-0.3", {"made": ("euler",)}, "b was asked for it and has not made it yet"),
    ],
)
def test_a_gate_that_cannot_be_told_is_broken_with_its_reason(
    gate: str, changed: dict[str, object], because: str, base: Path, tmp_path: Path
) -> None:
    after = run(tmp_path / "after", **changed)  # type: ignore[arg-type]
    code, found, _ = compared(base, after, gate)
    assert code == 1
    (outcome,) = found["others"][0]["gates"]  # type: ignore[index]
    assert outcome["outcome"] == "not known"
    assert outcome["sentence"].startswith("not known in ")
    assert f"because {because}" in outcome["sentence"]


def test_a_setting_that_failed_in_the_baseline_had_nothing_to_lose(base: Path, tmp_path: Path) -> None:
    before = run(tmp_path / "before", failed=("ddim",))
    code, _, rows = compared(before, shutil.copytree(base, tmp_path / "after"), "gate.clip_score=-0.3")
    assert code == 0
    (lost,) = [row for row in of(rows, "clip_score") if row["sampler"] == "ddim"]
    assert lost["reason"] == "the cell failed in the baseline: it holds NaN"


def test_library_versions_alone_do_not_stop_a_comparison_but_are_said(base: Path, tmp_path: Path) -> None:
    upgraded = run(tmp_path / "after", torch="torch 2.12")
    code, found, rows = compared(base, upgraded, "gate.clip_score=-0.3")
    assert code == 0
    assert "torch 2.11 against torch 2.12" in of(rows, "clip_score")[0]["caution"]
    assert found["others"][0]["differs"] == [  # type: ignore[index]
        {"what": "diffusers", "before": "torch 2.11", "after": "torch 2.12"}
    ]


def test_settings_of_one_run_alone_are_listed_with_why(base: Path, tmp_path: Path) -> None:
    other = run(tmp_path / "after", samplers=("euler", "heun"))
    _, found, rows = compared(base, other)
    assert {row["sampler"] for row in rows} == {"euler"}
    alone = {
        (each["run"], each["setting"].split(" ")[0]): each["why"]
        for each in found["others"][0]["only_in_one"]
    }  # type: ignore[index]
    assert alone == {("a", "ddim"): "b was not asked for it", ("b", "heun"): "a was not asked for it"}


def test_runs_without_a_setting_in_common_are_refused_with_what_differs(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run(tmp_path / "after", prompts=PROMPTS[2:])
    assert compare.main([f"a={base}", f"b={other}", f"out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert "different prompts and pictures" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_two_models_at_their_own_sizes_pair_off_and_devices_are_said(base: Path, tmp_path: Path) -> None:
    other = run(tmp_path / "after", model="xl", size=16, device="NVIDIA H100")
    _, found, rows = compared(base, other)
    assert len(of(rows, "clip_score")) == 2
    notes = " ".join(found["others"][0]["notes"])  # type: ignore[index]
    assert "share prompt and seed, and no noise" in notes
    assert "NVIDIA A100 before, NVIDIA H100 after" in notes
    assert of(rows, "latency_p50_s")[0]["caution"] == "on NVIDIA A100 against NVIDIA H100"


def test_few_timed_samples_give_a_ratio_without_an_interval(base: Path, tmp_path: Path) -> None:
    few = run(tmp_path / "after", slower=1.5, timed=4)
    code, _, rows = compared(base, few, "gate.latency=+10%")
    row = of(rows, "latency_p50_s")[0]
    assert row["ratio"]
    assert row["ratio_low"] == ""
    assert row["reason"] == "no interval: 4 timed samples, of 5 needed"
    assert code == 1, "where no interval is known the change alone decides"


def test_a_third_run_is_compared_with_the_baseline_too(base: Path, tmp_path: Path) -> None:
    second = shutil.copytree(base, tmp_path / "second")
    third = run(tmp_path / "third", clip=-1.0, noise=0.1)
    code, found, rows = compared(base, second, "gate.clip_score=-0.3", others=(f"c={third}",))
    assert code == 1
    assert [(each["run"], each["passes"]) for each in found["others"]] == [("b", True), ("c", False)]  # type: ignore[union-attr]
    assert {row["run"] for row in rows} == {"b", "c"}


@pytest.fixture(scope="module")
def hostile(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison in which the hostile prompt lost most."""
    root = tmp_path_factory.mktemp("hostile")
    worse = run(root / "=after<img src=x>", clip=-2.0, noise=0.1)
    rows = next(worse.glob("cells/*/images.json"))
    assert "alert(1)" in rows.read_text()
    out = root / "out"
    assert compare.main([f"a={base}", f"b={worse}", f"out={out}", "gate.clip_score=-0.3"]) == 1
    return out


def test_hostile_text_stays_text_in_every_file(hostile: Path, base: Path, tmp_path: Path) -> None:
    with (hostile / "compare.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == tuple(COLUMNS)
    assert {row["name"] for row in rows} == {"'=after<img src=x>"}
    page = (hostile / "compare.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x>" not in page
    assert "\x00" not in page
    markdown = (hostile / "compare.md").read_text(encoding="utf-8")
    assert "<img" not in markdown.replace("\\<img", "")
    for file in hostile.iterdir():
        assert str(base.parent) not in file.read_text(encoding="utf-8"), "no path of a machine"


def test_a_line_of_untrusted_text_steers_nothing() -> None:
    assert one_line("a\x1b[31m\x00\u202eb\r\nc", 20) == "a[31mb c"
    assert len(one_line(EVIL)) == 120
    assert escaped("a|b <i> @me #1 [x](http://y) `z`") == (
        "a\\|b \\<i\\> @\u200bme \\#\u200b1 \\[x\\]\\(http://\u200by\\) \\`z\\`"
    )


def test_the_page_opens_without_a_fault_and_axe_finds_nothing_serious(
    hostile: Path, browser: Browser
) -> None:
    for size, dark in ((None, False), (PHONE, True)):
        with visit(browser, hostile / "compare.html", *([size] if size else []), dark=dark) as seen:
            assert seen.page.locator(".gates li.bad").count() == 1
            assert seen.page.locator(".pairs li img").count() == 16
            assert seen.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            assert seen.page.evaluate("[...document.images].every(each => each.naturalWidth > 0)")
            faults = Axe().run(seen.page).response["violations"]
            assert [each["id"] for each in faults if each["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a=x"],
        ["b=x", "c=y"],
        ["a=nowhere", "b=nowhere2"],
        ["a=x", "b=y", "a=z"],
        ["a=x", "b=y", "--all"],
        ["a=x", "b=y", "gate.clip_score=+0.3"],
        ["a=x", "b=y", "gate.latency=-10%"],
        ["a=x", "b=y", "gate.latency=10%"],
        ["a=x", "b=y", "gate.latency="],
        ["a=x", "b=y", "gate.clip_skore=-0.3"],
        ["a=x", "b=y", "gate.clip_score=-0.3pt"],
        ["a=x", "b=y", "gate.rule=maybe"],
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1


def test_a_gate_of_the_wrong_sign_is_refused_with_the_right_one() -> None:
    with pytest.raises(InvalidRequest, match=r"write gate\.clip_score=-0\.3"):
        parse_gate("gate.clip_score=+0.3")
    with pytest.raises(InvalidRequest, match=r"write gate\.latency=\+10%"):
        parse_gate("gate.latency=10%")
    with pytest.raises(InvalidRequest, match="nearest: clip_score"):
        parse_gate("gate.clip_skore=-1")
    assert parse_gate("gate.saturation=-0.1").rises is False
    assert parse_gate("gate.saturation=+0.1").rises is True


def test_a_comparison_never_writes_into_a_run(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([f"a={base}", f"b={base}", f"out={base}"]) == 2
    assert "is a run's folder" in capsys.readouterr().err
    assert not (base / "compare.csv").exists()


def test_without_out_it_goes_beside_the_runs_under_a_name_of_its_own(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    assert compare.main([f"a={base}", f"b={base}"]) == 0
    (folder,) = (tmp_path / "reports").iterdir()
    assert folder.name.startswith("compare-")
    assert {each.name for each in folder.iterdir()} == {
        f"compare.{end}" for end in ("csv", "json", "md", "html")
    }
