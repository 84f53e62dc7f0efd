"""A finished run that nobody made: a thousand cells through the store's own writers, as a sweep would leave them.

Quality rises with steps and falls away from a middle guidance; cells share what a prompt and a seed decide, so paired
differences are as narrow against the scores' own spread as in a real sweep. Pictures are one small PNG a prompt,
hard-linked into every cell.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.execution_plan import ExecutionPlan
from eval.hardware_plan import HardwarePlan
from eval.hashing import sha256
from eval.identity import EncoderKey, Score, ScoreKey
from eval.measured import Conditions, Measured, Memory, Timing
from eval.records import (
    Cell,
    CellResult,
    GridPlan,
    ImageRow,
    MetricsPlan,
    ModelPlan,
    Plan,
    PromptSet,
    ReferencePlan,
)  # fmt: skip
from eval.running.atomic import make_folder
from eval.running.batch_file import BatchRecord
from eval.running.films import Film
from eval.running.serial import encode
from eval.running.store import RunFolder
from eval.scoring.catalogue import CATALOGUE, base_name
from eval.scoring.cell_scores import Seen
from eval.scoring.moments import Array, moments
from eval.scoring.uncertainty import Interval, mean_interval

SAMPLERS = (
    "ddim", "euler", "euler_a", "heun", "lms", "dpm2", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_sde", "unipc",
)  # fmt: skip
STEPS = (2, 4, 6, 8, 10, 12, 16, 20, 30, 50)
GUIDANCES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5, 9.0, 12.0)
ATTRIBUTES = ("count", "background", "shape", "colour", "size", "place")
EXTRACTOR = "shapes-clip"
WIDTH = 64
"""Numbers in a picture's features."""
SIDE_PX = 64
BATCH = 64
CONVERGED = 8
"""First pictures that are measured against a converged run."""
FRAMES = 8
MOVED = 0.3
"""How far the worst cell's features lie from the reference's, in each of their directions."""
ENCODER = EncoderKey(
    "open_clip synthetic", "sha256:0", "64x64 bicubic", "none", "image embedding 64", ("torch 2",)
)


@dataclass(frozen=True)
class _Shared:
    """What all cells of the run have in common."""

    prompts: tuple[str, ...]
    pictures: tuple[bytes, ...]
    """One PNG a prompt."""
    hashes: tuple[str, ...]
    ease: Array
    """How well each prompt and seed comes out, whatever the cell, (N,)."""
    features: Array
    """Of the pictures without the cell's part, (N, D)."""


def fill(root: Path, cells: int, pictures: int) -> None:
    """Write a whole run of so many cells and pictures a cell into `root`.

    Args:
        cells: 1..1000.
    """
    folder = RunFolder(root)
    folder.prepare()
    rng = np.random.default_rng(0)
    grid = _grid(cells, pictures)
    shared = _shared(rng, pictures, folder)
    plan = _plan(root, shared.prompts, grid)
    folder.write_head(plan, "# synthetic\n", {"python": "3", "device": "no device"}, grid)
    source = _sources(root, shared)
    for cell in grid:
        _write_cell(folder, cell, shared, source, rng)


def _grid(cells: int, pictures: int) -> tuple[Cell, ...]:
    first = Cell("f" * 16, "ddim", 1, 1.0, "d" * 64, pictures, 0, SIDE_PX, SIDE_PX, "float32", "cpu")
    points = [(name, steps, scale) for name in SAMPLERS for steps in STEPS for scale in GUIDANCES]
    assert cells <= len(points)
    return tuple(
        replace(first, sampler=name, steps=steps, guidance=scale) for name, steps, scale in points[:cells]
    )


