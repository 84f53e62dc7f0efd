"""Sweep samplers, steps and guidance over prompts: `python eval/sweep.py [group=option] [key=value]`.

Runs every cell of the grid, scores and times it, and writes one folder below reports/ with the tables
and report.html. The same command again takes up what is whole. With `-m` each point of the outer axes is a
job with a folder of its own: `-m model=sd15,sdxl`. Exit code: 0 when every cell has its result, 3 when some failed
or the disk gave out, 2 when the command cannot be met, 130 or 143 when it was stopped by SIGINT or SIGTERM; with
`-m` the highest of the jobs'. A cell that `search=racing` drops on the way is no failure.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not this script's folder, whose names would shadow others

from omegaconf import DictConfig  # noqa: E402

from eval.command import SOME_FAILED, QuickEnd, run_command  # noqa: E402
from eval.config import CONF, to_plan, to_yaml  # noqa: E402
from eval.launches import claim, shown  # noqa: E402
from eval.records import CellResult, Plan  # noqa: E402

if TYPE_CHECKING:
    from eval.running.run_log import RunLog
    from eval.running.store import RunFolder


def sweep(composed: DictConfig) -> int:
    """Run one sweep and print what it found; the exit code."""
    from eval.running.garbage import uncollected

    with uncollected():
        return _planned(composed)


def _planned(composed: DictConfig) -> int:
    from eval.running.lock import sole_writer
    from eval.running.run_log import RunLog
    from eval.running.store import RunFolder

    plan = to_plan(composed)
    if composed.plan:
        from eval.running.dry_run import plan_lines

        for line in plan_lines(plan):
            print(line)
        return 0
    claim(Path(plan.folder))
    log = RunLog(Path(plan.folder))
    folder = RunFolder(Path(plan.folder), log.note)
    folder.prepare()
    with sole_writer(folder.root):
        try:
            folder.tidy()
            return _sweep(plan, to_yaml(composed), folder, log)
        finally:
            folder.discard_if_empty()


def _sweep(plan: Plan, config_yaml: str, folder: RunFolder, log: RunLog) -> int:
    from eval.report import rebuild
    from eval.reporting.terminal import winners_text
    from eval.running.executors import make_pool
    from eval.running.garbage import settle
    from eval.running.mirror import open_mirror
    from eval.running.progress import duration
    from eval.running.racing import RaceRun
    from eval.running.reuse import other_runs
    from eval.running.runner import GridRun, progress_of
    from eval.running.stopping import stopping
    from eval.scoring.windows import window_lines
    from eval.tracking.trackers import open_trackers

    started = time.monotonic()
    trackers = open_trackers(plan.tracking, folder.root)
    pool = make_pool(plan, folder.root)
    try:
        described = pool.start()
        settle()
        folder.write_head(plan, config_yaml, described.environment, described.cells)
        log.say(f"begun: {len(described.cells)} cells, {pool.workers} workers, {described.device_name}")
        progress = progress_of(described, pool.workers, pool.finishers)
        elsewhere = other_runs(folder.root, plan.execution.store)
        mirror = open_mirror(plan.execution.store, folder.root.name)
        with trackers, stopping() as stop:
            trackers.started(plan, config_yaml, described.environment, described.cells)
            search: Callable[..., GridRun] = (
                partial(RaceRun, plan=plan) if plan.search.kind == "racing" else GridRun
            )
            run = search(
                pool,
                folder,
                described,
                plan.hardware.batch,
                stop,
                log.say,
                trackers.cell_done,
                elsewhere,
                mirror,
            )
            results = run.run(progress)
    finally:
        pool.close()
    done = rebuild(folder.root)
    print(f"\n{winners_text(done.run, done.found.decision)}\n\n{_accounts(results, len(done.run.dropped))}")
    for line in (*described.notes, *plan.prompts.notes, *log.notes, *window_lines(results, plan.windows)):
        print(line)
    took = duration(time.monotonic() - started)
    log.say(f"ended: {_accounts(results, len(done.run.dropped))}; {took}")
    print(f"report: {shown(str(done.report))}\ntime: {took}")
    exit_code = SOME_FAILED if any(result.error for result in results) else 0
    for line in trackers.finished(exit_code):
        print(line)
    return exit_code


def main(arguments: list[str] | None = None) -> int:
    """Compose the configuration from `arguments`, by default the command line's, and run; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    given = ["plan=true" if each == "--dry-run" else each for each in given]
    return run_command(sweep, "sweep", given, CONF, merge="python eval/report.py")


def _accounts(results: tuple[CellResult, ...], dropped: int) -> str:
    """How many cells were computed, reused, dropped by a race, and failed, with the first reason."""
    reused, failed = sum(r.reused for r in results), [r for r in results if r.error]
    parts = [f"{len(results) - reused - len(failed)} cells computed", f"{reused} whole cells reused"]
    if dropped:
        parts.append(f"{dropped} cells dropped on the way")
    if failed:
        parts.append(
            f"{len(failed)} of {len(results)} cells FAILED, first {failed[0].cell.label}: {failed[0].error}"
        )
    return "; ".join(parts)


if __name__ == "__main__":
    # By the name under which a launcher's other process finds it: "__main__" is another module there.
    from importlib import import_module

    end = QuickEnd()
    end.code = import_module("eval.sweep").main()
    sys.exit(end.code)
