"""Where prompts come from: the world of `shapes`, or the user's file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from eval.records import PromptSet
from sdkit._errors import InvalidRequest

SPLITS = ("train", "held_out", "all")
_TRIES = 20
_TABLES = {".tsv": "\t", ".csv": ","}


def shapes_prompts(name: str, count: int, *, split: str = "held_out", first_seed: int = 0) -> PromptSet:
    """Captions of the world, one object and two in turn, distinct as long as fresh ones are easily found.

    Args:
        count: how many.
        split: "held_out" (the model never saw them), "train" or "all".
        first_seed: seed of the first scene that is tried; from 0.
    """
    from sdkit.shapes import world

    if split not in SPLITS:
        raise InvalidRequest(f"prompts.split must be one of {', '.join(SPLITS)}, got {split!r}")
    _require_count(count)
    captions: list[str] = []
    seen: set[str] = set()
    seed = first_seed
    while len(captions) < count:
        for _ in range(_TRIES):  # a world of some thousand captions runs out of fresh ones
            scene = world.draw_scene(seed, objects=1 + len(captions) % 2, split=split)  # type: ignore[arg-type]
            seed += 1
            if scene.caption not in seen:
                break
        seen.add(scene.caption)
        captions.append(scene.caption)
    return PromptSet(name, tuple(captions))


def file_prompts(name: str, path: str, *, column: str | None = None, count: int | None = None) -> PromptSet:
    """Prompts of a file, in its order: .txt one a line, .tsv and .csv by column, .json as COCO's captions.

    Args:
        column: which column of a table; its header must hold it.
        count: take the first so many; None takes all.

    Raises:
        InvalidRequest: unreadable, of an unknown kind, without that column, or with fewer prompts than asked.
    """
    file = Path(path).expanduser()
    if count is not None:
        _require_count(count)
    try:
        texts = [text.strip() for text in _texts(file, column)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"prompts file {path} cannot be read: {_short(error)}") from error
    texts = [text for text in texts if text]
    if not texts:
        raise InvalidRequest(f"prompts file {path} holds no prompt; write one a line")
    if count is not None and len(texts) < count:
        raise InvalidRequest(f"prompts.count must be 1..{len(texts)} for {path}, got {count}")
    return PromptSet(name, tuple(texts[:count]))


def _texts(file: Path, column: str | None) -> list[str]:
    kind = file.suffix.lower()
    if kind == ".txt":
        return file.read_text(encoding="utf-8-sig").splitlines()
    if kind == ".json":
        return _coco(file)
    if kind not in _TABLES:
        raise InvalidRequest(f"prompts file must end in .txt, .tsv, .csv or .json, got {file.name!r}")
    with file.open(encoding="utf-8-sig", newline="") as lines:
        table = csv.DictReader(lines, delimiter=_TABLES[kind])
        known = list(table.fieldnames or [])
        if column not in known:
            raise InvalidRequest(
                f"prompts.column must be one of {', '.join(known) or 'none'}, got {column!r}"
            )
        return [row[column] or "" for row in table]


def _coco(file: Path) -> list[str]:
    """One caption an image, by image id: the first that COCO's annotations list for it."""
    try:
        annotations = json.loads(file.read_text(encoding="utf-8"))["annotations"]
        ordered = sorted(annotations, key=lambda each: (each["image_id"], each["id"]))
        first = {each["image_id"]: str(each["caption"]) for each in reversed(ordered)}
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"prompts file {file} is not COCO's captions: {_short(error)}") from error
    return [first[image] for image in sorted(first)]


def _require_count(count: int) -> None:
    if count < 1:
        raise InvalidRequest(f"prompts.count must be 1 or more, got {count}")


def _short(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
