"""Files of prompts as they stand, row by row: text, tables, JSON lines, COCO's captions. Nothing is chosen here.

A line ends at a line feed, with or without a carriage return before it, and nowhere else: U+2028 and U+0085 are letters
of a prompt.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

from eval.scoring.prompt_json import CAPTIONS, read_json, read_json_lines
from eval.scoring.prompt_rows import PromptFile, PromptRow
from sdkit._checks import check_choice
from sdkit._errors import InvalidRequest

_QUOTED = re.compile(r'"((?:[^"]|"")*)"(?=\t|$)|([^\t]*)')


def read_prompt_file(path: str, *, captions: str = "first") -> PromptFile:
    """The file by its suffix: .txt, .csv, .tsv, .jsonl or .json, in UTF-8 with or without a byte order mark.

    Args:
        captions: of a COCO file, the "first" caption of each image or "all"; of no matter to others.

    Raises:
        InvalidRequest: not readable, not UTF-8, of an unknown suffix or not what its suffix says.
    """
    check_choice("prompts.captions", captions, CAPTIONS)
    file = Path(path).expanduser()
    suffix = file.suffix.lower()
    if suffix not in (*_READERS, ".json"):
        raise InvalidRequest(f"prompts file must end in {', '.join(_READERS)} or .json, got {file.name!r}")
    try:
        content = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidRequest(f"prompts file {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"prompts file {path} cannot be read: byte {error.start} is not UTF-8; save it as UTF-8"
        ) from error
    if "\0" in content:
        line = content.count("\n", 0, content.index("\0")) + 1
        raise InvalidRequest(f"prompts file {path} line {line} holds a NUL; save it as text in UTF-8")
    return read_json(path, content, captions) if suffix == ".json" else _READERS[suffix](path, content)


def _lines(path: str, content: str) -> list[str]:
    lines = [line.removesuffix("\r") for line in content.split("\n")]
    for number, line in enumerate(lines, 1):
        if "\r" in line:
            raise InvalidRequest(
                f"prompts file {path} line {number} holds a lone CR; end lines with LF or CR LF"
            )
    return lines if lines[-1] else lines[:-1]  # what follows the last line's end is no line


def _plain(path: str, content: str) -> PromptFile:
    rows = tuple(PromptRow(number, {"": line}) for number, line in enumerate(_lines(path, content), 1))
    return PromptFile(path, (), rows)


def _tsv(path: str, content: str) -> PromptFile:
    """Tab-separated, one row a line.

    A cell is unquoted when it is quoted from end to end, as MLPerf's list has it; a quote that only opens a sentence
    is one of its letters, as in PartiPrompts, where csv's and pandas' own reading drops it.
    """
    rows = [(number, _tsv_cells(line)) for number, line in enumerate(_lines(path, content), 1)]
    return _table(path, rows, "tab")


def _tsv_cells(line: str) -> list[str]:
    cells, start = [], 0
    while line and start <= len(line):
        found = _QUOTED.match(line, start)
        assert found is not None  # the second branch matches anything
        cells.append(found[2] if found[1] is None else found[1].replace('""', '"'))
        start = found.end() + 1
    return cells


def _csv(path: str, content: str) -> PromptFile:
    """Comma-separated as RFC 4180 has it; a cell may then hold line ends, and a stray quote is an error."""
    table = csv.reader(io.StringIO(content, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in table:
            rows.append((line, cells))
            line = table.line_num + 1
    except csv.Error as error:
        raise InvalidRequest(f"prompts file {path} line {line} is not CSV: {error}") from error
    return _table(path, rows, "comma")


def _table(path: str, rows: list[tuple[int, list[str]]], separator: str) -> PromptFile:
    """Rows under the names in the first. A short row lacks its last cells; a long one is a cell that was torn."""
    if not rows or not any(cell.strip() for cell in rows[0][1]):
        raise InvalidRequest(f"prompts file {path} must name its columns in the first line, got an empty one")
    columns = tuple(name.strip() for name in rows[0][1])
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise InvalidRequest(f"prompts file {path} must name each column once, got {twice[0]!r} twice")
    found = []
    for line, cells in rows[1:]:
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise InvalidRequest(
                f"prompts file {path} line {line} has {len(cells)} cells for {len(columns)} columns; "
                f'put a cell that holds a {separator} in "quotes"'
            )
        found.append(PromptRow(line, dict(zip(columns, cells, strict=False))))
    return PromptFile(path, tuple(name for name in columns if name), tuple(found))


_READERS: dict[str, Callable[[str, str], PromptFile]] = {
    ".txt": _plain,
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": read_json_lines,
}
