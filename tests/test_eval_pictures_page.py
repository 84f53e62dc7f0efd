"""The report's pictures in a real browser: axes, order, the large view, the slider, films, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import PHONE, Visit, visit
from picture_runs import CELLS, EVIL, HOSTILE, PROMPTS, keep_film, png, run_on_disk
from playwright.sync_api import Browser, Locator, Page, expect
from rendering import page_of

from eval.report import merge, rebuild
from eval.running.loading import load_run

LEAD = CELLS[0]
LABEL = "ddim · 5 steps · g 4"
CLOSE = """() => new Promise((done) => {
  const dialog = document.getElementById("picture-dialog");
  if (!dialog.open) return done();
  dialog.addEventListener("close", done, { once: true });
  dialog.close();
})"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with pictures beside its report."""
    root = run_on_disk(tmp_path_factory.mktemp("run") / "a run #1")
    keep_film(root, LEAD)
    (root / "cells" / CELLS[2].key / "images" / "00001.png").unlink()
    rebuild(root)
    return root


@pytest.fixture(scope="module")
def opened(folder: Path, browser: Browser) -> Iterator[Visit]:
    """The report, opened once: figures take their time."""
    with visit(browser, folder / "report.html") as found:
        yield found


@pytest.fixture
def page(opened: Visit) -> Page:
    """The report as it opens: prompts down, samplers and steps across, the first cell selected."""
    page = opened.page
    page.emulate_media(media="screen")
    page.evaluate(CLOSE)
    for label, value in (
        ("Down", "Prompt"),
        ("Across", "Sampler and steps"),
        ("Order of prompts", "as in the file"),
    ):
        choose(page, label, value)
    select(page, LEAD.key)
    return page


def heads(page: Page) -> list[str]:
    return page.locator("#pictures-table thead tr:last-child th bdi").all_inner_texts()


def first_prompts(page: Page, count: int = 3) -> list[str]:
    return page.locator("#pictures-table tbody th .text").all_text_contents()[:count]


def shot(page: Page, row: int, column: int) -> Locator:
    return page.locator("#pictures-table tbody tr").nth(row).locator("td").nth(column).locator(".shot")


def choose(page: Page, label: str, value: str) -> None:
    control(page, label).select_option(label=value)


def control(page: Page, label: str) -> Locator:
    return page.locator("#picture-controls").get_by_role("combobox", name=label, exact=True)


def select(page: Page, key: str) -> None:
    page.evaluate("key => document.dispatchEvent(new CustomEvent('cell-selected', { detail: { key } }))", key)


def loaded(images: Locator) -> None:
    """All of them have pixels, once they are looked at: until then a browser need not load them."""
    for image in images.all():
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("image => image.naturalWidth") > 0


def test_pictures_beside_the_page_load_from_the_runs_own_folder(page: Page) -> None:
    shown = page.locator("#pictures-table img")
    loaded(page.locator("#pictures-table tbody tr").first.locator("img"))
    assert page.evaluate("document.querySelector('#pictures-table img').getAttribute('src')") == (
        f"cells/{LEAD.key}/images/00000.png"
    )
    assert shown.first.get_attribute("loading") == "lazy"
    expect(shown.first).to_have_class("small")


def test_the_axes_change_what_goes_down_and_across(page: Page) -> None:
    assert heads(page) == ["5 steps", "10 steps", "20 steps"] * 2
    assert page.locator("#pictures-table .groups th").all_inner_texts() == ["ddim", "heun"]
    choose(page, "Across", "Guidance")
    assert heads(page) == ["g 4", "g 9"]
    choose(page, "Steps", "20 steps")
    assert shot(page, 0, 1).locator("img").get_attribute("src") == f"cells/{CELLS[5].key}/images/00000.png"
    choose(page, "Down", "Sampler")
    assert page.locator("#pictures-table tbody th").all_inner_texts() == ["ddim", "heun"]
    choose(page, "Prompt", "prompt 9")
    assert page.locator("#pictures-table .gone").all_inner_texts() == ["failed"], "heun, 20 steps, g 9"
    choose(page, "Across", "Prompt")
    assert len(heads(page)) == 16
    choose(page, "Across", "Sampler")
    assert page.locator("#pictures-table tbody th").count() == 24, "two sides never show one thing"


