"""What it takes to open a large run and plan its resume: 1,000 cells of 1,000 pictures' rows.

python -m eval.running.benchmarks.store --out eval/running/benchmarks/store.md
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from eval.identity import EncoderKey, Score, ScoreKey
from eval.records import Cell, CellResult, ImageRow
from eval.running.batch_file import BatchRecord
from eval.running.pool import Pool
from eval.running.runner import GridRun, progress_of
from eval.running.store import RunFolder
from eval.running.work import Described
from eval.scoring.cell_scores import Seen

SCORES = tuple(f"score_{index}" for index in range(16))
BATCH = 500
WIDTH = 64


def cells(count: int, pictures: int) -> tuple[Cell, ...]:
    """A grid of so many cells, which differ by their steps."""
    first = Cell("f" * 16, "euler", 1, 5.0, "d" * 64, pictures, 0, 512, 512, "float16", "cuda")
    return tuple(replace(first, steps=1 + index) for index in range(count))


def fill(root: Path, grid: tuple[Cell, ...]) -> None:
    """Write nine of ten cells whole, with rows and features, and no pictures: planning reads none of so many."""
    folder = RunFolder(root)
    rng = np.random.default_rng(0)
    encoder = EncoderKey(
        "open_clip ViT-B-32", "sha256:0", "224x224 bicubic", "centre", "embedding", ("torch",)
    )
    for place, cell in enumerate(grid):
        if place % 10 == 9:
            continue
        folder.open_cell(cell)
        values = rng.normal(30, 3, (len(SCORES), cell.count))
        for start in range(0, cell.count, BATCH):
            stop = min(start + BATCH, cell.count)
            features = rng.normal(size=(stop - start, WIDTH)).astype(np.float32)
            seen = Seen({"inception": features}, {"clip_score": values[0, start:stop]}, None, features)
            hashes = tuple("0" * 64 for _ in range(start, stop))
            folder.write_record(cell, BatchRecord(start, stop, hashes, "look", 1.0, seen))
        rows = tuple(
            ImageRow(
                cell.key, i, i, f"a photograph of thing number {i} on a table", folder.image_path(cell.key, i),
                {name: float(values[j, i]) for j, name in enumerate(SCORES[:4])},
            )
            for i in range(cell.count)
        )  # fmt: skip
        scores = tuple(
            Score(ScoreKey(name, cell.count, "x", encoder), float(values[j].mean()), True)
            for j, name in enumerate(SCORES)
        )
        folder.write_cell(CellResult(cell, "a GPU", cell.steps, scores), rows, "setup")


class _Nobody:
    """A pool that nothing is given to."""

    workers = 1
    idle = 0


def _peak_rss_bytes() -> int:
    """Of this process since it started."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def plan(root: Path, grid: tuple[Cell, ...]) -> tuple[int, int]:
    """Take stock of the run as a resume does; how many cells are whole, and how many are to do."""
    described = Described(grid, tuple(cell.steps for cell in grid), "setup", "look", "a GPU", {}, ())
    nobody: Pool = _Nobody()  # type: ignore[assignment]
    run = GridRun(nobody, RunFolder(root), described, BATCH, say=lambda line: None)
    progress = progress_of(described, stream=io.StringIO())
    missing = run.take_stock(progress)
    progress.close()
    return len(run.results), len(missing)


def main(arguments: list[str] | None = None) -> int:
    """Fill a folder, then plan in a process of its own, several times; 1 where the bounds do not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="Markdown file; without it standard output")
    given = parser.parse_args(arguments)
    grid = cells(given.cells, given.pictures)
    if given.plan is not None:
        before, begun = _peak_rss_bytes(), time.perf_counter()
        whole, todo = plan(given.plan, grid)
        seconds = time.perf_counter() - begun
        sys.stdout.write(f"{seconds} {before} {_peak_rss_bytes()} {whole} {todo}\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="sdkit-store-") as scratch:
        root = Path(scratch) / "run"
        fill(root, grid)
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        found = [_measured(root, given) for _ in range(given.repeats)]
    text = report(found, size, given)
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    return int(max(each[0] for each in found) >= 5 or max(each[2] for each in found) >= 500e6)


def _measured(root: Path, given: argparse.Namespace) -> tuple[float, ...]:
    command = [
        sys.executable, "-m", "eval.running.benchmarks.store", "--plan", str(root),
        "--cells", str(given.cells), "--pictures", str(given.pictures),
    ]  # fmt: skip
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return tuple(float(each) for each in said.split())


def report(found: list[tuple[float, ...]], size: int, given: argparse.Namespace) -> str:
    """The table as Markdown."""
    from sdkit._cpu import cpu_name

    rows = "\n".join(
        f"| {index} | {seconds:.2f} | {before / 1e6:.0f} | {peak / 1e6:.0f} |"
        for index, (seconds, before, peak, _, _) in enumerate(found, start=1)
    )
    whole, todo = int(found[0][3]), int(found[0][4])
    return f"""# Opening a large run

`python -m eval.running.benchmarks.store --out eval/running/benchmarks/store.md`

A run of {given.cells:,} cells of {given.pictures:,} pictures, with rows, {len(SCORES)} scores a cell and features
of {WIDTH} numbers: {size / 1e9:.2f} GB without the pictures, which planning does not read where there are so many.
Every result and every table of rows is read and its hash checked; {whole} cells are found whole and {todo} to do.
Each line is a process of its own, the files in the system's cache, on {cpu_name()}, {os.cpu_count()} cores.

| process | seconds | peak before, MB | peak after, MB |
|--:|--:|--:|--:|
{rows}
"""


if __name__ == "__main__":
    sys.exit(main())
