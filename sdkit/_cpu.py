"""The processor's name. Without torch, for what only records where it runs."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path


def cpu_name() -> str:
    """The processor's name, as the system tells it.

    Under some hypervisors every generation has one name ("AMD EPYC"); such a name gets the family and the model behind
    it, by which generations differ: "AMD EPYC (family 26, model 2)".
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return told_apart(lines) or platform.processor() or platform.machine()


def told_apart(lines: Iterable[str]) -> str | None:
    """The first processor's name in the lines of /proc/cpuinfo; None where they have none. Pure."""
    first: dict[str, str] = {}
    for line in lines:
        label, _, value = line.partition(":")
        first.setdefault(label.strip(), value.strip())
    name = first.get("model name")
    if not name or any(each.isdigit() for each in name):
        return name or None
    behind = [
        f"{what} {first[key]}" for what, key in (("family", "cpu family"), ("model", "model")) if key in first
    ]
    return f"{name} ({', '.join(behind)})" if behind else name
