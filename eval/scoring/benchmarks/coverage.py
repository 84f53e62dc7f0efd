"""Coverage of the harness's 95 % intervals over simulated sweeps with known truth.

python -m eval.scoring.benchmarks.coverage --sweeps 4000 --seed 0 --out eval/scoring/benchmarks/coverage.md
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from eval.scoring.benchmarks import simulated as sim
from eval.scoring.frechet_interval import FidTarget, difference_of, fid_sample, fid_target, infinity_of
from eval.scoring.kernels import CMMD_SCALE, CMMD_SIGMA, cmmd_values, kid_values
from eval.scoring.moments import Array
from eval.scoring.multiple import max_t
from eval.scoring.uncertainty import Interval, mean_interval, paired_difference

SIZES = (256, 1000, 5000)
CELLS = 12
DRAWS = 1000
"""Of the max-T's signs: fewer than the default 4,000, to do more sweeps."""
POPULATION, REFERENCE = 5000, 1000
"""Rows of the finite populations that KID's and CMMD's cells are drawn from, and of their reference."""
BAR = (0.94, 0.96)
MUST = ("CLIP mean", "paired CLIP difference", "paired FID difference")
"""Intervals that have to cover within the bar, at every size."""


@dataclass(frozen=True)
class Case:
    """One interval of one simulated sweep, against the truth."""

    interval: Interval
    truth: float


@dataclass(frozen=True)
class Experiment:
    """What one simulated sweep of n images gives: cases by name. Families must hold together."""

    sizes: tuple[int, ...]
    sweep: Callable[[np.random.Generator, int, int], dict[str, list[Case]]]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    n: int
    coverage: float
    error: float
    """Binomial standard error of the coverage."""
    width: float
    """Median width over that of the oracle, 2 · 1.96 · the estimate's own standard deviation."""
    shift: float
    """Mean error of the estimate in its standard deviations."""


def clip_cases(rng: np.random.Generator, n: int, seed: int) -> dict[str, list[Case]]:
    """CLIP score: mean, paired difference (independent and clustered) and the max-T over a grid."""
    del seed
    means = np.array([30.0, 29.9])
    alone, grouped = sim.clip_scores(rng, n, means), sim.clip_scores(rng, n, means, sim.SEEDS_A_PROMPT)
    prompts = prompt_labels(n)
    gap = float(means[0] - means[1])
    of_two = paired_difference(grouped[0], grouped[1], clusters=prompts)
    return {
        "CLIP mean": [Case(mean_interval(alone[0]), 30.0)],
        "CLIP mean, 4 seeds a prompt": [Case(mean_interval(grouped[0], clusters=prompts), 30.0)],
        "paired CLIP difference": [Case(paired_difference(alone[0], alone[1]), gap)],
        "paired CLIP difference, 4 seeds a prompt": [Case(of_two, gap)],
    }


def grid_cases(rng: np.random.Generator, n: int, seed: int) -> dict[str, list[Case]]:
    """All differences of 12 cells by max-T, and every cell against the best of the same rows."""
    means = 30 - 0.02 * np.arange(CELLS)
    values = sim.clip_scores(rng, n, means, sim.SEEDS_A_PROMPT)
    found = max_t(values, clusters=prompt_labels(n), seed=seed, draws=DRAWS)
    best = int(values.mean(axis=1).argmax())
    pairs = [(i, j) for i in range(CELLS) for j in range(i)]
    chosen = [(i, best) for i in range(CELLS) if i != best]
    cases = {
        pair: Case(found.difference(*pair), float(means[pair[0]] - means[pair[1]])) for pair in pairs + chosen
    }
    return {
        "max-T, all 66 differences of 12 cells": [cases[pair] for pair in pairs],
        "max-T, 11 cells against the chosen best": [cases[pair] for pair in chosen],
    }


@dataclass(frozen=True)
class KernelWorld:
    """Two finite populations whose rows pair off, a reference, and the exact mean kernels between them."""

    reference: Array
    cells: tuple[Array, Array]
    within: dict[str, tuple[float, float]]
    """By score, of two independent draws from each population: rows meet themselves as well."""
    across: dict[str, tuple[float, float]]
    own: float
    """KID's kernel over different rows of the reference."""

    def gap(self, name: str, n: int) -> float:
        """Difference of the two populations, for CMMD at N = n: of its pairs, n are a row with itself."""
        share = (n - 1) / n if name == "CMMD" else 1.0
        within, across = self.within[name], self.across[name]
        return share * (within[0] - within[1]) - 2 * (across[0] - across[1])


