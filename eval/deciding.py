"""From the configuration of decision and report to their frozen plans, for sweeps and for reports asked anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

from eval.decide_plan import DecidePlan, Guard, Limits, RuleScore
from eval.records import Plan, ReportPlan
from eval.schema import DecideConfig, GuardConfig, ReportConfig, RuleScoreConfig
from sdkit._checks import MAX_BATCH, check_range
from sdkit._errors import InvalidRequest

ANEW = ("decide", "report")
MAX_FRAMES = 64
"""More stages than anyone looks at; each is decoded and kept."""
REPORT_PICTURES = ("beside", "embedded", "none")
Config = TypeVar("Config")
COST_NAMES = ("latency", "throughput", "evaluations", "joules", "price")


def to_decide(config: DecideConfig) -> DecidePlan:
    """How the setting is chosen. Raises InvalidRequest where a value is out of its range."""
    scores = tuple(
        RuleScore(name, _positive(f"scores.{name}.weight", each.weight), str(each.margin))
        for name, each in config.scores.items()
        if each is not None
    )
    if not scores:
        raise InvalidRequest("decide.scores must hold one score at least, got none")
    if config.cost is not None and config.cost not in COST_NAMES:
        raise InvalidRequest(f"decide.cost must be one of {', '.join(COST_NAMES)}, got {config.cost!r}")
    if not 0.5 <= config.confidence < 1:
        raise InvalidRequest(f"decide.confidence must be 0.5 or more and below 1, got {config.confidence}")
    limits = {each.name: getattr(config, each.name) for each in fields(Limits)}
    for name, value in limits.items():
        if value is not None:
            _positive(name, value)
    return DecidePlan(
        scores=scores,
        margin=_positive("margin", config.margin),
        confidence=config.confidence,
        cost=config.cost,
        use_unreliable=config.use_unreliable,
        limits=Limits(**limits),
        guards=tuple(_guard(name, each) for name, each in config.guards.items()),
    )


def asked_anew(plan: Plan, overrides: Sequence[str]) -> Plan:
    """The plan with values of the command line in place of its own, as far as they change no figure.

    Args:
        overrides: "decide.max_latency_s=0.5", "decide.scores.fid=null", "decide.guards.clipped.high=0.02",
            "report.pictures=embedded" ...

    Raises:
        InvalidRequest: one is neither, names nothing or has a value of another kind.
    """
    decide, report = ([each for each in overrides if each.startswith(f"{group}.")] for group in ANEW)
    for each in overrides:
        if each not in (*decide, *report) or "=" not in each:
            raise InvalidRequest(
                f"what is asked anew must be decide.name=value or report.name=value, got {each!r}"
            )
    return replace(
        plan,
        decide=to_decide(_merged(_decide_config(plan.decide), decide)) if decide else plan.decide,
        report=to_report(_merged(ReportConfig(**asdict(plan.report)), report)) if report else plan.report,
    )


def to_report(report: ReportConfig) -> ReportPlan:
    """What the report shows. Raises InvalidRequest where a value is out of its range."""
    if report.pictures not in REPORT_PICTURES:
        raise InvalidRequest(
            f"report.pictures must be one of {', '.join(REPORT_PICTURES)}, got {report.pictures!r}"
        )
    return ReportPlan(
        filmstrips=check_range("report.filmstrips", report.filmstrips, 0, MAX_BATCH),
        frames=check_range("report.frames", report.frames, 2, MAX_FRAMES),
        pictures=report.pictures,
    )


def _merged(config: Config, overrides: Sequence[str]) -> Config:
    """The configuration with "group.name=value" in place of its own."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        given = OmegaConf.from_dotlist([each.partition(".")[2] for each in overrides])
        found: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config), given))
    except OmegaConfBaseException as error:
        text = str(error).partition("\n")[0]
        raise InvalidRequest(f"{' '.join(overrides)} cannot be used: {text}") from error
    if not isinstance(found, type(config)):
        raise InvalidRequest(f"{' '.join(overrides)} cannot be used: it is no {type(config).__name__}")
    return found


def _decide_config(plan: DecidePlan) -> DecideConfig:
    values: Mapping[str, Any] = asdict(plan.limits)
    return DecideConfig(
        scores={each.name: RuleScoreConfig(each.weight, each.margin) for each in plan.scores},
        margin=plan.margin,
        confidence=plan.confidence,
        cost=plan.cost,
        use_unreliable=plan.use_unreliable,
        guards={each.score: GuardConfig(each.low, each.high) for each in plan.guards},
        **values,
    )


def _guard(score: str, guard: GuardConfig) -> Guard:
    if guard.low is None and guard.high is None:
        raise InvalidRequest(f"decide.guards.{score} must have low, high or both, got neither")
    if guard.low is not None and guard.high is not None and not guard.low <= guard.high:
        raise InvalidRequest(f"decide.guards.{score} must have low <= high, got {guard.low}, {guard.high}")
    return Guard(score, guard.low, guard.high)


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise InvalidRequest(f"decide.{name} must be a finite number above 0, got {value}")
    return value
