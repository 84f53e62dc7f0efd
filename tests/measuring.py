"""A generator on a clock of its own, and a GPU's driver that says what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from eval.records import Cell
from eval.running.nvml import Reading

CELL = Cell("f" * 16, "heun", 4, 3.0, "d" * 64, 3, 5, 8, 8, "float32", "cpu")
PROMPTS = ("a", "b", "c")


@dataclass
class Clock:
    """Stands still but for what the generator takes; put in the place of the module `time`."""

    now_s: float = 0.0

    def perf_counter(self) -> float:
        return self.now_s


@dataclass
class Fake:
    """Makes nothing, and takes as long as it is told."""

    clock: Clock
    seconds: Callable[[int, int], float] = lambda call, count: 0.5 * count
    """Of denoising, by the number of the call and of the pictures."""
    text_s: float = 0.125
    decode_s: float = 0.25
    rest_s: float = 0.0625
    error: Callable[[int], BaseException | None] = lambda count: None
    device: str = "cpu"
    device_name: str = "a CPU"
    work: Callable[[int], Any] = lambda count: None
    made: list[tuple[tuple[str, ...], tuple[int, ...]]] = field(default_factory=list)

    def model_evals(self, sampler: str, steps: int) -> int:
        return 2 * steps - 1

    def encode(self, prompts: Sequence[str], *, negative_prompt: str = "") -> tuple[str, ...]:
        self.clock.now_s += self.text_s
        return tuple(prompts)

    def sample(self, text: tuple[str, ...], *, seeds: Sequence[int], **_: object) -> Any:
        if error := self.error(len(text)):
            raise error
        self.made.append((text, tuple(seeds)))
        self.work(len(text))
        denoise_s = self.seconds(len(self.made), len(text))
        self.clock.now_s += denoise_s + self.decode_s + self.rest_s
        return SimpleNamespace(denoise_s=denoise_s, decode_s=self.decode_s)


@dataclass
class FakeDriver:
    """Tells a list of readings, the last one again and again."""

    readings: list[Reading]
    looks: int = 0

    def read(self) -> Reading:
        self.looks += 1
        return self.readings[min(self.looks, len(self.readings)) - 1]

    def close(self) -> None:
        raise AssertionError("whoever opened it closes it")
