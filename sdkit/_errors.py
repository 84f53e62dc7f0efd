"""Every exception that sdkit raises on purpose, each with one line that says what to do.

SdkitError
├── InvalidRequest (also ValueError)   the request cannot be met as it was written
│   ├── UnknownSampler                 no sampler of that name
│   └── NotLinear                      the sampler is no table of coefficients
├── ModelError                         the model cannot be used
│   ├── ModelNotFound                  nothing lies where it was said to lie
│   ├── ModelCorrupt                   a file of the model cannot be read
│   ├── UnsafeModel                    it would run code: a pickle, or code of its own
│   └── HubUnreachable                 a hub id, and no hub to ask
└── GenerationError                    the model ran, and gave no picture
    ├── InvalidPixels                  NaN, or all black
    ├── OutOfMemory                    the device is too small for the batch
    └── Cancelled                      `on_step` returned False

SdkitDeprecationWarning (a FutureWarning)  something will be gone in a later version; `deprecate` gives it
"""

from __future__ import annotations

import warnings


class SdkitError(Exception):
    """Base of everything that sdkit raises on purpose.

    Example:
        >>> import sdkit
        >>> try:
        ...     sdkit.generate("a red star", steps=0)
        ... except sdkit.SdkitError as error:
        ...     print(error)
        steps must be 1..1000, got 0
    """


class InvalidRequest(SdkitError, ValueError):
    """The request cannot be met as it was written; nothing was computed.

    Example:
        >>> import sdkit
        >>> sdkit.generate("a red star", guidance_scale=0)
        Traceback (most recent call last):
        sdkit._errors.InvalidRequest: guidance_scale must be 1..50 (1 is off), got 0
    """


class UnknownSampler(InvalidRequest):
    """No sampler has this name; the message holds the nearest ones.

    Example:
        >>> import sdkit
        >>> try:
        ...     sdkit.generate("a red star", sampler="hein")
        ... except sdkit.UnknownSampler as error:
        ...     print("heun" in str(error))
        True
    """


class NotLinear(InvalidRequest):
    """The sampler cannot be compiled into coefficients; the message says why. A pipeline runs it all the same.

    Example:
        >>> from sdkit import InvalidRequest, samplers
        >>> from sdkit._backend.probing import probe
        >>> plms = next(sampler for sampler in samplers() if sampler.name == "pndm")
        >>> try:
        ...     probe(plms, {"prediction_type": "sample"}, 4)
        ... except InvalidRequest as error:
        ...     print(type(error).__name__, str(error).partition(":")[0], sep=": ")
        NotLinear: pndm at 4 steps cannot be compiled into coefficients
    """


class ModelError(SdkitError):
    """The model cannot be used.

    Example:
        >>> import sdkit
        >>> issubclass(sdkit.ModelCorrupt, sdkit.ModelError), issubclass(sdkit.ModelError, ValueError)
        (True, False)
    """


class ModelNotFound(ModelError):
    """Nothing lies where the model was said to lie.

    Example:
        >>> import sdkit
        >>> sdkit.generate("a red star", model="gone.safetensors")
        Traceback (most recent call last):
        sdkit._errors.ModelNotFound: model file gone.safetensors does not exist
    """


class ModelCorrupt(ModelError):
    """A file of the model cannot be read; the message names it.

    Example:
        >>> import pathlib, sdkit, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder) / "model.safetensors"
        ...     _ = file.write_bytes(b"cut short")
        ...     try:
        ...         sdkit.generate("a red star", model=file)
        ...     except sdkit.ModelCorrupt as error:
        ...         print(file.name in str(error))
        True
    """


class UnsafeModel(ModelError):
    """Reading the model could run code that came with it; the message says what would be safe.

    Example:
        >>> import pathlib, sdkit, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder) / "model.ckpt"
        ...     file.touch()
        ...     try:
        ...         sdkit.generate("a red star", model=file)
        ...     except sdkit.UnsafeModel as error:
        ...         print("allow_pickle=True" in str(error))
        True
    """


class HubUnreachable(ModelError):
    """The model is a hub id that is not in the local cache, and the hub does not answer.

    Example:
        >>> import sdkit
        >>> try:
        ...     sdkit.generate("a red star", model="no-one/nothing-of-this-name", local_files_only=True)
        ... except sdkit.HubUnreachable as error:
        ...     print("the hub may not be asked" in str(error))
        True
    """


class GenerationError(SdkitError):
    """The model ran, and gave no picture.

    Example:
        >>> import sdkit
        >>> [kind.__name__ for kind in sdkit.GenerationError.__subclasses__()]
        ['InvalidPixels', 'OutOfMemory', 'Cancelled']
    """


class InvalidPixels(GenerationError):
    """The model gave NaN, or a wholly black picture.

    Example:
        >>> import sdkit
        >>> try:
        ...     made = sdkit.generate("a red star", steps=4, device="cpu")
        ... except sdkit.InvalidPixels:
        ...     made = sdkit.generate("a red star", steps=4, device="cpu", dtype="float32")
        >>> len(made)
        1
    """


class OutOfMemory(GenerationError):
    """The device has too little memory for the model or for the batch.

    Example:
        >>> import sdkit
        >>> try:
        ...     made = sdkit.generate("a red star", steps=4, device="cpu")
        ... except sdkit.OutOfMemory:
        ...     made = sdkit.generate("a red star", steps=4, device="cpu", memory="low")
        >>> made.batch_size
        1
    """


class Cancelled(GenerationError):
    """`on_step` returned False; the session can be used again.

    Example:
        >>> import sdkit
        >>> try:
        ...     sdkit.generate("a red star", steps=4, device="cpu", on_step=lambda step: False)
        ... except sdkit.Cancelled as error:
        ...     print(error)
        stopped by on_step after 1 of 4 steps
    """


class SdkitDeprecationWarning(FutureWarning):
    """Something public will be gone in a later version; the message says what stands in its place.

    Example:
        >>> import sdkit, warnings
        >>> session = sdkit.Session("shapes", device="cpu")
        >>> text = session.encode(["a red star"])
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     _ = session.sample(text, sampler="ddim", steps=2, guidance_scale=1, seeds=[0], on_step=print)
        1
        2
        >>> print(caught[0].message)
        sample(on_step=) will be gone in sdkit 0.2; use on_call=, which is what it is
    """


def deprecate(what: str, *, instead: str, gone_in: str) -> None:
    """Warns the caller's caller that `what` will be gone.

    A public name or argument goes in two steps: one minor version warns by this and works as before, the next has
    it no more.

    Args:
        instead: what to write in its place.
        gone_in: the version that will not have it.
    """
    message = f"{what} will be gone in sdkit {gone_in}; use {instead}"
    warnings.warn(message, SdkitDeprecationWarning, stacklevel=3)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for quoting it inside one of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
