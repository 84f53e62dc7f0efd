"""Pictures that something else made, each with the prompt that it was made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from eval.records import PromptSet
from eval.scoring.prompts import PromptSource, Selection, repeat_notes, select
from sdkit._errors import InvalidRequest

FILE_COLUMNS = ("file_name", "file", "image", "path")
_NAMED = 5


@dataclass(frozen=True)
class Pairing:
    """Pictures with their prompts: `files[i]` was made from `prompts.rows[i]`."""

    files: tuple[Path, ...]
    prompts: PromptSet
    notes: tuple[str, ...]
    """Which rule paired them, and which pictures were left out; each a sentence. `prompts.notes` is apart."""


@dataclass(frozen=True)
class _Folder:
    """Pictures by name. A name is looked up in this listing only, so that none can lead outside."""

    root: Path
    """Absolute."""
    files: tuple[Path, ...]
    whole: dict[PurePosixPath, Path]
    """By the path below the folder."""
    bare: dict[PurePosixPath, list[Path]]
    """By that path without its suffix."""

    def find(self, name: str) -> Path | None:
        """The picture of that name; else the only one that differs by its suffix, as a PNG of a photograph's name."""
        from eval.scoring.pictures import SUFFIXES

        below = PurePosixPath(name)
        below = below.relative_to(self.root.as_posix()) if below.is_absolute() else below
        if below in self.whole:
            return self.whole[below]
        same = self.bare.get(below, [])
        if not same and below.suffix.lower() in SUFFIXES:
            same = self.bare.get(below.with_suffix(""), [])
        if len(same) > 1:
            raise InvalidRequest(
                f"picture {name!r} must be one file of {self.root}, got {_some(_names(same))}"
            )
        return same[0] if same else None


def pair(images: Path, source: PromptSource) -> Pairing:
    """The pictures below a folder with the prompts of a file.

    By the file's column of picture names where that names pictures of the folder, by their whole names or but for the
    suffix; a list of captions may name the photographs that it describes instead. Otherwise in the natural order of
    names (2 before 10), the same number of pictures to each prompt.

    Args:
        images: folder; the names in the file are relative to it.
        source: which prompts. Its `seeds_per_prompt` is the number that is expected; 1 expects any.

    Raises:
        InvalidRequest: no picture; a name that leads outside the folder, has no picture or stands there twice; or
            numbers of pictures and prompts that do not fit.
    """
    chosen = select(source)
    folder = _listing(images)
    column = _naming_column(folder, chosen)
    if column is not None:
        return _named(folder, source, chosen, column)
    each = _pictures_each(len(folder.files), source, chosen)
    rule = "pictures paired with prompts in the natural order of their names"
    if each > 1:
        rule += f", {each} to each prompt, which must stand together"
    unused = [f"column {name!r} names none of the pictures" for name in _file_columns(chosen)]
    return _paired(folder.files, chosen.texts, each, source, chosen, (rule, *unused))


def _listing(images: Path) -> _Folder:
    from eval.scoring.pictures import picture_files

    try:
        files = picture_files(images)
    except OSError as error:
        raise InvalidRequest(f"images must be a folder, got {images}: {error.strerror or error}") from error
    if not files:
        raise InvalidRequest(f"images must be a folder with pictures, got none in {images}")
    whole = {PurePosixPath(file.relative_to(images).as_posix()): file for file in files}
    bare: dict[PurePosixPath, list[Path]] = {}
    for name, file in whole.items():
        bare.setdefault(name.with_suffix(""), []).append(file)
    return _Folder(images.absolute(), files, whole, bare)


def _naming_column(folder: _Folder, chosen: Selection) -> str | None:
    """The first column of picture names that names one of the folder at least. Raises for a name that leads outside."""
    for column in _file_columns(chosen):
        for row in chosen.rows:
            _check_inside(folder, row.text(column), f"{chosen.file.path} entry {row.line}")
        if any(folder.find(row.text(column)) for row in chosen.rows):
            return column
    return None


