"""How good decisions are, over simulated sweeps whose truth is known.

python -m eval.reporting.benchmarks.decisions --sweeps 1000 --seed 0 --out eval/reporting/benchmarks/decisions.md

A sweep is 4 samplers x 3 step counts x 3 guidance scales. Each draws its own truth: solvers that converge at their
own rate, CLIP score and FID that peak at guidance scales of their own. Pictures are drawn as
`eval.scoring.benchmarks.simulated` has it, settings paired by prompt and seed. How much two settings differ from
picture to picture is taken from the default sweep of `shapes`: in CLIP score 1.8 margins of 0.5 % between settings as
good as the best, and 2.3 more for each margin that one lies below it; in features 1.7 % of the variance, and 3 % more.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import numpy as np

from eval.decide_plan import DecidePlan
from eval.identity import EncoderKey, Score, ScoreKey
from eval.measured import Measured, Timing
from eval.records import Cell, CellResult, ImageRow, Plan, Run
from eval.reporting.decide import TIE, Decision, decide
from eval.reporting.quality import Quality, quality_of
from eval.scoring.benchmarks import simulated as sim
from eval.scoring.catalogue import RELIABLE_FID_N
from eval.scoring.moments import Array, Moments

SAMPLERS, STEPS, GUIDANCES = ("a", "b", "c", "d"), (4, 8, 16), (1.0, 3.0, 6.0)
PAIRED_CLIP, PAIRED_CLIP_SLOPE, OWN, OWN_SLOPE = 1.8, 2.3, 0.017, 0.03
"""Standard deviation of the paired difference from the best cell, in margins, and a cell's own share of its features'
variance; each at the best, and what a margin below it adds. Read off `make sweep`'s 36 cells."""
CLIP, FID = "clip_score", "fid[simulated]"


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    title: str
    prompts: int
    seeds: int
    """Pictures a prompt."""
    plan: DecidePlan = field(default_factory=DecidePlan)

    @property
    def pictures(self) -> int:
        return self.prompts * self.seeds

    @property
    def by_fid(self) -> bool:
        return self.plan.use_unreliable or self.pictures >= RELIABLE_FID_N


CASES = (
    Case("the default rule; FID is left out of fewer than 2,048 pictures", 250, 1),
    Case("the default rule; FID is left out of fewer than 2,048 pictures", 1000, 1),
    Case("the default rule, CLIP score and FID", 1000, 4),
    Case(
        "CLIP score and FID in spite of that, use_unreliable=true", 1000, 1, DecidePlan(use_unreliable=True)
    ),
)


@dataclass(frozen=True)
class Truth:
    """What a simulated sweep is made of; cells in the grid's order."""

    cells: tuple[Cell, ...]
    costs: Array
    """Seconds a picture, (C,)."""
    clip: Array
    """True mean CLIP scores, (C,)."""
    noise: Array
    """Standard deviation of a picture's CLIP score from the setting alone, (C,)."""
    own: Array
    """Share of the features' variance from the setting alone, (C,)."""
    populations: tuple[sim.Population, ...]
    fid: Array
    """(C,)"""


@dataclass(frozen=True)
class Outcome:
    """One decision held against the truth."""

    status: str
    within: bool | None
    """Whether the choice lies within the margin of the truly best cell; None where nothing was chosen."""
    cheapest: bool
    """Whether it costs no more than the cheapest cell that truly does, to within `TIE`."""
    saved: float | None
    """Its cost over that of the truly best cell."""


def truth(rng: np.random.Generator, world: sim.World) -> Truth:
    """A sweep's own: how fast each solver converges, and where on the guidance axis each score peaks."""
    rate = rng.uniform(1.0, 6.0, len(SAMPLERS))
    loss, peak, fid_peak = rng.uniform(0.5, 4.0), rng.uniform(2.0, 7.0), rng.uniform(1.0, 4.0)
    width, fid_width = rng.uniform(0.1, 0.8), rng.uniform(0.02, 0.1)
    factor = rng.uniform(
        0.98, 1.02, len(SAMPLERS)
    )  # a denoiser call costs the same, whichever solver makes it
    cells, costs, clip, populations = [], [], [], []
    for s, sampler in enumerate(SAMPLERS):
        for steps in STEPS:
            for guidance in GUIDANCES:
                behind = float(np.exp(-steps / rate[s]))
                cells.append(Cell("f", sampler, steps, guidance, "p", 1, 0, 8, 8, "float32", "cpu"))
                costs.append(0.01 * steps * factor[s] * (2 if guidance > 1 else 1))
                clip.append(31 - loss * behind - width * np.log(guidance / peak) ** 2)
                distortion = 0.45 + 0.8 * behind + fid_width * np.log(guidance / fid_peak) ** 2
                populations.append(world.population(distortion, 0.3))
    means = np.array(clip)
    fid = np.array([sim.true_fid(each, world.reference) for each in populations])
    margin = 0.005 * means.max()
    gaps = (means.max() - means) / margin
    # The best one's own part is half of the variance of its difference from one as good.
    alone = margin * np.sqrt((PAIRED_CLIP + PAIRED_CLIP_SLOPE * gaps) ** 2 - PAIRED_CLIP**2 / 2)
    own = np.minimum(OWN + OWN_SLOPE * gaps, sim.OWN)
    return Truth(tuple(cells), np.array(costs), means, alone, own, tuple(populations), fid)


