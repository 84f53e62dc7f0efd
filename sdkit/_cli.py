"""`sdkit generate "a small red star" -o out.png`, and `samplers`, `models`, `replay`, `doctor`.

Exit codes: 0; 1 from `doctor` where something required is missing; 2 for a mistake of the user, with one line
on standard error; 130 when stopped. With `--json`, standard output holds one document, of an error too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdkit import _cli_options as cli
from sdkit._cli_output import (
    Answer,
    describe,
    of_diagnosis,
    of_error,
    of_generation,
    of_models,
    of_samplers,
)
from sdkit._doctor import diagnose, sdkit_version
from sdkit._errors import InvalidRequest, SdkitError
from sdkit._named_models import named_models
from sdkit._request import DEFAULT_REFINER_START
from sdkit._samplers import samplers
from sdkit._spec import BUNDLED

if TYPE_CHECKING:
    from sdkit._result import Generation

# typer only reads the words; the work is done after it, so that errors and Ctrl-C are ours to answer.
Work = Callable[[], Answer]

_DEMONSTRATION = f"sdkit: the model is {BUNDLED}, a 64-pixel demonstration; give --model for real pictures"
# typer has click within itself in some versions and beside itself in others; this is its UsageError in both.
_UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="sdkit",
    help="Pictures from text, by diffusers pipelines.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; all that is said is printed.

    Args:
        arguments: None takes the command line's.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    answer = _answer(given)
    if isinstance(answer, int):
        return answer
    try:
        if "error" in answer.document:
            print(*answer.lines, sep="\n", file=sys.stderr)
        if "--json" in given:
            print(json.dumps(answer.document, indent=2))
        elif "error" not in answer.document:
            print(*answer.lines, sep="\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone, as `head` does; closing the pipe would raise the same once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return answer.exit_code


def _answer(given: list[str]) -> Answer | int:
    """What the command has to say; an exit code where typer has said it all, as for --help."""
    try:
        work = _parse(given)
        if isinstance(work, int):
            return work
        # Standard output is for the answer; whatever a library prints goes beside it.
        with contextlib.redirect_stdout(sys.stderr), _told_once() as told:
            answer = work()
            for warning in answer.warnings:
                told.tell(warning)
            return answer
    except _UsageError as error:
        return of_error("UsageError", _usage(error), 2)
    except SdkitError as error:
        return of_error(type(error).__name__, " ".join(str(error).splitlines()), 2)
    except KeyboardInterrupt:
        return of_error("Stopped", "stopped", 130)


def _parse(given: list[str]) -> Work | int:
    # Frames and colours are for eyes; typer draws them into pipes too where CI says that it may.
    app.rich_markup_mode = "rich" if sys.stdout.isatty() else None
    command = typer.main.get_command(app)
    try:
        parsed: Work | int = command.main(given, prog_name="sdkit", standalone_mode=False)
    except SystemExit as exit_:  # shell completion ends so
        return exit_.code if isinstance(exit_.code, int) else 0
    return parsed


def _usage(error: Any) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    command = "sdkit" if error.ctx is None else error.ctx.command_path
    return f"{message[:1].lower()}{message[1:]}; see `{command} --help`"


class _Told(logging.Handler):
    """Prints each warning once, whichever way it comes: by the log as it happens, or with the result."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(record.getMessage())

    def tell(self, warning: str) -> None:
        if warning not in self._told:
            self._told.add(warning)
            print(f"sdkit: warning: {warning}", file=sys.stderr)


