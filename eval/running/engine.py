"""Many cells' pictures in one stream of denoiser calls, each as full as the next, whoever its rows belong to.

    asked batches --> flights --rows--> one call of B rows --answers--> flights --> latents --> pixels

A flight is a batch of a cell, moved on by its sampler's plan (`sdkit._plan`). A call takes the rows of the first
flight that has some to give, and what room is left goes to the next ones. What other cells have asked is not asked
again. All this is the plain path to rounding: the same noise, the same network, the same coefficients.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eval.records import Cell
from eval.running.common_calls import CommonCalls
from eval.running.first_calls import FirstCalls
from eval.running.flight import Asked, Flight
from sdkit._errors import NotLinear, OutOfMemory

if TYPE_CHECKING:
    from torch import Tensor

    from sdkit._plan import SamplerPlan

OnCall = Callable[[int], object]
Taken = list[tuple[Flight, list[int]]]
"""The rows of one denoiser call, by flight."""


@dataclass(frozen=True)
class Flown:
    """A batch's pictures; `eval.running.generator.Batch` is what it looks like."""

    images: Tensor
    latents: Tensor
    denoise_s: float
    decode_s: float


@dataclass
class Engine:
    """One model at one size, over the whole sweep's prompts.

    Args:
        generator: a `sdkit.Session`, or whatever has its `plan`, `denoiser` and `decode`.
    """

    generator: Any
    denoiser: Any
    rows: int
    """Rows B of a denoiser call; halved when memory runs out, for the rest of the run."""
    common: CommonCalls | None = field(default_factory=CommonCalls)
    """Which calls are kept for other cells; None keeps none."""
    one_shape: bool = False
    """Whether every call has exactly `rows` rows, as a compiled network wants it."""
    notes: list[str] = field(default_factory=list)
    """What went wrong on the way and was mended; whoever reads them empties the list."""
    first_calls: FirstCalls = field(default_factory=FirstCalls)
    _flights: dict[Asked, Flight] = field(default_factory=dict, init=False)
    _plans: dict[tuple[str, int], SamplerPlan] = field(default_factory=dict, init=False)

    def twin(self) -> Engine:
        """Another engine over the same model, for another thread: it knows the same answers."""
        first_calls = FirstCalls(self.first_calls.answers)
        return Engine(
            self.generator, self.denoiser, self.rows, self.common, self.one_shape, first_calls=first_calls
        )

    def plan(self, cell: Cell) -> SamplerPlan:
        """The cell's sampler as coefficients. Raises NotLinear where only its pipeline can run it."""
        key = (cell.sampler, cell.steps)
        if key not in self._plans:
            self._plans[key] = self.generator.plan(*key)
        return self._plans[key]

    def expect(self, cells: Iterable[Cell]) -> None:
        """Tell which cells will be made, so that what several of them ask is asked once."""
        if self.common is None:
            return
        for cell in cells:
            with contextlib.suppress(NotLinear):
                self.common.expect(cell, self.plan(cell))

    @property
    def flying(self) -> tuple[Asked, ...]:
        """Batches that were begun and are not yet asked for."""
        return tuple(self._flights)

    def make(self, asked: Asked, upcoming: Sequence[Asked] = (), on_call: OnCall | None = None) -> Flown:
        """The batch's pictures; rows that its calls leave room for go to batches that will be asked for next.

        Args:
            on_call: called after every whole denoiser call of the batch with the number made so far.
        Raises:
            OutOfMemory: one row alone does not fit.
            NotLinear: the cell's sampler is no table of coefficients.
        """
        flight, told = self._flight(asked), 0
        self._keep_only({asked, *upcoming})
        try:
            while not flight.done:
                self._call([asked, *upcoming])
                if on_call is not None and flight.call > told:
                    told = flight.call
                    on_call(told)
        except BaseException:
            self._keep_only(set())
            raise
        del self._flights[asked]
        begun = time.perf_counter()
        images = self.generator.decode(flight.latents)
        return Flown(images, flight.latents.cpu(), flight.seconds, time.perf_counter() - begun)

    def _flight(self, asked: Asked) -> Flight:
        if asked not in self._flights:
            cell, plan = asked.cell, self.plan(asked.cell)
            noise = self.denoiser.noise(cell.seeds(asked.start, asked.stop), plan)
            keys = (None,) * plan.calls if self.common is None else self.common.keys(cell, plan)
            self._flights[asked] = Flight(asked, plan, noise, self.generator.device, keys)
        return self._flights[asked]

    def _keep_only(self, wanted: set[Asked]) -> None:
        """Give up batches that nobody will ask for, and with them what others wait for."""
        for asked in self._flights.keys() - wanted:
            flight = self._flights.pop(asked)
            if flight.is_common:
                self.first_calls.release(map(flight.key, flight.todo))

    def _call(self, asked: Sequence[Asked]) -> None:
        """One denoiser call; where memory runs out, nothing is done but that the next one is half as large."""
        begun = time.perf_counter()
        taken = self._take(asked)
        if not taken:  # all that the first batch needs was known
            assert self._flights[asked[0]].done, "every batch waits for another"
            return
        rows = sum(len(several) for _, several in taken)
        try:
            answers = self._predicted(taken, rows)
        except OutOfMemory:
            if rows == 1:
                raise
            self.rows = rows // 2
            self.notes.append(f"out of memory with {rows} rows at once; {self.rows} from here on")
            return
        self._answered(taken, answers)
        spent = time.perf_counter() - begun
        for flight, several in taken:
            flight.seconds += spent * len(several) / rows

    def _predicted(self, taken: Taken, rows: int) -> Tensor:
        """What the denoiser says of the rows, (rows, C, h, w), and of the last one again where it must have `rows`."""
        import torch

        pictures: list[Tensor] = []
        inputs: list[int] = []
        timesteps: list[float] = []
        for flight, several in taken:
            own = list(dict.fromkeys(map(flight.picture, several)))
            place = {picture: len(timesteps) + number for number, picture in enumerate(own)}
            inputs += [place[flight.picture(row)] for row in several]
            timesteps += [flight.timestep] * len(own)
            pictures.append(flight.inputs(own))
        texts = [flight.text(row) for flight, several in taken for row in several]
        short = max(0, self.rows - rows) if self.one_shape else 0
        answers: Tensor = self.denoiser.predict(
            torch.cat(pictures), timesteps, texts + texts[-1:] * short, inputs + inputs[-1:] * short
        )
        return answers

    def _answered(self, taken: Taken, answers: Tensor) -> None:
        place = 0
        for flight, several in taken:
            own = answers[place : place + len(several)]
            place += len(several)
            if flight.is_common:
                for row, answer in zip(several, own, strict=True):
                    self.first_calls.put(flight.key(row), answer.clone())
            del flight.todo[: len(several)]
            flight.fill(several, own)

    def _take(self, asked: Sequence[Asked]) -> Taken:
        """Rows for one call, of the first batches that have some to give."""
        taken, room = [], self.rows
        for each in asked:
            try:
                flight = self._flight(each)
            except NotLinear:  # a later batch, whose turn it is not
                continue
            self._look_up(flight)
            several = flight.todo[:room]
            if several:
                taken.append((flight, several))
                room -= len(several)
            if room == 0:
                break
        return taken

    def _look_up(self, flight: Flight) -> None:
        """Answer what is known of a common call, and so on; what another batch is asking waits for it."""
        import torch

        while flight.waiting:
            found: dict[int, Tensor] = {}
            waiting, flight.waiting = flight.waiting, []
            for row in waiting:
                key = flight.key(row)
                answer = self.first_calls.get(key)
                if answer is not None:
                    found[row] = answer
                elif self.first_calls.claim(key):
                    flight.todo.append(row)
                else:
                    flight.waiting.append(row)
            if not found:
                return
            flight.fill(list(found), torch.stack(list(found.values())))
