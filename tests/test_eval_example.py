"""reports/example/: the small part of a run that is committed, with nothing of the machine in it."""

from __future__ import annotations

import json
import platform
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from browsing import visit
from decided_runs import decided_run
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_runs import PROMPTS
from PIL import Image
from playwright.sync_api import Browser

from eval.records import Run
from eval.reporting import example, read_cells, read_comparisons, screenshot
from eval.reporting.example import machine_names, write_example
from eval.reporting.nameless import Names, nameless, traces
from eval.running.loading import load_run
from eval.running.serial import encode
from eval.running.store import RunFolder
from sdkit._errors import InvalidRequest

FILES = {"report.html", "decision.json", "cells.csv", "comparisons.csv", "summary.md"}
HOST = "build-7.lab.example"
ELSEWHERE = "/srv/secret/place"
KERNEL = "Linux-6.1.0-custom-v782-x86_64-with-glibc2.36"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that names its machine wherever a run can: plan, configuration, environment, an error, a reason."""
    root = decided_run(tmp_path_factory.mktemp("runs") / "one")
    run = load_run(root)
    plan = replace(
        run.plan,
        model=replace(run.plan.model, name="mine", source=f"{ELSEWHERE}/model"),
        prompts=replace(run.plan.prompts, name=f"{ELSEWHERE}/prompts.txt", notes=(f"read on {HOST}",)),
        reference=replace(run.plan.reference, kind="folder", path=f"{ELSEWHERE}/pictures"),
        metrics=replace(run.plan.metrics, weights={"inception": f"{root}/weights.pt"}),
        folder=str(root),
    )
    environment = {"platform": KERNEL, "python": f"at {root}/bin", "machine": HOST, "cpu": "AMD EPYC"}
    disk = RunFolder(root)
    disk.write_head(
        plan, f"out: {root}\nstore: file://{ELSEWHERE}\n", environment, [r.cell for r in run.results]
    )
    for result in run.results:
        if result.error is not None:
            told = f"cannot open '{ELSEWHERE}/weights.bin' on {HOST}: 3 MB/s, 1 / 2, a/b"
            disk.write_cell(replace(result, error=told), (), "setup")
    return root


@pytest.fixture(scope="module")
def names(folder: Path) -> Names:
    return Names((str(folder), str(folder.parent)), (HOST, HOST.partition(".")[0]))


@pytest.fixture(scope="module")
def made(folder: Path, names: Names, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "example"
    sizes = write_example(folder, out, names)
    assert {name: (out / name).stat().st_size for name in FILES} == sizes
    return out


def test_it_holds_the_committed_files_and_no_others(made: Path) -> None:
    assert {path.name for path in made.iterdir()} >= FILES
    assert {path.name for path in made.iterdir()} <= FILES | {"report.png"}


def test_nothing_in_it_names_the_machine(made: Path, folder: Path) -> None:
    for name in FILES:
        text = (made / name).read_text(encoding="utf-8")
        for secret in (str(folder), str(folder.parent), "/srv", "secret", HOST, "build-7", "custom-v782"):
            assert secret not in text, name
    page = (made / "report.html").read_text(encoding="utf-8")
    for kept in ("…/pictures", "…/prompts.txt", "…/model", "AMD EPYC", "Linux-x86_64-with-glibc2.36"):
        assert kept in page
    errors = read_cells(made)["error"].dropna().tolist()
    assert errors == ["cannot open '…/weights.bin' on (host): 3 MB/s, 1 / 2, a/b"]


def test_its_tables_and_decision_are_the_runs(made: Path, folder: Path) -> None:
    run = load_run(folder)
    assert read_cells(made)["key"].tolist() == [result.cell.key for result in run.results]
    assert len(read_comparisons(made)) == len(run.results) - 1
    decision = json.loads((made / "decision.json").read_text(encoding="utf-8"))
    assert decision["status"] == "chosen"
    told = (made / "summary.md").read_text(encoding="utf-8")
    assert decision["code"] in told
    links = set(re.findall(r"\]\(([a-z.]+)\)", told))
    assert links
    assert links <= FILES


def test_its_page_carries_its_pictures_and_opens_without_the_run(
    made: Path, tmp_path: Path, browser: Browser
) -> None:
    alone = shutil.copy(made / "report.html", tmp_path / "alone.html")
    with visit(browser, Path(alone)) as seen:
        seen.page.locator("#pictures").scroll_into_view_if_needed()
        shown = seen.page.locator("#pictures img").first
        shown.wait_for()
        assert shown.evaluate("async image => { await image.decode(); return image.naturalWidth; }") > 0


def test_a_name_that_would_be_published_all_the_same_is_refused_and_nothing_is_written(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match=r"would name the machine: prompt 9"):
        write_example(folder, tmp_path / "out", Names((), ("prompt 9",)))
    assert not (tmp_path / "out").exists()


def test_this_machine_is_known_by_its_folders_and_its_host(tmp_path: Path) -> None:
    names = machine_names((tmp_path, Path("reports")))
    assert {str(tmp_path), str(Path.cwd()), str(Path.home()), str(Path.cwd() / "reports")} <= set(
        names.folders
    )
    assert "/" not in names.folders
    assert list(names.folders) == sorted(names.folders, key=len, reverse=True)
    assert names.hosts[0] == platform.node()


def test_what_decides_pixels_and_what_was_asked_stay_as_they_were(folder: Path, names: Names) -> None:
    run = load_run(folder)
    hidden = nameless(run, names)
    assert [result.cell for result in hidden.results] == [result.cell for result in run.results]
    assert hidden.plan.prompts.texts == PROMPTS
    assert hidden.images == run.images
    assert b"/srv" not in encode(hidden.plan)


@given(
    st.lists(st.text("abz._-", min_size=1, max_size=5), min_size=2, max_size=4),
    st.sampled_from(["", "file://", "~"]),
)
@settings(max_examples=60, deadline=None)
def test_an_absolute_path_is_cut_to_its_last_part_wherever_it_stands(parts: list[str], start: str) -> None:
    run = Run(None, (), {}, {"at": f"read ({start}/{'/'.join(parts)}), 2 GB/s"}, "")  # type: ignore[arg-type]
    assert nameless(run, Names((), ())).environment == {"at": f"read (…/{parts[-1]}), 2 GB/s"}


@pytest.mark.parametrize(
    "text",
    [
        "3 MB/s",
        "1 / 2 / 3",
        "org/name",
        "https://a.example/b/c",
        "a and/or b/c",
        "50 %/h",
        "</p></div>",
        "ViT-L/14",
    ],
)
def test_what_is_no_path_of_a_machine_stays(text: str) -> None:
    run = Run(None, (), {}, {"at": text}, "")  # type: ignore[arg-type]
    assert nameless(run, Names((), ("vm", "localhost"))).environment == {"at": text}


def test_a_host_is_found_as_a_word_and_outside_of_programs_only() -> None:
    names = Names(("/home/me",), ("box7", "vm", "localhost"))
    assert traces("made on Box7, by vm", names) == ("box7",)
    assert traces("box77 and box7-a, <script>box7</script> localhost", names) == ()
    assert traces('<script type="application/json">{"a": "/home/me/x"}</script>', names) == ("/home/me",)


def test_the_picture_is_the_top_of_the_page_in_1280_px(made: Path, tmp_path: Path) -> None:
    if not any(map(shutil.which, screenshot.BROWSERS)):
        pytest.skip("NO BROWSER: no picture is taken; install chromium to test it")
    assert screenshot.screenshot(made / "report.html", tmp_path / "report.png") is None
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.size == (screenshot.WIDTH_PX, screenshot.HEIGHT_PX)
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 8, "the page is drawn"


def test_without_a_browser_the_command_says_so_loudly_and_writes_the_rest(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screenshot.shutil, "which", lambda name: None)
    monkeypatch.setattr(example, "machine_names", lambda folders: Names((), ()))
    assert example.main([str(folder), str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    said = capsys.readouterr()
    assert said.err.startswith("NO PICTURE: ")
    assert "no browser is installed" in said.err
    assert said.out.count(" kB\n") == len(FILES)


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"], ["--all"], ["nowhere"]])
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert example.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
