"""Textual inversions: words of a loaded pipeline's own making.

diffusers' `load_textual_inversion` is not used. It draws from the global generator; of a name with capital
letters it reads the first vector only; and a name that begins another's spoils that other's prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdkit._backend.lora_keys import split_key
from sdkit._backend.tensor_files import TensorFile, read_tensors
from sdkit._errors import InvalidRequest, ModelError

_CLIP = "clip_text_model"
_SLOTS = (("clip_l", "text_encoder", "tokenizer"), ("clip_g", "text_encoder_2", "tokenizer_2"))
_BARE_KEYS = ("emb_params", "string_to_param.*", "string_to_param", "*")
"""Where A1111 and its relatives keep the vectors; the token is then the file's name."""
_WORD_END = "</w>"
_OLD_EOS = 2
"""What the settings of CLIP's first ports say, for which the end is taken to be the highest id."""


@dataclass(frozen=True)
class _Slot:
    """A text encoder and its tokenizer."""

    key: str
    """What files for several encoders call it: "clip_l" or "clip_g"."""
    encoder: Any
    tokenizer: Any

    @property
    def width(self) -> int:
        return int(self.encoder.get_input_embeddings().weight.shape[1])


@dataclass(frozen=True)
class _Word:
    """A token to be added, and its vectors for each slot: (vectors, width)."""

    token: str
    vectors: tuple[Tensor, ...]

    @property
    def tokens(self) -> tuple[str, ...]:
        """One a vector: the token, token_1, token_2 ..., as diffusers names them."""
        return (self.token, *(f"{self.token}_{i}" for i in range(1, len(self.vectors[0]))))


def load_embeddings(
    pipeline: Any, embeddings: Sequence[tuple[str, Path]], *, allow_pickle: bool = False
) -> tuple[str, ...]:
    """Warnings, one sentence each. Each token then stands for its file's vectors in every prompt.

    Args:
        embeddings: (token, file) pairs; token "" is the one in the file, or else the file's name.
            Upper and lower case are one, as everywhere in CLIP's prompts.
        allow_pickle: also read pickles, by torch's restricted reader.

    Raises:
        InvalidRequest: a token that the tokenizer already has, or that is blank.
        ModelError: a file for another family of models; the pipeline is as it was.
        ModelNotFound: no such file.
        ModelCorrupt: a file that cannot be read.
        UnsafeModel: a pickle, without `allow_pickle`.
    """
    if not embeddings:
        return ()
    slots = _slots(pipeline)
    words: list[_Word] = []
    taken = {token.lower().removesuffix(_WORD_END) for slot in slots for token in slot.tokenizer.get_vocab()}
    for token, path in embeddings:
        word = _read_word(token, path, slots, allow_pickle=allow_pickle)
        known = next((one for one in word.tokens if one.lower() in taken), None)
        if known is not None:
            raise InvalidRequest(f"token of embedding {path.name} must be new, got {known!r}; give another")
        taken |= {one.lower() for one in word.tokens}
        words.append(word)
    for index, slot in enumerate(slots):
        _add(
            slot, [one for word in words for one in word.tokens], torch.cat([w.vectors[index] for w in words])
        )
    pipeline.maybe_convert_prompt = _spell_out
    return tuple(_deaf_encoders(pipeline))


def _slots(pipeline: Any) -> tuple[_Slot, ...]:
    """The CLIP encoders that a prompt goes to."""
    if not hasattr(pipeline, "maybe_convert_prompt"):
        raise ModelError(f"embeddings must be for a pipeline that takes them, got {type(pipeline).__name__}")
    found = []
    for key, part, reader in _SLOTS:
        encoder, tokenizer = getattr(pipeline, part, None), getattr(pipeline, reader, None)
        if encoder is not None and encoder.config.model_type == _CLIP:
            found.append(_Slot(key, encoder, tokenizer))
    if not found:
        raise ModelError("embeddings must be for a model with a CLIP text encoder, and this one has none")
    return tuple(found)


