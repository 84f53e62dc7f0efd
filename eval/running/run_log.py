"""run.log: what happened in a run, line by line with its time, appended to by every process that takes it up."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from eval.running.atomic import refusal

NAME = "run.log"


@dataclass(frozen=True)
class RunLog:
    """Appends to one run's log."""

    root: Path
    notes: list[str] = field(default_factory=list, compare=False)
    """What the user must hear of at the end as well."""

    def note(self, line: str) -> None:
        """Add a line that is also told at the end. Raises as `say`."""
        self.notes.append(line)
        self.say(line)

    def say(self, line: str) -> None:
        """Add one line. Raises RunFolderError where the disk refuses."""
        path = self.root / NAME
        stamp = datetime.now().astimezone().isoformat(timespec="milliseconds")
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{stamp} {' '.join(line.split())}\n")
        except OSError as error:
            raise refusal(path, error) from error
