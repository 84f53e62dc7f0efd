"""The measures that limits are set on, and whether a cell keeps to them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.decide_plan import DecidePlan, Guard, Limits
from eval.records import CellResult
from eval.reporting import axes
from eval.scoring.catalogue import base_name


@dataclass(frozen=True)
class Limited:
    """One limit: what it is set on, and in which direction it binds."""

    name: str
    """Field of `Limits`."""
    title: str
    measure: str
    """Name of the measured value."""
    unit: str
    most: bool
    """True where it is a ceiling, False where a floor."""
    of: Callable[[CellResult], float | None]

    def breach(self, result: CellResult, limit: float) -> str | None:
        """Why the cell does not meet the limit; None where it does."""
        value = self.of(result)
        noun = self.title[0].lower() + self.title[1:]
        if value is None:
            return f"{noun} {self.text(limit)}: not known for it"
        kept = value <= limit if self.most else value >= limit
        return None if kept else f"{noun} {self.text(limit)}: it has {self.text(value)}"

    def text(self, value: float) -> str:
        """With its unit, as people read it."""
        if self.unit == "s":
            return f"{value * 1e3:.4g} ms" if value < 1 else f"{value:.4g} s"
        if self.unit == "B":
            return f"{value / 1e9:.3g} GB" if value >= 1e9 else f"{value / 1e6:.3g} MB"
        return f"{value:.4g}{self.unit and ' ' + self.unit}"


def _timing(name: str) -> Callable[[CellResult], float | None]:
    return lambda result: getattr(result.timing, name, None)


def memory_of(result: CellResult) -> float | None:
    """Peak bytes: reserved on the GPU, or of the process where there is no GPU."""
    memory = result.memory
    if memory is None:
        return None
    return memory.process_peak_rss_bytes if memory.gpu_reserved_bytes is None else memory.gpu_reserved_bytes


def joules_of(result: CellResult) -> float | None:
    energy = result.measured.energy if result.measured else None
    return energy.joules_per_image if energy else None


def price_of(result: CellResult) -> float | None:
    price = result.measured.price if result.measured else None
    return price.per_1000_images if price else None


LIMITED = (
    Limited("max_latency_s", "Latency p50 at most", "latency_p50_s", "s", True, _timing("latency_p50_s")),
    Limited("max_latency_p95_s", "Latency p95 at most", "latency_p95_s", "s", True, _timing("latency_p95_s")),
    Limited("max_memory_bytes", "Peak memory at most", "memory_bytes", "B", True, memory_of),
    Limited(
        "min_images_per_s", "Pictures a second at least", "images_per_s", "/s", False, _timing("images_per_s")
    ),
    Limited("max_joules", "Energy a picture at most", "joules_per_image", "J", True, joules_of),
    Limited("max_cost_per_1000", "Price of 1,000 at most", "cost_per_1000_images", "", True, price_of),
    Limited("max_model_evals", "Evaluations a picture at most", "model_evals", "", True, axes.EVALUATIONS.of),
)

JOULES = axes.Cost("Energy a picture, GPU alone (J)", "J a picture", "", joules_of)
PRICE = axes.Cost("Price of 1,000 pictures", "for 1,000 pictures", "", price_of)
COSTS = {
    "latency": axes.LATENCY,
    "throughput": axes.THROUGHPUT,
    "evaluations": axes.EVALUATIONS,
    "joules": JOULES,
    "price": PRICE,
}


def breaches(result: CellResult, limits: Limits) -> list[str]:
    """Every limit that the cell does not meet, as a sentence's part."""
    asked = ((each, getattr(limits, each.name)) for each in LIMITED)
    found = (each.breach(result, limit) for each, limit in asked if limit is not None)
    return [why for why in found if why is not None]


def guarded(result: CellResult, guards: Sequence[Guard]) -> str | None:
    """The first guard that the cell's scores break, or that cannot be checked; None where all hold."""
    for guard in guards:
        score = next(
            (s for s in result.scores if guard.score in (s.name, base_name(s.name)) and s.value is not None),
            None,
        )
        title = axes.score_title(score.name if score else guard.score)
        if score is None or score.value is None:
            return f"the guard on {title} cannot be checked: it is not known"
        low_broken = guard.low is not None and score.value < guard.low
        if low_broken or (guard.high is not None and score.value > guard.high):
            bound = f"at least {guard.low:g}" if low_broken else f"at most {guard.high:g}"
            return f"{title} must be {bound}, and is {axes.text(score.name, score.value)}"
    return None


def cost_for(plan: DecidePlan, results: Sequence[CellResult]) -> axes.Cost:
    """The cost that the plan names; else the one that the report uses."""
    return axes.cost_of(results) if plan.cost is None else axes.with_mixture(COSTS[plan.cost], results)
