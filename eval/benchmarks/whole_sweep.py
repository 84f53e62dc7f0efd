"""The whole default sweep: ours, ours with everything that it does by default, a careful script and a naive one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.benchmarks.inputs import (
    NO_SPEED,
    CellScores,
    Setting,
    compose,
    overrides_of,
    read_scores,
    sweep_command,
    write_inputs,
)
from eval.benchmarks.part import SECONDS, Asked, Column, Part, Row
from eval.benchmarks.turns import Taken, Turn, Way, take_turns
from eval.records import Plan

OURS, EVERYTHING, CAREFUL, NAIVE = "ours", "ours, everything", "careful script", "naive script"
AGREED = 1e-2
"""CLIP score, on its scale of -100..100, within which ways are held to have made the same pictures."""
Scores = Mapping[Setting, CellScores]


@dataclass(frozen=True)
class Apart:
    """How far a way's scores are from ours, at most."""

    clip_score: float
    """On its scale of -100..100."""
    fid: float
    """Relative to ours."""
    where: Setting
    """Of the largest difference in CLIP score."""


COLUMNS = (
    Column("turns", ".0f"),
    Column("seconds, median", SECONDS),
    Column("shortest", SECONDS),
    Column("longest", SECONDS),
    Column("times ours", ".2f"),
    Column("CLIP score: largest difference from ours", ".5f"),
    Column("FID: largest relative difference from ours", ".1e"),
)


def whole_sweep(asked: Asked) -> Part:
    """The sweep each way, in turns.

    Raises:
        InvalidRequest: as `write_inputs`.
    """
    overrides = overrides_of(asked)
    plan = compose(overrides)
    found: dict[str, Scores] = {}

    def keep(way: Way, turn: Turn, folder: Path) -> None:
        if turn.failure is None:
            found.setdefault(way.name, read_scores(folder / "out"))

    with tempfile.TemporaryDirectory(prefix="sdkit-benchmark-") as scratch:
        inputs = write_inputs(plan, Path(scratch) / "inputs")
        taken = take_turns(ways(asked, overrides, inputs), Path(scratch), keep)
    return table(plan, taken, found)


def ways(asked: Asked, overrides: Sequence[str], inputs: Path) -> tuple[Way, ...]:
    """The four ways, in the order in which they take turns."""
    here = Path(__file__).parent
    return (
        Way(OURS, lambda own: sweep_command(own / "out", (*overrides, *NO_SPEED)), asked.runs),
        Way(CAREFUL, lambda own: (str(here / "careful.py"), str(inputs), str(own / "out")), asked.runs),
        Way(NAIVE, lambda own: (str(here / "naive.py"), str(inputs), str(own / "out")), asked.naive_runs),
        Way(EVERYTHING, lambda own: sweep_command(own / "out", overrides), runs=1),
    )


def table(plan: Plan, taken: Mapping[str, Taken], found: Mapping[str, Scores]) -> Part:
    """The part of what the turns took and the cells scored. Pure.

    Args:
        found: by the name of the way; of its first turn.
    """
    settings = [
        Setting(sampler, steps, guidance)
        for sampler in plan.grid.samplers
        for steps in plan.grid.steps
        for guidance in plan.grid.guidances
    ]
    samples = {f"seconds: {name}": each.seconds for name, each in taken.items()}
    for score in ("clip_score", "fid"):
        for name, cells in found.items():
            known = tuple(float(getattr(cells[each], score)) for each in settings if each in cells)
            samples[f"{score}: {name}"] = known
    return Part(
        name="sweep",
        title="A whole sweep against scripts",
        told=_told(plan, len(settings)),
        label="way",
        columns=COLUMNS,
        rows=tuple(_row(name, each, taken, found, settings) for name, each in taken.items()),
        notes=(*_agreement(found, settings), *_few(taken)),
        samples=samples,
    )


def _told(plan: Plan, cells: int) -> str:
    return (
        f"{cells} cells of {len(plan.prompts.rows)} pictures, {plan.model.name} on {plan.model.device}, "
        f"{plan.model.dtype}; CLIP score, FID and PNGs of every cell. Wall time of a process, from its start to its "
        "exit, the ways in turns, each with an empty cache. **ours** is the sweep without its separate measurement "
        "of speed and without filmstrips, which the scripts do not make either; its "
        f"{len(plan.metrics.scores) - 2} other scores, intervals and report are in the time. **ours, everything** "
        "is what `python eval/sweep.py` does. **careful script** and **naive script** are careful.py and naive.py "
        "beside this page; the reference's pictures lie ready for them on disk, and ours draws its own. *times ours* "
        "is the median of the rounds' own ratios, over 1 where ours is faster."
    )


def _row(
    name: str,
    took: Taken,
    taken: Mapping[str, Taken],
    found: Mapping[str, Scores],
    settings: Sequence[Setting],
) -> Row:
    known = took.seconds
    apart = differences(found.get(name, {}), found.get(OURS, {}), settings)
    ends = (min(known), max(known)) if known else (None, None)
    scored = (None, None) if apart is None else (apart.clip_score, apart.fid)
    values = (float(len(known)), took.median_s, *ends, took.over(taken[OURS]), *scored)
    return Row(name, values, took.failure or ("not all cells have both scores" if apart is None else None))


def differences(scores: Scores, ours: Scores, settings: Sequence[Setting]) -> Apart | None:
    """The largest differences over all settings; None where a cell is missing."""
    if not all(each in scores and each in ours for each in settings):
        return None

    def clip(each: Setting) -> float:
        return abs(scores[each].clip_score - ours[each].clip_score)

    where = max(settings, key=clip)
    fid = max(abs(scores[each].fid - ours[each].fid) / max(ours[each].fid, 1e-12) for each in settings)
    return Apart(clip(where), fid, where)


def _agreement(found: Mapping[str, Scores], settings: Sequence[Setting]) -> tuple[str, ...]:
    said = []
    for name in (CAREFUL, NAIVE, EVERYTHING):
        apart = differences(found.get(name, {}), found.get(OURS, {}), settings)
        if apart is None:
            said.append(f"{name}: whether it agrees with ours is not known")
        elif apart.clip_score > AGREED:
            cell = f"{apart.where.sampler}, {apart.where.steps} steps, guidance {apart.where.guidance:g}"
            said.append(
                f"{name}: DISAGREES with ours by {apart.clip_score:.3g} in CLIP score at {cell}; {AGREED:g} is allowed"
            )
        else:
            said.append(f"{name}: agrees with ours within {AGREED:g} in CLIP score, in every cell")
    return tuple(said)


def _few(taken: Mapping[str, Taken]) -> tuple[str, ...]:
    turns = {name: len(each.turns) for name, each in taken.items()}
    most = max(turns.values(), default=0)
    fewer = [f"{name} ({count})" for name, count in turns.items() if count < most]
    told = f"fewer turns than {most}, whose figures are of the first rounds: {', '.join(fewer)}"
    return (told,) if fewer else ()