@contextlib.contextmanager
def _told_once() -> Iterator[_Told]:
    """The handler of sdkit's own log for as long as a command runs."""
    logger, told = logging.getLogger("sdkit"), _Told()
    before, logger.propagate = logger.propagate, False
    logger.addHandler(told)
    try:
        yield told
    finally:
        logger.removeHandler(told)
        logger.propagate = before


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"sdkit {sdkit_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command("generate", help="Make pictures of one or several prompts.")
def _generate(
    prompt: cli.Prompts,
    out: cli.Out,
    model: cli.Model = None,
    revision: cli.Revision = None,
    config: cli.Config = None,
    prediction_type: cli.PredictionType = None,
    vae: cli.Vae = None,
    loras: cli.Loras = None,
    embeddings: cli.Embeddings = None,
    controlnet: cli.Controlnets = None,
    refiner: cli.Refiner = None,
    quantise: cli.Quantise = None,
    allow_pickle: cli.AllowPickle = False,
    local_files_only: cli.LocalFilesOnly = False,
    negative_prompt: cli.Negative = None,
    sampler: cli.SamplerName = None,
    schedule: cli.Schedule = None,
    steps: cli.Steps = None,
    guidance_scale: cli.Guidance = None,
    guidance_interval: cli.GuidanceInterval = None,
    seed: cli.Seed = None,
    num_images: cli.NumImages = 1,
    width: cli.Width = None,
    height: cli.Height = None,
    refiner_start: cli.RefinerStart = DEFAULT_REFINER_START,
    options: cli.Options = None,
    trajectory: cli.Trajectory = None,
    image: cli.Images = None,
    strength: cli.Strength = None,
    mask: cli.Masks = None,
    image_guidance_scale: cli.ImageGuidance = None,
    control_image: cli.ControlImages = None,
    control_scale: cli.ControlScales = None,
    batch_size: cli.BatchSize = 8,
    device: cli.Device = None,
    dtype: cli.Dtype = None,
    memory: cli.Memory = "auto",
    compile: cli.Compile = None,
    as_json: cli.Json = False,
) -> Work:
    # The names are those of sdkit.generate's arguments; a test holds them together.
    return partial(_run_generate, dict(locals()))


def _run_generate(given: dict[str, Any]) -> Answer:
    from sdkit._generate import generate
    from sdkit._result import check_target

    target = check_target(given["out"])
    arguments = {name: value for name, value in given.items() if name not in ("out", "as_json")}
    for name in ("prompt", "controlnet", "image", "mask", "control_image"):
        arguments[name] = cli.one_or_all(given[name])
    arguments |= {
        "model": given["model"] or BUNDLED,
        "loras": [cli.read_lora(text) for text in given["loras"] or ()],
        "embeddings": cli.read_embeddings(given["embeddings"] or ()),
        "options": cli.read_options(given["options"] or ()),
        "control_scale": cli.one_or_all(given["control_scale"] or (1.0,)),
    }
    if given["model"] is None:
        print(_DEMONSTRATION, file=sys.stderr)
    return _save(generate(**arguments), target)


def _save(made: Generation, target: Path) -> Answer:
    """The pictures written, and the way to them beside them where it was kept."""
    files = made.save(target)
    if not made.trajectory:
        return of_generation(made, files, None)
    filmstrip = target.with_name(f"{target.stem}-filmstrip.png")
    try:
        made.filmstrip().save(filmstrip)
    except OSError as error:
        raise InvalidRequest(f"{filmstrip} cannot be written: {error.strerror or error}") from error
    return of_generation(made, files, filmstrip)


@app.command("replay", help="Make the picture of a PNG again, byte for byte.")
def _replay(
    picture: Annotated[str, typer.Argument(metavar="IMAGE", help="A PNG by sdkit, or by the WebUI.")],
    out: cli.Out,
    model: cli.Model = None,
    allow_pickle: cli.AllowPickle = False,
    local_files_only: cli.LocalFilesOnly = False,
    image: cli.Images = None,
    mask: cli.Masks = None,
    control_image: cli.ControlImages = None,
    device: cli.Device = None,
    memory: cli.Memory = "auto",
    compile: cli.Compile = None,
    as_json: cli.Json = False,
) -> Work:
    running = {"device": device, "memory": memory, "compile": compile}
    inputs = {"image": image, "mask": mask, "control_image": control_image}
    reading = {
        "model": model,
        "allow_pickle": allow_pickle,
        "local_files_only": local_files_only,
        **{name: cli.one_or_all(files) for name, files in inputs.items()},
    }
    return partial(_run_replay, picture, out, reading, running)


def _run_replay(picture: str, out: str, reading: dict[str, Any], running: dict[str, Any]) -> Answer:
    from sdkit._generate import replay
    from sdkit._record import read
    from sdkit._result import check_target

    target = check_target(out)
    request = read(picture, **reading)
    print(f"sdkit: making {describe(request)}", file=sys.stderr)
    return _save(replay(request, **running), target)


@app.command("samplers", help="List the samplers, their order, and their cost in N steps.")
def _samplers(as_json: cli.Json = False) -> Work:
    return lambda: of_samplers(samplers())


@app.command("models", help="List the models that can be named without a download.")
def _models(as_json: cli.Json = False) -> Work:
    return lambda: of_models(named_models())


@app.command("doctor", help="Tell versions, devices, and how to mend what is missing.")
def _doctor(as_json: cli.Json = False) -> Work:
    return lambda: of_diagnosis(diagnose())


if __name__ == "__main__":
    sys.exit(main())
