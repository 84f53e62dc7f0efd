"""Text of users and models as Markdown that means nothing but itself. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from eval.reporting.change_words import one_line

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~$])")
_LINKS = re.compile(r"(@|#|://|www(?=\.))")
"""What GitHub makes links and mentions of once all escapes are undone; a space of no width after it hinders that."""
_LIST = re.compile(r"^(\d*)([-.):=])")
"""What may begin a list inside a list."""


def escaped(text: str, most: int = 200) -> str:
    """The text as Markdown shows it literally, in one line: no markup, no link, nobody is called.

    Args:
        most: characters; longer texts are cut, as the tables have them whole.
    """
    return _LINKS.sub("\\1\u200b", _SPECIAL.sub(r"\\\1", one_line(text, most)).replace("&", "&amp;"))


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of such texts."""
    lines = [head, *rows]
    written = [f"| {' | '.join(map(escaped, line))} |" for line in lines]
    return "\n".join([written[0], f"| {' | '.join('---' for _ in head)} |", *written[1:]])


def bullets(lines: Iterable[str], most: int = 600) -> str:
    """A list of such texts."""
    return "\n".join("- " + _LIST.sub(r"\1\\\2", escaped(line, most)) for line in lines)


def fenced(code: str) -> str:
    """A block of Python that no run of backticks inside it can end."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}python\n{one_line(code, 2000)}\n{fence}"
