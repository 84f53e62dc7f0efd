"""One batch of a cell on its way from noise to latents: which rows it still needs of the denoiser, call by call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from eval.records import Cell
from sdkit._guidance import NEGATIVE

if TYPE_CHECKING:
    from torch import Tensor

    from sdkit._backend.noise import Noise
    from sdkit._plan import SamplerPlan, StartKey


class RowKey(NamedTuple):
    """What the first denoiser call of a picture depends on; rows of one key have one answer."""

    start: StartKey
    seed: int
    text: int


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
        guided: for each of the plan's calls, whether the negative prompt takes part.
    """

    def __init__(
        self, asked: Asked, plan: SamplerPlan, noise: Noise, device: str, guided: Sequence[bool]
    ) -> None:
        self.asked, self.plan = asked, plan
        self.call = 0
        """The call that is under way."""
        self.todo: list[int] = []
        """Rows of this call to ask the denoiser for."""
        self.waiting: list[int] = []
        """Rows of the first call, whose answers may be known, or be under way elsewhere."""
        self.seconds = 0.0
        """What the rows took, as shares of their calls."""
        self._noise, self._device, self._guided = noise, device, guided
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

    def key(self, row: int) -> RowKey:
        """What the answer to a row of the first call depends on."""
        seed = self._seeds[row % len(self._seeds)]
        return RowKey(self.plan.start_key, seed, self._texts[row])

    def inputs(self, rows: Sequence[int]) -> Tensor:
        """(len(rows), C, h, w): what the denoiser reads of these rows."""
        count = len(self._input)
        return self._input[[row % count for row in rows]]

    def fill(self, rows: Sequence[int], outputs: Tensor) -> None:
        """The denoiser's answers to some rows of this call; the last of them ends the call."""
        self._output[list(rows)] = outputs
        self._missing -= len(rows)
        if self._missing:
            return
        count, output = len(self._input), self._output
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
        every = list(range(self._missing))
        self.todo, self.waiting = (every, []) if self.call else ([], every)
