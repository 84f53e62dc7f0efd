"""All trackers of a run together. None of them can fail the sweep: what fails is said, and tried again."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType

from eval.records import Cell, CellResult, ImageRow, Plan, TrackingPlan
from eval.tracking.kept import KeptRun, read_kept, write_kept
from eval.tracking.tracker import Tracker, without_secrets

_MAX_PAUSE = 64


@dataclass
class _Attended:
    """A tracker, and what it has yet to hear."""

    tracker: Tracker
    run: KeptRun | None = None
    """None until it has started."""
    waiting: deque[tuple[CellResult, int]] = field(default_factory=deque)
    rest: int = 0
    """Cells to let pass before it is called again: a server that is down costs a time-out a call."""
    pause: int = 1
    """The next rest; it doubles while the tracker fails."""
    complaint: str | None = None
    """The last failure; None once all is well."""
    reported: bool = False


@dataclass
class Trackers:
    """Tells each tracker what happens: in a `with`, `started` and `cell_done` for each cell; then `finished`."""

    folder: Path
    rows: Callable[[str], Sequence[ImageRow]]
    """A cell's key -> its pictures, read from disk."""
    attended: tuple[_Attended, ...] = ()
    _start: tuple[Plan, str, Mapping[str, str]] | None = field(default=None, init=False)
    _places: dict[str, int] = field(default_factory=dict, init=False)
    """A cell's key -> its place in the grid."""
    _ended: bool = field(default=False, init=False)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the runs where the sweep was interrupted or failed; a sweep that went well calls `finished`."""
        if error is not None:
            stopped = 130 if isinstance(error, KeyboardInterrupt) else 1
            for line in self.finished(getattr(error, "exit_code", stopped)):
                _say(line)

    def started(
        self, plan: Plan, config_yaml: str, environment: Mapping[str, str], cells: Sequence[Cell]
    ) -> None:
        """Begin, before the first cell. `cells` is the grid in order, `environment` label -> value."""
        self._start = (plan, config_yaml, environment)
        self._places = {cell.key: place for place, cell in enumerate(cells)}
        for each in self.attended:
            self._attempt(each)

    def cell_done(self, result: CellResult) -> None:
        """Log one cell, computed or reused; a reused one only where the tracker has not heard of it."""
        step = self._places.get(result.cell.key, len(self._places))
        for each in self.attended:
            each.waiting.append((result, step))
            if each.rest:
                each.rest -= 1
            else:
                self._attempt(each)

    def finished(self, exit_code: int) -> tuple[str, ...]:
        """End, once the tables and the report are written; a line a tracker for the summary.

        A second call does nothing.
        """
        if self._ended:
            return ()
        self._ended = True
        return tuple(self._finish(each, exit_code) for each in self.attended)

    def _attempt(self, each: _Attended) -> None:
        """Log what waits. It stops at the second failure; a cell that failed goes to the end of the row."""
        failures = 0
        try:
            self._begin(each)
        except Exception as error:  # a client may raise anything, and no cell depends on it
            self._failed(each, error)
            return
        for _ in range(len(each.waiting)):
            result, step = each.waiting.popleft()
            try:
                self._log(each, result, step)
            except Exception as error:
                each.waiting.append((result, step))
                self._failed(each, error)
                failures += 1
                if failures == 2:
                    break
        if not each.waiting:
            each.pause, each.complaint = 1, None

    def _begin(self, each: _Attended) -> None:
        if each.run is not None or self._start is None:
            return
        earlier = read_kept(self.folder).runs.get(each.tracker.name)
        if earlier is not None and earlier.place != each.tracker.place:
            earlier = None
        each.run = each.tracker.started(*self._start, earlier)
        self._keep(each)

    def _log(self, each: _Attended, result: CellResult, step: int) -> None:
        assert each.run is not None
        key = result.cell.key
        if result.reused and key in each.run.logged:
            return
        rows = () if result.error is not None else self.rows(key)
        each.tracker.cell_done(result, rows, self.folder, step)
        each.run = each.run.heard(key)
        self._keep(each)

    def _keep(self, each: _Attended) -> None:
        assert each.run is not None
        kept = read_kept(self.folder)
        write_kept(self.folder, replace(kept, runs={**kept.runs, each.tracker.name: each.run}))

    def _finish(self, each: _Attended, exit_code: int) -> str:
        name = each.tracker.name
        if each.waiting or each.run is None:
            self._attempt(each)
        said = each.complaint
        if each.run is not None:
            try:
                said = each.tracker.finished(self.folder, exit_code) or said
            except Exception as error:
                self._failed(each, error)
                said = each.complaint
        if each.waiting:
            count = len(each.waiting)
            return (
                f"{name}: {count} cells are NOT logged ({said}); the same command again logs what is missing"
            )
        if said:
            return f"{name}: {said}"
        return f"{name}: run {each.run.run if each.run else 'none'} in {each.tracker.place}"

    def _failed(self, each: _Attended, error: Exception) -> None:
        first = next(iter(str(error).splitlines()), "")
        each.complaint = without_secrets(f"{type(error).__name__}: {first}"[:500])
        each.rest, each.pause = each.pause, min(2 * each.pause, _MAX_PAUSE)
        if not each.reported:
            each.reported = True
            _say(f"tracking by {each.tracker.name} failed, the sweep goes on: {each.complaint}")


def open_trackers(
    plan: TrackingPlan, folder: Path, rows: Callable[[str], Sequence[ImageRow]] | None = None
) -> Trackers:
    """The trackers that the plan names, with their clients imported; nothing is written or sent yet.

    Args:
        folder: the run's folder.
        rows: a cell's key -> its pictures; None reads them from `folder`.

    Raises:
        InvalidRequest: a client is not installed, or has no key for its server.
    """
    from eval.running.loading import load_images

    opened = tuple(_Attended(_open(name, plan, folder)) for name in plan.use)
    return Trackers(folder, rows or partial(load_images, folder), opened)


def _open(name: str, plan: TrackingPlan, folder: Path) -> Tracker:
    if name == "mlflow":
        from eval.tracking.mlflow_tracker import MlflowTracker

        return MlflowTracker(plan, folder)
    if name == "wandb":
        from eval.tracking.wandb_tracker import WandbTracker

        return WandbTracker(plan, folder)
    from eval.tracking.tensorboard_tracker import TensorboardTracker

    return TensorboardTracker(plan, folder)


def _say(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)  # clears the bars first
