"""What rows of a denoiser call have in common, for the parts of a network that can make use of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """U inputs of B rows."""

    first: Tensor
    """(U,) a row of each input."""
    of: Tensor
    """(B,) the input of each row."""


class Texts(NamedTuple):
    """Prompts of B rows, out of a table."""

    table: Tensor
    """(P, tokens, width), the same tensor in every call over these prompts."""
    picked: Tensor
    """(B,) the prompt of each row."""
    given: Tensor
    """(B, tokens, width): what the network is given of them."""


class CommonRows(NamedTuple):
    """What is known of the rows of a call; None where nothing is."""

    inputs: Inputs | None = None
    texts: Texts | None = None


_NOTHING = CommonRows()
_ROWS: ContextVar[CommonRows] = ContextVar("rows", default=_NOTHING)


def common_rows() -> CommonRows:
    """Of the calling thread's denoiser call."""
    return _ROWS.get()


@contextlib.contextmanager
def reading(inputs: Sequence[int], texts: Texts | None = None) -> Iterator[None]:
    """Within it the calling thread's batches have rows whose latents and timesteps are those of `inputs`.

    Args:
        inputs: for each of the B rows the number of its latents, 0..U-1, all of them used.
    """
    first = {number: row for row, number in reversed(list(enumerate(inputs)))}
    shared = None
    if len(first) < len(inputs):
        shared = Inputs(
            torch.tensor([first[number] for number in range(len(first))]), torch.tensor(list(inputs))
        )
    token = _ROWS.set(CommonRows(shared, texts))
    try:
        yield
    finally:
        _ROWS.reset(token)
