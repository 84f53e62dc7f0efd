"""The batch is found by trying, halved when memory runs out, and never part of a result."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.batching import MOST, Batching
from sdkit import InvalidRequest, OutOfMemory


class Device:
    """An encoder of means that remembers its batches, with a memory and a speed of its own."""

    def __init__(self, fits: int = 10**9, error: Exception | None = None) -> None:
        self.fits, self.seen = fits, list[int]()
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")

    def encode(self, pixels: torch.Tensor) -> np.ndarray:
        if len(pixels) > self.fits:
            raise self.error
        self.seen.append(len(pixels))
        return pixels.float().mean(dim=(2, 3)).numpy()


def _pictures(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 4, 4), generator=torch.Generator().manual_seed(n)).to(torch.uint8)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 300), fixed=st.one_of(st.none(), st.integers(1, 64)), fits=st.integers(1, 40))
def test_every_picture_comes_once_in_order_whatever_the_batch(n: int, fixed: int | None, fits: int) -> None:
    device, pictures = Device(fits), _pictures(n)
    found = Batching(fixed).run(device.encode, pictures)
    np.testing.assert_array_equal(found, pictures.float().mean(dim=(2, 3)).numpy())
    assert sum(device.seen) == n
    assert max(device.seen) <= min(fits, fixed or MOST)


def test_the_batch_follows_no_clock_so_that_two_runs_are_the_same_to_the_byte() -> None:
    device, batching = Device(), Batching()
    for _ in range(3):
        batching.run(device.encode, _pictures(3 * MOST))
    assert device.seen == [MOST] * 9


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_batch_and_is_remembered(error: Exception) -> None:
    device = Device(5, error)
    batches = Batching(32)
    batches.run(device.encode, _pictures(12))
    assert device.seen == [4, 4, 4]
    batches.run(device.encode, _pictures(8))
    assert device.seen[3:] == [4, 4]


def test_one_picture_that_does_not_fit_is_an_error_of_its_own() -> None:
    with pytest.raises(OutOfMemory, match="with one picture"):
        Batching(4).run(Device(0).encode, _pictures(3))


def test_another_error_is_nobodys_memory() -> None:
    device = Device(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        Batching(4).run(device.encode, _pictures(3))


def test_what_is_no_picture_is_refused_before_anything_runs() -> None:
    device = Device()
    with pytest.raises(InvalidRequest, match="must be uint8"):
        Batching().run(device.encode, _pictures(2).float())
    assert device.seen == []
