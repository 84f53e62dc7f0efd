"""From the configuration of the search to its frozen plan, with what a race cannot do refused."""

from __future__ import annotations

from dataclasses import fields

from eval.decide_plan import DecidePlan, Limits
from eval.schema import SearchConfig
from eval.search_plan import RACED, SearchPlan
from sdkit._checks import MAX_BATCH, check_range
from sdkit._errors import InvalidRequest

KINDS = ("grid", "racing")
LEAST_FIRST, MOST_GROWTH = 4, 16


def to_search(config: SearchConfig, decide: DecidePlan, scores: tuple[str, ...]) -> SearchPlan:
    """How the grid is searched.

    Args:
        decide: by which the race drops cells.
        scores: that are computed of every cell.

    Raises:
        InvalidRequest: a value is out of its range, or the decision asks for what a race cannot know.
    """
    if config.kind not in KINDS:
        raise InvalidRequest(f"search.kind must be one of {', '.join(KINDS)}, got {config.kind!r}")
    if not 1 < config.growth <= MOST_GROWTH:
        raise InvalidRequest(f"search.growth must be above 1, at most {MOST_GROWTH}, got {config.growth}")
    if not 0.5 <= config.confidence < 1:
        raise InvalidRequest(f"search.confidence must be 0.5 or more and below 1, got {config.confidence}")
    if config.kind == "racing":
        _check_raceable(decide, scores)
    first = check_range("search.first", config.first, LEAST_FIRST, MAX_BATCH)
    return SearchPlan(config.kind, first, config.growth, config.confidence)


def _check_raceable(decide: DecidePlan, scores: tuple[str, ...]) -> None:
    """A cell must not be dropped for another that a limit or a guard then leaves out."""
    if RACED not in scores or RACED not in [each.name for each in decide.scores]:
        raise InvalidRequest(
            f"search=racing needs {RACED} in metrics.scores and in decide.scores, got neither or one; use search=grid"
        )
    limits = [each.name for each in fields(Limits) if getattr(decide.limits, each.name) is not None]
    bounded = [f"decide.{name}" for name in limits] + [
        f"decide.guards.{each.score}" for each in decide.guards
    ]
    if bounded:
        raise InvalidRequest(
            f"search=racing must have no limits and guards, got {', '.join(bounded)}: who keeps to them is known "
            "at the end only; use search=grid"
        )