def test_prompts_sort_by_how_much_they_change_and_by_the_selected_cells_worst(page: Page) -> None:
    assert first_prompts(page)[1:] == list(HOSTILE[1:3])
    choose(page, "Order of prompts", "most changed first")
    assert first_prompts(page) == ["prompt 29", "prompt 28", "prompt 27"]
    assert page.locator("#pictures-table tbody th small").first.inner_text() == "CLIP scores 3.9 apart"
    select(page, LEAD.key)
    choose(page, "Order of prompts", "worst for the selected")
    assert first_prompts(page)[0] == "x" * 160 + "…", "wrong by the judge"
    assert first_prompts(page)[1] == "prompt 29"
    select(page, CELLS[4].key)
    assert first_prompts(page)[1:] == list(HOSTILE[1:3]), "the best everywhere: the file's order"


def test_a_heading_selects_its_cell_and_tells_the_page(page: Page) -> None:
    page.evaluate(
        "document.addEventListener('cell-selected', (event) => { window.told = event.detail.key; })"
    )
    head = page.locator("#pictures-table thead button").nth(1)
    head.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("window.told") == CELLS[2].key
    assert page.locator("#pictures-table thead button").nth(1).get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.activeElement.title") == "Select ddim · 10 steps · g 4"
    select(page, CELLS[7].key)
    assert "selected: heun · 5 steps · g 9" in page.locator("#pictures-state").inner_text()
    assert control(page, "Guidance").evaluate("select => select.selectedOptions[0].text") == "g 9"
    select(page, "nobody")
    assert "selected: heun · 5 steps · g 9" in page.locator("#pictures-state").inner_text()


def test_the_keyboard_opens_turns_and_closes_a_picture_and_focus_returns(page: Page) -> None:
    shot(page, 0, 0).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.querySelector('img').alt").endswith(
        "ddim · 20 steps · g 4, right by the judge"
    ), "past the missing one"
    page.keyboard.press("Enter")
    dialog = page.locator("#picture-dialog")
    expect(dialog).to_be_visible()
    assert page.locator("#picture-setting").inner_text() == "ddim · 20 steps · g 4"
    page.keyboard.press("ArrowDown")
    assert page.locator("#picture-prompt").inner_text() == HOSTILE[2]
    page.keyboard.press("ArrowLeft")
    assert page.locator("#picture-setting").inner_text() == "ddim · 10 steps · g 4"
    assert "seed 2 · CLIP score 30.0 · all right by the judge" in page.locator("#picture-facts").inner_text()
    loaded(page.locator("#picture-stage img"))
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    at = page.locator(f'.shot:has(img[src="cells/{CELLS[2].key}/images/00002.png"])')
    expect(at).to_be_focused()


def test_a_picture_looked_at_on_another_page_of_the_grid_is_there_when_the_dialog_closes(page: Page) -> None:
    shot(page, 23, 0).click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    expect(page.locator("#pictures-pages")).to_contain_text("prompts 25–30 of 30")
    expect(shot(page, 0, 0)).to_be_focused()
    assert page.locator("#pictures-table tbody th").first.inner_text() == "prompt 24"