def _plan(root: Path, prompts: tuple[str, ...], grid: tuple[Cell, ...]) -> Plan:
    return Plan(
        ModelPlan("synthetic", "synthetic", "cpu", "float32"),
        PromptSet("synthetic", prompts),
        ReferencePlan("shapes", 2048),
        MetricsPlan("shapes", (EXTRACTOR,), tuple(name for name in CATALOGUE if name != "inception_score")),
        GridPlan(
            tuple(dict.fromkeys(cell.sampler for cell in grid)),
            tuple(dict.fromkeys(cell.steps for cell in grid)),
            tuple(dict.fromkeys(cell.guidance for cell in grid)),
            0,
        ),
        HardwarePlan(BATCH, 5, 3),
        str(root),
        execution=ExecutionPlan(),
    )


def _shared(rng: np.random.Generator, pictures: int, folder: RunFolder) -> _Shared:
    reference = moments(rng.normal(size=(2048, WIDTH)))
    folder.write_reference(EXTRACTOR, reference)
    pngs = tuple(_png(index) for index in range(pictures))
    return _Shared(
        tuple(
            f"a small red ring number {index} at the left on a purple background" for index in range(pictures)
        ),
        pngs,
        tuple(map(sha256, pngs)),
        rng.normal(size=pictures),
        rng.normal(size=(pictures, WIDTH)),
    )


def _png(index: int) -> bytes:
    from PIL import Image, ImageDraw

    hue = (index * 47 % 256, index * 91 % 256, index * 151 % 256)
    picture = Image.new("RGB", (SIDE_PX, SIDE_PX), hue)
    place = 4 + index * 7 % 36
    ImageDraw.Draw(picture).ellipse((place, place, place + 20, place + 20), fill=hue[::-1])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _sources(root: Path, shared: _Shared) -> Path:
    """A folder with what every cell links: its pictures, and one filmstrip."""
    from PIL import Image

    place = root / ".source"
    make_folder(place)
    for index, payload in enumerate(shared.pictures):
        (place / f"{index:05d}.png").write_bytes(payload)
    with Image.open(io.BytesIO(shared.pictures[0])) as picture:
        strip = Image.new("RGB", (FRAMES * SIDE_PX, SIDE_PX))
        for frame in range(FRAMES):
            strip.paste(picture, (frame * SIDE_PX, 0))
    strip.save(place / "strip.png")
    return place


def _write_cell(
    folder: RunFolder, cell: Cell, shared: _Shared, source: Path, rng: np.random.Generator
) -> None:
    folder.open_cell(cell)
    own = folder.cell_folder(cell.key)
    for index in range(cell.count):
        os.link(source / f"{index:05d}.png", own / "images" / f"{index:05d}.png")
    _write_film(own, cell, source)
    merit = _merit(cell)
    values = _values(shared, merit, rng)
    noise = 0.1 * (1 - merit) * rng.normal(size=shared.features.shape)
    features = (shared.features + noise + MOVED * (1 - merit)).astype(np.float32)
    verdicts = tuple(
        {name: bool(right) for name, right in zip(ATTRIBUTES, row, strict=True)}
        for row in rng.random((cell.count, len(ATTRIBUTES))) < 0.9 + 0.09 * merit
    )
    for start in range(0, cell.count, BATCH):
        here = slice(start, min(start + BATCH, cell.count))
        seen = Seen(
            {EXTRACTOR: features[here]},
            {"clip_score": values["clip_score"][here]},
            verdicts[here],
            features[here],
        )
        folder.write_record(cell, BatchRecord(start, here.stop, shared.hashes[here], "look", 1.0, seen))
    rows = tuple(
        ImageRow(
            cell.key, index, index, prompt, folder.image_path(cell.key, index),
            {name: float(column[index]) for name, column in values.items() if index < len(column)},
            verdicts[index],
        )
        for index, prompt in enumerate(shared.prompts)
    )  # fmt: skip
    values["judge_all"] = np.array([float(all(each.values())) for each in verdicts])
    result = CellResult(
        cell, "no device", cell.steps, _scores(values, cell.count, merit), _measured(cell, rng), 1.0
    )
    folder.write_cell(result, rows, "setup")


