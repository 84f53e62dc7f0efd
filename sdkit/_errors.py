"""Every exception that sdkit raises on purpose, each with one line that says what to do.

SdkitError
├── InvalidRequest (also ValueError)   the request cannot be met as it was written
│   └── UnknownSampler                 no sampler of that name
├── ModelError                         the model cannot be used
│   ├── ModelNotFound                  nothing lies where it was said to lie
│   ├── ModelCorrupt                   a file of the model cannot be read
│   └── HubUnreachable                 a hub id, and no hub to ask
└── GenerationError                    the model ran, and gave no picture
    ├── InvalidPixels                  NaN, or all black
    └── OutOfMemory                    the device is too small for the batch
"""

from __future__ import annotations


class SdkitError(Exception):
    """Base of everything that sdkit raises on purpose."""


class InvalidRequest(SdkitError, ValueError):
    """The request cannot be met as it was written; nothing was computed."""


class UnknownSampler(InvalidRequest):
    """No sampler has this name; the message holds the nearest ones."""


class ModelError(SdkitError):
    """The model cannot be used."""


class ModelNotFound(ModelError):
    """Nothing lies where the model was said to lie."""


class ModelCorrupt(ModelError):
    """A file of the model cannot be read; the message names it."""


class HubUnreachable(ModelError):
    """The model is a hub id that is not in the local cache, and the hub does not answer."""


class GenerationError(SdkitError):
    """The model ran, and gave no picture."""


class InvalidPixels(GenerationError):
    """The model gave NaN, or a wholly black picture."""


class OutOfMemory(GenerationError):
    """The device has too little memory for the model or for the batch."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for quoting it inside one of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
