"""Hydra's command line as ours: errors are raised, not printed, and said in one line."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path

from omegaconf import DictConfig

from eval.running.atomic import RunFolderGaveOut
from eval.running.stopping import Stopped
from eval.schema import ScoreConfig, SweepConfig, register
from sdkit._errors import SdkitError

OPEN = ("metrics.weights.", "prompts.where.")
"""Keys below these are the user's own words, which Hydra takes only with a "++" before them."""
_NOISE = ("full_key:", "object_type=", "reference_type=", "To append")


def run_command(
    work: Callable[[DictConfig], int], config: str, arguments: Sequence[str], folder: Path
) -> int:
    """Compose `config` from the arguments and do the work; its exit code, 2 for a user's mistake, 130 on interrupt."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    codes: list[int] = []

    def job(composed: DictConfig) -> None:
        # A user's mistake is said in one line here: Hydra would put a line of its own before it.
        try:
            codes.append(work(composed))
        except Stopped as stopped:
            sys.stderr.write(f"{stopped}; the same command goes on from here\n")
            codes.append(stopped.exit_code)
        except RunFolderGaveOut as error:
            refuse(str(error))
            codes.append(3)
        except SdkitError as error:
            codes.append(refuse(str(error)))
        except OmegaConfBaseException as error:
            codes.append(refuse(one_line(error, config)))

    register()
    try:
        with with_overrides(opened(arguments)):
            hydra.main(config_path=str(folder), config_name=config, version_base="1.3")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        return refuse(one_line(error, config))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from here\n")
        return 130
    return max(codes, default=0)


def opened(arguments: Sequence[str]) -> list[str]:
    """The arguments, with what Hydra wants before keys that no schema can list."""
    return [f"++{each}" if each.startswith(OPEN) else each for each in arguments]


def refuse(message: str) -> int:
    """Say on one line of standard error what is wrong; the exit code for it."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return 2


@contextmanager
def with_overrides(arguments: Sequence[str]) -> Iterator[None]:
    """Let Hydra read `arguments` as the command line, and raise its errors instead of printing them."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [argv[0], *arguments], "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


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
    return ". ".join(line.rstrip(".") for line in dict.fromkeys(kept))


def _keys(config: str) -> list[str]:
    """Every key that may be set, with its group."""
    schema = ScoreConfig() if config == "score" else SweepConfig()
    groups = {name: value for name, value in vars(schema).items() if is_dataclass(value)}
    return [
        *vars(schema),
        *(f"{group}.{item.name}" for group, value in groups.items() for item in fields(value)),
    ]
