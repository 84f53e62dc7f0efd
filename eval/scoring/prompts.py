"""Where prompts come from: the world of `shapes`, or the user's file, filtered and sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.records import PromptSet
from eval.scoring.prompt_files import read_prompt_file
from eval.scoring.prompt_rows import PromptFile, PromptRow, listed
from sdkit._checks import MAX_IMAGES_PER_PROMPT, MAX_SEED, check_choice, check_range
from sdkit._errors import InvalidRequest

SPLITS = ("train", "held_out", "all")
OBJECTS = ("both", "one", "two")
DUPLICATES = ("keep", "drop")
_TRIES = 20


@dataclass(frozen=True)
class PromptSource:
    """Which prompts of which file, and how often each is drawn; checked by `select`."""

    name: str
    path: str
    """.txt one a line; .csv and .tsv by column; .jsonl; .json as COCO's captions or a list."""
    column: str | None = None
    """Which column holds the prompts; None takes the one with a usual name."""
    count: int | None = None
    """How many; None takes all."""
    subset_seed: int | None = None
    """Seed of a sample of `count`; None takes the first ones."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Column -> the value that it must have, or several with "|" between them; all columns must agree."""
    min_words: int | None = None
    max_words: int | None = None
    contains: str | None = None
    """Text that a prompt must hold; upper and lower case are one."""
    duplicates: str = "keep"
    """What becomes of a prompt that stands there again: "keep" or "drop"."""
    seeds_per_prompt: int = 1
    captions: str = "first"
    """Of COCO's captions: the "first" of each image, or "all"."""


@dataclass(frozen=True)
class Selection:
    """The rows of a file that a source asks for, in the file's order, with their prompts."""

    file: PromptFile
    rows: tuple[PromptRow, ...]
    texts: tuple[str, ...]
    """One a row, without blanks around it, never empty."""
    notes: tuple[str, ...]
    """What was left out or changed, each a sentence with its count."""


def shapes_prompts(
    name: str,
    count: int,
    *,
    split: str = "held_out",
    objects: str = "both",
    first_seed: int = 0,
    seeds_per_prompt: int = 1,
) -> PromptSet:
    """Captions of the world, distinct as long as fresh ones are easily found.

    Args:
        count: how many.
        split: "held_out" (the model never saw them), "train" or "all".
        objects: things in a scene: "one", "two", or "both" in turn.
        first_seed: seed of the first scene that is tried; from 0.
        seeds_per_prompt: pictures of each.
    """
    from sdkit.shapes import world

    check_choice("prompts.split", split, SPLITS)
    check_choice("prompts.objects", objects, OBJECTS)
    _check_counts(count, seeds_per_prompt)
    kinds = {"both": (1, 2), "one": (1,), "two": (2,)}[objects]
    captions: list[str] = []
    seen: set[str] = set()
    seed = first_seed
    while len(captions) < count:
        for _ in range(_TRIES):  # a world of some thousand captions runs out of fresh ones
            kind = kinds[len(captions) % len(kinds)]
            scene = world.draw_scene(seed, objects=kind, split=split)  # type: ignore[arg-type]
            seed += 1
            if scene.caption not in seen:
                break
        seen.add(scene.caption)
        captions.append(scene.caption)
    return PromptSet(name, tuple(captions), seeds_per_prompt, repeat_notes(captions))


def load_prompts(source: PromptSource) -> PromptSet:
    """The prompts that a source asks for, in their file's order.

    Raises:
        InvalidRequest: the file cannot be read, a choice is out of range, or no or too few prompts are left.
    """
    chosen = select(source)
    notes = (*chosen.notes, *repeat_notes(chosen.texts))
    return PromptSet(source.name, chosen.texts, source.seeds_per_prompt, notes)


def select(source: PromptSource) -> Selection:
    """The rows themselves, for whoever needs more of them than the prompt. Raises as `load_prompts` does."""
    _check(source)
    file = read_prompt_file(source.path, captions=source.captions)
    notes: list[str] = []
    rows, texts = _filled(file, file.prompt_column(source.column), notes)
    kept = _filtered(source, file, rows, texts, notes)
    if source.duplicates == "drop":
        first = {texts[index]: index for index in reversed(kept)}
        fresh = [index for index in kept if first[texts[index]] == index]
        if len(fresh) < len(kept):
            notes.append(f"{_of(len(kept) - len(fresh), len(kept), 'repeat')} of an earlier one, left out")
        kept = fresh
    kept = _subset(source, kept, notes)
    return Selection(file, tuple(rows[i] for i in kept), tuple(texts[i] for i in kept), tuple(notes))


def repeat_notes(texts: Sequence[str]) -> tuple[str, ...]:
    """A sentence with the number of repeated prompts, or none."""
    repeats = len(texts) - len(set(texts))
    return (f"{_of(repeats, len(texts), 'repeat')} of an earlier one, kept",) if repeats else ()


