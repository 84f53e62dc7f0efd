"""Which picture files a reference is made of, and all that can be wrong about it before one is read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from eval.records import ReferencePlan
from eval.scoring.moments import Moments
from eval.scoring.moments_file import read_moments
from eval.scoring.pictures import SUFFIXES, picture_files
from sdkit._checks import check_range
from sdkit._errors import InvalidRequest, first_line

KINDS = ("shapes", "folder", "list", "coco", "moments", "none")
CROPS = ("none", "centre")
MAX_RENDERS = 50_000
MAX_PICTURES = 10_000_000
NAMED = 5
"""How many files an error names; it counts the others."""


def check_reference(plan: ReferencePlan) -> None:
    """Everything that can be known without reading a picture.

    Raises:
        InvalidRequest: unknown kind or crop, count out of range, or a place that is missing, empty or of no use.
    """
    check_words(plan)
    if plan.kind == "moments":
        reference_moments(plan)
    elif plan.kind not in ("none", "shapes"):
        reference_files(plan)


def check_words(plan: ReferencePlan) -> None:
    """What can be known of the plan without looking at its files. Raises InvalidRequest."""
    for name, value, allowed in (("kind", plan.kind, KINDS), ("crop", plan.crop, CROPS)):
        if value not in allowed:
            raise InvalidRequest(f"reference.{name} must be one of {', '.join(allowed)}, got {value!r}")
    if plan.kind == "shapes":
        check_range("reference.count", plan.count, 2, MAX_RENDERS)


def reference_files(plan: ReferencePlan) -> tuple[Path, ...]:
    """The plan's picture files in their order; the first `count` of them unless it is 0.

    A folder's are in the order of their names, numbers as numbers; a list's as listed; COCO's by image id.

    Raises:
        InvalidRequest: no path, nothing there, not readable, files missing, or fewer than asked for.
    """
    check_range("reference.count", plan.count, 0, MAX_PICTURES)
    find = {"folder": _folder, "list": _listed, "coco": _coco}[plan.kind]
    files = find(plan)
    if len(files) < 2 or plan.count == 1:
        got = min(len(files), plan.count or len(files))
        raise InvalidRequest(f"reference.path must hold at least 2 pictures, got {got} from {plan.path!r}")
    if plan.count > len(files):
        raise InvalidRequest(
            f"reference.count must be 0 (all) to {len(files)} for {plan.path}, got {plan.count}"
        )
    chosen = files[: plan.count or None]
    if plan.kind != "folder":
        refuse_any([file for file in chosen if not file.is_file()], f"of {plan.path} are missing")
    return chosen


def reference_moments(plan: ReferencePlan) -> Moments:
    """The moments in the plan's file; `count` says of how many pictures where the file does not.

    Raises:
        InvalidRequest: as `read_moments`, a count that the file contradicts, or a crop, which comes too late.
    """
    path = _path(plan, "an .npz of moments")
    if plan.crop != "none":
        raise InvalidRequest(
            f"reference.crop must be none for moments, got {plan.crop!r}; their pictures are gone"
        )
    found = read_moments(path)
    if plan.count == 0:
        return found
    check_range("reference.count", plan.count, 2, 1 << 40)
    if found.n not in (None, plan.count):
        raise InvalidRequest(f"reference.count must be 0 or {found.n}, as {plan.path} says, got {plan.count}")
    return Moments(plan.count, found.mean, found.covariance)


def refuse_any(files: Sequence[Path], what: str) -> None:
    """Raises InvalidRequest where there is a file, naming the first few and counting all."""
    if files:
        named = ", ".join(str(file) for file in files[:NAMED])
        more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
        raise InvalidRequest(
            f"{len(files)} reference pictures {what}: {named}{more}; mend them or take them out"
        )


def _path(plan: ReferencePlan, what: str) -> Path:
    if plan.path is None:
        raise InvalidRequest(f"reference.path must be {what}, got nothing; give reference.path=...")
    return Path(plan.path).expanduser()


def _folder(plan: ReferencePlan) -> tuple[Path, ...]:
    folder = _path(plan, "a folder of pictures")
    try:
        if not folder.is_dir():
            raise InvalidRequest(
                f"reference.path must be a folder of pictures, got {plan.path!r}; there is none"
            )
        files = picture_files(folder)
    except OSError as error:
        raise InvalidRequest(f"reference.path {plan.path} cannot be read: {error.strerror}") from error
    if not files:
        allowed = ", ".join(SUFFIXES)
        raise InvalidRequest(f"reference.path must hold pictures ({allowed}), got none below {plan.path!r}")
    return files


def _listed(plan: ReferencePlan) -> tuple[Path, ...]:
    path = _path(plan, "a text file with one picture's path a line")
    lines = [line.strip() for line in _text(path, plan).splitlines()]
    files = tuple(path.parent / line for line in lines if line)
    if not files:
        raise InvalidRequest(f"reference.path must list pictures, one a line, got none in {plan.path!r}")
    twice = [file for file, times in Counter(files).items() if times > 1]
    refuse_any(twice, f"are listed more than once in {plan.path}")
    return files


def _coco(plan: ReferencePlan) -> tuple[Path, ...]:
    path = _path(plan, "an annotations file of COCO, captions_*.json")
    if plan.images is None:
        raise InvalidRequest("reference.images must be the folder of COCO's images, got nothing")
    images = Path(plan.images).expanduser()
    if not images.is_dir():
        raise InvalidRequest(f"reference.images must be a folder, got {plan.images!r}; there is none")
    try:
        entries = json.loads(_text(path, plan))["images"]
        named = sorted((int(entry["id"]), str(entry["file_name"])) for entry in entries)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidRequest(
            f"reference.path must be COCO's annotations with images of id and file_name, got {plan.path} "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    if len({identifier for identifier, _ in named}) < len(named):
        raise InvalidRequest(f"images in {plan.path} must have ids of their own, got some twice")
    outside = [
        Path(name) for _, name in named if PurePath(name).is_absolute() or ".." in PurePath(name).parts
    ]
    refuse_any(outside, f"of {plan.path} lie outside reference.images")
    return tuple(images / name for _, name in named)


def _text(path: Path, plan: ReferencePlan) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidRequest(
            f"reference.path {plan.path} cannot be read: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"reference.path {plan.path} must be UTF-8 text, and is not") from error