def _write_film(own: Path, cell: Cell, source: Path) -> None:
    film = Film((0,), tuple(cell.steps * i // (FRAMES - 1) for i in range(FRAMES)), SIDE_PX, SIDE_PX)
    make_folder(own / "film")
    os.link(source / "strip.png", own / film.path(0))
    (own / "film" / "film.json").write_bytes(encode(film))


def _merit(cell: Cell) -> float:
    """0..1: how good the cell is."""
    by_steps = 1 - math.exp(-cell.steps / 6)
    return (
        by_steps
        * math.exp(-((math.log(cell.guidance / 4.0)) ** 2))
        * (1 - SAMPLERS.index(cell.sampler) / 100)
    )


def _values(shared: _Shared, merit: float, rng: np.random.Generator) -> dict[str, Array]:
    """Per picture, by score, (N,); of those against a converged run the first ones alone."""
    n = len(shared.prompts)

    def around(mean: float, spread: float) -> Array:
        return mean + spread * (shared.ease + 0.5 * rng.normal(size=n))

    return {
        "clip_score": around(25 + 8 * merit, 3.0),
        "zero_shot": (shared.ease + 0.5 * rng.normal(size=n) + 3 * merit > 0).astype(float),
        "saturation": around(0.5, 0.1),
        "contrast": around(0.1, 0.02),
        "clipped": np.abs(around(0.01, 0.01)),
        f"kid[{EXTRACTOR}]": around(2.0 - merit, 1.0),
        f"cmmd[{EXTRACTOR}]": around(1.0 - 0.5 * merit, 0.5),
        f"precision[{EXTRACTOR}]": (rng.random(n) < 0.5 + 0.4 * merit).astype(float),
        f"density[{EXTRACTOR}]": np.abs(around(1.0, 0.2)),
        "latent_rmse": np.abs(around(0.3 * (1 - merit), 0.02))[:CONVERGED],
        "ssim": around(0.9 + 0.09 * merit, 0.01)[:CONVERGED],
    }


def _scores(values: dict[str, Array], n: int, merit: float) -> tuple[Score, ...]:
    known = {name: mean_interval(column) for name, column in values.items()}
    limit = WIDTH * (MOVED * (1 - merit)) ** 2
    known |= {"fid": Interval(limit + 3, None, None), "fid_inf": Interval(limit, limit - 0.5, limit + 0.5)}
    known |= dict.fromkeys(("recall", "coverage"), Interval(0.9, None, None))
    scores = []
    for name, between in known.items():
        metric = CATALOGUE[base_name(name)]
        full = name if name in values else f"{name}[{EXTRACTOR}]"
        key = ScoreKey(full, len(values.get(name, range(n))), metric.scale, ENCODER, "2048 renders, sha256:0")
        reason = "no interval: it is of the whole set" if between.low is None else None
        scores.append(Score(key, between.value, metric.higher_is_better, between.low, between.high, reason))
    return tuple(scores)


def _measured(cell: Cell, rng: np.random.Generator) -> Measured:
    one = (0.02 + 0.01 * cell.steps * (1 if cell.guidance == 1 else 2)) * (1 + 0.02 * rng.random())
    batch = 16
    wholes = tuple(batch * one * 0.4 * (1 + 0.01 * rng.random()) for _ in range(3))
    rate = batch / sorted(wholes)[1]
    timing = Timing(
        batch, wholes, tuple(one * (1 + 0.01 * rng.random()) for _ in range(5)), rate, one, None,
        0.8 / rate, 0.1 / rate, 0.05 / rate, "latency_p95_s: 5 timed pictures, of 20 needed", None, 0.05 / rate,
        cell.steps * rate, None, 0.01, 0.01,
    )  # fmt: skip
    memory = Memory(
        None, None, 10**9, "gpu_allocated_bytes: a cpu has no such memory of its own", batch=batch
    )
    conditions = Conditions(
        1.0, None, None, None, None, None, None, 0.01, "no device", 2, 2, "NVML tells of NVIDIA GPUs only"
    )
    return Measured(timing, memory, conditions)