def _filled(file: PromptFile, column: str, notes: list[str]) -> tuple[list[PromptRow], list[str]]:
    """Rows with a prompt, and the prompts; what is blank is left out, and what stands around is cut."""
    rows = [row for row in file.rows if row.text(column)]
    texts = [row.text(column) for row in rows]
    for row, text in zip(rows, texts, strict=True):
        _check_text(file, row, row.cells[column], text)
    empty = len(file.rows) - len(rows)
    if empty:
        unit = "row without a prompt" if file.columns else "empty line"
        several = "rows without a prompt" if file.columns else "empty lines"
        notes.append(f"{empty} {unit if empty == 1 else several} left out")
    cut = sum(row.cells[column] != text for row, text in zip(rows, texts, strict=True))
    if cut:
        notes.append(f"{cut} of {len(rows)} prompts had blanks around them, removed")
    if not rows:
        raise InvalidRequest(f"prompts file {file.path} holds no prompt; write one a line")
    return rows, texts


def _check_text(file: PromptFile, row: PromptRow, cell: object, text: str) -> None:
    problem = None
    if not isinstance(cell, str):
        problem = f"must be a string, got {type(cell).__name__}"
    elif "\0" in text:
        problem = "holds a NUL; take it out"
    elif any("\ud800" <= letter <= "\udfff" for letter in text):
        problem = "holds half of a surrogate pair; write the whole letter"
    if problem:
        raise InvalidRequest(f"prompts file {file.path}: the prompt of entry {row.line} {problem}")


def _filtered(
    source: PromptSource, file: PromptFile, rows: list[PromptRow], texts: list[str], notes: list[str]
) -> list[int]:
    """Indices of the rows that pass every filter."""
    kept = list(range(len(rows)))
    for column, wanted in source.where.items():
        values = _wanted(file, rows, column, wanted)
        kept = [index for index in kept if rows[index].text(column) in values]
    low, high = source.min_words or 0, source.max_words or float("inf")
    part = (source.contains or "").casefold()
    kept = [i for i in kept if low <= len(texts[i].split()) <= high and part in texts[i].casefold()]
    if not kept:
        raise InvalidRequest(
            f"no prompt of {source.path} passes the filters; {len(rows)} were there; widen them"
        )
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept)} of {len(rows)} prompts left out by the filters")
    return kept


def _wanted(file: PromptFile, rows: list[PromptRow], column: str, wanted: str) -> set[str]:
    """The values asked of a column; each must be there, or a slip of the pen would quietly shrink the set."""
    file.require_column(f"prompts.where.{column}", column)
    values = {part.strip() for part in wanted.split("|")}
    known = dict.fromkeys(row.text(column) for row in rows)
    missing = sorted(values - known.keys())
    if missing:
        raise InvalidRequest(f"prompts.where.{column} must be among {listed(known)}, got {missing[0]!r}")
    return values


def _subset(source: PromptSource, kept: list[int], notes: list[str]) -> list[int]:
    """The first `count`, or a sample without replacement, in the file's order.

    Each prompt's rank is a raw word of Philox, whose stream NumPy guarantees across versions (NEP 19); so one seed's
    smaller sample lies in its larger one.
    """
    if source.count is None:
        return kept
    if source.count > len(kept):
        raise InvalidRequest(f"prompts.count must be 1..{len(kept)} for {source.path}, got {source.count}")
    if source.count == len(kept):
        return kept
    if source.subset_seed is None:
        notes.append(f"the first {source.count} of {len(kept)} prompts")
        return kept[: source.count]
    ranks = np.random.Philox(key=source.subset_seed).random_raw(len(kept))
    chosen = np.sort(np.argsort(ranks, kind="stable")[: source.count])
    notes.append(f"a sample of {source.count} of {len(kept)} prompts, seed {source.subset_seed}")
    return [kept[int(index)] for index in chosen]


def _check(source: PromptSource) -> None:
    _check_counts(source.count, source.seeds_per_prompt)
    check_choice("prompts.duplicates", source.duplicates, DUPLICATES)
    if source.subset_seed is not None:
        check_range("prompts.subset_seed", source.subset_seed, 0, MAX_SEED)
        if source.count is None:
            raise InvalidRequest(
                "prompts.subset_seed needs prompts.count, the size of the sample, got nothing"
            )
    for name, words in (("min_words", source.min_words), ("max_words", source.max_words)):
        if words is not None:
            check_range(f"prompts.{name}", words, 1, MAX_SEED)
    if source.min_words and source.max_words and source.min_words > source.max_words:
        raise InvalidRequest(
            f"prompts.min_words must be 1..{source.max_words}, prompts.max_words, got {source.min_words}"
        )


def _check_counts(count: int | None, seeds_per_prompt: int) -> None:
    if count is not None and count < 1:
        raise InvalidRequest(f"prompts.count must be 1 or more, got {count}")
    check_range("prompts.seeds_per_prompt", seeds_per_prompt, 1, MAX_IMAGES_PER_PROMPT)


def _of(count: int, total: int, noun: str) -> str:
    return (
        f"{count} of {total} prompts is a {noun}" if count == 1 else f"{count} of {total} prompts are {noun}s"
    )