def sweep(rng: np.random.Generator, case: Case, real: Truth, world: sim.World) -> Outcome:
    """One sweep, decided as a run's folder is."""
    n, cells = case.pictures, len(real.cells)
    scores = sim.clip_scores(rng, n, np.zeros(1), case.seeds)[0]
    values = real.clip[:, None] + scores + real.noise[:, None] * sim.skewed(rng, (cells, n))
    features: list[Array] = []
    if case.by_fid:
        features = sim.features(rng, n, real.populations, world.centres, case.seeds, own=real.own)
    stored = {cell.key: feature for cell, feature in zip(real.cells, features, strict=False)}
    doubt = None if case.pictures >= RELIABLE_FID_N else f"{n} pictures, of {RELIABLE_FID_N} needed"
    results, images = [], {}
    for i, cell in enumerate(real.cells):
        found = (
            _score(CLIP, float(values[i].mean()), n, True),
            replace(_score(FID, float(real.fid[i]), n, False), unreliable=doubt),
        )
        timing = Timing(1, (), (), None, float(real.costs[i]), None, None, None, None)
        results.append(CellResult(cell, "simulated", cell.steps, found, Measured(timing)))
        images[cell.key] = tuple(
            ImageRow(cell.key, k, k, str(k // case.seeds), "", {CLIP: float(each)})
            for k, each in enumerate(values[i])
        )
    run = Run(_PLAN, tuple(results), images, {}, "")
    exact: Moments = world.reference.moments
    quality = quality_of(run, case.plan, lambda key: {"simulated": stored[key]}, lambda _: exact)
    return _outcome(decide(results, quality, case.plan), quality, real)


def _outcome(decision: Decision, quality: Quality, real: Truth) -> Outcome:
    columns = {CLIP: real.clip, FID: real.fid}
    total = sum(part.weight for part in quality.parts)
    true = np.sum([part.scale / total * columns[part.name] for part in quality.parts], axis=0)
    good = true.max() - true <= decision.plan.margin
    least = real.costs[good].min()
    if decision.chosen is None:
        return Outcome(decision.status, None, False, None)
    place = real.cells.index(decision.chosen.cell)
    cost = real.costs[place]
    return Outcome(
        decision.status,
        bool(good[place]),
        bool(cost <= least * (1 + TIE)),
        cost / real.costs[int(true.argmax())],
    )


def _score(name: str, value: float, n: int, higher: bool) -> Score:
    encoder = EncoderKey("simulated", "none", "none", "none", "none", ())
    return Score(ScoreKey(name, n, "unit", encoder, None), value, higher)


def table(sweeps: int, seed: int, cases: Sequence[Case] = CASES) -> str:
    """Markdown: one row a case."""
    world = sim.world()
    lines = [
        "| rule | prompts x seeds | sweeps | choice within the margin of the best | ... and the cheapest such "
        "| too few to tell | median cost over the best's |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        found = []
        for index in range(sweeps):
            rng = np.random.default_rng([seed, case.prompts, index])
            found.append(sweep(rng, case, truth(rng, world), world))
            if index % 50 == 49:
                sys.stderr.write(f"{case.title}, {case.pictures} pictures: {index + 1} of {sweeps}\n")
        lines.append(_line(case, found))
    return "\n".join(lines)


def _line(case: Case, found: Sequence[Outcome]) -> str:
    chosen = [each for each in found if each.within is not None]
    good, cheap = (
        sum(bool(each.within) for each in chosen),
        sum(each.cheapest and bool(each.within) for each in found),
    )
    few = Counter(each.status for each in found)["too_few"]
    ratio = (
        float(np.median([each.saved for each in chosen if each.saved is not None]))
        if chosen
        else float("nan")
    )
    within = f"{good} of {len(chosen)} ({good / max(len(chosen), 1):.1%})"
    drawn = f"{case.prompts:,} x {case.seeds} | {len(found):,}"
    return f"| {case.title} | {drawn} | {within} | {cheap / len(found):.1%} | {few / len(found):.1%} | {ratio:.2f} |"


_PLAN: Plan = None  # type: ignore[assignment]  # quality and decision ask nothing of it


def main() -> int:
    """Simulate, and write the table with what it was made by."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=list(range(len(CASES))), help="of the table, from 0"
    )
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = table(asked.sweeps, asked.seed, [CASES[row] for row in asked.rows])
    sys.stdout.write(found + "\n")
    if asked.out:
        head = (__doc__ or "").partition("\n\n")
        versions = f"numpy {metadata.version('numpy')}, scipy {metadata.version('scipy')}"
        asked.out.write_text(
            f"# {head[0]}\n\n{asked.sweeps} sweeps a row, seed {asked.seed}; {versions}.\n\n{found}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