def _check_inside(folder: _Folder, name: str, where: str) -> None:
    path = PurePosixPath(name)
    if ".." in path.parts or (path.is_absolute() and not path.is_relative_to(folder.root.as_posix())):
        raise InvalidRequest(
            f"pictures named in prompts file {where} must lie in {folder.root}, got {name!r}"
        )


def _named(folder: _Folder, source: PromptSource, chosen: Selection, column: str) -> Pairing:
    found = [(row, folder.find(row.text(column))) for row in chosen.rows]
    missing = [row.text(column) or f"no name in entry {row.line}" for row, file in found if file is None]
    if missing:
        raise InvalidRequest(
            f"pictures in column {column!r} of {source.path} must all be in {folder.root}, {len(missing)} of "
            f"{len(found)} are missing: {_some(missing)}; add them, or choose rows by prompts.where or prompts.count"
        )
    files = [file for _, file in found if file is not None]
    twice = [file for file, times in Counter(files).items() if times > 1]
    if twice:
        raise InvalidRequest(
            f"column {column!r} of {source.path} must name a picture once, got twice: {_some(_names(twice))}"
        )
    notes = [f"pictures paired with prompts by column {column!r}", *_unnamed(folder, files)]
    return _together(files, source, chosen, notes)


def _unnamed(folder: _Folder, files: Sequence[Path]) -> list[str]:
    taken = set(files)
    left = [file for file in folder.files if file not in taken]
    if not left:
        return []
    return [
        f"{len(left)} of {len(folder.files)} pictures left out, as no prompt names them: {_some(_names(left))}"
    ]


def _together(files: list[Path], source: PromptSource, chosen: Selection, notes: list[str]) -> Pairing:
    """Pictures of one prompt side by side where all prompts have equally many, so that intervals can cluster them."""
    of_text: dict[str, list[Path]] = {}
    for text, file in zip(chosen.texts, files, strict=True):
        of_text.setdefault(text, []).append(file)
    sizes = {len(same) for same in of_text.values()}
    each = sizes.pop() if len(sizes) == 1 else 1
    if source.seeds_per_prompt not in (1, each):
        raise InvalidRequest(
            f"prompts.seeds_per_prompt must be {each} for the {len(files)} pictures that {source.path} names, "
            f"got {source.seeds_per_prompt}"
        )
    if each == 1:
        return _paired(files, chosen.texts, 1, source, chosen, notes)
    ordered = [file for same in of_text.values() for file in same]
    return _paired(ordered, tuple(of_text), each, source, chosen, [*notes, f"{each} pictures to each prompt"])


def _pictures_each(pictures: int, source: PromptSource, chosen: Selection) -> int:
    """How many pictures each prompt has when names do not say."""
    prompts = len(chosen.texts)
    each, left = divmod(pictures, prompts)
    expected = source.seeds_per_prompt
    if left or not each or expected not in (1, each):
        wanted = f"{prompts} or a multiple of it" if expected == 1 else f"{expected} x {prompts}"
        odd = f" ({'; '.join(chosen.notes)})" if chosen.notes else ""
        raise InvalidRequest(
            f"the number of pictures must be {wanted} for {prompts} prompts{odd}, got {pictures}; "
            f"mend the number, or name the pictures in a column {FILE_COLUMNS[0]!r}"
        )
    return each


def _paired(
    files: Sequence[Path],
    texts: tuple[str, ...],
    each: int,
    source: PromptSource,
    chosen: Selection,
    notes: Sequence[str],
) -> Pairing:
    odd = (*chosen.notes, *repeat_notes(texts))
    return Pairing(tuple(files), PromptSet(source.name, texts, each, odd), tuple(notes))


def _file_columns(chosen: Selection) -> list[str]:
    return [name for name in FILE_COLUMNS if name in chosen.file.columns]


def _names(files: Iterable[Path]) -> list[str]:
    return [file.name for file in files]


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
