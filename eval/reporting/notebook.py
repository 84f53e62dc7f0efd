"""A run as objects that show themselves in a notebook. Nothing is read or computed before it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from eval.records import ImageRow, Run
from eval.reporting.change_words import one_line
from eval.reporting.decide import Decision
from eval.reporting.findings import Findings, findings
from eval.reporting.frames import cells_frame, comparisons_frame, images_frame
from eval.reporting.merged import MergedRuns, open_runs
from eval.running.loading import load_features, load_reference, load_run
from sdkit._errors import InvalidRequest

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from eval.reporting.sheet import Field

REPORTS = Path(__file__).resolve().parents[2] / "reports"
MAX_ROWS, MAX_CHARACTERS, MAX_SENTENCES = 40, 400, 20
"""What is shown of a run at most; the frames have all of it."""


@dataclass(frozen=True, repr=False)
class ShownDecision:
    """The decision in words. Shows itself; `decision` has the verdict on every cell and the front."""

    decision: Decision
    sentence: str
    code: str | None
    """The call to paste; None where nothing is chosen."""
    evidence: tuple[str, ...]
    """Sentences with numbers, in the order in which they should be read."""
    warnings: tuple[str, ...] = ()
    """What must be known before it is relied on."""

    def __repr__(self) -> str:
        said = (f"- {one_line(each, MAX_CHARACTERS)}" for each in (*self.warnings, *self.evidence))
        code = [f"    {one_line(self.code, MAX_CHARACTERS)}"] if self.code else []
        return "\n".join([one_line(self.sentence, MAX_CHARACTERS), *code, *list(said)[:MAX_SENTENCES]])

    def _repr_html_(self) -> str:
        code = f"<pre><code>{_text(self.code)}</code></pre>" if self.code else ""
        warned = _items(self.warnings, "<p>Before relying on it:</p>")
        why = _items(self.evidence, "<p>Evidence:</p>")
        return f"<p><strong>{_text(self.sentence)}</strong></p>{code}{warned}{why}"


@dataclass(frozen=True, repr=False)
class Figures(Mapping[str, "go.Figure"]):
    """The report's figures by name; each is plotly's own, and shows itself."""

    drawn: dict[str, go.Figure]
    titles: dict[str, str]
    """Name -> what it shows."""

    def __getitem__(self, name: str) -> go.Figure:
        return self.drawn[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.drawn)

    def __len__(self) -> int:
        return len(self.drawn)

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {one_line(title)}" for name, title in self.titles.items()) or "no figures"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><code>{_text(name)}</code></td><td>{_text(title)}</td></tr>"
            for name, title in self.titles.items()
        )
        return f"<table><thead><tr><th>figure</th><th>shows</th></tr></thead><tbody>{rows}</tbody></table>"


@dataclass(frozen=True, repr=False)
class OpenRun:
    """A run, or several as one. Shows its decision and its table; made by `eval.reporting.open_run`."""

    folders: tuple[Path, ...]
    """Absolute."""
    anew: tuple[str, ...] = field(default=())
    """"decide.name=value" in place of the run's own."""

    @cached_property
    def run(self) -> Run:
        """The records: plan, results, pictures, environment."""
        from eval.deciding import asked_anew

        run = load_run(self.folders[0]) if self._merged is None else self._merged.run
        return replace(run, plan=asked_anew(run.plan, self.anew))

    @cached_property
    def found(self) -> Findings:
        """Comparisons, quality and decision, as records."""
        if self._merged is not None:
            return findings(self.run, self._merged.features, self._merged.reference)
        folder = self.folders[0]
        return findings(self.run, partial(load_features, folder), partial(load_reference, folder))

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row a cell, as in cells.csv."""
        return cells_frame(self.run.results)

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row a picture, as in images.csv; `path` leads there from the report's folder."""
        return images_frame(self._rows(), self.run.results)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Each cell against the best one, score by score, as in comparisons.csv."""
        return comparisons_frame(self.found.comparisons)

    @cached_property
    def decision(self) -> ShownDecision:
        """What to use, the code for it, and why."""
        from eval.reporting.cautions import cautions
        from eval.reporting.evidence import code, evidence, sentence

        run, decision = self.run, self.found.decision
        return ShownDecision(
            decision=decision,
            sentence=sentence(decision),
            code=code(decision, run.plan, run.plans),
            evidence=evidence(decision, self.found.quality, run.results),
            warnings=(*cautions(run, self.found), *run.notes),
        )

    @cached_property
    def figures(self) -> Figures:
        """The report's figures, those of quality and cost first, then each device's own."""
        from eval.reporting.device_panels import device_panels
        from eval.reporting.panels import panels

        drawn = [*panels(self.run), *(each for group in device_panels(self.run) for each in group.panels)]
        return Figures(
            {panel.anchor: panel.figure for panel in drawn}, {panel.anchor: panel.title for panel in drawn}
        )

    @property
    def report(self) -> Path | None:
        """Where report.html lies; None where `python eval/report.py` has not written it yet."""
        home = self.folders[0] if self._merged is None else REPORTS / self._merged.name
        return home / "report.html" if (home / "report.html").is_file() else None

    def __repr__(self) -> str:
        names = ", ".join(folder.name for folder in self.folders)
        return f"{one_line(names)}: {self._counts()}\n{self.decision!r}"

    def _repr_html_(self) -> str:
        names = ", ".join(folder.name for folder in self.folders)
        head = f"<p>{_text(names)}: {self._counts()}</p>"
        return f"<div>{head}{self.decision._repr_html_()}{self._table()}</div>"

    @cached_property
    def _merged(self) -> MergedRuns | None:
        return open_runs(self.folders) if len(self.folders) > 1 else None

    def _rows(self) -> list[ImageRow]:
        if self._merged is not None:
            return list(self._merged.rows_from(REPORTS / self._merged.name))
        return [row for rows in self.run.images.values() for row in rows]

    def _counts(self) -> str:
        failed = sum(result.error is not None for result in self.run.results)
        pictures = sum(map(len, self.run.images.values()))
        return f"{len(self.run.results)} settings, {failed} failed, {pictures} pictures"

    def _table(self) -> str:
        """The main columns of the report's table, with as many rows as fit a notebook."""
        from eval.reporting.sheet import sheet

        found = sheet(self.run.results, self.found.decision.verdicts)
        shown = [place for place, column in enumerate(found.columns) if column.main]
        head = "".join(f"<th>{_text(found.columns[place].title)}</th>" for place in shown)
        rows = "".join(
            "<tr>" + "".join(_cell(row.fields[place]) for place in shown) + "</tr>"
            for row in found.rows[:MAX_ROWS]
        )
        more = len(found.rows) - MAX_ROWS
        rest = f"<p>{more} more settings are in <code>.cells</code>.</p>" if more > 0 else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"


def opened(folders: Sequence[str | Path], anew: Sequence[str] = ()) -> OpenRun:
    """The run or runs in these folders. Raises as `eval.reporting.open_run`."""
    places = tuple(dict.fromkeys(Path(folder).expanduser().resolve() for folder in folders))
    if not places:
        raise InvalidRequest("open_run needs a run's folder, got none; give one like reports/shapes-47da0f3b")
    found = OpenRun(places, tuple(anew))
    if anew or not all((place / "plan.json").is_file() for place in places):
        found.run  # noqa: B018 - a mistake is better told here than where the object is shown
    return found


def _text(text: str) -> str:
    return escape(one_line(text, MAX_CHARACTERS))


def _cell(shown: Field) -> str:
    """A field of the table; its doubts are told where the pointer rests on the question mark."""
    doubt = f' <abbr title="{_text(shown.unreliable)}">?</abbr>' if shown.unreliable else ""
    return f"<td>{_text(shown.text)}{doubt}</td>"


def _items(sentences: Sequence[str], head: str = "") -> str:
    if not sentences:
        return ""
    return f"{head}<ul>{''.join(f'<li>{_text(each)}</li>' for each in sentences[:MAX_SENTENCES])}</ul>"
