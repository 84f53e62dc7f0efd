"""One `-m` launch: its folder, and what each of its jobs leaves there for the command that started them.

    reports/launches/<time>/multirun.yaml        what was launched, as Hydra composed it
    reports/launches/<time>/jobs/<name>.json     one a job: its run folder, its exit code, what it said
    reports/launches/<time>/.submitit/<job id>/  submitit's own: logs, and pickles of its own making

Jobs may run in processes of their own on other machines, so they tell by files and by nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from eval.records import digest
from eval.running.atomic import RunFolderError, make_folder, refusal, write_atomic
from eval.running.serial import decode, encode
from sdkit._errors import InvalidRequest

REPORTS = Path(__file__).resolve().parents[1] / "reports"
_SWEEP_DIR = "hydra.sweep.dir="


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    num: int
    """Its place among the jobs of the launch, from 0."""
    overrides: tuple[str, ...]
    """What makes it another job than its neighbours, and what all share."""
    pid: int
    folder: str | None = None
    """Its run's folder; None where it was refused before it had one."""
    code: int | None = None
    """Its exit code; None while it runs, and for good where it was killed."""
    said: str | None = None
    """The one line of its error, where it was refused or broke."""


@dataclass(frozen=True)
class Launch:
    """The launch as its starter sees it."""

    folder: Path
    arguments: tuple[str, ...]
    """The command line, with the folder in it."""

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Launch | None:
        """The launch that the command line asks for; None where it asks for one job, as without `-m`.

        Raises:
            InvalidRequest: hydra.sweep.dir is not a plain path.
        """
        if not any(_asks(each) for each in arguments):
            return None
        given = [each.lstrip("+").removeprefix(_SWEEP_DIR) for each in arguments if _SWEEP_DIR in each]
        if given and ("$" in given[-1] or not given[-1]):
            raise InvalidRequest(f"hydra.sweep.dir must be a plain path, got {given[-1]!r}")
        default = REPORTS / "launches" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{os.getpid()}"
        folder = Path(given[-1].strip("'\"")) if given else default
        rest = (each for each in arguments if _SWEEP_DIR not in each)
        return cls(folder, (*rest, f"{_SWEEP_DIR}{_quoted(folder.absolute())}"))

    def wait(self, every_s: float = 5.0) -> None:
        """Wait for the jobs that submitit began and that have neither a result nor died; until an interrupt."""
        slurm = any(each.startswith("hydra/launcher=") and "slurm" in each for each in self.arguments)
        places = list((self.folder / ".submitit").glob("*/*_submitted.pkl"))
        runs = _runs_on_slurm if slurm else _runs_here
        with contextlib.suppress(KeyboardInterrupt):
            while any(runs(place.parent) for place in places):
                time.sleep(every_s)

    def discard_if_empty(self) -> None:
        """Take back what Hydra wrote, when no job came of it."""
        with contextlib.suppress(OSError):
            if [file.name for file in self.folder.iterdir()] == ["multirun.yaml"]:
                (self.folder / "multirun.yaml").unlink()
                self.folder.rmdir()

    def outcomes(self) -> tuple[Outcome, ...]:
        """What the jobs have told so far, in their order. Raises RunFolderError where that cannot be read."""
        files = sorted((self.folder / "jobs").glob("*.json"))
        return tuple(sorted((_read(file) for file in files), key=lambda outcome: outcome.num))


def claim(folder: Path) -> None:
    """Take the run's folder for this job, so that no other job of the launch writes there; nothing without `-m`.

    Raises:
        InvalidRequest: another job of the launch has it.
        RunFolderError: the launch's folder cannot be written.
    """
    mine = _this_job()
    if mine is None:
        return
    path = _jobs() / f"{digest(str(folder.absolute()))[:16]}.json"
    make_folder(path.parent)
    if _put_new(path, encode(replace(mine, folder=str(folder)))):
        return
    other = _read(path)
    if other.num != mine.num:  # else this job runs again, after it was requeued
        raise InvalidRequest(
            f"jobs {other.num} and {mine.num} of the launch would write to one run folder, {folder}: "
            "they must differ in what they ask for, or have out=FOLDER-${hydra:job.num}"
        )


def finish(code: int, said: str | None = None) -> None:
    """Tell how this job ended; nothing without `-m`. Raises RunFolderError as `claim`."""
    mine = _this_job()
    if mine is None:
        return
    claimed = [file for file in _jobs().glob("*.json") if _read(file).num == mine.num]
    path = claimed[0] if claimed else _jobs() / f"{mine.num}.json"
    make_folder(path.parent)
    folder = _read(path).folder if claimed else None
    if folder is not None and not Path(folder).is_dir():
        folder = None  # it was taken back: nothing came of it
    write_atomic(path, encode(replace(mine, folder=folder, code=code, said=said)))


def is_job() -> bool:
    """Whether this is one job of a launch."""
    return _this_job() is not None


def outcome_lines(outcomes: Sequence[Outcome], merge: str) -> list[str]:
    """One line a job with its run's folder, and the command that puts them into one report.

    Args:
        merge: the command, without the folders; empty where there is none.
    """
    shared = set.intersection(*(set(each.overrides) for each in outcomes)) if len(outcomes) > 1 else set()
    lines = []
    for each in outcomes:
        own = " ".join(text for text in each.overrides if text not in shared)
        ended = "not ended, or killed" if each.code is None else f"exit code {each.code}"
        lines.append(f"job {each.num} ({own}): {shown(each.folder) if each.folder else 'no run'}; {ended}")
    runs = [shlex.quote(shown(each.folder)) for each in outcomes if each.folder and each.code != 2]
    return [*lines, f"one report of all: {merge} {' '.join(runs)}"] if merge and len(runs) > 1 else lines


def shown(path: str) -> str:
    """Relative to where the user stands, if it lies below."""
    return os.path.relpath(path) if Path(path).absolute().is_relative_to(Path.cwd()) else path


def _asks(argument: str) -> bool:
    """Whether the argument asks for a launch, also in the short forms that argparse takes."""
    long = len(argument) > 3 and "--multirun".startswith(argument)
    return argument == "-m" or long or argument.lstrip("+") == "hydra.mode=MULTIRUN"


def _this_job() -> Outcome | None:
    """What Hydra says of the job that runs here."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    job = HydraConfig.get()
    return Outcome(int(job.job.num), tuple(job.overrides.task), os.getpid())


def _jobs() -> Path:
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().sweep.dir) / "jobs"


def _runs_on_slurm(place: Path) -> bool:
    import submitit

    return not submitit.SlurmJob(folder=str(place.parent / "%j"), job_id=place.name).done()


def _runs_here(place: Path) -> bool:
    """submitit's local jobs are named by the process that minds them."""
    import psutil

    if any(place.glob("*_result.pkl")):
        return False
    try:
        return bool(psutil.Process(int(place.name)).status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, ValueError):
        return False


def _put_new(path: Path, payload: bytes) -> bool:
    """Put a whole file at `path`; False where there is one already, of whichever machine."""
    whole = path.with_suffix(f".{os.getpid()}")
    write_atomic(whole, payload)
    try:
        path.hardlink_to(whole)
    except FileExistsError:
        return False
    except OSError as error:
        raise refusal(path, error) from error
    finally:
        whole.unlink(missing_ok=True)
    return True


def _read(path: Path) -> Outcome:
    try:
        return decode(Outcome, json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}); was it written by a job?") from error


def _quoted(folder: Path) -> str:
    """For Hydra: between single quotes."""
    escaped = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
