"""What each number of the report is, which way is better, and what it must not be taken for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from eval.records import Run
from eval.reporting import axes


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
    identity: str
    count: str
    """Pictures a cell, as text."""


def score_entries(run: Run) -> tuple[Entry, ...]:
    """An entry for every score of the run, in the cells' order; a second identity has one of its own."""
    results = axes.separated(run.results)
    return tuple(_entry(run, name) for name in axes.score_names(results))


def _entry(run: Run, name: str) -> Entry:
    found = [score for result in axes.separated(run.results) if (score := result.score(name)) is not None]
    counts = sorted({score.n for score in found})
    count = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    meaning, warning = _words(run, name)
    direction = "higher is better" if found[0].higher_is_better else "lower is better"
    return Entry(axes.score_title(name), name, direction, meaning, warning, found[0].identity, count)


def _words(run: Run, name: str) -> tuple[str, str]:
    """What the score is, and what it is not."""
    if name.startswith(axes.CLIP):
        return (
            f"100 times the cosine between a picture and its prompt, as seen by the CLIP encoder "
            f"“{run.plan.metrics.clip}”; the mean over the pictures of a cell.",
            "It says how well a picture follows its prompt, not how good it looks, and it cannot be compared "
            "with a score from another encoder.",
        )
    if name.startswith("fid[inception]"):
        return (
            "Fréchet distance between two Gaussians, fitted to the 2048 Inception features of the generated "
            "and of the reference pictures.",
            "With few pictures it is biased upwards: compare it only at this count and against this "
            "reference, not with published values from 30,000 pictures or more.",
        )
    if name.startswith("fid["):
        features = name[4:].split("]")[0]
        return (
            f"Fréchet distance between two Gaussians, fitted to the {features} features of the generated and "
            "of the reference pictures.",
            "This is NOT the FID of the literature, which uses Inception features: compare it only within "
            "this run, at this count of pictures and against this reference.",
        )
    if name.startswith("judge"):
        return (
            "Share of pictures in which a rule-based reader of pixels finds everything that the prompt "
            "names: count, shape, colour, size, place, relation, background.",
            "It knows the world of the bundled model only, and says nothing about looks.",
        )
    return "A score that this version of the report has no words for.", "See its identity."


COSTS = (
    (
        "Latency, p50 and p95",
        "lower is better",
        "Seconds from the first noise to pixels for one picture alone, after a warm-up at the same step "
        "count; median and 95th percentile of repeats. Encoding the text is left out, decoding the picture "
        "is included.",
    ),
    (
        "Pictures a second",
        "higher is better",
        "In batches, from the median of repeats. Measured apart from the pictures that are scored.",
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
        "GPU peaks as the allocator reports them (allocated, reserved). Process memory is the peak resident "
        "size of the whole process so far, so it only rises from cell to cell; it is never a GPU’s figure.",
    ),
)
"""Title, direction and meaning of what is measured besides the scores."""
