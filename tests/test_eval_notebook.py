"""A run in a notebook: frames, decision and figures that show themselves, of one run or of several as one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
from decided_runs import decided_run
from pandas.testing import assert_frame_equal
from picture_runs import EVIL, HOSTILE

from eval import report
from eval.reporting import notebook, open_run, read_cells, read_comparisons, read_images
from eval.reporting.notebook import MAX_ROWS, OpenRun, ShownDecision
from eval.running.atomic import RunFolderError
from sdkit._errors import InvalidRequest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = decided_run(tmp_path_factory.mktemp("runs") / "one")
    assert report.main([f"run={found}"]) == 0
    return found


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decided_run(tmp_path_factory.mktemp("runs") / "two", model="other", fingerprint="beef")


@pytest.fixture(scope="module")
def run(folder: Path) -> OpenRun:
    return open_run(folder)


class Shown(HTMLParser):
    """Tags and text of a piece of HTML."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        assert all(name == "title" for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(thing: object) -> Shown:
    page = thing._repr_html_()  # type: ignore[attr-defined]
    found = Shown(page)
    assert found.open == []
    assert not set(found.tags) - {
        "div", "p", "strong", "pre", "code", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "abbr",
    }  # fmt: skip
    return found


def test_importing_it_loads_no_pandas_plotly_or_torch_and_showing_a_run_no_torch(folder: Path) -> None:
    code = (
        "import sys; from eval.reporting import open_run, read_cells; "
        "print(sorted({'pandas', 'plotly', 'torch', 'numpy', 'jinja2', 'PIL'} & set(sys.modules))); "
        f"found = open_run({str(folder)!r}); found._repr_html_(); found.figures, found.images; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["[]", "False"]


def test_the_frames_are_the_tables(run: OpenRun, folder: Path) -> None:
    assert_frame_equal(run.cells, read_cells(folder))
    assert_frame_equal(run.images, read_images(folder))
    assert_frame_equal(run.comparisons, read_comparisons(folder))
    assert (folder / run.images["path"][0]).is_file()
    assert run.report == folder / "report.html"


def test_nothing_is_read_before_it_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "load_run", lambda place: pytest.fail("read"))
    found = open_run(folder)
    assert found.report == folder / "report.html"
    with pytest.raises(FrozenInstanceError):
        found.folders = ()  # type: ignore[misc]


def test_the_decision_shows_itself_with_code_and_evidence(run: OpenRun) -> None:
    decision = run.decision
    assert decision.decision.status == "chosen"
    assert decision.code is not None
    assert decision.sentence.startswith("Use ")
    for told in (repr(decision), shown(decision).text):
        assert decision.sentence in told
        assert decision.code in told
        assert all(each in told for each in (*decision.evidence, *decision.warnings))
    assert decision.warnings[0].startswith("Only 30 pictures")


def test_a_run_shows_its_decision_and_its_table(run: OpenRun) -> None:
    page = shown(run)
    assert run.decision.sentence in page.text
    assert "12 settings, 1 failed, 330 pictures" in page.text
    assert page.tags.count("tr") == 1 + 12
    assert "chosen" in page.text
    assert run.decision.sentence in repr(run)


def test_every_figure_is_plotlys_and_shows_itself(run: OpenRun) -> None:
    assert "cost-clip-score" in run.figures
    assert len(list(run.figures)) == len(run.figures)
    for name, figure in run.figures.items():
        assert isinstance(figure, go.Figure), name
        assert figure.to_html(full_html=False, include_plotlyjs=False).count("<div") >= 1
    assert "cost-clip-score: CLIP score against" in repr(run.figures)
    assert "CLIP score against" in shown(run.figures).text
    with pytest.raises(KeyError):
        run.figures["none"]


def test_hostile_text_is_text_and_what_is_shown_is_bounded(run: OpenRun) -> None:
    first = run.run.results[0]
    many = tuple(
        replace(first, cell=replace(first.cell, sampler=f"{text}{place}"), error=text or None)
        for place, text in enumerate(HOSTILE * 20)
    )
    bad = OpenRun(run.folders)
    bad.__dict__["run"] = replace(run.run, results=many, images={}, notes=tuple(HOSTILE))
    page = shown(bad)
    assert "script" not in page.tags
    assert "</script><script>alert(1)</script>" in page.text
    assert page.tags.count("tr") == 1 + MAX_ROWS
    assert f"{len(many) - MAX_ROWS} more settings" in page.text
    assert len(page.text) < 100_000
    assert not {"\x00", "\u202e"} & set(page.text + repr(bad))
    assert bad.cells["sampler"].tolist() == [f"{text}{place}" for place, text in enumerate(HOSTILE * 20)]
    evil = ShownDecision(run.decision.decision, EVIL, f"generate({EVIL!r})", (EVIL,) * 99, (EVIL,))
    assert len(shown(evil).text) < 5000
    assert all(len(line) <= 410 for line in repr(evil).splitlines())


def test_pandas_shows_hostile_prompts_as_text(run: OpenRun) -> None:
    page = run.images._repr_html_()  # type: ignore[operator]
    assert "<script" not in page
    assert "&lt;script" in page


def test_several_runs_are_opened_as_one(
    folder: Path, other: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(notebook, "REPORTS", tmp_path)
    both = open_run(str(folder), other, folder)
    assert both.report is None
    out = tmp_path / both._merged.name if both._merged else tmp_path
    assert report.main([f"run={folder}", f"run={other}", f"out={out}"]) == 0
    assert both.report == out / "report.html"
    assert_frame_equal(both.cells, read_cells(out))
    assert_frame_equal(both.images, read_images(out / "images.parquet"))
    assert_frame_equal(both.comparisons, read_comparisons(out))
    assert set(both.cells["run"]) == {"one", "two"}
    assert "one, two: 24 settings" in shown(both).text
    chosen = both.decision.decision.chosen
    assert chosen is not None
    assert ("model='other'" in (both.decision.code or "")) == (chosen.cell.model_fingerprint == "beef")


def test_limits_may_be_set_anew(folder: Path) -> None:
    strict = open_run(folder, anew=["decide.max_latency_s=0.001"])
    assert strict.decision.decision.status == "no_cell_meets_limits"
    assert strict.decision.code is None
    assert "<pre>" not in strict.decision._repr_html_()
    with pytest.raises(InvalidRequest):
        open_run(folder, anew=["decide.nothing=1"])


def test_what_is_no_run_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="nowhere"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(InvalidRequest, match="needs a run's folder"):
        open_run()


@pytest.mark.skipif(
    importlib.util.find_spec("IPython") is None, reason="NO IPYTHON: shown by its methods only"
)
def test_ipython_shows_all_of_it(run: OpenRun) -> None:
    from IPython.core.formatters import DisplayFormatter

    for thing in (run, run.decision, run.figures):
        found, _ = DisplayFormatter().format(thing)
        assert found["text/html"] == thing._repr_html_()
        assert found["text/plain"] == repr(thing)
    assert isinstance(run.cells, pd.DataFrame)
