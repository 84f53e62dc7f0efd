"""Prompts as a denoiser reads them, and where a prompt was cut."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

_ENCODE_ROWS = 32
# What `encode_prompt` returns, by how much it returns; told apart further by the call's own arguments.
_PLAIN = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_PLAIN, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_UNGUIDED = ("prompt_embeds", "pooled_prompt_embeds")


@dataclass(frozen=True)
class TextEmbeddings:
    """Prompts as the denoiser reads them, on the CPU: one row a prompt, one row for the negative prompt.

    Where a pipeline has no embeddings to hand out, `tensors` is empty and it reads the prompts itself.

    Example:
        >>> from sdkit import Session
        >>> text = Session("shapes", device="cpu").encode(["a red star", "a blue ring"])
        >>> len(text), len(text.rows(1, 2)), text.cut_at
        (2, 1, (None, None))
    """

    prompts: tuple[str, ...]
    negative_prompt: str
    cut_at: tuple[int | None, ...]
    """For each row: the character from which the prompt was not read; None where all of it was."""
    tensors: dict[str, Tensor] = field(default_factory=dict, repr=False)
    """By the name of the call's argument: (N, tokens, width), pooled ones (N, width); negative ones (1, ...)."""

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def truncated(self) -> tuple[int, ...]:
        """Rows whose prompt was longer than the context and was cut."""
        return tuple(row for row, at in enumerate(self.cut_at) if at is not None)

    def rows(self, start: int, stop: int) -> TextEmbeddings:
        """The rows `start`..`stop - 1`, with the same negative prompt."""
        return self.take(range(*slice(start, stop).indices(len(self))))

    def take(self, indices: Sequence[int]) -> TextEmbeddings:
        """The rows of these indices, in this order; an index may come several times."""
        chosen = list(indices)
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in chosen),
            cut_at=tuple(self.cut_at[i] for i in chosen),
            tensors={
                name: rows if name.startswith("negative") else rows[chosen]
                for name, rows in self.tensors.items()
            },
        )


def encode(
    pipeline: Any, takes: frozenset[str], prompts: Sequence[str], negative_prompt: str, device: torch.device
) -> dict[str, Tensor]:
    """Embeddings by the name of the call's argument; empty where the pipeline must read the prompts itself.

    Args:
        takes: names of the arguments of the pipeline's call.
    """
    names = _names(pipeline, takes)
    if not names or (negative_prompt and "negative_prompt" in takes and not _negatives(names)):
        return {}
    chunks = [
        _encode(pipeline, list(prompts[i : i + _ENCODE_ROWS]), None, names, device)
        for i in range(0, len(prompts), _ENCODE_ROWS)
    ]
    found = {
        name: torch.cat([chunk[name] for chunk in chunks]) for name in names if name not in _negatives(names)
    }
    if _negatives(names):
        # The negative prompt's one row comes only beside a prompt. None, not "": SDXL then takes zeros
        # where its own settings say so.
        guided = _encode(pipeline, [prompts[0]], negative_prompt or None, names, device, guided=True)
        found |= {name: guided[name] for name in _negatives(names)}
    return {name: rows.cpu() for name, rows in found.items()}


def as_arguments(
    text: TextEmbeddings, takes: frozenset[str], *, guided: bool, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """The arguments of a pipeline's call that carry the text."""
    if not text.tensors:
        found: dict[str, Any] = {"prompt": list(text.prompts)}
        if text.negative_prompt and "negative_prompt" in takes:
            found["negative_prompt"] = [text.negative_prompt] * len(text)
        return found
    given = {}
    for name, rows in text.tensors.items():
        if guided or not name.startswith("negative"):
            given[name] = rows.expand(len(text), *rows.shape[1:]).to(device, dtype)
    return given


def cut_points(pipeline: Any, prompts: Sequence[str], limits: dict[str, int]) -> tuple[int | None, ...]:
    """For each prompt the character from which no text encoder read on; None where one read all of it.

    Args:
        limits: tokens that an encoder reads, by its tokenizer's name; left out: what the tokenizer says.
    """
    found: list[list[int | None]] = []
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4"):
        tokenizer = getattr(pipeline, name, None)
        if tokenizer is not None and getattr(tokenizer, "is_fast", False):
            limit = min(int(tokenizer.model_max_length), limits.get(name, 2**31))
            found.append([_cut(pipeline, tokenizer, prompt, limit) for prompt in prompts])
    return tuple(
        None if not cuts or None in cuts else max(cut for cut in cuts if cut is not None)
        for cuts in zip(*found, strict=True)
    ) or (None,) * len(prompts)


def _cut(pipeline: Any, tokenizer: Any, prompt: str, limit: int) -> int | None:
    # A textual inversion of several vectors takes as many tokens; where it stands, only the order of words is known.
    convert = getattr(pipeline, "maybe_convert_prompt", None)
    read = prompt if convert is None else convert(prompt, tokenizer)
    if read != prompt:
        longer = len(tokenizer(read, verbose=False)["input_ids"]) - len(
            tokenizer(prompt, verbose=False)["input_ids"]
        )
        limit -= longer
    encoded = tokenizer(prompt, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    if len(encoded["input_ids"]) <= limit:
        return None
    words = [
        span
        for span, special in zip(encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
        if not special
    ]
    specials = len(encoded["input_ids"]) - len(words)
    return int(words[max(limit - specials, 0)][0])


def _names(pipeline: Any, takes: frozenset[str]) -> tuple[str, ...]:
    encode_prompt = getattr(pipeline, "encode_prompt", None)
    if encode_prompt is None or "prompt_embeds" not in takes:
        return ()
    reads = inspect.signature(encode_prompt).parameters
    if "prompt_attention_mask" in reads:
        return ()  # masks go with these embeddings; the pipeline keeps the two together
    guided = "do_classifier_free_guidance" in reads
    pooled = "pooled_prompt_embeds" in takes
    if not guided:
        return _UNGUIDED if pooled else ()
    names = _POOLED if pooled else _PLAIN
    return tuple(name for name in names if name in takes)


def _negatives(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.startswith("negative")]


def _encode(
    pipeline: Any,
    prompts: list[str],
    negative_prompt: str | None,
    names: Sequence[str],
    device: torch.device,
    *,
    guided: bool = False,
) -> dict[str, Tensor]:
    reads = inspect.signature(pipeline.encode_prompt).parameters
    wanted = {
        "prompt": prompts,
        "prompt_2": None,
        "prompt_3": None,
        "device": device,
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": guided,
        "negative_prompt": None if negative_prompt is None else [negative_prompt],
    }
    returned = pipeline.encode_prompt(**{name: value for name, value in wanted.items() if name in reads})
    order = _POOLED if len(returned) == 4 else _PLAIN if "do_classifier_free_guidance" in reads else _UNGUIDED
    by_name = dict(zip(order, returned, strict=False))
    return {name: by_name[name] for name in names if by_name.get(name) is not None}
