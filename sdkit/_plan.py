"""A sampler as a table: what each denoiser call reads, and what becomes of it. No torch at import.

Every sampler of `_samplers` is linear in the latents, the denoiser's outputs and the noise. So a run is a list
of small matrices, one for each call, and a loop that multiplies by them is every sampler at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from sdkit._errors import InvalidRequest
from sdkit._guidance import Interval, is_guided

if TYPE_CHECKING:
    from torch import Tensor

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """One tensor of noise that a call needs."""

    kind: Literal["normal", "brownian"]
    """ "normal": unit normal, the next draw of each picture's own generator. "brownian": the increment of each
    picture's own Brownian path between two levels, at unit variance."""
    sigma: float | None = None
    """Level that the increment starts from; None where the noise is not of a path."""
    sigma_next: float | None = None


@dataclass(frozen=True, eq=False)
class SamplerPlan:
    """One sampler at one step count, compiled: K denoiser calls and R buffers of latents.

    A run is `state = plan.start(noise)`, and then for each call k: the denoiser reads `scales[k] * state[0]` at
    `timesteps[k]`, and `state = plan.advance(k, state, output, draws)`. The last `state[0]` is the finished
    latent.

    Example:
        >>> import numpy as np, torch
        >>> from sdkit._plan import SamplerPlan
        >>> plan = SamplerPlan((999.0,), (1.0,), 2.0, (np.array([[0.5, -0.25]]),), ((),))
        >>> state = plan.start(torch.ones(1, 4, 1, 1))
        >>> output = torch.full((1, 4, 1, 1), 3.0)  # of a denoiser that was shown scales[0] * state[0]
        >>> plan.advance(0, state, output, [])[0].flatten().tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    timesteps: tuple[float, ...]
    """(K,) as the scheduler hands them to the denoiser."""
    scales: tuple[float, ...]
    """(K,) of the denoiser's input to state 0."""
    init_scale: float
    """Of state 0 to the first unit noise; all other buffers start as zeros."""
    updates: tuple[Matrix, ...]
    """(K,) of (R, R + 1 + M_k) float64, read only. New state = updates[k] @ [R buffers, output, M_k draws]."""
    noises: tuple[tuple[Draw, ...], ...]
    """(K,) of the M_k draws, in the order in which they are made."""
    levels: tuple[float, ...] = ()
    """(K,) noise over signal at each call, as guidance in an interval counts it; empty for flow matching."""
    brownian_range: tuple[float, float] | None = None
    """Lowest and highest level of the Brownian paths, which decide their numbers; None where there is none."""

    def __post_init__(self) -> None:
        for matrix in self.updates:
            matrix.flags.writeable = False

    @property
    def calls(self) -> int:
        """Denoiser calls K."""
        return len(self.timesteps)

    @property
    def states(self) -> int:
        """Buffers R: the largest number of tensors that are needed again after a call, the latent included."""
        return len(self.updates[0])

    def reads(self) -> tuple[Matrix, ...]:
        """(1 + k,) float64 for each call k: what the denoiser reads, of the first noise and the k outputs before it.

        Plans whose timesteps and rows begin alike make the same calls for so long, on the same noise and text. There
        are K rows, or fewer where noise is drawn on the way: no row comes after the first draw.
        """
        state = np.zeros((self.states, 1 + self.calls))
        state[0, 0] = self.init_scale
        found = []
        for call, (scale, update) in enumerate(zip(self.scales, self.updates, strict=True)):
            found.append(scale * state[0, : 1 + call])
            if self.noises[call]:
                break
            output = np.zeros((1, 1 + self.calls))
            output[0, 1 + call] = 1.0
            state = update @ np.concatenate([state, output])
        return tuple(found)

    def guided(self, interval: Interval | None) -> tuple[bool, ...]:
        """(K,) whether each call is guided in this interval of noise levels; None is all of them.

        Raises:
            InvalidRequest: an interval, and no levels to hold it against.
        """
        if interval is not None and not self.levels:
            raise InvalidRequest(f"guidance_interval must be left out with flow matching, got {interval}")
        return tuple(is_guided(level, interval) for level in self.levels or (0.0,) * self.calls)

    def start(self, noise: Tensor) -> list[Tensor]:
        """The R buffers before the first call.

        Args:
            noise: (N, C, h, w), unit normal.
        """
        state = noise if self.init_scale == 1.0 else noise * self.init_scale
        return [state, *(_zeros(noise) for _ in range(self.states - 1))]

    def advance(
        self, call: int, state: Sequence[Tensor], output: Tensor, draws: Sequence[Tensor]
    ) -> list[Tensor]:
        """The R buffers after a call, in the dtype of the latents.

        Nothing that is given is written to. A buffer that is a mere copy is the given tensor itself, so the
        caller must not write to `output` or to a draw later on either.

        Args:
            call: k, 0..K-1.
            state: R tensors (N, C, h, w), float32.
            output: (N, C, h, w), of the denoiser, guided.
            draws: M_k tensors (N, C, h, w), by `noises[call]`.
        """
        terms = [*state, output.to(state[0].dtype), *draws]
        return [_combined(row, terms) for row in self.updates[call].tolist()]


