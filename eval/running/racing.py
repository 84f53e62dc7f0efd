"""`search=racing`: all cells to a few pictures, those that cannot be chosen out, and so on; the rest to the end.

A step is decided by nothing but what the batches' records hold, so a run that was killed takes the same decisions
again. What a dropped cell has made stays on disk: `search=grid` goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eval.decide_plan import RuleScore
from eval.records import Plan
from eval.running.atomic import RunFolderError
from eval.running.batch_file import BatchRecord
from eval.running.grid import denoiser_rows, spans_missing
from eval.running.progress import Progress
from eval.running.race_file import write_race
from eval.running.runner import GridRun
from eval.running.tasks import Task, Tasks
from eval.scoring.moments import Array
from eval.scoring.racing import Fate, Race, Terms, step_sizes
from eval.search_plan import RACED, Drop, RaceRecord, RaceStep


class Batches(Tasks):
    """Batches alone: no cell is finished after its last one."""

    def done(self, task: Task) -> None:
        """The batch is made."""
        if task.cell in self._open:
            self._open[task.cell] -= 1
            if self._open[task.cell] == 0:
                del self._open[task.cell]


@dataclass
class RaceRun(GridRun):
    """One pass over a grid's cells in which those that cannot be chosen are dropped on the way.

    `results` lacks the cells that were dropped, unless they were whole before.
    """

    plan: Plan = field(kw_only=True)

    def make_all(self, progress: Progress) -> None:
        """Step by step to the end. Raises Stopped and RunFolderError as `run`."""
        waiting = self.take_stock(progress)
        search, total = self.plan.search, len(self.plan.prompts.rows)
        sizes = step_sizes(total, search.first, search.growth)
        race = self._race(total, len(sizes))
        record = RaceRecord(RACED, race.terms.margin_text, total, search.confidence)
        write_race(self.folder.root, record)  # in place of one under other terms
        for n in sizes:
            self.stop.check()
            self._make(n, [place for place in race.racing if place in waiting], progress)
            race.withdraw(place for place, result in self.results.items() if result.error is not None)
            racing = race.racing
            fates = race.step({place: self._values(place, n) for place in racing})
            drops = [self._drop(fate, n) for fate in fates]
            record = replace(record, steps=(*record.steps, RaceStep(n, len(racing), tuple(drops))))
            write_race(self.folder.root, record)
            self._tell([fate.place for fate in fates], drops, progress)
        self._finish([place for place in race.racing if place in waiting], progress)

    def _race(self, total: int, steps: int) -> Race:
        decide = self.plan.decide
        score = next((each for each in decide.scores if each.name == RACED), RuleScore(RACED))
        prompts = self.plan.prompts
        return Race(
            [self._rows(place) for place in range(len(self.described.cells))],
            Terms(total, steps, self.plan.search.confidence, score, decide),
            None if len(set(prompts.rows)) == total else prompts.rows,
        )

    def _rows(self, place: int) -> float:
        """Denoiser rows a picture."""
        cell = self.described.cells[place]
        return denoiser_rows(cell, self.described.evals[place]) / cell.count

    def _make(self, n: int, places: Iterable[int], progress: Progress) -> None:
        """The first n pictures of these cells."""
        missing = {}
        for place in places:
            records = self._records(place)
            begun = [record for record in records if record.start < n]
            missing[place] = spans_missing(n, self.batch, begun, self.described.look)
            after = max(n, max((record.stop for record in records), default=0))
            count = self.described.cells[place].count
            progress.expect_instead(
                place, [*missing[place], *spans_missing(count - after, self.batch, (), "")]
            )
        self.work_off(Batches({place: spans for place, spans in missing.items() if spans}), progress)

    def _finish(self, places: Sequence[int], progress: Progress) -> None:
        missing = {}
        for place in places:
            if place not in self.results:
                count = self.described.cells[place].count
                spans = spans_missing(count, self.batch, self._records(place), self.described.look)
                missing[place] = spans
                progress.expect_instead(place, spans)
        self.work_off(Tasks(missing), progress)

    def _records(self, place: int) -> tuple[BatchRecord, ...]:
        cell = self.described.cells[place]
        if self.mirror is not None:
            self.mirror.pull(self.folder.cell_folder(cell.key))
        return self.folder.read_batches(cell)

    def _values(self, place: int, n: int) -> Array:
        """The score of the cell's first n pictures, (n,)."""
        parts: list[Array] = []
        at = 0
        for record in self._records(place):
            if record.start != at or record.look != self.described.look or record.seen is None:
                break
            parts.append(record.seen.values[RACED])
            at = record.stop
        if at < n:
            label = self.described.cells[place].label
            raise RunFolderError(
                f"{label}: pictures that were whole are no longer; the same command makes them again"
            )
        return np.concatenate(parts)[:n]

    def _drop(self, fate: Fate, n: int) -> Drop:
        cell, other = self.described.cells[fate.place], self.described.cells[fate.against]
        return Drop(
            key=cell.key,
            label=cell.label,
            kind=fate.kind,
            n=n,
            against=other.label,
            difference=fate.difference,
            low=fate.low,
            high=fate.high,
            rows=self._rows(fate.place),
            against_rows=self._rows(fate.against),
        )

    def _tell(self, places: Sequence[int], drops: Sequence[Drop], progress: Progress) -> None:
        """A line for each cell that leaves; one that was whole before stays a result."""
        for place, drop in zip(places, drops, strict=True):
            if place not in self.results:
                self.say(progress.drop(place, drop.why(self.plan.search.confidence)))
