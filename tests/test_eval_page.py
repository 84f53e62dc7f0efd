"""The report's page in a browser: limits move the decision, the table filters and downloads, all can reach it."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import DESK, PHONE, visit
from playwright.sync_api import Browser, Page

from eval.decide_plan import DecidePlan, Limits
from eval.hardware_plan import HardwarePlan
from eval.identity import EncoderKey, Score, ScoreKey
from eval.measured import Curve, CurvePoint, Energy, Measured, Memory, Timing
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
from eval.reporting.decide import decide
from eval.reporting.findings import Findings, findings
from eval.reporting.html import write_report

PICTURES = 40
EVIL = "=cmd</script><i>\"x'"
SAMPLERS = ("ddim", "heun", EVIL)
STEPS, GUIDANCES = (5, 10, 20), (1.0, 4.0)
NOISE = "samples spread by 20 % of their median"
PEAK = {"ddim": 2e9, "heun": 3e9}


def cell(sampler: str, steps: int, guidance: float) -> Cell:
    return Cell("f00d", sampler, steps, guidance, "p", PICTURES, 0, 64, 64, "float16", "cuda")


def result(at: Cell, values: np.ndarray) -> CellResult:
    encoder = EncoderKey("shapes", "sha256:9af1", "none", "none", "512", ())
    mean, half = float(values.mean()), float(values.std() / 3)
    scores = (
        Score(
            ScoreKey("clip_score", PICTURES, "100*cos", encoder, None), mean, True, mean - half, mean + half
        ),
        Score(ScoreKey("saturation", PICTURES, "mean", None, None), 0.2 + at.steps / 100, None),
    )
    calls = at.steps * (2 if at.sampler == "heun" else 1)
    one = calls * (1.0 if at.guidance == 1 else 2.0) / 100
    timing = Timing(
        4, (), (), 2 / one, one, one * 1.1, 0.4 * one, 0.05 * one, 0.01,
        latency_unreliable=NOISE if at.steps == 5 else None,
    )  # fmt: skip
    peak = PEAK.get(at.sampler, 5e9)
    energy = Energy(100.0, 4, 30 * one, 250.0) if at.sampler != EVIL else None
    curve = Curve((CurvePoint(1, 1 / one, 10**9), CurvePoint(2, 2 / one, 10**9)), 2, "no more asked for")
    return CellResult(
        at, "GPU <8>", calls, scores,
        Measured(timing, Memory(int(peak) - 10, int(peak), 10**9), None, energy, None, None, curve),
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """18 cells, one of them failed, whose scores share each picture's luck."""
    rng = np.random.default_rng(4)
    luck = rng.normal(0, 2, PICTURES)
    results, images = [], {}
    for sampler in SAMPLERS:
        for steps in STEPS:
            for guidance in GUIDANCES:
                at = cell(sampler, steps, guidance)
                level = 30 - 6 / steps - (0.3 if guidance == 1 else 0) - 0.02 * SAMPLERS.index(sampler)
                values = level + luck + rng.normal(0, 0.15 + 0.05 * SAMPLERS.index(sampler), PICTURES)
                results.append(result(at, values))
                images[at.key] = tuple(
                    ImageRow(at.key, i, i, f"prompt {i}", f"cells/{at.key}/{i}.png", {"clip_score": float(v)})
                    for i, v in enumerate(values)
                )
    failed = replace(results[7], scores=(), measured=None, error="out of memory <b>here</b>")
    images.pop(failed.cell.key)
    results[7] = failed
    plan = Plan(
        ModelPlan("tiny", "some/tiny", "cuda", "float16"),
        PromptSet("few", tuple(f"prompt {i}" for i in range(PICTURES))),
        ReferencePlan("none", 0),
        MetricsPlan("shapes", (), ("clip_score", "saturation")),
        GridPlan(SAMPLERS, STEPS, GUIDANCES, 0),
        HardwarePlan(4, 2, 2),
        "",
    )
    environment = {
        "prompts cut by the model's text encoder": "0 of 40",
        "prompts cut by the scorer's text encoder": "3 of 40",
    }
    return Run(plan, tuple(results), images, environment, "")


