"""Hydra's command line as ours: errors are raised, not printed, and said in one line."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass

from eval.config import SweepConfig

_NOISE = ("full_key:", "object_type=", "reference_type=", "To append")


@contextmanager
def with_overrides(arguments: Sequence[str]) -> Iterator[None]:
    """Let Hydra read `arguments` as the command line, and raise its errors instead of printing them."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [argv[0], *arguments], "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


def one_line(error: BaseException) -> str:
    """What Hydra or OmegaConf says is wrong, with the nearest key where one is unknown, on one line."""
    said = [str(each) for each in (error, error.__cause__) if each is not None]
    lines = [line.strip() for text in said for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(_NOISE)]
    if broken := getattr(error, "override", None):
        kept.insert(0, f"cannot read {broken!r}")
    unknown = re.search(r"Could not override '([^']+)'", said[0])
    if unknown:
        near = difflib.get_close_matches(unknown[1], _keys(), n=3, cutoff=0.5)
        kept.append(f"nearest: {', '.join(near) or 'none'}; see them all with --cfg job")
    return ". ".join(line.rstrip(".") for line in dict.fromkeys(kept))


def _keys() -> list[str]:
    """Every key that may be set, with its group."""
    groups = {name: value for name, value in vars(SweepConfig()).items() if is_dataclass(value)}
    return [
        "out",
        *groups,
        *(f"{group}.{item.name}" for group, value in groups.items() for item in fields(value)),
    ]
