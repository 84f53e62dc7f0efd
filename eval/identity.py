"""A score with all that tells it apart from its namesakes; what differs there refuses to be compared, by type.

Ground floor of `eval`: nothing here reads, computes or loads anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass

from sdkit._errors import SdkitError


class Incomparable(SdkitError, TypeError):
    """Two values of different identity, or one that is missing, were to be subtracted, sorted or drawn together."""


@dataclass(frozen=True)
class EncoderKey:
    """Everything that decides an encoder's features; equal keys give equal features, to rounding."""

    name: str
    """Whose architecture, under the name that its users know: "open_clip ViT-B-32-quickgelu/openai"."""
    weights: str
    """"sha256:" and the first 16 hex digits of the weights file."""
    resize: str
    """Target size and kernel: "224x224 bicubic antialiased PIL", "299x299 bilinear TF1"."""
    crop: str
    """"none", "centre" ..."""
    layer: str
    """Which output, and its width: "image embedding 512", "pool 2048"."""
    versions: tuple[str, ...]
    """Libraries that compute it, each "name version"."""


@dataclass(frozen=True)
class ScoreKey:
    """What a number is: scores may be compared exactly when their keys are equal."""

    metric: str
    """"clip_score", "fid[inception]", "judge_all" ..."""
    n: int
    """Pictures that it was computed from."""
    scale: str
    """Unit and convention: "100*cos, unclipped", "squared distance"."""
    encoder: EncoderKey | None = None
    """None where nothing learned looks at the pictures."""
    reference: str | None = None
    """What the pictures are compared with, by hash of its contents: reference pictures or captions."""
    versions: tuple[str, ...] = ()
    """Libraries that compute the number from the features."""

    def differences(self, other: ScoreKey) -> tuple[str, ...]:
        """What differs, each as `field: ours against theirs`; empty for equal keys."""
        ours, theirs = _flat(self), _flat(other)
        names = dict.fromkeys((*ours, *theirs))
        return tuple(
            f"{name}: {ours.get(name, 'none')} against {theirs.get(name, 'none')}"
            for name in names
            if ours.get(name) != theirs.get(name)
        )

    @property
    def text(self) -> str:
        """The whole key as one readable line."""
        return "; ".join(f"{name} {value}" for name, value in _flat(self).items() if name != "metric")


@dataclass(frozen=True)
class Score:
    """One metric's value over the pictures of a cell. `-`, `<` and sorting work within one key only."""

    key: ScoreKey
    value: float | None
    higher_is_better: bool | None
    """None where neither direction is better by itself, as with saturation."""
    low: float | None = None
    """Lower end of the 95 % interval, where one is known."""
    high: float | None = None
    reason: str | None = None
    """Why `value` is None, or why there is no interval."""
    unreliable: str | None = None
    """Why `value` must not be relied on; stands beside it wherever it appears."""

    @property
    def name(self) -> str:
        return self.key.metric

    @property
    def n(self) -> int:
        return self.key.n

    def __sub__(self, other: Score) -> float:
        """`self - other` in the metric's unit. Raises Incomparable."""
        ours, theirs = _values(self, other)
        return ours - theirs

    def __lt__(self, other: Score) -> bool:
        """Of the plain numbers, whichever direction is better. Raises Incomparable."""
        ours, theirs = _values(self, other)
        return ours < theirs

    def __gt__(self, other: Score) -> bool:
        ours, theirs = _values(self, other)
        return ours > theirs

    def __le__(self, other: Score) -> bool:
        ours, theirs = _values(self, other)
        return ours <= theirs

    def __ge__(self, other: Score) -> bool:
        ours, theirs = _values(self, other)
        return ours >= theirs

    def __float__(self) -> float:
        raise Incomparable(
            f"{self.name} must be compared as a Score, which knows what it is; take .value to leave that behind"
        )


@dataclass(frozen=True)
class Column:
    """Scores that may stand in one column or on one axis: all of one key. Made by `Column.of` only.

    `values[i]` belongs to cell i, None where it has no such score or the score has no value.
    """

    key: ScoreKey
    values: tuple[float | None, ...]
    higher_is_better: bool | None
    unreliable: str | None = None
    """Why values in it must not be relied on: the scores' own reasons, each once."""

    @classmethod
    def of(cls, scores: Sequence[Score | None]) -> Column:
        """The scores as a column. Raises Incomparable when two keys differ, ValueError when there is none."""
        present = [score for score in scores if score is not None]
        if not present:
            raise ValueError("a column needs one score at least, got none")
        for score in present:
            _same(present[0], score)
        values = tuple(None if score is None else score.value for score in scores)
        doubts = dict.fromkeys(score.unreliable for score in present if score.unreliable)
        return cls(present[0].key, values, present[0].higher_is_better, "; ".join(doubts) or None)

    @property
    def known(self) -> tuple[float, ...]:
        """The values that are there."""
        return tuple(value for value in self.values if value is not None)

    @property
    def best(self) -> int | None:
        """The first place with the best value; None where no direction is better, or there is no value."""
        return None if self.higher_is_better is None else self.best_of(range(len(self.values)))

    def best_of(self, places: Iterable[int]) -> int | None:
        """Of these places, the first with the best value; None where none has one. Raises as `merit`."""
        known = [place for place in places if self.values[place] is not None]
        return max(known, key=self.merit, default=None)

    def merit(self, place: int) -> float:
        """The value, turned where lower is better, so that higher is; minus infinity where there is none.

        Raises:
            ValueError: neither direction is better.
        """
        if self.higher_is_better is None:
            raise ValueError(f"{self.key.metric} cannot be ranked: neither direction is better")
        value = self.values[place]
        if value is None:
            return float("-inf")
        return value if self.higher_is_better else -value


def _values(first: Score, second: Score) -> tuple[float, float]:
    if not isinstance(second, Score):
        raise Incomparable(f"{first.name} can be compared with a Score only, got {type(second).__name__}")
    _same(first, second)
    for score in (first, second):
        if score.value is None:
            raise Incomparable(f"{score.name} has no value to compare: {score.reason or 'no reason given'}")
    assert first.value is not None
    assert second.value is not None
    return first.value, second.value


def _same(first: Score, second: Score) -> None:
    if first.key != second.key:
        differ = "; ".join(first.key.differences(second.key))
        raise Incomparable(f"scores of different identity cannot be compared: {differ}")
    if first.higher_is_better != second.higher_is_better:
        raise Incomparable(f"{first.name} is declared with two directions, so its values cannot be ranked")


def _flat(key: object, prefix: str = "") -> dict[str, str]:
    """Fields that are set, by dotted name, as text."""
    found: dict[str, str] = {}
    for field in fields(key):  # type: ignore[arg-type]  # dataclasses only, by the callers above
        value = getattr(key, field.name)
        if is_dataclass(value):
            found |= _flat(value, f"{field.name}.")
        elif value is not None and value != ():
            found[prefix + field.name] = ", ".join(value) if isinstance(value, tuple) else str(value)
    return found
