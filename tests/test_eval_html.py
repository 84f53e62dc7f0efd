"""The report: one file, nothing fetched, nothing of a prompt run, and a table that sorts in a browser."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browsing import visit
from PIL import Image
from playwright.sync_api import Browser, Page
from rendering import page_of

from eval.hardware_plan import HardwarePlan
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
    Run,
)
from eval.report import rebuild
from eval.reporting.html import PLOTLY
from eval.running.loading import load_run
from eval.running.store import RunFolder
from eval.scoring.catalogue import CATALOGUE, title_of

ROOT = Path(__file__).resolve().parents[1]
EVIL = "</script><script>alert(1)</script>\"'&"
PROMPTS = (EVIL, "=cmd()", "a red star")
FID = "fid[shapes-clip]"
DOUBT = 'unreliable: 3 pictures "of" <2048> needed'


def cell(sampler: str, steps: int, guidance: float = 4.0) -> Cell:
    return Cell("f00d", sampler, steps, guidance, "p", 3, 0, 8, 8, "float32", "cpu")


def key(name: str, encoder: str | None = "shapes", reference: str | None = None) -> ScoreKey:
    found = None if encoder is None else EncoderKey(encoder, "sha256:9af1", "none", "none", "512", ())
    return ScoreKey(name, 3, "unit", found, reference)


def result(at: Cell, clip: float, fid: float | None = 1.5) -> CellResult:
    scores = (
        Score(key("clip_score"), clip, True, clip - 1, clip + 1),
        Score(key(FID, reference="pictures 77c0"), fid, False, unreliable=DOUBT if fid else None),
        Score(key("judge_all", None), 2 / 3, True),
        Score(key("saturation", None), 0.25, None),
    )
    timing = Timing(3, (), (), 9.0, at.steps / 100, at.steps / 90, None, None, None)
    return CellResult(
        at, "CPU", at.steps, scores, Measured(timing, Memory(None, None, 900_000_000, "no GPU"))
    )


def rows(at: Cell, clip: float) -> tuple[ImageRow, ...]:
    verdicts = ({"shape": True}, {"shape": False}, None)
    return tuple(
        ImageRow(
            at.key,
            i,
            i,
            PROMPTS[i],
            f"cells/{at.key}/images/{i:05d}.png",
            {"clip_score": clip + i - 1},
            verdicts[i],
        )
        for i in range(3)
    )


FAILED = CellResult(cell("heun", 5), "CPU", None, error="3 pictures hold NaN <b>at heun</b>; use more steps")
DONE = (
    result(cell("ddim", 5), 20.0),
    result(cell("ddim", 10), 9.5, fid=None),
    result(cell("heun", 10), 30.0),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with three whole cells and a failed one."""
    root = tmp_path_factory.mktemp("run")
    plan = Plan(
        ModelPlan("shapes", "shapes", "cpu", "float32"),
        PromptSet("few", PROMPTS, notes=("1 of 3 prompts is <odd>",)),
        ReferencePlan("shapes", 64),
        MetricsPlan("shapes", ("shapes-clip",), ("clip_score", "fid", "judge_all", "saturation")),
        GridPlan(("ddim", "heun"), (5, 10), (4.0,), 0),
        HardwarePlan(3, 1, 1),
        str(root),
    )
    disk = RunFolder(root)
    everything = (*DONE[:2], FAILED, DONE[2])
    disk.write_head(
        plan, "model: <shapes>\n", {"python": "3.11", "cpu": "<two cores>"}, [r.cell for r in everything]
    )
    rng = np.random.default_rng(1)
    for each in everything:
        disk.open_cell(each.cell)
        clip = each.score("clip_score")
        found = rows(each.cell, clip.value) if clip and clip.value else ()
        for row in found:
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(root / row.path)
        disk.write_cell(each, found, "scoring")
    return root


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return rebuild(folder).report.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """What a browser sees: tags with their attributes, and text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.json: dict[str, str] = {}
        """Of scripts that hold no code, by their ids."""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, text: str) -> None:
        if self.cdata_elem == "script":
            attributes = self.tags[-1][1]
            if attributes.get("type") == "application/json":
                self.json[attributes.get("id") or ""] = text
            else:
                self.scripts.append(text)
        elif self.cdata_elem is None:
            self.text += text


def test_a_prompt_is_text_on_the_page_and_never_markup(page: str) -> None:
    outline = Outline(page)
    assert "alert(1)" not in " ".join(outline.scripts)
    assert json.loads(outline.json["pictures-data"])["prompts"][0] == EVIL
    assert "<script>alert" not in page


def test_errors_environment_and_configuration_are_escaped_too(page: str) -> None:
    outline = Outline(page)
    for text in ("3 pictures hold NaN <b>at heun</b>; use more steps", "<two cores>", "model: <shapes>"):
        assert text in outline.text
    assert not [tag for tag, _ in outline.tags if tag in ("two", "shapes")]
    assert "<b>at heun" not in page


def test_text_inside_a_figure_cannot_end_its_script_element(folder: Path) -> None:
    run = load_run(folder)
    evil = replace(run.results[0], cell=replace(run.results[0].cell, sampler="</script><i>\u2028"))
    plan = replace(run.plan, grid=replace(run.plan.grid, samplers=(evil.cell.sampler,)))
    outline = Outline(page_of(replace(run, plan=plan, results=(evil,)), folder))
    assert not [tag for tag, _ in outline.tags if tag == "i"]
    figures = [text for name, text in outline.json.items() if name.startswith("figure-")]
    assert figures
    assert all(json.loads(script)["data"] for script in figures)


def test_the_page_fetches_nothing(page: str) -> None:
    for tag, attributes in Outline(page).tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            address = attributes.get(name) or ""
            assert address.startswith(("#", "data:")) or not address, (tag, address)
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    assert "default-src 'none'" in page


def test_the_page_stays_below_three_megabytes_with_plotly_once(page: str) -> None:
    assert len(page.encode()) < 3_000_000
    assert page.count("plotly.js (cartesian - minified) v") == 1


def test_failed_cells_are_counted_and_shown_with_their_errors(page: str) -> None:
    text = " ".join(Outline(page).text.split())
    assert "1 of 4 settings failed" in text
    assert "3 of 4 done, 1 failed" in text
    assert FAILED.cell.label in text


def test_a_missing_value_is_an_empty_field(page: str) -> None:
    row = page.split(f'<tr data-key="{DONE[1].cell.key}"')[1].split("</tr>")[0]
    fields = re.findall(r'<td data-sort="([^"]*)"', row)
    heads = re.findall(r"<button[^>]*>([^<]+)<span", page)
    assert fields[heads.index(title_of(FID))] == ""
    assert fields[heads.index("CLIP score")] == "9.5"
    failed = page.split(f'<tr data-key="{FAILED.cell.key}"')[1].split("</tr>")[0]
    unknown = dict(zip(heads, re.findall(r'<td data-sort="([^"]*)"', failed), strict=True))
    assert {unknown[head] for head in ("CLIP score", title_of(FID), "Evals")} == {""}


def test_every_metric_is_explained_with_its_identity(page: str) -> None:
    text = " ".join(Outline(page).text.split())
    assert "NOT the FID of the literature" in text
    for each in DONE[0].scores:
        declared = CATALOGUE[each.name.partition("[")[0]]
        for words in (each.key.text, declared.meaning, declared.warning, declared.source):
            assert words in text
    assert "neither direction is better" in text


def test_an_unreliable_value_is_marked_wherever_it_stands(page: str) -> None:
    outline = Outline(page)
    marks = [attributes for tag, attributes in outline.tags if attributes.get("class") == "unsure"]
    # Two cells have the value in the table, and one card names the winner.
    assert [mark["title"] for mark in marks] == [DOUBT] * 3
    assert len(re.findall(r'class="unsure"[^>]*>unreliable</span>', page)) == 3
    text = " ".join(outline.text.split())
    assert f"In this run {DOUBT}." in text, "the glossary says so"
    assert f"is no part of that: {DOUBT}" in text, "the evidence says so"
    assert text.count(f"here is {DOUBT}.") == 3, "three figures draw it, and their captions say so"


def test_only_main_scores_are_shown_at_once_and_the_rest_unfold_without_a_script(page: str) -> None:
    heads = {
        re.sub(r"<[^>]*>", "", head): classes
        for classes, head in re.findall(
            r'<th scope="col" aria-sort="none" class="([^"]*)"[^>]*>(.*?)</th>', page
        )
    }
    assert "more" in heads["Saturation"]
    assert all("more" not in heads[title] for title in ("CLIP score", title_of(FID), title_of("judge_all")))
    assert "Show 1 more measure<" in page
    assert "#all-measures:checked" in page


def test_what_was_odd_about_the_prompts_stands_among_the_facts(page: str) -> None:
    assert "1 of 3 prompts is <odd>" in Outline(page).text


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (ReferencePlan("none", 0), "none, so no FID"),
        (ReferencePlan("folder", 0, "a/b"), "all pictures of a/b"),
        (
            ReferencePlan("list", 9, "l.txt", crop="centre"),
            "the first 9 pictures named in l.txt, cropped: centre",
        ),
        (ReferencePlan("coco", 0, "c.json", "val"), "all pictures of val that c.json names"),
        (ReferencePlan("moments", 0, "m.npz"), "moments from m.npz"),
    ],
)
def test_the_reference_is_named_by_its_kind(folder: Path, reference: ReferencePlan, said: str) -> None:
    run = load_run(folder)
    empty = replace(run, plan=replace(run.plan, reference=reference), results=(), images={})
    assert said in Outline(page_of(empty, folder)).text


def test_seeds_are_told_a_picture_a_prompt_or_shared(folder: Path) -> None:
    run = load_run(folder)
    prompts = replace(run.plan.prompts, seeds_per_prompt=4)
    many = replace(run, plan=replace(run.plan, prompts=prompts), results=(), images={})
    assert "0 to 11, one a picture; 4 pictures a prompt" in Outline(page_of(many, folder)).text
    grid = replace(run.plan.grid, shared_seed=True)
    shared = replace(run, plan=replace(run.plan, grid=grid), results=(), images={})
    assert "0 for every picture" in Outline(page_of(shared, folder)).text


def test_a_run_of_two_identities_still_gives_a_report_with_a_column_for_each(folder: Path) -> None:
    run = load_run(folder)
    other = tuple(replace(each, key=replace(each.key, n=2)) for each in DONE[2].scores)
    mixed = replace(run, results=(*DONE[:2], replace(DONE[2], scores=other)))
    page = page_of(mixed, folder)
    assert "CLIP score #2<span" in page
    assert "ddim · 5 steps · g 4 has the highest quality: CLIP score 20.00" in Outline(page).text


def test_the_decision_comes_first_with_its_evidence(page: str) -> None:
    text = Outline(page).text
    headings = ("Evidence", "One point a setting", "Winners by", "Same prompts", "Click a heading")
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert "heun · 10 steps · g 4 has the highest quality: CLIP score 30.00" in text


def test_a_run_without_any_result_still_gives_a_report(folder: Path) -> None:
    empty: Run = replace(load_run(folder), results=(), images={})
    text = Outline(page_of(empty, folder)).text
    assert "no cell is whole yet" in text
    assert "4 not run" in text


def test_the_script_rebuilds_tables_and_report(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "eval" / "report.py", folder], capture_output=True, text=True, check=True
    )
    assert "report.html" in done.stdout
    with (folder / "images.csv").open(newline="") as stream:
        prompts = {row["prompt"] for row in csv.DictReader(stream)}
    assert "'=cmd()" in prompts
    assert len((folder / "cells.csv").read_text().splitlines()) == 5
    with (folder / "comparisons.csv").open(newline="") as stream:
        compared = list(csv.DictReader(stream))
    assert {row["metric"] for row in compared} == {each.name for each in DONE[0].scores}
    assert all(row["difference"] or row["reason"] for row in compared)


@pytest.mark.parametrize("arguments", [[], ["nowhere"], ["a", "b"], ["--all"]])
def test_a_users_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from eval.report import main

    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1


@pytest.fixture
def opened(page: str, folder: Path, browser: Browser) -> Iterator[Page]:
    """The report in a real browser; it ends with neither an error nor a request."""
    with visit(browser, folder / "report.html") as seen:
        yield seen.page


def sorted_by(opened: Page, title: str) -> tuple[str | None, list[str | None]]:
    """Clicks the heading: the direction that it then shows, and the rows' keys in their order."""
    head = opened.locator("#sheet th").filter(has_text=re.compile(f"^{re.escape(title)}"))
    head.get_by_role("button").click()
    rows = opened.locator("#sheet tbody tr").all()
    return head.get_attribute("aria-sort"), [row.get_attribute("data-key") for row in rows]


