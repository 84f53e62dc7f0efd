"""Hydra's command line as ours: errors are raised, not printed, and said in one line."""

from __future__ import annotations

import atexit
import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path

from omegaconf import DictConfig

from eval.config import ROOT
from eval.launches import Launch, finish, is_job, outcome_lines, shown
from eval.running.atomic import RunFolderError, RunFolderGaveOut
from eval.running.stopping import Stopped
from eval.schema import ScoreConfig, SweepConfig, register
from sdkit._errors import SdkitError

INTERRUPTED = 130
OPEN = ("metrics.weights.", "prompts.where.")
"""Keys below these are the user's own words, which Hydra takes only with a "++" before them."""
_GUARD = re.compile(r"decide\.guards\.([^.=]+)\.(low|high)=(.*)")
_SCORE = re.compile(r"decide\.scores\.([^.=]+)=(\{.*\})")
SOME_FAILED = 3
"""Exit code of a sweep in which some cells have no result."""
_NOISE = ("full_key:", "object_type=", "reference_type=", "To append")


@dataclass(frozen=True)
class Job:
    """What Hydra calls with the configuration; a launcher may pickle it and call it in another process."""

    work: Callable[[DictConfig], int]
    """A function of a module, which the other process imports."""
    config: str
    starter: int = field(default_factory=os.getpid)
    """The process that the command runs in."""
    codes: list[int] = field(default_factory=list)
    """Exit codes of the jobs that ran in that very process."""

    def __call__(self, composed: DictConfig) -> int:
        """Do the work; its exit code, which the launch's folder also holds where it is one job of several.

        Raises:
            KeyboardInterrupt: the work was interrupted here, so no later job must begin.
        """
        try:
            code, said = self._outcome(composed)
            finish(code, said)
        except RunFolderError as error:  # nothing can be told by files: the reason stands in the log
            code = refuse(str(error))
        self.codes.append(code)
        if code >= INTERRUPTED and is_job() and os.getpid() == self.starter:
            raise KeyboardInterrupt
        return code

    def _outcome(self, composed: DictConfig) -> tuple[int, str | None]:
        from omegaconf.errors import OmegaConfBaseException

        # A user's mistake is said in one line here: Hydra would put a line of its own before it.
        try:
            return self.work(composed), None
        except Stopped as stopped:
            said = f"{stopped}; the same command goes on from here"
            sys.stderr.write(f"{said}\n")
            return stopped.exit_code, said
        except RunFolderGaveOut as error:
            refuse(str(error))
            return SOME_FAILED, str(error)
        except SdkitError as error:
            return refuse(str(error)), str(error)
        except OmegaConfBaseException as error:
            said = one_line(error, self.config)
            return refuse(said), said
        except KeyboardInterrupt:
            if not is_job():
                raise
            return INTERRUPTED, "interrupted"
        except Exception as error:  # a bug in one job must not stop the others: Hydra's own launcher would
            if not is_job():
                raise
            traceback.print_exc()
            return 1, f"{type(error).__name__}: {error}"


@dataclass
class QuickEnd:
    """The process's end without taking its modules apart, which takes two seconds where torch is among them.

    All that is registered with `atexit` afterwards is done before. Without a code the process ends the usual way.
    """

    code: int | None = None
    """The exit code, once the work is done."""

    def __post_init__(self) -> None:
        atexit.register(self._leave)

    def _leave(self) -> None:
        if self.code is None:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.code)


def run_command(
    work: Callable[[DictConfig], int], config: str, arguments: Sequence[str], folder: Path, merge: str = ""
) -> int:
    """Compose `config` from the arguments and do the work; its exit code, 2 for a user's mistake, 130 on interrupt.

    With `-m` there are several jobs: all are begun, whatever becomes of the first, and the code is the highest.

    Args:
        work: a function of an importable module, not of "__main__".
        merge: the command that merges the folders of several jobs; empty where nothing does.
    """
    register()
    try:
        launch = Launch.of(opened(arguments))
    except SdkitError as error:
        return refuse(str(error))
    job = Job(work, config)
    code = _compose(job, opened(arguments), folder, launch)
    return code if launch is None else max(code, _reported(launch, merge))