@cache
def kernel_world() -> KernelWorld:
    """Drawn once; its means over all pairs are computed apart from `eval.scoring.kernels`."""
    world, rng = sim.world(), np.random.default_rng(6)
    (reference,) = sim.features(rng, REFERENCE, (world.reference,), world.centres)
    near, far = sim.features(rng, POPULATION, (world.near, world.far), world.centres)
    within, across = {}, {}
    for name, kernel in (("KID", _cubic), ("CMMD", _gaussian)):
        within[name] = (_mean_kernel(kernel, near, near), _mean_kernel(kernel, far, far))
        across[name] = (_mean_kernel(kernel, near, reference), _mean_kernel(kernel, far, reference))
    table = _cubic(reference, reference)
    own = float((table.sum() - np.trace(table)) / (REFERENCE * (REFERENCE - 1)))
    return KernelWorld(reference, (near, far), within, across, own)


def _cubic(first: Array, second: Array) -> Array:
    base = first @ second.T / first.shape[1] + 1
    return np.asarray(base * base * base)


def _gaussian(first: Array, second: Array) -> Array:
    one, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (first, second))
    return np.asarray(CMMD_SCALE * np.exp((one @ other.T - 1) / CMMD_SIGMA**2))


def _mean_kernel(kernel: Callable[[Array, Array], Array], first: Array, second: Array) -> float:
    parts = np.array_split(np.arange(len(first)), -(-len(first) // 1000))
    return float(sum(kernel(first[part], second).sum() for part in parts) / (len(first) * len(second)))


def kernel_cases(rng: np.random.Generator, n: int, seed: int) -> dict[str, list[Case]]:
    """KID and the paired differences of KID and of CMMD, by the jackknife's pseudo-values."""
    del seed
    known = kernel_world()
    rows = rng.integers(POPULATION, size=n)
    near, far = (cell[rows] for cell in known.cells)
    kids = [kid_values(each, known.reference) for each in (near, far)]
    cmmds = [cmmd_values(each, known.reference) for each in (near, far)]
    value = known.within["KID"][0] - 2 * known.across["KID"][0] + known.own
    return {
        "KID": [Case(mean_interval(kids[0]), value)],
        "paired KID difference": [Case(paired_difference(*kids), known.gap("KID", n))],
        "paired CMMD difference": [Case(paired_difference(*cmmds), known.gap("CMMD", n))],
    }


@cache
def truth() -> tuple[sim.World, FidTarget, float, float]:
    """The world, its reference made ready, and the true FID of the near and of the far cell."""
    found = sim.world()
    near, far = (sim.true_fid(each, found.reference) for each in (found.near, found.far))
    return found, fid_target(found.reference.moments), near, far


def fid_cases(rng: np.random.Generator, n: int, seed: int) -> dict[str, list[Case]]:
    """FID at N = infinity and its paired differences, one truly zero."""
    world, target, near_fid, far_fid = truth()
    near, far, twin = sim.features(rng, n, (world.near, world.far, world.near), world.centres)
    one, two, three = (fid_sample(each, target, seed=seed) for each in (near, far, twin))
    return {
        "FID at N = infinity": [Case(infinity_of(one), near_fid)],
        "paired FID difference": [Case(difference_of(one, two), near_fid - far_fid)],
        "paired FID difference, truly zero": [Case(difference_of(one, three), 0.0)],
    }


def clustered_fid_cases(rng: np.random.Generator, n: int, seed: int) -> dict[str, list[Case]]:
    """The paired FID difference where a prompt has several seeds."""
    world, target, near_fid, far_fid = truth()
    cells = sim.features(rng, n, (world.near, world.far), world.centres, sim.SEEDS_A_PROMPT)
    one, two = (fid_sample(each, target, seed=seed, clusters=prompt_labels(n)) for each in cells)
    return {
        "paired FID difference, 4 seeds a prompt": [Case(difference_of(one, two), near_fid - far_fid)],
    }


EXPERIMENTS = (
    Experiment(SIZES, clip_cases),
    Experiment(SIZES, grid_cases),
    Experiment(SIZES, fid_cases),
    # Four times as dear for each row: a cluster's kernel needs a (D, D) matrix of its own.
    Experiment(SIZES[:1], clustered_fid_cases),
    Experiment(SIZES[:2], kernel_cases),  # at N = 5,000 a sweep takes N² = 25 million kernels, four times
)


def prompt_labels(n: int) -> list[int]:
    """Prompt of each row, several seeds in turn."""
    return [row // sim.SEEDS_A_PROMPT for row in range(n)]


def measure(experiment: Experiment, n: int, sweeps: int, seed: int) -> list[Row]:
    """Coverage of each of the experiment's intervals over the sweeps."""
    seen: dict[str, list[list[Case]]] = {}
    for index, stream in enumerate(np.random.SeedSequence([seed, n]).spawn(sweeps)):
        for name, cases in experiment.sweep(np.random.default_rng(stream), n, index).items():
            seen.setdefault(name, []).append(cases)
    return [_row(name, n, families) for name, families in seen.items()]


def _row(name: str, n: int, families: list[list[Case]]) -> Row:
    low, high, value, truth = (
        np.array([[field(c) for c in cases] for cases in families]) for field in FIELDS
    )
    held = ((low <= truth) & (truth <= high)).all(axis=1)
    spread = (value - truth).std(axis=0, ddof=1)
    coverage = float(np.mean(held))
    width = float(np.median((high - low) / (2 * 1.959964 * spread)))
    shift = float(((value - truth).mean(axis=0) / spread).mean())
    return Row(name, n, coverage, math.sqrt(coverage * (1 - coverage) / len(families)), width, shift)


def _end(found: float | None) -> float:
    return math.nan if found is None else found


FIELDS: tuple[Callable[[Case], float], ...] = (
    lambda case: _end(case.interval.low),
    lambda case: _end(case.interval.high),
    lambda case: case.interval.value,
    lambda case: case.truth,
)


def table(rows: list[Row]) -> str:
    """The rows as Markdown, in percent and in oracle widths."""
    lines = [
        "| interval | N | covers, % | ± s.e. | width / oracle | error / s.d. |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in sorted(rows, key=lambda each: each.name):
        figures = f"{100 * row.coverage:.2f} | {100 * row.error:.2f} | {row.width:.3f} | {row.shift:+.3f}"
        lines.append(f"| {row.name} | {row.n} | {figures} |")
    return "\n".join(lines) + "\n"


HEAD = """# How often the 95 % intervals cover

`python -m eval.scoring.benchmarks.coverage --sweeps {sweeps} --seed {seed} --out eval/scoring/benchmarks/coverage.md`

{sweeps} simulated sweeps a row (numpy {numpy}, scipy {scipy}), whose truth is known exactly: CLIP scores with a tail
to the left, whose noise grows with the prompt's difficulty; features of 64 dimensions, the bundled scorer's, from a
mixture of prompts' classes and skewed noise; cells share prompt and seed row by row. True FID of the two cells:
{near:.3f} and {far:.3f}, at N = infinity, against a reference without error. `simulated.py` has the definitions.
KID's and CMMD's cells are drawn with replacement from finite populations of 5,000 such rows, whose mean kernels are
known exactly.
Columns: share of sweeps whose interval holds the truth (for max-T: all intervals of a sweep at once), its binomial
standard error, the median width over the width that the estimate's own spread calls for, and the estimate's mean
error in units of that spread.

"""


def main(arguments: list[str] | None = None) -> int:
    """Run every experiment and write the table; 1 where a cover that must lie within the bar does not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweeps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, help="Markdown file; without it the table goes to standard output"
    )
    given = parser.parse_args(arguments)
    rows: list[Row] = []
    for experiment in EXPERIMENTS:
        for n in experiment.sizes:
            rows += measure(experiment, n, given.sweeps, given.seed)
            sys.stderr.write(f"{experiment.sweep.__name__} N={n}: {rows[-1]}\n")
    _, _, near, far = truth()
    versions = {name: metadata.version(name) for name in ("numpy", "scipy")}
    text = HEAD.format(sweeps=given.sweeps, seed=given.seed, near=near, far=far, **versions) + table(rows)
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    missed = [row for row in rows if row.name in MUST and not BAR[0] <= row.coverage <= BAR[1]]
    for row in missed:
        sys.stderr.write(f"outside {BAR}: {row}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
