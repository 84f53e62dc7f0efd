"""What each number of the report is, which way is better, and what it must not be taken for. Pure.

The scores' words are the catalogue's; only costs, which are no scores, have theirs here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.records import CellResult, Run
from eval.reporting import axes
from eval.scoring.catalogue import CATALOGUE, base_name


@dataclass(frozen=True)
class Entry:
    """One measure, explained."""

    title: str
    name: str
    """As in the CSV."""
    direction: str
    meaning: str
    warning: str
    """What it is not."""
    source: str
    """Paper or standard; empty where nobody said."""
    identity: str
    count: str
    """Pictures a cell, as text."""
    unreliable: str = ""
    """Why its values in this run must not be relied on; empty where they may."""


def score_entries(run: Run) -> tuple[Entry, ...]:
    """An entry for every score of the run, in the cells' order; a second identity has one of its own."""
    results = axes.separated(run.results)
    return tuple(_entry(results, name) for name in axes.score_names(results))


def _entry(results: Sequence[CellResult], name: str) -> Entry:
    found = [score for result in results if (score := result.score(name)) is not None]
    known = CATALOGUE.get(base_name(name))
    doubts = dict.fromkeys(axes.doubt(score.unreliable) for score in found if score.unreliable)
    return Entry(
        title=axes.score_title(name),
        name=name,
        direction=axes.direction(found[0].higher_is_better),
        meaning=known.meaning if known else "A score that the catalogue of this version does not know.",
        warning=known.warning if known else "See its identity.",
        source=known.source if known else "",
        identity=found[0].key.text,
        count=str(found[0].n),
        unreliable="; ".join(doubts),
    )


COSTS = (
    (
        "Latency",
        "lower is better",
        "Seconds from the prompt’s text to pixels for one picture alone, after a warm-up at the same step count. Half "
        "of the repeats took at most p50.",
    ),
    (
        "Pictures a second",
        "higher is better",
        "In batches, from text to pixels, from the median of repeats. Measured apart from the pictures that are "
        "scored. The seconds of text, denoising, decoding and the rest add up to one picture’s share.",
    ),
    (
        "Unreliable measurements",
        "fewer is better",
        "A figure of time or energy is marked where the repeats spread by more than hardware.noise_bound "
        "(interquartile range over median), where heat or the power supply slowed the GPU down, or where other "
        "processes used the GPU or the cores meanwhile. It is shown all the same.",
    ),
    (
        "Evaluations",
        "lower is cheaper",
        "Calls of the denoiser for a picture. Not the same as steps: Heun calls it 2N−1 times. Guidance "
        "above 1 doubles the rows of each call; that is not counted here.",
    ),
    (
        "Memory",
        "lower is better",
        "Peaks over one batch, in a pass of its own: on a GPU what torch allocated and reserved, and what the driver "
        "counts on the whole GPU. That of the process is its peak resident size within the pass, with whatever the "
        "process held before; it is never a GPU’s figure.",
    ),
    (
        "Energy",
        "lower is better",
        "Joules by the GPU’s own counter while the batches were timed, over their pictures. The rest of the machine "
        "is not in it.",
    ),
    (
        "MFU",
        "higher is better",
        "Model FLOPs utilisation: matrix products, convolutions and attention of one whole call, counted by torch, "
        "times pictures a second, over the device’s published dense peak for the number format.",
    ),
    (
        "Cost of 1,000 pictures",
        "lower is better",
        "The given price of an hour at the measured pictures a second, the device fully used.",
    ),
)
"""Title, direction and meaning of what is measured besides the scores."""

_TAILS = (
    "Latency, p95 and p99",
    "lower is better",
    "What 95 and 99 of 100 repeats took at most. Left empty where too few repeats carry it: 20 for p95, 100 for p99.",
)


def cost_entries(run: Run) -> tuple[tuple[str, str, str], ...]:
    """Those of `COSTS` that some cell of this run has, and the tails of latency where they were measured."""
    found = [result.measured for result in run.results if result.measured is not None]
    had = {
        "Energy": any(each.energy is not None for each in found),
        "MFU": any(each.compute is not None and each.compute.mfu is not None for each in found),
        "Cost of 1,000 pictures": any(each.price is not None for each in found),
    }
    tails = any(
        getattr(each.timing, name, None) is not None
        for each in found
        for name in ("latency_p95_s", "latency_p99_s")
    )
    kept = [each for each in COSTS if had.get(each[0], True)]
    return (kept[0], *([_TAILS] if tails else []), *kept[1:])