def _read_word(token: str, path: Path, slots: Sequence[_Slot], *, allow_pickle: bool) -> _Word:
    name = f"embedding {path.name}"
    own, tensors = _vectors(read_tensors(path, name, allow_pickle=allow_pickle), slots)
    chosen = (token or own or path.stem).strip()
    if not chosen:
        raise InvalidRequest(f"token of {name} must not be blank, got {token or own!r}")
    wanted = " and ".join(f"{slot.key} {slot.width} wide" for slot in slots)
    if set(tensors) != {slot.key for slot in slots}:
        raise ModelError(
            f"{name} does not fit this model: it is for {' and '.join(tensors)}, not for {wanted}"
        )
    rows = tuple(_as_rows(tensors[slot.key]) for slot in slots)
    got = " and ".join(f"{slot.key} {row.shape[-1]} wide" for slot, row in zip(slots, rows, strict=True))
    if got != wanted:
        raise ModelError(f"{name} does not fit this model: it is for {got}, not for {wanted}")
    if any(row.ndim != 2 or len(row) != len(rows[0]) or not len(row) for row in rows):
        shapes = ", ".join(str(tuple(row.shape)) for row in rows)
        raise ModelError(f"{name} must hold (vectors, width), as many for each encoder, got {shapes}")
    return _Word(chosen, rows)


def _vectors(file: TensorFile, slots: Sequence[_Slot]) -> tuple[str | None, dict[str, Tensor]]:
    """The token that the file names, and its vectors by slot; those of one encoder are the first slot's."""
    both = {key: file.tensors[key] for key, _, _ in _SLOTS if key in file.tensors}
    if both:
        return None, both
    for key in _BARE_KEYS:
        if key in file.tensors:
            return file.notes.get("name"), {slots[0].key: file.tensors[key]}
    if len(file.tensors) == 1:
        ((token, vectors),) = file.tensors.items()
        return token, {slots[0].key: vectors}
    if any(map(split_key, file.tensors)):
        raise ModelError(f"{file.name} must be a textual inversion, got a LoRA; give it as one")
    raise ModelError(
        f"{file.name} must be a textual inversion, got {len(file.tensors)} tensors of other names"
    )


def _as_rows(vectors: Tensor) -> Tensor:
    return vectors[None] if vectors.ndim == 1 else vectors


def _add(slot: _Slot, tokens: Sequence[str], vectors: Tensor) -> None:
    """The tokens in the tokenizer, and their rows below the encoder's own."""
    from transformers import AddedToken

    # As whole words only: a token "cat" is not a part of "category".
    slot.tokenizer.add_tokens([AddedToken(token, single_word=True) for token in tokens])
    ids = slot.tokenizer.convert_tokens_to_ids(list(tokens))
    table = slot.encoder.get_input_embeddings()
    old = table.weight
    rows = max(len(old), max(ids) + 1)
    weight = old.new_zeros(rows, old.shape[1])
    weight[: len(old)] = old.detach()
    weight[ids] = vectors.to(old.device, old.dtype)
    table.weight = nn.Parameter(weight, requires_grad=old.requires_grad)
    table.num_embeddings = slot.encoder.config.vocab_size = rows
    _find_end_by_id(slot)


def _find_end_by_id(slot: _Slot) -> None:
    """The end of a prompt is where its token stands, and no longer where the highest id does."""
    level = getattr(slot.encoder, "text_model", slot.encoder)
    if level.eos_token_id == _OLD_EOS:
        level.eos_token_id = slot.encoder.config.eos_token_id = slot.tokenizer.eos_token_id


def _spell_out(prompt: str | list[str], tokenizer: Any) -> str | list[str]:
    """The prompts with a token of several vectors as `token token_1 ...`, by the tokenizer's own matching."""
    if isinstance(prompt, list):
        return [_spell_out_one(one, tokenizer) for one in prompt]
    return _spell_out_one(prompt, tokenizer)


def _spell_out_one(prompt: str, tokenizer: Any) -> str:
    added = {token.lower(): token for token in tokenizer.added_tokens_encoder}
    words = "|".join(re.escape(token) for token in sorted(added, key=len, reverse=True))

    def spelled(match: re.Match[str]) -> str:
        first = match[0].lower()
        rest: list[str] = []
        while (following := f"{first}_{len(rest) + 1}") in added:
            rest.append(following)
        return " ".join([match[0], *rest])

    return re.sub(rf"(?<!\w)(?:{words})(?!\w)", spelled, prompt, flags=re.IGNORECASE)


def _deaf_encoders(pipeline: Any) -> Iterator[str]:
    for part in ("text_encoder_2", "text_encoder_3"):
        encoder = getattr(pipeline, part, None)
        if encoder is not None and encoder.config.model_type != _CLIP:
            kind = type(encoder).__name__
            yield f"embeddings mean nothing to {part}, a {kind}, which reads their tokens as plain text"
