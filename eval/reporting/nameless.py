"""Records without the names of the machine that they come from, so that they can be published. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from eval.records import Cell, PromptSet, Run

T = TypeVar("T")
_PATH = re.compile(r"""(?<![\w.:/~<-])(?:file://|~|[A-Za-z]:)?(?:[/\\][^\s/\\:"'<>|,;)\]]+){2,}[/\\]?""")
"""An absolute path of two parts or more, on any system."""
_KERNEL = re.compile(r"^([A-Za-z]+)-.+?-((?:x86_64|aarch64|arm64|AMD64)\b.*)$")
"""`platform.platform()`, whose middle names the kernel's build."""
_PROGRAM = re.compile(r"<script>.*?</script>", re.DOTALL)
"""Scripts that are the same for every run, among them a library whose words are nobody's host."""
SHORTEST_HOST = 4
"""Shorter host names are words of any text."""


@dataclass(frozen=True)
class Names:
    """What a machine is known by."""

    folders: tuple[str, ...]
    """Absolute, longest first."""
    hosts: tuple[str, ...]


def nameless(run: Run, names: Names) -> Run:
    """The run with paths cut to their last part, and hosts left out; prompts, pictures and cells are as they were."""

    def clean(text: str) -> str:
        return _without(text, names)

    environment = {label: _KERNEL.sub(r"\1-\2", value) for label, value in run.environment.items()}
    return replace(
        run,
        plan=_mapped(run.plan, clean),
        plans=_mapped(run.plans, clean),
        results=_mapped(run.results, clean),
        environment=_mapped(environment, clean),
        config_yaml=clean(run.config_yaml),
        notes=_mapped(run.notes, clean),
    )


def traces(text: str, names: Names) -> tuple[str, ...]:
    """Names of the machine that stand in a file's text all the same."""
    seen = _PROGRAM.sub("", text)
    folders = [each for each in names.folders if each in seen]
    return (*folders, *(each for each in _telling(names.hosts) if _host(each).search(seen)))


def _without(text: str, names: Names) -> str:
    for folder in names.folders:
        text = text.replace(folder, "…/" + re.split(r"[/\\]", folder)[-1])
    text = _PATH.sub(lambda found: "…/" + re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], text)
    for host in _telling(names.hosts):
        text = _host(host).sub("(host)", text)
    return text


def _telling(hosts: Iterable[str]) -> list[str]:
    return [each for each in hosts if len(each) >= SHORTEST_HOST and each != "localhost"]


def _host(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])", re.IGNORECASE)


def _mapped(value: T, change: Callable[[str], str]) -> T:
    """The value with every text in it changed, but for what decides pixels and what was asked in words."""
    found: Any = value
    if isinstance(found, str):
        found = change(found)
    elif isinstance(found, Cell):
        pass
    elif isinstance(found, PromptSet):
        found = replace(found, name=change(found.name), notes=_mapped(found.notes, change))
    elif isinstance(found, tuple):
        found = tuple(_mapped(each, change) for each in found)
    elif isinstance(found, Mapping):
        found = {key: _mapped(each, change) for key, each in found.items()}
    elif is_dataclass(found) and not isinstance(found, type):
        found = replace(
            found, **{each.name: _mapped(getattr(found, each.name), change) for each in fields(found)}
        )
    return found  # type: ignore[no-any-return]