def _compose(job: Job, arguments: Sequence[str], folder: Path, launch: Launch | None) -> int:
    """Have Hydra call the job, once or for each point of `-m`; the highest code of those that ran here."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        with with_overrides(arguments if launch is None else launch.arguments):
            hydra.main(config_path=str(folder), config_name=job.config, version_base="1.3")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        return refuse(one_line(error, job.config))
    except KeyboardInterrupt:
        elsewhere = "; jobs in processes of their own go on" if launch and not job.codes else ""
        sys.stderr.write(f"interrupted; the same command goes on from here{elsewhere}\n")
        return max((INTERRUPTED, *job.codes))
    except Exception as error:
        if launch is None:
            raise
        return _launcher_failed(error, launch)
    return max(job.codes, default=0)


def _launcher_failed(error: Exception, launch: Launch) -> int:
    """Say why the launcher gave up, for jobs themselves raise nothing; 1 where a job died, 2 where none could begin."""
    said = " ".join(str(error).splitlines()[:2])
    if not type(error).__module__.startswith("submitit."):
        return refuse(f"the launcher failed: {type(error).__name__}: {said}")
    refuse(f"one job died: {said}; its logs: {launch.folder / '.submitit'}. The others are waited for")
    launch.wait()
    return 1


def _reported(launch: Launch, merge: str) -> int:
    """Say what became of each job of the launch; the highest code, 1 for a job that never told one."""
    try:
        outcomes = launch.outcomes()
    except RunFolderError as error:
        return refuse(str(error))
    launch.discard_if_empty()
    for each in outcomes:
        if each.said and each.pid != os.getpid():  # else it stands above
            refuse(f"job {each.num}: {each.said}")
    if outcomes:
        sys.stdout.write("\n" + "\n".join(outcome_lines(outcomes, merge)) + "\n")
        sys.stdout.write(f"launch: {shown(str(launch.folder))}\n")
    return max((1 if each.code is None else each.code for each in outcomes), default=0)


def opened(arguments: Sequence[str]) -> list[str]:
    """The arguments, with what Hydra wants of keys that no schema can list.

    Guards and scores of the rule are records by the user's names, which Hydra takes only as one mapping.
    """
    found, mappings = [], dict[str, list[str]]()
    for each in arguments:
        guard, score = _GUARD.fullmatch(each), _SCORE.fullmatch(each)
        if guard is not None:
            mappings.setdefault("guards", []).append(f"{guard[1]}: {{{guard[2]}: {guard[3]}}}")
        elif score is not None:
            mappings.setdefault("scores", []).append(f"{score[1]}: {score[2]}")
        else:
            found.append(f"++{each}" if each.startswith(OPEN) else each)
    return found + [f"+decide.{kind}={{{each}}}" for kind, several in mappings.items() for each in several]


def refuse(message: str) -> int:
    """Say on one line of standard error what is wrong; the exit code for it."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return 2


@contextmanager
def with_overrides(arguments: Sequence[str]) -> Iterator[None]:
    """Let Hydra read `arguments` as the command line, raise its errors, and start processes that find `eval`."""
    argv = sys.argv
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    wanted = {"HYDRA_FULL_ERROR": "1", "PYTHONPATH": path}
    before = {name: os.environ.get(name) for name in wanted}
    sys.argv = [argv[0], *arguments]
    os.environ.update(wanted)
    try:
        yield
    finally:
        sys.argv = argv
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def one_line(error: BaseException, config: str = "sweep") -> str:
    """What Hydra or OmegaConf says is wrong, with the nearest key where one is unknown, on one line."""
    said = [str(each) for each in (error, error.__cause__) if each is not None]
    lines = [line.strip() for text in said for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(_NOISE)]
    if broken := getattr(error, "override", None):
        kept.insert(0, f"cannot read {broken!r}")
    unknown = re.search(r"Could not override '([^']+)'", said[0])
    if unknown:
        near = difflib.get_close_matches(unknown[1], _keys(config), n=3, cutoff=0.5)
        kept.append(f"nearest: {', '.join(near) or 'none'}; see them all with --cfg job")
    if "hydra/launcher/submitit" in said[0] and "submitit_local" not in lines:
        kept.append("submitit's launchers come with the extra: pip install -e '.[slurm]'")
    return ". ".join(line.rstrip(".") for line in dict.fromkeys(kept))


def _keys(config: str) -> list[str]:
    """Every key that may be set, with its group."""
    schema = ScoreConfig() if config == "score" else SweepConfig()
    groups = {name: value for name, value in vars(schema).items() if is_dataclass(value)}
    return [
        *vars(schema),
        *(f"{group}.{item.name}" for group, value in groups.items() for item in fields(value)),
    ]
