"""CLIP's tokenizer, from the vocabulary that open_clip carries.

transformers ships no vocabulary, and a checkpoint file holds none. open_clip's is OpenAI's own: 48,894
merges, in the order in which they were learnt. Its package is located and not imported, which takes seconds.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

from sdkit._errors import ModelError

_FILE = "bpe_simple_vocab_16e6.txt.gz"
# Source: openai/CLIP, simple_tokenizer.py: the first line is a title, and the rest of the file is not used.
_MERGES = 49152 - 256 - 2
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def clip_tokenizer(settings: Path) -> Any:
    """A transformers CLIPTokenizer of 49,408 tokens.

    Args:
        settings: a tokenizer_config.json: its pad token and its longest input are taken.

    Raises:
        ModelError: open_clip is not installed.
    """
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    wanted = json.loads(settings.read_text(encoding="utf-8"))
    merges = _read_merges()
    letters = list(bytes_to_unicode().values())
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *("".join(pair) for pair in merges),
        *_SPECIAL,
    ]
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        model_max_length=wanted["model_max_length"],
    )
    # Set afterwards: given above, "!" (OpenCLIP pads with token 0, which is "!") would be cut out of prompts
    # as a special token, where the models were trained to read "!</w>".
    tokenizer.pad_token = wanted["pad_token"]
    return tokenizer


def _read_merges() -> list[tuple[str, str]]:
    spec = importlib.util.find_spec("open_clip")
    file = Path(spec.origin).parent / _FILE if spec is not None and spec.origin is not None else None
    if file is None or not file.is_file():
        raise ModelError(
            "a single file needs CLIP's vocabulary, which comes with open_clip_torch; pip install"
            " open_clip_torch, or pass config=, a diffusers folder with a tokenizer"
        )
    lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")[1 : _MERGES + 1]
    return [(left, right) for left, right in (line.split() for line in lines)]
