"""The command line: exit code 0 with what was made, 2 with one line for a user's mistake; or all as JSON."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from sdkit import samplers
from sdkit._cli import main

ROOT = Path(__file__).parents[1]
# Decided by the command line itself: a bar where standard error is a terminal, and no calls back.
NOT_OFFERED = {"progress", "on_step"}


def _make(model: Path, out: Path, *more: str) -> list[str]:
    return ["generate", "a red star", "-o", str(out), "--model", str(model), "--device", "cpu", *more]


def _process(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sdkit._cli", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)


def test_generate_writes_its_pictures_and_says_their_seeds(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--sampler", "Euler a", "--steps", "3", "--seed", "7", "--num-images", "2"]
    assert main(_make(tiny_sd, tmp_path / "out.png", *more)) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"{tmp_path}/out-0000.png  seed 7",
        f"{tmp_path}/out-0001.png  seed 8",
    ]
    assert printed.err == ""
    with Image.open(tmp_path / "out-0001.png") as image:
        assert image.size == (64, 64)


def test_generate_tells_the_run_as_json(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    more = ["--sampler", "heun", "--schedule", "karras", "--steps", "3", "--seed", "7", "--guidance", "2"]
    arguments = ["generate", "a red star", "a blue ring", "-o", str(out), "--model", str(tiny_sd)]
    assert main([*arguments, "--device", "cpu", *more, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == [
        {"path": str(tmp_path / "out-0000.png"), "seed": 7, "prompt": "a red star"},
        {"path": str(tmp_path / "out-0001.png"), "seed": 8, "prompt": "a blue ring"},
    ]
    assert document["filmstrip"] is None
    run = document["run"]
    timings = run.pop("timings")
    assert len(run.pop("fingerprint")) == 16
    assert run == {
        "model": "tiny-sd",
        "detected": "",
        "sampler": "heun_karras",
        "schedule": "karras",
        "steps": 3,
        "model_evals": 5,
        "guidance_scale": 2.0,
        "guidance_interval": None,
        "width": 64,
        "height": 64,
        "device": "cpu",
        "dtype": "float32",
        "batch_size": 2,
        "warnings": [],
    }
    stages = ("load_s", "text_s", "denoise_s", "decode_s")
    assert timings["total_s"] == pytest.approx(sum(timings[stage] for stage in stages))


def test_the_way_to_a_picture_is_written_beside_it(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = _make(tiny_sd, tmp_path / "out.png", "--steps", "3", "--seed", "7", "--trajectory", "3")
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/out.png  seed 7",
        f"{tmp_path}/out-filmstrip.png  filmstrip",
    ]
    with Image.open(tmp_path / "out-filmstrip.png") as strip, Image.open(tmp_path / "out.png") as picture:
        assert strip.size == (3 * 64 + 2 * 2, 64)
        assert strip.crop((132, 0, 196, 64)).tobytes() == picture.tobytes()


def test_a_warning_of_the_result_is_told_once(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("sdkit")
    before = (list(logger.handlers), logger.propagate)
    more = ["--steps", "2", "--guidance", "1", "--negative", "blue", "--json"]
    assert main(_make(tiny_sd, tmp_path / "out.png", *more)) == 0
    printed = capsys.readouterr()
    warning = "negative_prompt has no effect: guidance_scale is 1, which is off"
    assert printed.err == f"sdkit: warning: {warning}\n"
    assert json.loads(printed.out)["run"]["warnings"] == [warning]
    assert (list(logger.handlers), logger.propagate) == before


def test_a_warning_that_the_log_swallows_is_told_all_the_same(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("sdkit"), "disabled", True)
    more = ["--steps", "2", "--guidance", "1", "--negative", "blue"]
    assert main(_make(tiny_sd, tmp_path / "out.png", *more)) == 0
    assert capsys.readouterr().err.startswith("sdkit: warning: negative_prompt has no effect")


def test_without_a_model_the_demonstration_says_that_it_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "a red star", "-o", str(tmp_path / "out.png"), "--steps", "2", "--json"]
    assert main([*arguments, "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "a 64-pixel demonstration; give --model" in printed.err
    assert json.loads(printed.out)["run"]["model"] == "shapes"


def test_what_a_library_prints_goes_beside_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def named_models() -> tuple[()]:
        print("a library talks")
        return ()

    monkeypatch.setattr("sdkit._cli.named_models", named_models)
    assert main(["models", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["models"] == []
    assert printed.err == "a library talks\n"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps", "0"], "sdkit: steps must be 1..1000, got 0"),
        (["--width", "65"], "sdkit: width must be a multiple of 8 in 8..4096, got 65; try 64"),
        (["--sampler", "hein"], "heun"),
        (["--model", "nothing-here"], 'sdkit: model must be "shapes", a diffusers folder'),
        (["--device", "tpu"], "sdkit: device must be one of cpu"),
        (["--memory", "huge"], "sdkit: memory must be one of auto, low, high, got 'huge'"),
        (["-o", "nowhere/out.png"], "sdkit: folder nowhere must exist"),
        (["--option", "clip_skip"], "sdkit: --option must be NAME=JSON such as clip_skip=2"),
        (["--option", "clip_skip=two"], "sdkit: --option must be NAME=JSON such as clip_skip=2"),
        (["--lora", "a.safetensors:x"], "sdkit: --lora must be FILE or FILE:WEIGHT, got 'a.safetensors:x'"),
        (["--image", "none.png"], "sdkit: image must be a picture, got 'none.png', which does not exist"),
        (["--stpes", "3"], "sdkit: no such option"),
        (["--steps", "few"], "sdkit: invalid value for '--steps'"),
        (["--steps"], "sdkit: option '--steps' requires an argument"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_users_mistake_is_one_line_and_exit_code_2(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str,
    as_json: bool,
) -> None:  # fmt: skip
    arguments = ["generate", "a red star", "-o", str(tmp_path / "out.png"), "--model", str(tiny_sd)]
    assert main([*arguments, *(["--json"] if as_json else []), *more]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    if as_json:
        error = json.loads(printed.out)["error"]
        assert f"sdkit: {error['message']}\n" == printed.err
    else:
        assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        (["--steps", "0"], "InvalidRequest"),
        (["--sampler", "hein"], "UnknownSampler"),
        (["--model", "nothing-here"], "ModelNotFound"),
        (["--stpes", "3"], "UsageError"),
    ],
)
def test_an_error_as_json_names_its_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], kind: str
) -> None:
    assert main(["generate", "a red star", "-o", str(tmp_path / "out.png"), "--json", *more]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == kind


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "sdkit: missing command; see `sdkit --help`\n"),
        (["samplers", "heun"], "see `sdkit samplers --help`\n"),
        (["generate", "-o", "out.png"], "sdkit: missing argument 'PROMPT'; see `sdkit generate --help`\n"),
        (["generate", "x"], "sdkit: missing option '-o' / '--out'; see `sdkit generate --help`\n"),
        (["generat", "x"], "Did you mean 'generate'?"),
    ],
)
def test_words_that_cannot_be_read_are_answered_with_where_help_is(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)


def test_samplers_are_listed_with_their_price_and_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samplers"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "title", "family", "order", "calls", "noise", "schedules"]
    assert [line.split()[0] for line in lines] == [sampler.name for sampler in samplers()]
    rows = {line.split()[0]: line for line in lines}
    assert rows["heun"].split()[:6] == ["heun", "Heun", "diffusion", "2", "2N-1", "deterministic"]
    assert rows["pndm"].split()[4] == "N+1"
    assert "stochastic" in rows["euler_a"]
    assert rows["ddim"].endswith("default sgm_uniform leading")


def test_samplers_as_json_hold_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samplers", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["samplers"]}
    assert list(rows) == [sampler.name for sampler in samplers()]
    assert rows["heun"]["calls"] == "2N-1"
    assert rows["pndm"]["aliases"] == ["plms"]
    assert rows["dpmpp_2m_karras"]["schedule"] == "karras"
    assert rows["dpmpp_2m"]["options"]["algorithm_type"] == "dpmsolver++"


def test_models_are_listed_and_what_else_can_be_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub

    snapshot = tmp_path / "models--owner--painter" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert main(["models"]) == 0
    bundled, cached, also = capsys.readouterr().out.splitlines()
    assert bundled.split() == ["shapes", "bundled", "10.1", "MiB", "StableDiffusionPipeline"]
    assert cached.split() == ["owner/painter", "hub", "cache", "0.0", "MiB", "FluxPipeline"]
    assert "a diffusers folder, a .safetensors file, and a hub id" in also
    assert main(["models", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert [(model["name"], model["source"]) for model in models] == [
        ("shapes", "bundled"),
        ("owner/painter", "hub cache"),
    ]


def test_doctor_tells_what_mends_it_and_fails_only_for_what_is_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib import metadata

    installed = metadata.version

    def without(*absent: str) -> None:
        def version(name: str) -> str:
            if name in absent:
                raise metadata.PackageNotFoundError(name)
            return installed(name)

        monkeypatch.setattr(metadata, "version", version)

    without("peft")
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    remedy = "pip install 'sdkit-t2i[lora]'"
    assert f"optional: peft is not installed; the extra 'lora' needs it: {remedy}" in lines
    assert "bundled model: whole" in lines
    assert lines[-1] == "usable"
    without("safetensors")
    assert main(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["usable"] is False
    assert document["bundled_model"] == "whole"
    assert document["devices"][-1]["id"] == "cpu"
    missing = next(package for package in document["packages"] if package["name"] == "safetensors")
    assert (missing["version"], missing["state"]) == (None, "missing")
    assert missing["remedy"] == "pip install 'safetensors>=0.6'"


def test_replay_makes_the_same_bytes_and_says_what_it_makes(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    assert main(_make(tiny_sd, first, "--steps", "3", "--seed", "7", "--sampler", "euler_a")) == 0
    capsys.readouterr()
    assert main(["replay", str(first), "-o", str(second), "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{second}  seed 7\n"
    what = "64 x 64 px of 'a red star', seed 7, euler_a, 3 steps, guidance 7.5"
    assert printed.err == f"sdkit: making {what}, model {tiny_sd}\n"
    assert second.read_bytes() == first.read_bytes()


def test_replay_takes_the_picture_that_it_began_with_and_a_model_that_moved(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, first, second = (tmp_path / f"{name}.png" for name in ("start", "first", "second"))
    Image.effect_noise((64, 64), 80).save(start)
    assert main(_make(tiny_sd, first, "--steps", "4", "--seed", "7", "--image", str(start))) == 0
    capsys.readouterr()
    moved = shutil.copytree(tiny_sd, tmp_path / "moved")
    replay = ["replay", str(first), "-o", str(second), "--device", "cpu", "--model", str(moved), "--json"]
    assert main(replay) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "InvalidRequest"
    assert "image=" in error["message"]
    assert main([*replay, "--image", str(start)]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["seed"] == 7
    with Image.open(first) as one, Image.open(second) as other:
        assert one.tobytes() == other.tobytes()


def test_ctrl_c_ends_in_one_line_and_exit_code_130(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, sdkit._generate as g\n"
        # A shell that runs the tests in its background lets its children ignore the signal.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "g.generate = lambda **given: os.kill(os.getpid(), signal.SIGINT)\n"
        "from sdkit._cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["generate", "x", "-o", str(tmp_path / "out.png"), "--model", "m"]
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "sdkit: stopped\n")


def test_a_mistake_in_a_real_process_leaves_no_traceback(tmp_path: Path) -> None:
    ended = _process(["generate", "", "-o", str(tmp_path / "out.png"), "--model", "shapes"])
    assert ended.returncode == 2
    assert ended.stderr == "sdkit: prompt must be a non-empty string, got ''\n"


def test_a_reader_that_goes_away_leaves_no_traceback() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "sdkit._cli", "samplers"]
    with os.fdopen(write_end, "w") as pipe:
        ended = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["samplers"], ["models"]])
def test_what_needs_no_model_loads_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from sdkit._cli import main\n"
        "ended = main(sys.argv[1:])\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'PIL'} & set(sys.modules)\n"
        "sys.exit(ended or (f'loaded {heavy}' if heavy else 0))"
    )
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["generate", "--stpes"]])
def test_pipes_get_no_colours_where_ci_asks_for_them(arguments: list[str]) -> None:
    ended = _process(arguments, GITHUB_ACTIONS="true", FORCE_COLOR="1", PY_COLORS="1")
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "─" not in ended.stdout + ended.stderr


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sdkit {version('sdkit-t2i')}\n"
