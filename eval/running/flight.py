"""One batch of a cell on its way from noise to latents: which rows it still needs of the denoiser, call by call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from eval.records import Cell
from eval.running.common_calls import CallKey, guided_calls
from sdkit._guidance import NEGATIVE

if TYPE_CHECKING:
    from torch import Tensor

    from sdkit._backend.noise import Noise
    from sdkit._plan import SamplerPlan


class RowKey(NamedTuple):
    """What the answer to a row depends on; rows of one key have one answer."""

    call: CallKey
    seed: int
    text: int
    own: int | None
    """The picture's prompt, which its earlier answers are of; None in a first call."""


@dataclass(frozen=True)
class Asked:
    """A batch of a cell: pictures `start`..`stop - 1`."""

    cell: Cell
    start: int
    stop: int
    texts: tuple[int, ...]
    """For each picture its prompt's row."""


class Flight:
    """A batch under way. Rows 0..n-1 of a guided call are the negative prompt's, the pictures' own come after them.

    Args:
        keys: for each of the plan's calls what it shares with those of other cells; None where nobody makes it too.
    """

    def __init__(
        self, asked: Asked, plan: SamplerPlan, noise: Noise, device: str, keys: Sequence[CallKey | None]
    ) -> None:
        self.asked, self.plan = asked, plan
        self.call = 0
        """The call that is under way."""
        self.todo: list[int] = []
        """Rows of this call to ask the denoiser for."""
        self.waiting: list[int] = []
        """Rows of a call that others make too, whose answers may be known, or be under way elsewhere."""
        self.seconds = 0.0
        """What the rows took, as shares of their calls."""
        self._noise, self._device, self._keys = noise, device, keys
        self._guided = guided_calls(asked.cell, plan)
        self._state = plan.start(noise.first().to(device))
        self._open()

    @property
    def done(self) -> bool:
        return self.call == self.plan.calls

    @property
    def latents(self) -> Tensor:
        """(N, C, h, w) float32, of the pictures when all calls are made."""
        return self._state[0]

    @property
    def timestep(self) -> float:
        return self.plan.timesteps[self.call]

    @property
    def rows(self) -> int:
        """Rows of this call."""
        return len(self._texts)

    def text(self, row: int) -> int:
        return self._texts[row]

    @property
    def is_common(self) -> bool:
        """Whether others make this call too."""
        return not self.done and self._keys[self.call] is not None

    def key(self, row: int) -> RowKey:
        """What the answer to a row of a common call depends on."""
        call, picture = self._keys[self.call], self.picture(row)
        assert call is not None
        own = self.asked.texts[picture] if self.call else None
        return RowKey(call, self._seeds[picture], self._texts[row], own)

    def picture(self, row: int) -> int:
        """Which picture of the batch a row is of."""
        return row % len(self._seeds)

    def inputs(self, pictures: Sequence[int]) -> Tensor:
        """(len(pictures), C, h, w): what the denoiser reads of these."""
        return self._input[list(pictures)]

    def fill(self, rows: Sequence[int], outputs: Tensor) -> None:
        """The denoiser's answers to some rows of this call; the last of them ends the call."""
        self._output[list(rows)] = outputs
        self._missing -= len(rows)
        if self._missing:
            return
        count, output = len(self._seeds), self._output
        if self._guided[self.call]:
            negative, own = output[:count], output[count:]
            output = negative + self.asked.cell.guidance * (own - negative)
        draws = [draw.to(self._device) for draw in self._noise.draw(self.call)]
        self._state = self.plan.advance(self.call, self._state, output, draws)
        self.call += 1
        if not self.done:
            self._open()

    def _open(self) -> None:
        """Make the next call's rows ready."""
        import torch

        texts = self.asked.texts
        self._seeds = self.asked.cell.seeds(self.asked.start, self.asked.stop)
        self._texts = (NEGATIVE,) * len(texts) + texts if self._guided[self.call] else texts
        scale = self.plan.scales[self.call]
        self._input = self._state[0] if scale == 1.0 else self._state[0] * scale
        self._output = torch.empty((len(self._texts), *self._input.shape[1:]), device=self._device)
        self._missing = len(self._texts)
        # The rows of a picture stand together, so that they come into one denoiser call.
        count = len(texts)
        every = [row for picture in range(count) for row in range(picture, self._missing, count)]
        self.todo, self.waiting = ([], every) if self.is_common else (every, [])
