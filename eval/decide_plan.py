"""What is asked of a decision, as frozen records: its rule, its limits and its guards."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sdkit._errors import InvalidRequest

_SHARE = re.compile(r"([0-9.]+)\s*%")


@dataclass(frozen=True)
class RuleScore:
    """One score of the rule of quality."""

    name: str
    """"clip_score"; "fid" is the first FID that there is, "fid[inception]" that one."""
    weight: float = 1.0
    margin: str = "0.5%"
    """How much of it may be given away for a lower cost: in the score's unit, or in per cent of the best value."""

    @property
    def share(self) -> float | None:
        """The margin as a share of the best value, 0.005 for "0.5%"; None where it is a number."""
        found = _SHARE.fullmatch(self.margin.strip())
        return None if found is None else float(found[1]) / 100

    def size(self, best: float) -> float | None:
        """The margin in the score's unit; None where it is a percentage of nothing.

        Args:
            best: the score's best value.

        Raises:
            InvalidRequest: the margin is neither a number above 0 nor a percentage.
        """
        size = self._number if self.share is None else self.share * abs(best)
        if size == 0 and self.share:
            return None
        if not 0 < size < math.inf:
            raise InvalidRequest(
                f"decide.scores.{self.name}.margin must be above 0, got {self.margin.strip()!r}"
            )
        return size

    @property
    def _number(self) -> float:
        try:
            return float(self.margin)
        except ValueError as error:
            raise InvalidRequest(
                f"decide.scores.{self.name}.margin must be a number or a percentage such as 0.5%, "
                f"got {self.margin.strip()!r}"
            ) from error


@dataclass(frozen=True)
class Limits:
    """What a setting may cost, or must reach; None sets no limit. A setting whose value is unknown does not meet it."""

    max_latency_s: float | None = None
    """Of p50, one picture."""
    max_latency_p95_s: float | None = None
    max_memory_bytes: float | None = None
    """Reserved on the GPU; on a CPU the process's peak."""
    min_images_per_s: float | None = None
    max_joules: float | None = None
    """A picture."""
    max_cost_per_1000: float | None = None
    max_model_evals: float | None = None


@dataclass(frozen=True)
class Guard:
    """A bound that a score's own value must keep to, whatever the others are."""

    score: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DecidePlan:
    """How the setting is chosen. Changes no figure, and so no folder's name."""

    scores: tuple[RuleScore, ...] = (RuleScore("clip_score"), RuleScore("fid", margin="5%"))
    margin: float = 1.0
    """How far below the best a choice may lie, in margins of the scores, averaged by their weights."""
    confidence: float = 0.95
    cost: str | None = None
    """"latency", "throughput", "evaluations", "joules" or "price"; None is the first of the first three that
    half of the settings have."""
    use_unreliable: bool = False
    """Whether scores that are marked as unreliable take part."""
    limits: Limits = Limits()
    guards: tuple[Guard, ...] = ()