@pytest.fixture(scope="module")
def found(run: Run) -> Findings:
    return findings(run, lambda *_: {}, lambda *_: None)


@pytest.fixture(scope="module")
def report(run: Run, found: Findings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(run, found, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def only(report: Path, browser: Browser) -> Iterator[Page]:
    """The page, loaded once; it ends with neither an error nor a request."""
    with visit(browser, report) as seen:
        yield seen.page


@pytest.fixture
def opened(only: Page) -> Page:
    """The same as it was when it was opened."""
    only.emulate_media(media="screen", color_scheme="light")
    only.evaluate(
        """() => {
          document.getElementById("limits-reset").click();
          for (const [id, value] of [["filter-text", ""], ["filter-verdict", ""], ["axis-x", "0"], ["axis-y", ""]]) {
            const control = document.getElementById(id);
            control.value = value;
            for (const type of ["input", "change"]) control.dispatchEvent(new Event(type));
          }
          for (const box of document.querySelectorAll("#filter-samplers input")) {
            box.checked = true;
            box.dispatchEvent(new Event("input"));
          }
        }"""
    )
    return only


def verdicts(page: Page) -> dict[str, str]:
    """Key -> what stands in the table's column of verdicts."""
    found: dict[str, str] = page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll('#sheet tbody tr')].map("
        "(row) => [row.dataset.key, row.querySelector('.mark').textContent]))"
    )
    return found


def label(found: Findings) -> str:
    assert found.decision.chosen is not None
    return found.decision.chosen.cell.label


def asked(rng: random.Random, run: Run) -> DecidePlan:
    """A margin and limits, each among the values that there are, or a little beside one."""
    timings = [r.timing for r in run.results if r.timing]
    latency = rng.choice([t.latency_p50_s for t in timings]) or 0.0
    speed = rng.choice([t.images_per_s for t in timings]) or 0.0
    limits = Limits(
        max_latency_s=rng.choice([None, latency, latency * 1.01, latency * 0.99]),
        max_memory_bytes=rng.choice([None, None, 2e9, 4e9]),
        min_images_per_s=rng.choice([None, None, speed]),
        max_joules=rng.choice([None, None, None, 10.0]),
        max_model_evals=rng.choice([None, None, 20.0]),
    )
    return replace(run.plan.decide, margin=rng.choice([0.01, 0.3, 0.6, 1.0, 1.7, 4.0, 12.0]), limits=limits)


def test_the_pages_rule_decides_as_the_programs(run: Run, found: Findings, opened: Page) -> None:
    rng, statuses = random.Random(7), set()
    for _ in range(40):
        plan = asked(rng, run)
        told = decide(run.results, found.quality, plan)
        answer = opened.evaluate(
            """([limits, margin]) => {
              const rule = reportDecision.open(JSON.parse(document.getElementById("decision-data").textContent));
              const { verdicts, front, ...answer } = reportDecision.decide(rule, limits, margin);
              return { ...answer, verdicts: Object.fromEntries(verdicts), front: Object.fromEntries(front) };
            }""",
            [vars(plan.limits), plan.margin],
        )
        statuses.add(told.status)
        assert answer["status"] == told.status
        assert answer["chosen"] == (told.chosen and told.chosen.cell.key)
        assert answer["best"] == (told.best and told.best.cell.key)
        assert {key: each["kind"] for key, each in answer["verdicts"].items()} == {
            key: each.kind for key, each in told.verdicts.items()
        }
        for key, each in told.verdicts.items():
            own = answer["verdicts"][key]
            assert (own["gap"] is None, own["more"] is None) == (each.gap is None, each.more_pictures is None)
            assert own["gap"] in (None, pytest.approx(each.gap or 0, abs=1e-5))
            assert own["upper"] in (None, pytest.approx(each.upper or 0, rel=1e-5, abs=1e-5))
            assert own["more"] in (None, pytest.approx(each.more_pictures or 0, abs=1))
        if told.status == "too_few":
            assert answer["more"] == pytest.approx(told.more_pictures, abs=1)
        if not told.count("over_limit", "guarded"):
            assert answer["front"] == told.front
    assert statuses >= {"chosen", "too_few", "no_cell_meets_limits"}


def test_the_page_opens_with_the_runs_own_decision(found: Findings, opened: Page) -> None:
    chosen = found.decision.chosen
    assert chosen is not None
    head = opened.locator("#choice-setting").inner_text()
    assert (
        head
        == f"Use {chosen.cell.sampler} with {chosen.cell.steps} steps at guidance {chosen.cell.guidance:g}"
    )
    assert (
        f"sampler={chosen.cell.sampler!r}, steps={chosen.cell.steps}"
        in opened.locator("#choice-code").inner_text()
    )
    assert "Confidence".lower() in opened.locator("#grounds").inner_text().lower()
    assert opened.locator("#evidence li").first.is_visible()
    assert opened.locator("#limits-reset").is_disabled()
    shown = verdicts(opened)
    assert shown[chosen.cell.key] == "chosen"
    assert list(shown.values()).count("failed") == 1


def test_a_limit_moves_the_decision_and_all_that_shows_it(found: Findings, opened: Page) -> None:
    before = found.decision.chosen
    assert before is not None
    head = opened.locator("#choice-setting")
    opened.get_by_label("Peak memory at most").fill("2.5")
    opened.get_by_label("Below the best by at most").fill("3")
    opened.wait_for_function("() => !document.getElementById('limits-reset').disabled")
    shown = verdicts(opened)
    assert all(shown[r.cell.key] == "over a limit" for r in found.quality.results if r.cell.sampler != "ddim")
    chosen = next(key for key, word in shown.items() if word == "chosen")
    assert chosen != before.cell.key
    assert "Use ddim" in head.inner_text()
    assert "sampler='ddim'" in opened.locator("#choice-code").inner_text()
    assert opened.locator(f"#sheet tr[data-key='{chosen}']").get_attribute("class") == "chosen"
    assert not opened.locator("#evidence").is_visible(), "it was written for the run's own limits"
    assert "are outside the limits" in opened.locator("#moved").inner_text()
    assert opened.locator("#explorer").get_by_text("at most 2.5 GB").count() == 0, "the axis is another"
    opened.get_by_role("button", name="Reset to the run’s own limits").click()
    assert verdicts(opened)[before.cell.key] == "chosen"
    assert opened.locator("#evidence").is_visible()


def test_limits_that_nobody_meets_and_too_few_images_are_answers(opened: Page) -> None:
    head, said = opened.locator("#choice-setting"), opened.locator("#choice-sentence")
    opened.get_by_label("Latency p50 at most").fill("1")
    opened.locator("#choice-code").wait_for(state="hidden")
    assert head.inner_text() == "No setting meets the limits"
    opened.get_by_label("Latency p50 at most").fill("")
    opened.get_by_label("Below the best by at most").fill("0.01")
    opened.wait_for_function(
        "() => document.getElementById('choice-setting').textContent.startsWith('Too few')"
    )
    assert "more would do" in said.inner_text()


def test_the_margins_line_and_the_limits_can_be_dragged(opened: Page) -> None:
    for axis, field in (("x", "Latency p50 at most"), ("y", "Below the best by at most")):
        before = opened.get_by_label(field).input_value()
        opened.locator("#explorer").scroll_into_view_if_needed()
        box = opened.locator(f".handle.{axis}").bounding_box()
        assert box is not None
        opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        opened.mouse.down()
        opened.mouse.move(box["x"] + box["width"] / 2 - 300, box["y"] + box["height"] / 2 + 40, steps=4)
        opened.mouse.up()
        opened.wait_for_function(
            "([id, before]) => document.getElementById(id).value !== before",
            arg=[f"limit-{'max_latency_s' if axis == 'x' else 'margin'}", before],
        )
    assert opened.locator("#limits-reset").is_enabled()


def test_both_axes_can_be_chosen(opened: Page) -> None:
    title = opened.locator("#explorer .xtitle")
    opened.locator("#cost").get_by_label("Across").select_option(label="Energy a picture")
    assert title.text_content() == "Energy a picture (J)"
    opened.get_by_label("Up", exact=True).select_option(label="CLIP score")
    assert "CLIP score (higher is better)" in (opened.locator("#explorer .ytitle").text_content() or "")
    options = opened.locator("#axis-y option").all_inner_texts()
    assert not any("Saturation" in option for option in options), "neither direction of it is better"


def test_under_limits_the_card_says_how_the_choice_stands_within_them_and_without(
    found: Findings, opened: Page
) -> None:
    quality = found.quality
    assert quality.bounds is not None
    opened.get_by_label("Evaluations a picture at most").fill("5")
    opened.get_by_text("within your limits").first.wait_for()
    said = opened.locator("#grounds").inner_text()
    key = next(key for key, word in verdicts(opened).items() if word == "chosen")
    place = [each.cell.key for each in quality.results].index(key)
    top = quality.results[int(quality.values.argmax())]
    held = quality.text(float(quality.bounds.uppers(quality.values)[place])).partition(" in ")[0]
    within = sum((each.model_evals or 0) <= 5 for each in quality.results)
    assert f"Of the {within} settings within your limits it lies at most" in said
    assert f"Without limits {top.cell.label} is the best: this lies" in said
    assert f"at most {held}, " in said
    assert "best one measured" not in said
    assert "as good as the best of them" in opened.locator("#choice-sentence").inner_text()
    assert "0 is the best of all" in opened.locator("#explorer-caption").inner_text()


def test_settings_that_cost_as_much_as_the_choice_are_called_as_cheap(opened: Page) -> None:
    answer = opened.evaluate(
        """() => {
          const rule = reportDecision.open(JSON.parse(document.getElementById("decision-data").textContent));
          for (const cell of rule.cells) cell.cost = cell.cost === null ? null : 1 + 0.001 * cell.place;
          const answer = reportDecision.decide(rule, {}, 3);
          const tied = [...answer.verdicts].filter(([, { kind }]) => kind === "tied");
          return {
            kinds: [...answer.verdicts.values()].map(({ kind }) => kind),
            said: tied.map(([key]) => reportWords.verdict(rule, answer, rule.byKey.get(key), {})),
            sentence: reportWords.sentence(rule, answer),
          };
        }"""
    )
    assert "dearer" not in answer["kinds"]
    assert set(answer["said"]) == {"It is good enough and costs as much; the choice has the higher quality."}
    assert answer["sentence"].startswith("The best of the cheapest settings that are shown")
    assert "costs within 5 % count as equal" in answer["sentence"]
    assert opened.locator("#filter-verdict option").all_inner_texts()[1:3] == ["chosen", "as cheap"]


def test_more_pictures_than_anybody_makes_are_not_asked_for(opened: Page) -> None:
    few, many, none = opened.evaluate(
        """() => {
          const rule = reportDecision.open(JSON.parse(document.getElementById("decision-data").textContent));
          const cell = rule.cells[0];
          const say = (more) => {
            const verdicts = new Map([[cell.key, { kind: "unsure", gap: 0.5, upper: 1.5, more }]]);
            return reportWords.verdict(rule, { verdicts, chosen: null, limited: false }, cell, {});
          };
          return [10000, 10001, null].map(say);
        }"""
    )
    assert "10000 pictures more would show it" in few
    assert many.endswith("It lies too near the margin for more pictures to settle.")
    assert "10001" not in many
    assert none.endswith("It is measured to lie beyond the margin.")


@pytest.mark.parametrize("wrong", ["-3", "0"])
def test_a_number_that_can_be_no_limit_is_refused_in_words(found: Findings, opened: Page, wrong: str) -> None:
    field = opened.get_by_label("Latency p50 at most")
    field.fill(wrong)
    said = opened.locator("#wrong-max_latency_s")
    said.wait_for()
    assert "above 0" in said.inner_text()
    assert field.get_attribute("aria-invalid") == "true"
    assert opened.locator("#echo").inner_text() == f"So the choice is {label(found)}."
    field.fill("")
    said.wait_for(state="hidden")
    assert field.get_attribute("aria-invalid") is None
    assert field.get_attribute("title") == "Half of the pictures take at most"


def test_no_unreliable_value_is_bold_and_an_unknown_one_is_a_dash(run: Run, opened: Page) -> None:
    assert opened.locator("#sheet td.best").count() > 0
    assert opened.locator("#sheet td.best .unsure").count() == 0
    failed = next(each.cell.key for each in run.results if each.error is not None)
    cell = opened.locator(f"#sheet tr[data-key='{failed}'] td.num").last
    assert cell.text_content() == "–not known"
    assert opened.get_by_label("Filter").get_attribute("placeholder") == f"words, such as: {EVIL} 20"


def test_a_settings_card_opens_where_the_reader_is(run: Run, opened: Page) -> None:
    shown = """() => {
      const { top, bottom } = document.getElementById("selected").getBoundingClientRect();
      return top < innerHeight && bottom > 0;
    }"""
    opened.locator("#rivals button").first.click()
    opened.wait_for_function(shown)
    assert opened.locator("#rivals #selected").is_visible()
    opened.locator(f"#sheet tr[data-key='{run.results[2].cell.key}'] td").nth(1).click()
    opened.wait_for_function(shown)
    assert run.results[2].cell.label in opened.locator("#table #selected").inner_text()


def test_warnings_stand_beside_what_they_touch(opened: Page) -> None:
    text = opened.locator("#decision .cautions").inner_text()
    assert f"Only {PICTURES} pictures a setting were compared" in text
    assert "3 of 40 prompts were cut by the scorer's text encoder, so their CLIP score" in text
    assert "the model's text encoder" not in text, "it cut none"
    assert "Latency is unreliable for 5 of 17 settings" in text
    opened.get_by_label("Below the best by at most").fill("30")
    opened.get_by_text(f"unreliable: {NOISE}").first.wait_for()
    assert NOISE in opened.locator("#grounds").inner_text(), "beside the cost of a choice that it touches"


def test_the_table_is_filtered_by_words_samplers_and_verdict(run: Run, opened: Page) -> None:
    rows = opened.locator("#sheet tbody tr:not([hidden])")
    opened.get_by_label("Filter").fill("heun 20")
    assert [row.get_attribute("data-key") for row in rows.all()] == [
        r.cell.key for r in run.results if r.cell.sampler == "heun" and r.cell.steps == 20
    ]
    assert opened.locator("#table-count").inner_text() == "2 of 18 settings"
    opened.get_by_label("Filter").fill("")
    opened.get_by_role("checkbox", name="heun").uncheck()
    assert rows.count() == 12
    opened.get_by_label("Verdict", exact=True).select_option(label="chosen")
    assert rows.count() == 1


def test_what_is_shown_is_downloaded_with_every_digit_and_no_formula(run: Run, opened: Page) -> None:
    opened.get_by_label("Filter").fill("20")
    opened.locator("#sheet th").filter(has_text="CLIP score").get_by_role("button").click()
    with opened.expect_download() as download:
        opened.get_by_role("button", name="Download as CSV").click()
    text = Path(download.value.path()).read_bytes().decode()
    assert text.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    twenty = {r.cell.key: r for r in run.results if r.cell.steps == 20}
    assert {row["Cell"] for row in rows} == set(twenty)
    clips = [float(row["CLIP score"]) for row in rows]
    assert clips == sorted(clips, reverse=True), "the best first"
    for row in rows:
        score = twenty[row["Cell"]].score("clip_score")
        assert score is not None
        assert float(row["CLIP score"]) == score.value
        assert float(row["CLIP score, 95 % low"]) == score.low
        assert float(row["CLIP score, 95 % high"]) == score.high
        assert row["Latency p50 (ms), unreliable"] == ""
    assert {row["Sampler"] for row in rows} == {"ddim", "heun", f"'{EVIL}"}
    assert {row["Verdict"] for row in rows} <= {"chosen", "costs more", "cannot tell", "worse"}
    assert "Saturation" not in rows[0], "it is folded away"


def test_the_page_is_used_with_the_keyboard_alone(run: Run, opened: Page) -> None:
    opened.reload()
    opened.keyboard.press("Tab")
    assert opened.locator(":focus").inner_text() == "Skip to the decision"
    opened.locator("#sheet thead button").last.focus()
    opened.keyboard.press("Tab")
    row = opened.locator("#sheet tr:focus")
    assert row.get_attribute("data-key") == run.results[0].cell.key
    opened.keyboard.press("ArrowDown")
    assert row.get_attribute("data-key") == run.results[1].cell.key
    assert opened.locator(".ring.pointed").is_visible()
    opened.keyboard.press("Enter")
    assert run.results[1].cell.label in opened.locator("#selected").inner_text()
    assert row.get_attribute("aria-selected") == "true"
    opened.keyboard.press("Tab")
    assert opened.locator("#sheet tbody tr:focus").count() == 0, "the table is no trap"


def test_a_chosen_point_and_its_row_tell_each_other(run: Run, opened: Page) -> None:
    key = run.results[3].cell.key
    heard = opened.evaluate_handle(
        """() => {
          const keys = [];
          document.addEventListener("cell-selected", (event) => keys.push(event.detail.key));
          return keys;
        }"""
    )
    opened.locator(f"#sheet tr[data-key='{key}'] td").nth(1).click()
    assert heard.json_value() == [key]
    assert opened.locator(".ring.selected").is_visible()


def test_a_point_says_what_it_is_and_is_chosen_by_a_click(found: Findings, opened: Page) -> None:
    chosen = found.decision.chosen
    assert chosen is not None
    opened.locator("#explorer").scroll_into_view_if_needed()
    opened.locator(f"#sheet tr[data-key='{chosen.cell.key}']").evaluate(
        "(row) => row.focus({preventScroll: true})"
    )
    ring = opened.locator(".ring.pointed").bounding_box()
    assert ring is not None
    middle = ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2
    opened.mouse.move(middle[0] - 3, middle[1] - 3)
    opened.mouse.move(*middle)
    card = opened.locator("#point-card")
    card.wait_for()
    assert chosen.cell.label in card.inner_text()
    assert "It is the choice." in card.inner_text()
    opened.mouse.click(*middle)
    opened.locator("#selected").get_by_text(chosen.cell.label).wait_for()


def test_the_code_is_copied(found: Findings, opened: Page) -> None:
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.locator("#choice-code .copy").click()
    opened.locator("#choice-code .copy").get_by_text("Copied").wait_for()
    assert found.decision.chosen is not None
    assert f"sampler={found.decision.chosen.cell.sampler!r}" in opened.evaluate(
        "navigator.clipboard.readText()"
    )


def test_device_figures_are_those_that_were_measured(opened: Page) -> None:
    titles = opened.locator("#device-0 figcaption h3").all_inner_texts()
    assert opened.locator("#device-0 h2").inner_text() == "Measured on GPU <8>"
    assert titles == [
        "Latency of one picture",
        "Throughput",
        "Peak memory",
        "Energy",
        "Where the time goes",
        "Throughput over the batch",
    ]


@pytest.mark.parametrize(("size", "dark"), [(DESK, False), (PHONE, True)], ids=["light desk", "dark phone"])
def test_axe_finds_no_serious_fault(
    report: Path, browser: Browser, size: tuple[int, int], dark: bool
) -> None:
    with visit(browser, report, size, dark=dark) as seen:
        seen.page.locator("#sheet tbody tr").first.click()
        # What a figure draws stands for itself, as one image with a label.
        found = Axe().run(seen.page, {"exclude": [[".main-svg"]]}, {"resultTypes": ["violations"]})
        grave = [
            (each["id"], [node["html"] for node in each["nodes"]][:3])
            for each in found.response["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert grave == []
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= size[0], (
            "nothing scrolls sideways"
        )


def test_print_draws_every_figure_and_clips_no_table(opened: Page) -> None:
    opened.emulate_media(media="print", color_scheme="dark")
    opened.wait_for_function(
        "() => [...document.querySelectorAll('[data-figure]')].every((plot) => plot.querySelector('.main-svg'))"
    )
    assert opened.evaluate("getComputedStyle(document.querySelector('.tall')).overflow") == "visible"
    inks = opened.evaluate("[...document.querySelectorAll('.plot')].map((plot) => plot.layout.font.color)")
    assert set(inks) == {"#111111"}, "paper is white whatever the screen was"
    for hidden in ("nav", "#table-controls", ".copy", ".handle"):
        assert not opened.locator(hidden).first.is_visible()
    for shown in ("#choice-setting", "#evidence", "#sheet", "#environment"):
        assert opened.locator(shown).is_visible()
