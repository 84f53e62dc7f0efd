"""Several runs as one, so that their settings stand in one table, and are told apart there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import PurePath

from eval.identity import ScoreKey
from eval.records import Cell, CellResult, GridPlan, ImageRow, ModelPlan, Plan, Run
from eval.reporting.merge_notes import merge_notes

_OWN_FIELDS = tuple(field.name for field in fields(Cell))
Marks = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PlacedCell(Cell):
    """A cell among those of other runs: its key and its label also say whose it is."""

    own_key: str = ""
    """Its key in its own run's folder."""
    model: str = ""
    """The model's label; with a part of the fingerprint where two models share a name."""
    run: str = ""
    """Name of its run."""
    marks: Marks = ()
    """Heading and value of whatever tells it from the other runs' cells: model, device, dtype ..."""

    @cached_property
    def key(self) -> str:
        """Run and own key: one cell may have been made on two devices."""
        return f"{self.run}/{self.own_key}"

    @property
    def series(self) -> str:
        """ "sdxl · NVIDIA H200 · euler": what one line of a figure belongs to."""
        return " · ".join([*(value for _, value in self.marks), super().series])

    @property
    def label(self) -> str:
        """ "sdxl · euler · 20 steps · g 5"."""
        return " · ".join([*(value for _, value in self.marks), super().label])


@dataclass(frozen=True)
class _Kept:
    """A result with the run that it was taken from."""

    name: str
    plan: Plan
    result: CellResult
    rows: tuple[ImageRow, ...]
    model: str


def run_names(folders: Sequence[PurePath]) -> tuple[str, ...]:
    """A name a folder: its last part, with as many parts before it as tell it from the others.

    Args:
        folders: absolute, each once.
    """
    longest = max((len(folder.parts) for folder in folders), default=1)
    for count in range(1, longest + 1):
        names = tuple("/".join(folder.parts[-count:]) for folder in folders)
        if len(set(names)) == len(names):
            break
    return names if folders else ()


def merge_runs(runs: Mapping[str, Run]) -> Run:
    """One run with the cells of all, in the runs' order; every cell is a `PlacedCell`.

    A cell that two runs hold from one device, timed and scored the same way, is taken once: the first that
    did not fail. Paths of pictures stay relative to the own run's folder.

    Args:
        runs: name -> run, two at least to be worth it.

    Raises:
        ValueError: there is none.
    """
    if not runs:
        raise ValueError("one run is needed at least, got none")
    kept = _taken_once(_named(runs))
    cells = _placed(kept)
    missing = sum(max(0, _asked(run.plan) - len(run.results)) for run in runs.values())
    once = sum(len(run.results) for run in runs.values()) - len(kept)
    plans = {name: run.plan for name, run in runs.items()}
    return Run(
        plan=_plan(plans, cells),
        results=tuple(
            replace(each.result, cell=cell, reused=False) for each, cell in zip(kept, cells, strict=True)
        ),
        images={
            cell.key: tuple(replace(row, cell_key=cell.key) for row in each.rows)
            for each, cell in zip(kept, cells, strict=True)
        },
        environment=_environment(runs),
        config_yaml="\n".join(f"# {name}\n{run.config_yaml}" for name, run in runs.items()),
        plans=plans,
        notes=merge_notes(plans, [each.result for each in kept], once),
        planned=len(kept) + missing,
    )


def _named(runs: Mapping[str, Run]) -> list[_Kept]:
    """Every result, with a label of its model that no other model has."""
    contents: dict[str, set[str]] = {}
    for run in runs.values():
        for result in run.results:
            contents.setdefault(run.plan.model.name, set()).add(result.cell.model_fingerprint)

    def model(run: Run, result: CellResult) -> str:
        name, print_ = run.plan.model.name, result.cell.model_fingerprint
        return name if len(contents[name]) == 1 else f"{name} ({print_[:8]})"

    return [
        _Kept(name, run.plan, result, run.images.get(result.cell.key, ()), model(run, result))
        for name, run in runs.items()
        for result in run.results
    ]


def _taken_once(found: Sequence[_Kept]) -> list[_Kept]:
    """Without those that are another's double: one cell, one device, timed and scored the same way."""
    groups: dict[object, list[_Kept]] = {}
    for each in found:
        place = (each.result.cell.key, each.result.device, repr(each.plan.hardware))
        groups.setdefault(place, []).append(each)
    kept = {id(each) for group in groups.values() for each in _distinct(group)}
    return [each for each in found if id(each) in kept]


def _distinct(group: Sequence[_Kept]) -> list[_Kept]:
    whole = [each for each in group if each.result.error is None]
    by_scores: dict[frozenset[ScoreKey], _Kept] = {}
    for each in whole:
        by_scores.setdefault(frozenset(score.key for score in each.result.scores), each)
    return list(by_scores.values()) or list(group[:1])


def _placed(kept: Sequence[_Kept]) -> list[PlacedCell]:
    """The cells with the marks that tell them apart: what differs, and as much more as is needed."""
    given: dict[str, Callable[[_Kept], str]] = {
        "Model": lambda each: each.model,
        "Device": lambda each: each.result.device,
        "Dtype": lambda each: each.result.cell.dtype,
        "Size": lambda each: f"{each.result.cell.width} × {each.result.cell.height}",
        "Run": lambda each: each.name,
    }
    chosen: list[str] = []
    for heading, value in given.items():
        if len({value(each) for each in kept}) < 2:
            continue
        labels = [(*(given[mark](each) for mark in chosen), each.result.cell.label) for each in kept]
        if heading in ("Model", "Device", "Dtype") or len(set(labels)) < len(labels):
            chosen.append(heading)
    return [
        PlacedCell(
            **{name: getattr(each.result.cell, name) for name in _OWN_FIELDS},
            own_key=each.result.cell.key,
            model=each.model,
            run=each.name,
            marks=tuple((heading, given[heading](each)) for heading in chosen),
        )
        for each in kept
    ]


def _plan(plans: Mapping[str, Plan], cells: Sequence[PlacedCell]) -> Plan:
    """The first run's plan, with the axes of all: what the figures are laid out by."""
    first, models = next(iter(plans.values())), [plan.model for plan in plans.values()]
    return replace(
        first,
        model=ModelPlan(
            _joined(model.name for model in models),
            _joined(model.source for model in models),
            _joined(model.device for model in models),
            _joined(model.dtype for model in models),
            first.model.width,
            first.model.height,
            first.model.negative_prompt,
        ),
        grid=GridPlan(
            samplers=tuple(dict.fromkeys(cell.series for cell in cells)),
            steps=tuple(sorted({cell.steps for cell in cells})),
            guidances=tuple(sorted({cell.guidance for cell in cells})),
            seed=first.grid.seed,
            shared_seed=first.grid.shared_seed,
        ),
        folder="",
        windows=(),
    )


def _joined(texts: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _asked(plan: Plan) -> int:
    return len(plan.grid.points)


def _environment(runs: Mapping[str, Run]) -> dict[str, str]:
    """What all runs share once; what differs, once a run."""
    labels = dict.fromkeys(label for run in runs.values() for label in run.environment)
    found: dict[str, str] = {}
    for label in labels:
        values = {name: run.environment.get(label, "not recorded") for name, run in runs.items()}
        if len(set(values.values())) == 1:
            found[label] = next(iter(values.values()))
        else:
            found |= {f"{label} ({name})": value for name, value in values.items()}
    return found
