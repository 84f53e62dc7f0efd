"""A bench without a model: pictures are numbers from their seeds, made in no time, so that runs can be killed often."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.hardware_plan import HardwarePlan
from eval.identity import EncoderKey
from eval.records import ConvergedPlan, GridPlan, MetricsPlan, ModelPlan, Plan, PromptSet, ReferencePlan
from eval.running.bench import Bench, rows_of
from eval.running.converged import ConvergedRuns
from eval.running.grid import grid_cells
from eval.running.mirror import open_mirror
from eval.running.pool import LocalPool, Pool
from eval.running.precision import Loaded, model_options
from eval.running.processes import serve
from eval.running.ray_pool import Actor
from eval.running.runner import GridRun, OnDone, progress_of
from eval.running.stopping import Stop
from eval.running.store import RunFolder
from eval.running.work import Described, Worker
from eval.scoring.cell_scores import Against, Rules, Seen
from eval.scoring.moments import moments

WIDTH, HEIGHT, D = 16, 12, 3
KEY = EncoderKey("fake", "sha256:0", "none", "none", "means", ())
REFERENCE = np.random.default_rng(0).normal(size=(40, D)).astype(np.float32)


def plan(root: Path, *, count: int = 10, batch: int = 4, **grid: Any) -> Plan:
    asked = {"samplers": ("ddim", "euler_a"), "steps": (2,), "guidances": (1.0, 2.0), "seed": 0} | grid
    return Plan(
        ModelPlan("fake", "fake", "cpu", "float32"),
        PromptSet("p", tuple(f"prompt {i}" for i in range(count))),
        ReferencePlan("none", 0),
        MetricsPlan("fake", ("fake",), ("clip_score", "kid", "latent_rmse")),
        GridPlan(**asked),
        HardwarePlan(batch, 1, 1),
        str(root),
    )


@dataclass(frozen=True)
class Text:
    """As many rows as prompts."""

    rows: tuple[int, ...]
    truncated: tuple[int, ...] = ()

    def take(self, indices: Sequence[int]) -> Text:
        return Text(tuple(self.rows[i] for i in indices))

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Made:
    images: torch.Tensor
    latents: torch.Tensor
    denoise_s: float = 0.0
    decode_s: float = 0.0


@dataclass
class FakeGenerator:
    """Pictures from seeds; calls `before` first, which may fail, wait or kill."""

    before: Callable[[dict[str, Any]], object] = lambda asked: None
    seconds: float = 0.0
    fingerprint: str = "f00d"
    default_size: tuple[int, int] = (WIDTH, HEIGHT)
    device: str = "cpu"
    device_name: str = "no device"
    dtype: str = "float32"
    made: list[tuple[str, float, tuple[int, ...]]] = field(default_factory=list)

    def model_evals(self, sampler: str, steps: int) -> int:
        return steps

    def encode(self, prompts: Sequence[str], *, negative_prompt: str = "") -> Text:
        return Text(tuple(range(len(prompts))))

    def sample(self, text: Text, **asked: Any) -> Made:
        self.before(asked)
        time.sleep(self.seconds)
        self.made.append((asked["sampler"], asked["guidance_scale"], tuple(asked["seeds"])))
        pictures, latents = [], []
        for seed in asked["seeds"]:
            how = (asked.get("guidance_interval"), None if self.dtype == "float32" else self.dtype)
            named = f"{seed} {asked['sampler']} {asked['steps']} {asked['guidance_scale']}"
            name = (named + (str(how) if any(how) else "")).encode()
            rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest()[:8]))
            pictures.append(rng.integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8))
            latents.append(rng.normal(size=(1, 2, 2)).astype(np.float32))
        return Made(torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(latents)))


@dataclass
class FakeScorer:
    """Features are the channels' means."""

    rules: Rules
    digest: str = "look"
    notes: tuple[str, ...] = ()
    device_bytes: int = 0
    looked: int = 0

    def look(self, pixels: torch.Tensor, first: int) -> Seen:
        self.looked += len(pixels)
        means = pixels.numpy().mean(axis=(2, 3), dtype=np.float64).astype(np.float32)
        values = {"clip_score": means[:, 0].astype(np.float64) / 255 * 100}
        verdicts = tuple({"shape": bool(mean > 127)} for mean in means[:, 1])
        return Seen({"fake": means}, values, verdicts, means)