def test_a_divider_moves_by_keys_and_by_the_pointer(page: Page) -> None:
    shot(page, 0, 0).click()
    page.locator("#picture-other").select_option(label="heun · 5 steps · g 4")
    images = page.locator("#picture-stage img")
    loaded(images)
    assert images.count() == 2
    divider = page.locator("#picture-divider")
    divider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert divider.input_value() == "47"
    assert divider.get_attribute("aria-valuetext") == f"47 % {LABEL}, the rest heun · 5 steps · g 4"
    assert page.locator("#picture-stage").evaluate("stage => stage.style.getPropertyValue('--cut')") == "47%"
    assert "inset(0" in page.locator("#picture-stage .over").evaluate(
        "image => getComputedStyle(image).clipPath"
    )
    box = page.locator("#picture-stage").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 9)
    assert divider.input_value() == "25"
    page.locator("#picture-close").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#picture-left").inner_text() == "◀ ddim · 10 steps · g 4", "the other one stays"
    page.locator("#picture-other").select_option(index=0)
    expect(divider).not_to_be_visible()


def test_a_missing_picture_is_said_in_words(page: Page, opened: Visit, folder: Path) -> None:
    at = page.locator("#pictures-table tbody tr").nth(1).locator("td").nth(1)
    assert at.inner_text() == "no picture", "missing when the report was written"
    lost = folder / "cells" / CELLS[4].key / "images" / "00000.png"
    kept = lost.read_bytes()
    lost.unlink()
    try:
        page.reload()
        expect(page.locator("#pictures-table tbody tr").first.locator("td").nth(2)).to_have_text(
            "no picture✓"
        )
        assert all("ERR_FILE_NOT_FOUND" in error for error in opened.errors)
        opened.errors.clear()
    finally:
        lost.write_bytes(kept)


def test_the_filmstrip_of_the_selected_cell_is_shown_where_it_was_kept(page: Page) -> None:
    select(page, LEAD.key)
    film = page.locator("#pictures-film")
    loaded(film.locator("img"))
    assert film.locator(".strip-steps span").all_inner_texts() == ["noise", "step 2", "step 5"]
    shot(page, 0, 0).click()
    loaded(page.locator("#picture-film img"))
    page.keyboard.press("Escape")
    select(page, CELLS[5].key)
    assert "No filmstrip was kept of this setting." in film.inner_text()


def test_hostile_prompts_are_text_and_long_ones_are_clamped(page: Page) -> None:
    assert first_prompts(page)[0] == EVIL
    assert page.locator("#pictures-table tbody tr").nth(3).bounding_box()["height"] < 200  # type: ignore[index]
    shot(page, 3, 0).click()
    assert page.locator("#picture-prompt").inner_text() == "x" * 10_000
    page.keyboard.press("Escape")
    assert page.locator("#pictures-table tbody th bdi").nth(6).inner_text() == "(empty prompt)"


def test_others_can_ask_for_a_cells_picture(page: Page) -> None:
    assert (
        page.evaluate("key => window.reportPictures.thumb(key)", LEAD.key)
        == f"cells/{LEAD.key}/images/00000.png"
    )
    assert page.evaluate("window.reportPictures.thumb('nobody')") is None


def axe_faults(page: Page) -> list[tuple[str, list[str]]]:
    """Of the section, and of a picture beside another in the dialog: rule, and what breaks it."""
    select(page, LEAD.key)
    found = Axe().run(page, context="#pictures").response["violations"]
    shot(page, 0, 0).click()
    page.locator("#picture-other").select_option(index=2)
    found += Axe().run(page, context="#picture-dialog").response["violations"]
    return [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found]


def test_axe_finds_no_fault(page: Page) -> None:
    assert axe_faults(page) == []


def test_a_dark_phone_is_wide_enough_and_axe_finds_no_fault_there(folder: Path, browser: Browser) -> None:
    with visit(browser, folder / "report.html", PHONE, dark=True) as seen:
        section = seen.page.locator("#pictures").bounding_box()
        assert section is not None
        assert section["x"] + section["width"] <= PHONE[0]
        assert seen.page.locator("#picture-controls").evaluate("form => form.scrollWidth <= form.clientWidth")
        assert axe_faults(seen.page) == []


