"""Sweep samplers, steps and guidance over prompts: `python eval/sweep.py [group=option] [key=value]`.

Runs every cell of the grid, scores and times it, and writes one folder below reports/ with the tables
and report.html. The same command again takes up what is whole. Exit code: 0, 1 when a cell failed,
2 when the command cannot be met, 130 when interrupted.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not this script's folder, whose names would shadow others

from omegaconf import DictConfig  # noqa: E402

from eval.command import run_command  # noqa: E402
from eval.config import CONF, to_plan, to_yaml  # noqa: E402
from eval.records import CellResult  # noqa: E402


def sweep(composed: DictConfig) -> int:
    """Run one sweep and print what it found; the exit code."""
    from eval.report import rebuild
    from eval.reporting.terminal import winners_text
    from eval.running.bench import prepare
    from eval.running.progress import duration
    from eval.running.runner import run_grid
    from eval.running.store import RunFolder, load_run
    from eval.scoring.windows import window_lines

    started = time.monotonic()
    plan = to_plan(composed)
    folder = RunFolder(Path(plan.folder))
    folder.prepare()
    try:
        bench = prepare(plan, folder)
    except BaseException:
        folder.discard_if_empty()
        raise
    folder.write_head(plan, to_yaml(composed), bench.environment, bench.cells)
    results = run_grid(bench)
    report = rebuild(folder.root)
    print(f"\n{winners_text(load_run(folder.root))}\n\n{_accounts(results)}")
    for line in (*bench.scorer.notes, *plan.prompts.notes, *window_lines(results, plan.windows)):
        print(line)
    print(f"report: {_shown(report)}\ntime: {duration(time.monotonic() - started)}")
    return 1 if any(result.error for result in results) else 0


def main(arguments: list[str] | None = None) -> int:
    """Compose the configuration from `arguments`, by default the command line's, and run; the exit code."""
    return run_command(sweep, "sweep", sys.argv[1:] if arguments is None else arguments, CONF)


def _accounts(results: tuple[CellResult, ...]) -> str:
    """How many cells were computed, reused and failed, with the first reason."""
    reused, failed = sum(r.reused for r in results), [r for r in results if r.error]
    parts = [f"{len(results) - reused - len(failed)} cells computed", f"{reused} whole cells reused"]
    if failed:
        parts.append(
            f"{len(failed)} of {len(results)} cells FAILED, first {failed[0].cell.label}: {failed[0].error}"
        )
    return "; ".join(parts)


def _shown(path: Path) -> str:
    """Relative to where the user stands, if it lies below."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
