"""Records to JSON and back, checked against their annotations: a file is never half understood."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Reader = Callable[[object], object]
"""A value from JSON -> the record or plain value. Raises _Misfit."""


def encode(record: object) -> bytes:
    """The record, or a list of records, as indented UTF-8 JSON; NaN and infinity are refused."""
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False, default=_named_values)
    return (text + "\n").encode()


def decode(kind: type[T], value: object, *, where: str = "") -> T:
    """`value`, as read from JSON, as a `kind`: a dataclass, tuple, dict, optional or plain type.

    Raises:
        ValueError: a field is missing, unknown or of another type; the message names it.
    """
    try:
        return cast(T, _reader(cast(Any, kind))(value))
    except _Misfit as misfit:
        start = where or getattr(kind, "__name__", str(kind))
        raise ValueError(f"{start}{''.join(reversed(misfit.path))}{misfit.said}") from misfit.__cause__


def _named_values(item: object) -> dict[str, object]:
    """A record's fields; `asdict` would copy what they hold as well, and take longer than JSON itself."""
    if not is_dataclass(item) or isinstance(item, type):
        raise TypeError(f"a {type(item).__name__} is neither a record nor a plain value")
    return {each.name: getattr(item, each.name) for each in fields(item)}


class _Misfit(Exception):
    """A value that is not of its type; the way to it is put together on the way out, for most values fit."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said
        self.path: list[str] = []
        """Innermost first: ".name", "[3]"."""


@cache
def _reader(kind: Any) -> Reader:
    """What reads values of this kind; made once a kind, because looking at annotations takes longer than reading."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        (inner,) = (option for option in get_args(kind) if option is not type(None))
        read = _reader(inner)
        if type(None) not in get_args(kind):
            return read
        return lambda value: None if value is None else read(value)
    if origin is tuple:
        return _tuples(_reader(get_args(kind)[0]))
    if origin is dict:
        return _dicts(get_args(kind)[1])
    if is_dataclass(kind):
        return _records(kind)
    return lambda value: value if type(value) is kind else _expect(kind, value)


def _tuples(read: Reader) -> Reader:
    def tuple_of(value: object) -> object:
        items = _expect(list, value)
        try:
            return tuple([read(each) for each in items])
        except _Misfit:
            for place, each in enumerate(items):
                _read_at(read, each, f"[{place}]")
            raise

    return tuple_of


def _dicts(kind: Any) -> Reader:
    read = _reader(kind)

    def dict_of(value: object) -> object:
        found = _expect(dict, value)
        if kind in (float, bool, str) and set(map(type, found.values())) == {kind}:
            return dict(found)
        try:
            return {key: read(each) for key, each in found.items()}
        except _Misfit:
            for key, each in found.items():
                _read_at(read, each, f".{key}")
            raise

    return dict_of


def _records(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    names = readers.keys()

    def record_of(value: object) -> object:
        found = _expect(dict, value)
        if not found.keys() <= names:
            unknown = min(found.keys() - names)
            raise _Misfit(f": unknown field {unknown!r}; it was written by another version")
        try:
            read = {name: readers[name](each) for name, each in found.items()}
        except _Misfit:
            for name, each in found.items():
                _read_at(readers[name], each, f".{name}")
            raise
        try:
            return kind(**read)
        except TypeError as error:
            raise _Misfit(f": {error}") from error

    return record_of


def _read_at(read: Reader, value: object, place: str) -> None:
    """Read once more, to say where the misfit is."""
    try:
        read(value)
    except _Misfit as misfit:
        misfit.path.append(place)
        raise


def _expect(kind: Any, value: object) -> Any:
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    raise _Misfit(f" must be of type {kind.__name__}, got {value!r}")
