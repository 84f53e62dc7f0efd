"""Moments on disk, as pytorch-fid, clean-fid, torch-fidelity and this harness write them; pickle is never run."""

from __future__ import annotations

import os
import pickle
import uuid
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eval.scoring.moments import Array, Moments
from sdkit._errors import InvalidRequest, first_line

Style = Literal["pytorch-fid", "sdkit"]
SUFFIXES = (".npz", ".pt")
_READABLE = "float32 or float64"


def read_moments(path: Path) -> Moments:
    """The moments in a file; `n` is None where it does not say of how many pictures, as only ours does.

    Args:
        path: .npz with `mu` (D,) and `sigma` (D, D) as pytorch-fid and clean-fid write them, with `n` as
            `write_moments(style="sdkit")` does, or a .pt of torch-fidelity's cache.

    Raises:
        InvalidRequest: missing, damaged, other contents, or a matrix that is no covariance.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidRequest(f"moments file must end in {' or '.join(SUFFIXES)}, got {path}")
    try:
        arrays = _read_npz(path) if path.suffix.lower() == ".npz" else _read_pt(path)
    except FileNotFoundError as error:
        raise InvalidRequest(f"moments file {path} does not exist") from error
    except (
        OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise InvalidRequest(f"moments file {path} cannot be read: {_reason(error)}") from error
    if not {"mu", "sigma"} <= arrays.keys():
        held = ", ".join(sorted(arrays)) or "nothing"
        raise InvalidRequest(f"moments file {path} must hold mu and sigma, got {held}")
    mean, covariance = (_floats(path, name, arrays[name]) for name in ("mu", "sigma"))
    _check_shapes(path, mean, covariance)
    coarse = max(np.finfo(arrays[name].dtype).eps for name in ("mu", "sigma"))
    _check_covariance(path, covariance, float(coarse))
    return Moments(_count(path, arrays.get("n")), mean, covariance)


def write_moments(path: Path, moments: Moments, *, style: Style) -> None:
    """Write an .npz, whole or not at all: `mu` and `sigma` in float64, and for "sdkit" `n` too where it is known.

    Both styles are read by pytorch-fid and clean-fid, which look at `mu` and `sigma` only.

    Raises:
        InvalidRequest: another suffix or style, or the system refuses.
    """
    if path.suffix != ".npz":
        raise InvalidRequest(f"moments file must end in .npz, got {path}")
    if style not in ("pytorch-fid", "sdkit"):
        raise InvalidRequest(f"style of a moments file must be pytorch-fid or sdkit, got {style!r}")
    arrays = {"mu": np.asarray(moments.mean, np.float64), "sigma": np.asarray(moments.covariance, np.float64)}
    if style == "sdkit" and moments.n is not None:
        arrays["n"] = np.array(moments.n, np.int64)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InvalidRequest(f"moments file {path} cannot be written: {error.strerror or error}") from error


def _read_npz(path: Path) -> dict[str, Array]:
    with path.open("rb") as file:
        opened = np.load(file, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise ValueError("one array, not an archive of arrays")
        return {name: opened[name] for name in opened.files if name in ("mu", "sigma", "n")} or {
            name: np.empty(0) for name in opened.files
        }


def _read_pt(path: Path) -> dict[str, Array]:
    """torch-fidelity keeps numpy arrays: their classes are let through by name, and nothing else is."""
    import torch
    from numpy._core import multiarray

    rebuild: Any = multiarray._reconstruct  # not in numpy's stub
    allowed: list[Any] = [
        (rebuild, "numpy._core.multiarray._reconstruct"),
        (rebuild, "numpy.core.multiarray._reconstruct"),  # as numpy 1 named it
        np.ndarray,
        np.dtype,
        np.dtypes.Float32DType,
        np.dtypes.Float64DType,
    ]
    with torch.serialization.safe_globals(allowed):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise ValueError(f"a {type(loaded).__name__}, not a dictionary")
    return {str(name): np.asarray(value) for name, value in loaded.items()}


def _floats(path: Path, name: str, array: Array) -> Array:
    if array.dtype not in (np.float32, np.float64):
        raise InvalidRequest(f"{name} in {path} must be {_READABLE}, got {array.dtype}")
    if not np.isfinite(array).all():
        raise InvalidRequest(f"{name} in {path} must be finite, got NaN or infinity")
    return array.astype(np.float64)


def _check_shapes(path: Path, mean: Array, covariance: Array) -> None:
    if mean.ndim != 1 or len(mean) == 0 or covariance.shape != (len(mean), len(mean)):
        raise InvalidRequest(
            f"mu and sigma in {path} must be (D,) and (D, D), got {mean.shape} and {covariance.shape}"
        )


def _check_covariance(path: Path, covariance: Array, eps: float) -> None:
    """Symmetric and not negative, to the rounding of a sum of D products in the file's own precision."""
    slack = len(covariance) * eps * float(np.linalg.norm(covariance))
    if float(np.abs(covariance - covariance.T).max()) > slack:
        raise InvalidRequest(f"sigma in {path} must be symmetric, and is not; it is no covariance")
    try:  # exists exactly for a positive matrix; much cheaper than its eigenvalues
        np.linalg.cholesky(covariance + (slack or 1.0) * np.eye(len(covariance)))
    except np.linalg.LinAlgError as error:
        raise InvalidRequest(
            f"sigma in {path} must not be negative, and has a negative eigenvalue; it is no covariance"
        ) from error


def _count(path: Path, n: Array | None) -> int | None:
    if n is None:
        return None
    if n.shape != () or n.dtype.kind not in "iu" or int(n) < 2:
        raise InvalidRequest(f"n in {path} must be a whole number from 2, got {n!r}")
    return int(n)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, pickle.UnpicklingError) or "pickle" in str(error):
        return "it is not arrays alone, and loading the rest could run code"
    return first_line(error)