def bench(asked: Plan, folder: RunFolder, generator: FakeGenerator) -> Bench:
    text = Text(tuple(range(len(asked.prompts.texts))))
    precise = {
        name: Loaded(replace(generator, dtype=model_options(name).dtype), text)  # type: ignore[arg-type]
        for name in asked.grid.precisions
    }
    rules = Rules(
        scores=asked.metrics.scores,
        extractors=("fake",),
        clip=KEY,
        captions="captions",
        distractors=None,
        against=(Against("fake", KEY, "40 rows", moments(REFERENCE), REFERENCE),),
        logits={},
        encoders={"fake": KEY},
        clusters=None,
        converged=ConvergedPlan("dpmpp_2m_karras", 8, 3),
    )
    runs = ConvergedRuns(
        ConvergedPlan("dpmpp_2m_karras", 8, 3),
        generator,  # type: ignore[arg-type]
        lambda start, stop: rows_of(text, asked.prompts, start, stop),
        folder.root / "converged",
        {
            name: (each.generator, lambda start, stop: rows_of(text, asked.prompts, start, stop))
            for name, each in precise.items()
        },
    )
    cells = grid_cells(asked, generator)  # type: ignore[arg-type]
    scorer: Any = FakeScorer(rules)
    return Bench(
        asked,
        generator,
        text,
        scorer,
        folder,
        cells,
        {"python": "3"},
        runs,
        getattr(generator, "engine", None),
        precise=precise,  # type: ignore[arg-type]
    )


def fake_pool(asked: Plan, root: str, generator: FakeGenerator | None = None) -> LocalPool:
    """A pool of one over the fake bench, as a worker process makes it."""
    notes: list[str] = []
    folder = RunFolder(Path(root), notes.append)
    mirror = open_mirror(asked.execution.store, "run")
    return LocalPool(Worker(bench(asked, folder, generator or FakeGenerator()), mirror, notes))


def work(pipe: Connection, asked: Plan, root: str) -> None:
    """A worker process over the fake bench."""
    serve(pipe, fake_pool(asked, root))


def work_and_die_once(pipe: Connection, asked: Plan, root: str) -> None:
    """Likewise, but the first that makes the second batch of a cell is killed before it has."""

    def before(given: dict[str, Any]) -> None:
        mark = Path(root) / "died"
        if given["seeds"][0] == 4 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    serve(pipe, fake_pool(asked, root, FakeGenerator(before)))


def work_and_die(pipe: Connection, asked: Plan, root: str) -> None:
    """Likewise, but every worker that makes ddim's second batch is killed."""

    def before(given: dict[str, Any]) -> None:
        if given["seeds"][0] == 4 and given["sampler"] == "ddim":
            os.kill(os.getpid(), signal.SIGKILL)

    serve(pipe, fake_pool(asked, root, FakeGenerator(before)))


def refuse_to_work(pipe: Connection, asked: Plan, root: str) -> None:
    """A worker whose model cannot be read."""
    pipe.send("model folder gone does not exist")


class FakeActor(Actor):
    """Ray's worker over the fake bench; with a file "kill" in the run's folder, the first to see it is killed."""

    def start(self) -> Described | str:
        def before(given: dict[str, Any]) -> None:
            mark = Path(self.root) / "kill"
            if given["seeds"][0] == 4 and mark.exists():
                mark.unlink()
                os.kill(os.getpid(), signal.SIGKILL)

        self._pool = fake_pool(self.plan, self.root, FakeGenerator(before))
        return self._pool.start()


class Appending(list[str]):
    """Lines that outlive the process that says them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def append(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{line}\n")


class Stopping(list[str]):
    """Lines that ask for a stop as soon as one says that a batch was made."""

    def __init__(self, stop: Stop) -> None:
        super().__init__()
        self.stop = stop

    def append(self, line: str) -> None:
        super().append(line)
        if ": made in" in line:
            self.stop.signum = signal.SIGTERM


@dataclass
class Silent:
    """A terminal that is none."""

    written: list[str] = field(default_factory=list)

    def write(self, text: str) -> None:
        self.written.append(text)

    def flush(self) -> None:
        return

    def isatty(self) -> bool:
        return False


def run(
    root: Path,
    asked: Plan | None = None,
    generator: FakeGenerator | None = None,
    *,
    stop: Stop | None = None,
    said: list[str] | None = None,
    elsewhere: Sequence[Path] = (),
    on_done: OnDone = lambda result: None,
    pool: Pool | None = None,
    kind: Callable[..., GridRun] = GridRun,
) -> GridRun:
    """One pass over the plan's grid in this process; the run, with its results."""
    asked, said = asked or plan(root), [] if said is None else said
    RunFolder(root).prepare()
    pool = pool or fake_pool(asked, str(root), generator)
    described = pool.start()
    folder = RunFolder(root, said.append)
    folder.tidy()
    folder.write_head(asked, "", {}, described.cells)
    made = kind(
        pool,
        folder,
        described,
        asked.hardware.batch,
        stop or Stop(),
        said.append,
        on_done,
        elsewhere,
        open_mirror(asked.execution.store, "run"),
    )
    stream: Any = Silent()
    progress = progress_of(described, stream=stream)
    try:
        made.run(progress)
    finally:
        pool.close()
    return made


def contents(root: Path) -> dict[str, bytes]:
    """What a run leaves that must not depend on how often it was killed: pictures and rows, by name."""
    names = [
        path for path in (root / "cells").rglob("*") if path.suffix == ".png" or path.name == "images.json"
    ]
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(names)}


def leftovers(root: Path) -> list[str]:
    return [str(path) for path in root.rglob(f".*{os.extsep}tmp")]
