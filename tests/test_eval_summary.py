"""summary.md: short, whole, and nothing of a user or a model in it is markup, a link or a mention."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from decided_runs import decided_run
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_runs import FAILED, HOSTILE
from rendering import found_in

from eval import report
from eval.records import Run
from eval.reporting.decide import Decision
from eval.reporting.evidence import code, sentence
from eval.reporting.findings import Findings
from eval.reporting.markdown import bullets, escaped, fenced, grid
from eval.reporting.summary import MAX_FAILURES, MAX_ROWS, summary
from eval.running.loading import load_run
from sdkit._errors import InvalidRequest

MARKUP = (
    "<img src=x>", "[a](http://b)", "![a](b)", "`x`", "**b**", "a | b", "@all", "#1", "a\n\n# b", "&lt;", "www.a.b",
)  # fmt: skip
FOREIGN = {"html_inline", "html_block", "link_open", "image", "code_inline"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decided_run(tmp_path_factory.mktemp("runs") / "one", model="a<b>|@me")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


@pytest.fixture(scope="module")
def found(run: Run) -> Findings:
    return found_in(run)


@pytest.fixture(scope="module")
def text(run: Run, found: Findings) -> str:
    return summary(run, found)


def test_it_says_what_to_use_how_and_why(text: str, run: Run, found: Findings) -> None:
    call = code(found.decision, run.plan)
    assert call is not None
    assert f"**{escaped(sentence(found.decision), 600)}**" in text
    assert f"```python\n{call}\n```" in text
    assert text.index("```python") < text.index("Evidence:\n\n- ") < text.index("### Best by one measure")


def test_the_choice_and_the_front_are_rows_with_their_marks(text: str, found: Findings) -> None:
    rows = [line for line in text.splitlines() if line.startswith("| ") and " steps" in line]
    (chosen,) = [line for line in rows if "the choice" in line]
    assert found.decision.chosen is not None
    assert found.decision.chosen.cell.label.replace("_", "\\_") in chosen
    front = rows[1:]
    marked = [line.strip("| ").rpartition("| ")[2] for line in front]
    assert set(marked) <= {"yes", "perhaps", "no"}
    expected = {key for key, place in found.decision.front.items() if place != "off"}
    assert len(front) == len(expected | {found.decision.chosen.cell.key})


def test_a_failed_setting_is_listed_with_its_reason(text: str) -> None:
    assert f"### 1 of 12 settings failed\n\n- {escaped(FAILED.label)}: out of memory\n" in text


def test_it_links_the_files_beside_it(run: Run, found: Findings, text: str) -> None:
    assert text.endswith("[images.csv](images.csv), [comparisons.csv](comparisons.csv)\n")
    assert "](images.csv)" not in summary(run, found, ("report.html",))
    assert "Files:" not in summary(run, found, ())


def test_without_a_choice_it_says_why_and_gives_no_code(run: Run, found: Findings) -> None:
    none = replace(
        found.decision, status="unknown", chosen=None, best=None, front={}, reason="no <b> has a score"
    )
    told = summary(run, replace(found, decision=none))
    assert "**No decision: no \\<b\\> has a score.**" in told
    assert "```" not in told
    assert "the choice" not in told.replace("The choice", "")


def test_a_run_without_any_result_is_summed_up_too(run: Run) -> None:
    empty = replace(run, results=(), images={})
    told = summary(empty, found_in(empty))
    assert "No decision" in told
    assert "|\n|" not in told


def test_many_failures_and_a_long_front_are_counted_not_listed(run: Run, found: Findings) -> None:
    first = run.results[0]
    failed = tuple(
        replace(first, cell=replace(first.cell, sampler=f"s{i}"), scores=(), error=f"why {i}")
        for i in range(50)
    )
    whole = tuple(replace(first, cell=replace(first.cell, sampler=f"w{i}")) for i in range(40))
    decision: Decision = replace(
        found.decision,
        chosen=whole[-1],
        best=whole[-1],
        front=dict.fromkeys((r.cell.key for r in whole), "unsure"),
    )
    decision = replace(decision, verdicts={whole[-1].cell.key: next(iter(found.decision.verdicts.values()))})
    quality = replace(found.quality, results=())
    told = summary(
        replace(run, results=(*whole, *failed)), replace(found, decision=decision, quality=quality)
    )
    assert told.count("why ") == MAX_FAILURES
    assert f"{50 - MAX_FAILURES} more, in cells.csv" in told
    assert sum("perhaps |" in line for line in told.splitlines()) == MAX_ROWS
    assert "w39 · " in told
    assert f"{40 - MAX_ROWS} more are, or may be, on the front" in told
    assert len(told) < 10_000


def rendered(text: str) -> list[str]:
    """Kinds of what a Markdown renderer makes of the text, tables included."""
    markdown_it = pytest.importorskip("markdown_it")
    parsed = markdown_it.MarkdownIt("commonmark").enable("table").parse(text)
    return [token.type for block in parsed for token in (block, *(block.children or ()))]


def test_hostile_names_and_errors_stay_text(run: Run, found: Findings) -> None:
    hostile = [*MARKUP, *HOSTILE]
    first = run.results[0]
    results = tuple(
        replace(first, cell=replace(first.cell, sampler=text), error=text if place % 2 else None)
        for place, text in enumerate(hostile)
    )
    plan = replace(run.plan, model=replace(run.plan.model, name="".join(MARKUP)))
    bad = replace(run, plan=plan, results=results, notes=tuple(hostile))
    told = summary(bad, found_in(bad), ())
    assert not FOREIGN & set(rendered(told))
    assert rendered(told).count("strong_open") == 1
    assert re.search(r"@\w|#\d|://\w|www\.", told) is None
    assert not set("\x00\u202e") & set(told)
    assert max(map(len, told.splitlines())) < 3000


@given(
    st.one_of(
        st.sampled_from(MARKUP), st.text(max_size=30), st.text("`*_[]()<>|\\#@-=+.1 \n&!~$:/", max_size=12)
    )
)
@settings(max_examples=100, deadline=None)
def test_any_text_is_one_paragraph_one_field_and_one_point_of_a_list(text: str) -> None:
    line = escaped(text)
    assert "\n" not in line
    assert rendered(bullets([text])).count("list_item_open") == 1
    table = rendered(grid(("a", "b"), [(text, "x")]))
    assert (table.count("tr_open"), table.count("td_open")) == (2, 2)
    for kinds in (rendered(f"a {line} b"), table, rendered(bullets([f"a {text}"]))):
        assert set(kinds) <= {
            "paragraph_open", "paragraph_close", "inline", "text", "bullet_list_open", "bullet_list_close",
            "list_item_open", "list_item_close", "table_open", "table_close", "thead_open", "thead_close", "tbody_open",
            "tbody_close", "tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close", "text_special",
        }  # fmt: skip


def test_no_run_of_backticks_ends_the_code() -> None:
    block = fenced('generate(prompt, model="```\n# h")')
    assert rendered(block) == ["fence"]


def test_the_report_command_takes_runs_by_name_and_writes_the_summary(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert report.main([f"run={folder}", "report.pictures=none"]) == 0
    assert capsys.readouterr().out.endswith(f"report: {folder / 'report.html'}\n")
    assert (folder / "summary.md").read_text(encoding="utf-8") == text
    written = {path.name for path in folder.iterdir() if path.suffix in (".csv", ".parquet")}
    assert written == {
        f"{name}.{end}" for name in ("cells", "images", "comparisons") for end in ("csv", "parquet")
    }


def test_several_runs_are_named_each_and_a_place_is_taken_once(folder: Path, tmp_path: Path) -> None:
    asked = report.parse(
        [f"run={folder}", str(folder), f"run={tmp_path}/x", f"out={tmp_path}/o", "decide.margin=2"]
    )
    assert asked.runs == (folder, tmp_path / "x")
    assert asked.out == tmp_path / "o"
    assert asked.anew == ("decide.margin=2",)


def test_a_folder_with_an_equals_sign_in_its_name_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out=x").mkdir()
    assert report.parse([str(tmp_path / "out=x")]).runs == (tmp_path / "out=x",)
    assert report.parse(["runs/a=b"]).runs == (Path("runs/a=b"),)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "got 0 runs"),
        (["run="], "got 'run='"),
        (["out=x"], "got 0 runs and 1 times out="),
        (["run=a", "out=b", "out=c"], "2 times out="),
        (["run=a", "runs=b"], "no argument is named runs"),
        (["run=a", "decide=2"], "no argument is named decide"),
        (["run=a", "run.x=b"], "no argument is named run.x"),
        (["a", "--fast"], "got '--fast'"),
        ([""], "got ''"),
    ],
)
def test_a_mistake_in_the_command_is_said_with_its_usage(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        report.parse(arguments)
    assert report.main(arguments) == 2
    assert "usage: python eval/report.py run=FOLDER" in capsys.readouterr().err