def _zeros(like: Tensor) -> Tensor:
    """Zeros of that shape, in the memory of one number."""
    return like.new_zeros(()).expand_as(like)


def _combined(row: Sequence[float], terms: Sequence[Tensor]) -> Tensor:
    """Sum of coefficient times tensor, with one new tensor at the most."""
    used = [(factor, term) for factor, term in zip(row, terms, strict=True) if factor != 0.0]
    if not used:
        return _zeros(terms[0])
    # The latent is the largest term as a rule: it comes last, so that few roundings are of its size.
    (factor, term), *rest = reversed(used)
    if not rest:
        return term if factor == 1.0 else term * factor
    total = rest.pop(0)[1].add(term, alpha=factor) if rest[0][0] == 1.0 else term * factor
    for factor, other in rest:
        total.add_(other, alpha=factor)
    return total


def pruned(updates: Sequence[Matrix]) -> tuple[Matrix, ...]:
    """The same run in as few buffers as it can do with: those that no later call reads are left out.

    Args:
        updates: for each call k (S[k+1], S[k] + 1 + M_k), with the latent first; S[0] is 1.
    Returns:
        (R, R + 1 + M_k) each, R being the most buffers that are alive at once.
    """
    inputs = [1, *(len(update) for update in updates[:-1])]
    alive = _alive(updates, inputs)
    size = max(map(len, alive))
    before, made = {0: 0}, []
    for update, count, living in zip(updates, inputs, alive[1:], strict=True):
        after = _places(update, living, before, size)
        moved = np.zeros((size, size + update.shape[1] - count))
        for buffer, row in after.items():
            moved[row, list(before.values())] = update[buffer, list(before)]
            moved[row, size:] = update[buffer, count:]
        made.append(moved)
        before = after
    return tuple(made)


def _alive(updates: Sequence[Matrix], inputs: Sequence[int]) -> list[list[int]]:
    """Buffers that are read later: before each call, and after the last. The latent always is."""
    alive = [[0]]
    for update, count in zip(reversed(updates), reversed(inputs), strict=True):
        read = np.flatnonzero(update[alive[0], :count].any(axis=0))
        alive.insert(0, sorted({0, *read.tolist()}))
    return alive


def _places(update: Matrix, living: Sequence[int], before: dict[int, int], size: int) -> dict[int, int]:
    """Where each living buffer lies after a call: a copy stays where it was, so that nothing is moved."""
    places = {0: 0}
    for buffer in living[1:]:
        read = np.flatnonzero(update[buffer])
        place = before.get(int(read[0]), 0) if len(read) == 1 and update[buffer, read[0]] == 1.0 else 0
        if place not in places.values():
            places[buffer] = place
    for buffer in living:
        if buffer not in places:
            places[buffer] = min(set(range(size)) - set(places.values()))
    return places
