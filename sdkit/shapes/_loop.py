"""One training loop for every part of `shapes`: cosine rate, average of weights, checkpoints, log, bar.

Step k of a stage sees the batch and the noise of seed k, so a run that was stopped and resumed has
seen the same data as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

_AVERAGE_DECAY = 0.999
_CHECKPOINT_EVERY_S = 60.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns."""

    steps: int
    batch: int
    rate: float
    weight_decay: float = 0.0
    warmup: int = 100
    average: bool = False

    def rate_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to a hundredth of the rate."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


Objective = Callable[[int], dict[str, Tensor]]
"""Step -> named scalars; "loss" is the one that is minimised, the others are logged."""


def learn(
    name: str,
    model: nn.Module,
    objectives: Sequence[Objective],
    schedule: Schedule,
    folder: Path,
    evaluate: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Train `model` in place to the end of the schedule, going on from `folder/name.pt` if it is there.

    With `schedule.average`, the model ends holding the exponential moving average of its weights.

    Args:
        objectives: one for each equal share of the batch. Several run side by side, a thread each, which
            on a CPU is faster than one of twice the size, and suffers less from a neighbour.
    """
    checkpoint = folder / f"{name}.pt"
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=schedule.rate, betas=(0.9, 0.99), weight_decay=schedule.weight_decay
    )
    average = [p.detach().clone() for p in model.parameters()] if schedule.average else []
    start = _resume(checkpoint, model, optimizer, average)
    model.train()
    saved, log = time.monotonic(), (folder / f"{name}.jsonl").open("a", buffering=1)
    running: dict[str, float] = {}
    workers = ThreadPoolExecutor(len(objectives), initializer=_one_core) if len(objectives) > 1 else None
    bar = tqdm(range(start, schedule.steps), initial=start, total=schedule.steps, desc=name, mininterval=5)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(step)
        values = _backward(list(model.parameters()), objectives, step, workers)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _update(average, model, step)
        for key, value in values.items():
            running[key] = 0.98 * running.get(key, value) + 0.02 * value
        if step % 100 == 99:
            bar.set_postfix({k: f"{v:.4g}" for k, v in running.items()}, refresh=False)
            log.write(json.dumps({"step": step + 1, "time": time.time(), **running}) + "\n")
        if time.monotonic() - saved > _CHECKPOINT_EVERY_S:
            _save(checkpoint, step + 1, model, optimizer, average)
            saved = time.monotonic()
    _save(checkpoint, schedule.steps, model, optimizer, average)
    swap_in(model, average)
    model.eval()
    if evaluate is not None:
        log.write(json.dumps({"step": schedule.steps, "evaluation": evaluate()}) + "\n")
    log.close()


def _backward(
    parameters: list[nn.Parameter],
    objectives: Sequence[Objective],
    step: int,
    workers: ThreadPoolExecutor | None,
) -> dict[str, float]:
    """Sets every parameter's gradient to the mean over the shares; returns the means of what they report."""

    def share(objective: Objective) -> tuple[tuple[Tensor, ...], dict[str, float]]:
        values = objective(step)
        gradients = torch.autograd.grad(values["loss"], parameters, allow_unused=True, materialize_grads=True)
        return gradients, {key: value.item() for key, value in values.items()}

    shares = list(map(share, objectives) if workers is None else workers.map(share, objectives))
    for parameter, *gradients in zip(parameters, *(gradients for gradients, _ in shares), strict=True):
        parameter.grad = torch.stack(gradients).mean(0) if len(gradients) > 1 else gradients[0]
    return {key: sum(values[key] for _, values in shares) / len(shares) for key in shares[0][1]}


def _one_core() -> None:
    torch.set_num_threads(1)


def swap_in(model: nn.Module, average: list[Tensor]) -> None:
    """Put averaged weights into the model; nothing happens where none were kept."""
    with torch.no_grad():
        for parameter, mean in zip(model.parameters(), average, strict=False):
            parameter.copy_(mean)


def _update(average: list[Tensor], model: nn.Module, step: int) -> None:
    if average:
        weight = 1 - min(_AVERAGE_DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [p.detach() for p in model.parameters()], weight)


def _save(
    path: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, average: list[Tensor]
) -> None:
    partial = path.with_suffix(".partial")
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average,
    }
    torch.save(state, partial)
    partial.replace(path)


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: list[Tensor]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location=next(model.parameters()).device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for mean, stored in zip(average, state["average"], strict=True):
        mean.copy_(stored)
    return int(state["step"])
