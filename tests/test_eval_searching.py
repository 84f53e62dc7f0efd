"""`search=racing` composes, names no folder, and refuses what a race cannot know."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from asking import Ask

from eval.search_plan import Drop, SearchPlan
from sdkit import InvalidRequest


def test_the_grid_is_the_default_and_a_race_shares_its_folder(ask: Ask) -> None:
    assert ask().search.kind == "grid"
    assert ask("search=racing").search == SearchPlan("racing", 16, 2.0, 0.95)
    assert ask("search=racing", "search.first=32").folder == ask().folder
    assert ask("search=racing").asked == ask().asked


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search.kind=random"], "search.kind must be one of grid, racing, got 'random'"),
        (["search.first=3"], "search.first must be 4..4096, got 3"),
        (["search.growth=1"], "search.growth must be above 1, at most 16, got 1.0"),
        (["search.growth=nan"], "search.growth must be above 1"),
        (["search.confidence=1"], "search.confidence must be 0.5 or more and below 1, got 1.0"),
        (["decide.max_latency_s=0.5"], "must have no limits and guards, got decide.max_latency_s: "),
        (["+decide.guards={clipped: {high: 0.02}}"], "got decide.guards.clipped: "),
        (["decide.scores.clip_score=null"], "search=racing needs clip_score in metrics.scores and"),
        (["metrics.scores=[fid]"], "search=racing needs clip_score in metrics.scores and"),
    ],
)
def test_what_a_race_cannot_do_is_one_line(ask: Ask, overrides: list[str], said: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(said)) as caught:
        ask("search=racing", *overrides)
    assert "\n" not in str(caught.value)


def test_the_grid_takes_limits_as_ever(ask: Ask) -> None:
    assert ask("decide.max_latency_s=0.5").search.kind == "grid"


def test_a_drop_says_when_and_by_how_much() -> None:
    behind = Drop("k", "euler_a · 2 steps · g 4", "behind", 32, "ddim · 4 steps · g 2", 1.7, 1.21, 2.34, 4, 8)
    assert behind.why(0.95) == (
        "dropped at n = 32: CLIP score 1.21 to 2.34 worse than ddim · 4 steps · g 2, 95 %"
    )
    dearer = Drop("k", "ddim · 12 steps · g 2", "dearer", 64, "ddim · 4 steps · g 2", 0.1, -0.31, 0.5, 24, 8)
    end = "and is good enough; CLIP score at most 0.31 above that, 90 %"
    start = "dropped at n = 64: ddim · 4 steps · g 2 takes"
    assert dearer.why(0.9) == f"{start} 8 denoiser rows a picture to its 24 {end}"
    assert replace(dearer, rows=8).why(0.9) == f"{start} as many denoiser rows {end}"
