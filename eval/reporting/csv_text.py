"""Frames as CSV that a spreadsheet can open safely, and back again without loss.

Three rules stand between a text and its field, each undone by `from_csv`:

1. An apostrophe goes before text whose first visible character would begin a formula, before text that begins with
   a tab or a line end, before text that begins with an apostrophe itself, and before nothing, where the text is empty.
   So reading takes one leading apostrophe off, and an empty field is always a missing one.
2. NUL, at which C parsers and editors end a text, is written as U+2400 and "0", and U+2400 itself twice.
3. RFC 4180: fields with commas, quotes or line ends stand in quotes, and rows end with CR LF.
"""

from __future__ import annotations

import io
import re
import unicodedata

import pandas as pd

_SIGNS = frozenset("=+-@" + "\uff1d\uff0b\uff0d\uff20")
"""What begins a formula, also in the full width that some spreadsheets read alike."""
_ODD_STARTS = ("\t", "\r", "\n", "'")
_UNSEEN = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp"))
"""Unicode's categories of characters that a spreadsheet may strip before it looks: blanks, controls, marks."""
_NUL = "\u2400"
"""The symbol for NUL, which stands for it."""


def to_csv(frame: pd.DataFrame) -> bytes:
    """UTF-8 CSV: missing is an empty field, numbers keep every digit, text cannot become a formula."""
    guarded = frame.rename(columns=_guarded)
    for name in guarded.columns[guarded.dtypes == "str"]:
        guarded[name] = guarded[name].map(_guarded, na_action="ignore")
    # RFC 4180's line ends: with a bare "\n", a carriage return inside text goes unquoted and splits its row.
    return guarded.to_csv(index=False, na_rep="", lineterminator="\r\n").encode()


def from_csv(payload: bytes) -> pd.DataFrame:
    """What `to_csv` was given, all as text with missing fields missing; the caller knows the kinds.

    Raises:
        ValueError: it is no CSV, or not UTF-8.
    """
    frame = pd.read_csv(
        io.BytesIO(payload), dtype="str", keep_default_na=False, na_values=[""], skip_blank_lines=False
    )
    for name in frame.columns:
        frame[name] = frame[name].map(_bare, na_action="ignore").astype("str")  # also where all are missing
    return frame.rename(columns=_bare)


def _guarded(text: str) -> str:
    """The text as it stands in its field."""
    if "\0" in text or _NUL in text:
        text = text.replace(_NUL, _NUL * 2).replace("\0", f"{_NUL}0")
    return f"'{text}" if not text or _is_odd(text) else text


def _is_odd(text: str) -> bool:
    return text.startswith(_ODD_STARTS) or next((each for each in text if _is_seen(each)), "") in _SIGNS


def _is_seen(character: str) -> bool:
    return unicodedata.category(character) not in _UNSEEN


def _bare(text: str) -> str:
    """The text of a field: `_guarded` undone."""
    text = text.removeprefix("'")
    return re.sub(f"{_NUL}(.)", _unescaped, text) if _NUL in text else text


def _unescaped(found: re.Match[str]) -> str:
    return "\0" if found[1] == "0" else found[1]
