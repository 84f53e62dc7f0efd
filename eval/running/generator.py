"""What the harness needs of whatever makes pictures; `sdkit.Session` is one, and a test's fake is another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor


class Text(Protocol):
    """Encoded prompts, in order."""

    @property
    def truncated(self) -> tuple[int, ...]:
        """Indices of the prompts that the encoder cut."""
        ...

    def take(self, indices: Sequence[int]) -> Text:
        """The rows of these indices, in this order; an index may come several times."""
        ...

    def __len__(self) -> int: ...


class Batch(Protocol):
    """Pictures that were made together, and what they took."""

    @property
    def images(self) -> Tensor:
        """(N, 3, H, W) uint8, on the CPU."""
        ...

    @property
    def latents(self) -> Tensor | None:
        """(N, C, h, w) float32, on the CPU; None where only the pipeline can decode."""
        ...

    @property
    def denoise_s(self) -> float: ...
    @property
    def decode_s(self) -> float: ...


TextT = TypeVar("TextT", bound=Text)


class Generator(Protocol[TextT]):
    """One model on one device."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def default_size(self) -> tuple[int, int]:
        """Width, height."""
        ...

    @property
    def device(self) -> str: ...
    @property
    def device_name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    def model_evals(self, sampler: str, steps: int) -> int: ...
    def encode(self, prompts: Sequence[str], *, negative_prompt: str = "") -> TextT: ...
    def sample(
        self,
        text: TextT,
        *,
        sampler: str,
        steps: int,
        guidance_scale: float,
        seeds: Sequence[int],
        width: int | None = None,
        height: int | None = None,
        on_call: Callable[[int], None] | None = None,
        guidance_interval: tuple[float, float] | None = None,
    ) -> Batch: ...