def test_the_table_sorts_by_number_with_missing_values_last(opened: Page) -> None:
    five, ten, heun = (each.cell.key for each in DONE)
    failed = FAILED.cell.key
    assert sorted_by(opened, "CLIP score") == ("descending", [heun, five, ten, failed]), "the best first"
    assert sorted_by(opened, "CLIP score") == ("ascending", [ten, five, heun, failed])
    assert sorted_by(opened, "Steps")[0] == "ascending"
    assert set(sorted_by(opened, title_of(FID))[1][-2:]) == {ten, failed}
    assert set(sorted_by(opened, title_of(FID))[1][-2:]) == {ten, failed}
    assert sorted_by(opened, "Sampler")[1][:2] in ([five, ten], [ten, five])


def test_further_measures_unfold(opened: Page) -> None:
    further = opened.locator("#sheet th.more").first
    assert not further.is_visible()
    opened.locator("#all-measures").check()
    assert further.is_visible()


def test_figures_are_drawn(opened: Page) -> None:
    opened.locator(".plot .main-svg").first.wait_for()
    assert opened.locator(".plot .main-svg").count() > 0


def test_hostile_names_of_model_device_and_error_stay_text_in_a_browser(
    folder: Path, browser: Browser, tmp_path: Path
) -> None:
    run = load_run(folder)
    evil = f"{EVIL}\u202e=HYPERLINK(1)\x00🦊" + "m" * 10_000
    plan = replace(run.plan, model=replace(run.plan.model, name=evil, source=evil))
    results = tuple(replace(each, device=evil, error=each.error and evil) for each in run.results)
    page = tmp_path / "report.html"
    page.write_text(page_of(replace(run, plan=plan, results=results), folder), encoding="utf-8")
    with visit(browser, page) as seen:
        assert EVIL in seen.page.title()
        assert EVIL in seen.page.locator("#failed").inner_text()
        assert seen.page.evaluate("document.scripts.length") < 30


def test_plotly_in_the_page_is_the_version_that_plotly_writes_for() -> None:
    from plotly.offline import get_plotlyjs_version

    assert f"v{get_plotlyjs_version()}" in PLOTLY.read_text(encoding="utf-8")[:200]