def test_print_shows_the_grid_without_its_controls(page: Page) -> None:
    page.emulate_media(media="print")
    expect(page.locator("#picture-controls")).not_to_be_visible()
    expect(shot(page, 0, 0)).to_be_visible()
    assert page.locator(".pictures-scroll").evaluate("box => getComputedStyle(box).maxHeight") == "none"


def test_a_page_that_carries_its_pictures_asks_for_no_file(
    folder: Path, browser: Browser, tmp_path: Path
) -> None:
    mailed = tmp_path / "mailed.html"
    mailed.write_text(page_of(load_run(folder), folder, pictures="embedded"), encoding="utf-8")
    with visit(browser, mailed) as seen:
        select(seen.page, LEAD.key)
        loaded(seen.page.locator("#pictures-table tbody tr").first.locator("img"))
        shot(seen.page, 0, 0).click()
        seen.page.locator("#picture-other").select_option(index=1)
        loaded(seen.page.locator("#picture-stage img"))
        assert seen.page.evaluate("[...document.images].every((image) => image.src.startsWith('data:'))")
        policy = seen.page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
        assert str(policy).endswith("img-src data: blob:"), "no file could be asked for"
        assert "12 of 30 prompts" in seen.page.locator("#pictures-state").inner_text()
        assert seen.page.evaluate("key => reportPictures.thumb(key)", LEAD.key).startswith("data:image/png")


def test_a_page_without_pictures_has_no_section(folder: Path) -> None:
    page = page_of(load_run(folder), folder, pictures="none")
    assert 'id="pictures' not in page
    assert 'href="#pictures"' not in page


def test_pictures_of_merged_runs_come_from_each_runs_folder(
    folder: Path, browser: Browser, tmp_path: Path
) -> None:
    second = run_on_disk(tmp_path / "other 100%", model="sdxl", fingerprint="beef", prompts=PROMPTS[8:12])
    out = tmp_path / "out"
    merge((folder, second), out)
    with visit(browser, out / "report.html") as seen:
        page = seen.page
        choose(page, "Across", "Model")
        assert heads(page) == ["shapes", "sdxl"]
        row = page.locator("#pictures-table tbody tr").nth(8)
        row.scroll_into_view_if_needed()
        loaded(row.locator("img"))
        addresses = row.locator("img").evaluate_all(
            "images => images.map((image) => image.getAttribute('src'))"
        )
        assert addresses[1].startswith("../other%20100%25/cells/")
        assert addresses[1].endswith("/images/00000.png"), "the second run's first prompt"
        row.locator(".shot").nth(1).click()
        page.locator("#picture-other").select_option(index=1)
        assert "their seeds differ" in page.locator("#picture-facts").inner_text()


def test_large_pictures_are_shown_small_in_the_grid_and_whole_in_the_dialog(
    browser: Browser, tmp_path: Path
) -> None:
    root = run_on_disk(tmp_path / "large", prompts=PROMPTS[8:10])
    run = load_run(root)
    result = run.results[0]
    for each in run.images[result.cell.key]:
        (root / each.path).write_bytes(png((90, 90, 9), (320, 320)))
    wide = replace(result, cell=replace(result.cell, width=320, height=320))
    moved = root / "cells" / wide.cell.key
    (root / "cells" / result.cell.key).rename(moved)
    rows = tuple(
        replace(each, cell_key=wide.cell.key, path=each.path.replace(result.cell.key, wide.cell.key))
        for each in run.images[result.cell.key]
    )
    only = replace(run, results=(wide,), images={wide.cell.key: rows})
    (root / "report.html").write_text(page_of(only, root), encoding="utf-8")
    with visit(browser, root / "report.html") as seen:
        first = seen.page.locator("#pictures-table img").first
        assert str(first.get_attribute("src")).startswith("thumbnails/")
        loaded(first)
        assert first.evaluate("image => image.naturalWidth") == 192
        first.click()
        large = seen.page.locator("#picture-stage img")
        loaded(large)
        assert large.evaluate("image => image.naturalWidth") == 320
