"""Memory and time of a reference's features over its number of pictures, and what a second call reads.

    python -m eval.scoring.benchmarks.reference_memory [--counts 2000 10000 50000] [--work FOLDER] [--write]

Each row is a process of its own. It takes a reference, fresh renders or a folder of PNGs of the same renders, through
a fixed random projection to 2048 features (as wide as Inception's pool, and cheap), keeping moments and features. The
peak is the system's (`ru_maxrss`), less what the process held after its imports and 128 pictures of warm-up. Then it
does the same again, from the cache: the audit hook of Python counts every file that is opened. `--write` puts the
table beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.identity import EncoderKey
from eval.records import ReferencePlan

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "eval.scoring.benchmarks.reference_memory"
COUNTS = (2_000, 10_000, 50_000)
WIDTH = 2048
WARM_UP = 128
SETTLE_S = 3.0
"""A picture younger than two seconds would be hashed again, see `RACY_NS`."""


@dataclass(frozen=True)
class Row:
    """One process: a reference of one kind and size, taken twice."""

    kind: str
    count: int
    baseline_mb: float
    """Resident after imports and warm-up."""
    peak_mb: float
    """Of the whole process."""
    features_mb: float
    """On disk."""
    first_s: float
    second_s: float
    opened: int
    """Files outside the cache that the second call opened."""
    encoded: int
    """Pictures that the second call encoded."""


class Projection:
    """Pictures pooled to 8 x 8, times a fixed random matrix."""

    width = WIDTH
    key = EncoderKey("random projection", "seed 0", "8x8 average", "none", f"features {WIDTH}", ())

    def __init__(self) -> None:
        self.matrix = np.random.default_rng(0).normal(size=(192, WIDTH)).astype(np.float32) / 192
        self.pictures = 0

    def images(self, pixels: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
        """Features (N, 2048) float32 of pictures (N, 3, H, W) uint8."""
        import torch.nn.functional as F

        self.pictures += len(pixels)
        pooled = F.adaptive_avg_pool2d(pixels.float(), 8).flatten(1).numpy()
        return np.tanh(pooled @ self.matrix)  # bends it, so that the covariance is not of rank 192


def main() -> None:
    """Measure every row in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description="memory of a reference's features")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--work", type=Path, help="folder for pictures and cache; a temporary one by default")
    parser.add_argument("--write", action="store_true", help="write the table beside this file")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument("--pictures", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.pictures is not None:
        _draw(chosen.work, chosen.pictures)
    elif chosen.one is not None:
        print(json.dumps(asdict(measure(chosen.one[0], int(chosen.one[1]), chosen.work))))  # noqa: T201
    else:
        with tempfile.TemporaryDirectory(dir=chosen.work) as folder:
            table = _table(_rows(Path(folder), sorted(chosen.counts)))
        print(table)  # noqa: T201
        if chosen.write:
            Path(__file__).with_suffix(".md").write_text(table)


def measure(kind: str, count: int, work: Path) -> Row:
    """The row of one reference; `work` holds the pictures of the kind "folder"."""
    path = None if kind == "shapes" else str(work / "pictures")
    encoder = Projection()
    for _ in range(2):  # also what Python loads of itself for a second call
        _take(kind, WARM_UP, path, work / f"warm-{kind}-{count}", encoder)
    opened: list[str] = []
    watching: list[bool] = []
    sys.addaudithook(
        lambda event, about: opened.append(str(about[0])) if watching and event == "open" else None
    )
    baseline_mb = _resident_mb()
    cache = work / f"cache-{kind}-{count}"
    times = [time.perf_counter()]
    for second in (False, True):
        if second:
            watching.append(True)
            encoder.pictures = 0
        _take(kind, count, path, cache, encoder)
        times.append(time.perf_counter())
    watching.clear()
    features = sum(file.stat().st_size for file in (cache / "features").iterdir())
    outside = [name for name in opened if not name.startswith(str(cache))]
    return Row(
        kind=kind,
        count=count,
        baseline_mb=baseline_mb,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        features_mb=features / 2**20,
        first_s=times[1] - times[0],
        second_s=times[2] - times[1],
        opened=len(outside),
        encoded=encoder.pictures,
    )


def _take(kind: str, count: int, path: str | None, cache: Path, encoder: Projection) -> None:
    from eval.scoring.references import open_reference, reference_features

    reference = open_reference(ReferencePlan(kind, count, path, cache=str(cache)))
    assert reference is not None
    reference_features(reference, encoder, features=True)


def _rows(work: Path, counts: list[int]) -> list[Row]:
    _run("--pictures", str(counts[-1]), "--work", str(work))
    time.sleep(SETTLE_S)
    return [
        Row(**json.loads(_run("--one", kind, str(count), "--work", str(work))))
        for kind in ("shapes", "folder")
        for count in counts
    ]


def _run(*arguments: str) -> str:
    """Its output. The parent stays small: a child's peak counts what its parent held when it was made."""
    command = [sys.executable, "-m", MODULE, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _draw(work: Path, count: int) -> None:
    from PIL import Image

    from eval.scoring.reference_pictures import drawn

    (work / "pictures").mkdir()
    for batch in drawn(count, 512, "none"):
        for row, pixels in zip(batch.rows, batch.pixels, strict=True):
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(
                work / "pictures" / f"{row}.png", compress_level=1
            )


def _resident_mb() -> float:
    import psutil

    return float(psutil.Process(os.getpid()).memory_info().rss) / 2**20


def _table(rows: list[Row]) -> str:
    import torch

    lines = [
        "# Memory of a reference's features\n",
        f"`python -m {MODULE} --write`\n",
        f"torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPU cores. What is measured stands at the head of the script. MB are 2^20 bytes. "
        "The two files that the second call opens for renders are the world's code, on whose hash their own depends.\n",
        "| reference | pictures | before, MB | peak above it, MB | features on disk, MB | first call, s "
        "| second call, s | files opened by the second, beside the cache | pictures encoded by the second |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.kind} | {row.count:,} | {row.baseline_mb:.0f} | {row.peak_mb - row.baseline_mb:.0f} "
            f"| {row.features_mb:.0f} | {row.first_s:.1f} | {row.second_s:.2f} | {row.opened} | {row.encoded} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
