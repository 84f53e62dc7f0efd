"""The tokenizer of `shapes`: byte-pair encoding whose merges make every word of the world one token."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from sdkit.shapes import world

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

CONTEXT = 16
"""Tokens; the longest caption takes fourteen with its start and end."""


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer in the standard class; any other text falls into byte tokens, never to unknown."""
    from transformers import CLIPTokenizer

    merges = _merges(world.vocabulary())
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges)]
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Pairs in the order they are merged, the commonest first, until each word is whole."""
    spelled = {word: [*word[:-1], f"{word[-1]}</w>"] for word in words}
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for parts in spelled.values() for pair in pairwise(parts)):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        spelled = {word: _joined(parts, best) for word, parts in spelled.items()}
    return merges


def _joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _byte_letters() -> list[str]:
    """The 256 printable stand-ins for bytes that byte-level tokenizers use, in byte order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    shifted = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(shifted)) for byte in range(256)]
