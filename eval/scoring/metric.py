"""What every metric declares of itself, so that no report needs a table of its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from eval.identity import EncoderKey, Score, ScoreKey
from eval.scoring.uncertainty import Interval


class Needs(Enum):
    """What a metric is computed from."""

    CAPTIONS = "features of pictures and of their captions, by one CLIP"
    REFERENCE = "features of pictures and moments of the reference"
    REFERENCE_FEATURES = "features of pictures and of the reference's pictures"
    LOGITS = "class logits of pictures"
    PIXELS = "the pixels alone"
    CONVERGED = "latents and pictures of the cell and of its converged run"
    JUDGE = "verdicts of the world's judge"


@dataclass(frozen=True)
class Metric:
    """One metric: how to read it, where it ends, and how few pictures are too few."""

    name: str
    """Column and key: "fid"; with its extractor "fid[inception]"."""
    title: str
    """For people: "FID"."""
    needs: Needs
    scale: str
    """Unit and convention."""
    higher_is_better: bool | None
    lowest: float | None
    """Bounds of the value; None where there is none."""
    highest: float | None
    least_n: int
    """With fewer pictures there is no value."""
    meaning: str
    """What it is: a sentence or two for the report."""
    warning: str
    """What it is not."""
    source: str
    """Paper or standard."""
    versions: tuple[str, ...] = ()
    """Libraries whose code decides the number."""

    def named(self, extractor: str | None) -> str:
        """The column's name: with the extractor in brackets where there is one."""
        return self.name if extractor is None else f"{self.name}[{extractor}]"

    def score(
        self,
        value: float | Interval | None,
        n: int,
        *,
        extractor: str | None = None,
        encoder: EncoderKey | None = None,
        reference: str | None = None,
        reason: str | None = None,
        unreliable: str | None = None,
    ) -> Score:
        """The value as a Score with this metric's direction and identity.

        Raises:
            ValueError: a value outside the metric's own bounds, or none and no reason.
        """
        interval = value if isinstance(value, Interval) else None
        number = value.value if isinstance(value, Interval) else value
        if number is None and not reason:
            raise ValueError(f"{self.name}: a missing value needs its reason")
        if number is not None:
            self._check(number)
        key = ScoreKey(self.named(extractor), n, self.scale, encoder, reference, self.versions)
        return Score(
            key,
            number,
            self.higher_is_better,
            interval.low if interval else None,
            interval.high if interval else None,
            reason,
            unreliable if number is not None else None,
        )

    def _check(self, value: float) -> None:
        low = float("-inf") if self.lowest is None else self.lowest
        high = float("inf") if self.highest is None else self.highest
        slack = 1e-6 * max(1.0, abs(value))  # rounding may carry a distance of 0 below it
        if not low - slack <= value <= high + slack:
            raise ValueError(f"{self.name} must be {low:g}..{high:g}, got {value!r}")
