"""How the grid is searched, and what a race has dropped on its way, as frozen records."""

from __future__ import annotations

from dataclasses import dataclass

RACED = "clip_score"
"""The score that cells are raced by: every batch's record has it of each picture."""


@dataclass(frozen=True)
class SearchPlan:
    """Which cells are made to their last picture. Changes no figure of a cell, and so no folder's name."""

    kind: str = "grid"
    """"grid" makes every cell whole; "racing" drops cells on the way."""
    first: int = 16
    """Pictures of every cell at the first step of a race."""
    growth: float = 2.0
    """How many times as many pictures the next step has."""
    confidence: float = 0.95
    """Of a race's bounds over all of its steps; see `eval.scoring.racing` for what they hold for."""


@dataclass(frozen=True)
class Drop:
    """A cell that left the race, and by what; differences are those of the other cell's score less its own."""

    key: str
    label: str
    kind: str
    """"behind" another, or "dearer" than one that is good enough."""
    n: int
    """Pictures of each cell that it was judged by."""
    against: str
    """The other cell's label."""
    difference: float
    """As measured over these pictures."""
    low: float
    high: float
    """Where it may lie, at the race's confidence: over all pictures for "behind", truly for "dearer"."""
    rows: float
    """Denoiser rows a picture, guidance doubling them."""
    against_rows: float

    def why(self, confidence: float) -> str:
        """What it was dropped for, in a sentence's part."""
        sure = f"{100 * confidence:g} %"
        if self.kind == "behind":
            return (
                f"dropped at n = {self.n}: CLIP score {self.low:.3g} to {self.high:.3g} worse than {self.against}, "
                f"{sure}"
            )
        work = f"{self.against_rows:g} denoiser rows a picture to its {self.rows:g}"
        if self.rows == self.against_rows:
            work = "as many denoiser rows"
        return (
            f"dropped at n = {self.n}: {self.against} takes {work} and is good enough; CLIP score at most "
            f"{max(0.0, -self.low):.3g} above that, {sure}"
        )


@dataclass(frozen=True)
class RaceStep:
    """All cells in the race, compared over their first pictures."""

    n: int
    racing: int
    """How many cells were compared."""
    dropped: tuple[Drop, ...]


@dataclass(frozen=True)
class RaceRecord:
    """A race as far as it has come; `racing.json`."""

    score: str
    margin: str
    """By which cells were judged: the rule's, as the configuration has it."""
    total: int
    """Pictures of a cell that runs to the end."""
    confidence: float
    steps: tuple[RaceStep, ...] = ()
    version: int = 1

    @property
    def dropped(self) -> tuple[Drop, ...]:
        return tuple(drop for step in self.steps for drop in step.dropped)
