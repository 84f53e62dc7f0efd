"""Changes between runs in words: numbers with their intervals, and untrusted text made one harmless line. Pure."""

from __future__ import annotations

import math

from eval.reporting import axes
from eval.reporting.changes import Change, Measure, Overall
from eval.scoring.catalogue import base_name
from eval.scoring.uncertainty import Interval

LINE = 120
"""Characters of a prompt or an error that are shown in one line."""


def one_line(text: str, most: int = LINE) -> str:
    """The text as one line of printable characters, cut with "…"; nothing of it steers a terminal or turns the line.

    Control characters, NUL and marks of writing direction are left out; ends of lines become spaces.
    """
    shown = "".join(
        each if each.isprintable() else " " if each.isspace() else "" for each in text[: 4 * most]
    )
    shown = " ".join(shown.split())
    return shown if len(shown) <= most and len(text) <= 4 * most else f"{shown[: most - 1]}…"


def value_text(measure: Measure, value: float | None) -> str:
    """A value of the measure as people read it, with its unit; "none" where it is missing."""
    if value is None:
        return "none"
    if not measure.cost:
        return axes.text(measure.name, value).replace("-", "−")
    if measure.unit == "s":
        return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
    if measure.unit == "bytes":
        return f"{value / 1e9:.3g} GB" if value >= 1e9 else f"{value / 1e6:.3g} MB"
    unit = "" if measure.unit in ("evaluations", "currency") else f" {measure.unit}"
    return f"{value:.4g}{unit}"


def change_text(change: Change) -> str:
    """The change with its interval: "−0.31 (−0.42 to −0.20)", of costs "+12.3 % (+10.1 % to +14.2 %)"."""
    if change.difference is None:
        return "not known"
    if change.ratio is not None:
        return ratio_text(change.ratio)
    return difference_text(change.measure, Interval(change.difference, change.low, change.high))


def difference_text(measure: Measure, between: Interval) -> str:
    """A difference in the measure's unit, with its interval where there is one."""
    share = axes.is_share(measure.name) and not measure.cost
    known = [each for each in (between.value, between.low, between.high) if each is not None]
    scale = 100 if share else 1
    decimals = 1 if share else 2 if base_name(measure.name) == axes.CLIP else _decimals(known)
    texts = [f"{each * scale:+.{decimals}f}".replace("-", "−") for each in known]
    texts = ["0" if not any(digit in "123456789" for digit in text) else text for text in texts]
    unit = " points" if share else ""
    return f"{texts[0]}{unit}" + (f" ({texts[1]} to {texts[2]})" if len(texts) == 3 else "")


def ratio_text(ratio: Interval) -> str:
    """after / before as a change in per cent, with its interval where there is one."""
    known = [each for each in (ratio.value, ratio.low, ratio.high) if each is not None]
    texts = [f"{(each - 1) * 100:+.1f} %".replace("-", "−") for each in known]
    texts = ["0 %" if not any(digit in "123456789" for digit in text) else text for text in texts]
    return texts[0] + (f" ({texts[1]} to {texts[2]})" if len(texts) == 3 else "")


def overall_text(overall: Overall) -> str:
    """The mean change over all settings, with its interval where one is known."""
    if overall.mean_ratio is not None:
        return ratio_text(Interval(overall.mean_ratio, None, None))
    return "not known" if overall.mean is None else difference_text(overall.measure, overall.mean)


def _decimals(values: list[float]) -> int:
    """Decimals that give the largest value three digits, at most six."""
    largest = max((abs(value) for value in values if value), default=1.0)
    return min(6, max(0, 2 - math.floor(math.log10(largest))))
