"""Records to JSON and back, checked against their annotations: a file is never half understood."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def encode(record: object) -> bytes:
    """The record, or a list of records, as indented UTF-8 JSON; NaN and infinity are refused."""
    plain = [_plain(item) for item in record] if isinstance(record, list | tuple) else _plain(record)
    return (json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def decode(kind: type[T], value: object, *, where: str = "") -> T:
    """`value`, as read from JSON, as a `kind`: a dataclass, tuple, dict, optional or plain type.

    Raises:
        ValueError: a field is missing, unknown or of another type; the message names it.
    """
    return cast(T, _decode(kind, value, where or getattr(kind, "__name__", str(kind))))


def _plain(item: object) -> object:
    return asdict(item) if is_dataclass(item) and not isinstance(item, type) else item


def _decode(kind: Any, value: object, where: str) -> object:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(kind, value, where)
    if origin is tuple:
        item = get_args(kind)[0]
        return tuple(
            _decode(item, each, f"{where}[{i}]") for i, each in enumerate(_expect(list, value, where))
        )
    if origin is dict:
        item = get_args(kind)[1]
        return {
            key: _decode(item, each, f"{where}.{key}") for key, each in _expect(dict, value, where).items()
        }
    if is_dataclass(kind):
        return _decode_record(kind, _expect(dict, value, where), where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _expect(kind, value, where)


def _decode_union(kind: Any, value: object, where: str) -> object:
    if value is None and type(None) in get_args(kind):
        return None
    (inner,) = (option for option in get_args(kind) if option is not type(None))
    return _decode(inner, value, where)


@cache
def _hints(kind: type[object]) -> dict[str, Any]:
    """The fields' types: resolving them takes longer than reading a record."""
    return get_type_hints(kind)


def _decode_record(kind: Any, value: Mapping[str, object], where: str) -> object:
    names = {field.name for field in fields(kind)}
    if unknown := sorted(value.keys() - names):
        raise ValueError(f"{where}: unknown field {unknown[0]!r}; it was written by another version")
    hints = _hints(kind)
    try:
        return kind(**{name: _decode(hints[name], each, f"{where}.{name}") for name, each in value.items()})
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _expect(kind: type[T], value: object, where: str) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where} must be of type {kind.__name__}, got {value!r}")
    return value
