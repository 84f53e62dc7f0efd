"""Prompts from JSON: an entry a line, a list, or COCO's captions."""

from __future__ import annotations

import json
from collections.abc import Mapping

from eval.scoring.prompt_rows import PromptFile, PromptRow
from sdkit._errors import InvalidRequest

CAPTIONS = ("first", "all")
"""Of COCO's several captions of an image."""


def read_json_lines(path: str, content: str) -> PromptFile:
    """A line is an object, or a string; a blank one is an empty prompt. Raises InvalidRequest."""
    lines = content.split("\n")
    values: list[tuple[int, object]] = []
    for line, text in enumerate(lines if lines[-1] else lines[:-1], 1):
        try:
            values.append((line, json.loads(text) if text.strip() else ""))
        except (ValueError, RecursionError) as error:
            said = _first_line(error)
            raise InvalidRequest(f"prompts file {path} line {line} is not JSON: {said}") from error
    return _entries(path, values, "line")


def read_json(path: str, content: str, captions: str) -> PromptFile:
    """A list of strings or of objects, or COCO's captions.

    Args:
        captions: which of COCO's captions of an image, "first" or "all".

    Raises:
        InvalidRequest: none of these.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"prompts file {path} is not JSON: {_first_line(error)}") from error
    if isinstance(value, list):
        return _entries(path, list(enumerate(value, 1)), "entry")
    return _coco(path, value, captions)


def _entries(path: str, values: list[tuple[int, object]], unit: str) -> PromptFile:
    """Strings or objects, but not both; blank lines are empty prompts of either kind."""
    wrong = next((pair for pair in values if not isinstance(pair[1], (str, dict))), None)
    if wrong is not None:
        kind = type(wrong[1]).__name__
        raise InvalidRequest(
            f"prompts file {path} {unit} {wrong[0]} must be a string or an object, got {kind}"
        )
    objects = [value for _, value in values if isinstance(value, dict)]
    if objects and any(isinstance(value, str) and value.strip() for _, value in values):
        raise InvalidRequest(f"prompts file {path} must hold strings or objects, got both")
    columns = tuple(dict.fromkeys(name for each in objects for name in each))
    rows = tuple(
        PromptRow(line, {"": value} if isinstance(value, str) else _present(value))
        for line, value in values
        if isinstance(value, (str, dict))
    )
    return PromptFile(path, columns, rows)


def _present(cells: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in cells.items() if value is not None}


def _coco(path: str, value: object, captions: str) -> PromptFile:
    """Captions by image id, then by their own; of each image the first or all."""
    try:
        annotations = value["annotations"]  # type: ignore[index]  # whatever it is, it may fail
        ordered = sorted(annotations, key=lambda each: (each["image_id"], each["id"]))
        if captions == "first":
            ordered = list({each["image_id"]: each for each in reversed(ordered)}.values())[::-1]
        files = {each["id"]: each["file_name"] for each in value.get("images", ())}  # type: ignore[attr-defined]
        cells = [(each["caption"], each["image_id"], files.get(each["image_id"])) for each in ordered]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"prompts file {path} is not COCO's captions: {_first_line(error)}") from error
    columns = ("caption", "image_id", "file_name")
    rows = [_present(dict(zip(columns, each, strict=True))) for each in cells]
    return PromptFile(path, columns, tuple(PromptRow(number, row) for number, row in enumerate(rows, 1)))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
