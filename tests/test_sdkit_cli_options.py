"""What can be written on the command line, how it reaches `generate`, and what the shell proposes."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import sdkit._generate
from sdkit import Lora, Session
from sdkit import _cli_options as cli_options
from sdkit._cli import _generate as generate_command
from sdkit._cli import main
from sdkit._cli_options import complete_sampler, read_embeddings, read_lora, read_options
from sdkit._errors import InvalidRequest

ROOT = Path(__file__).parents[1]
# Decided by the command line itself: a bar where standard error is a terminal, and no calls back.
NOT_OFFERED = {"progress", "on_step"}


def _process(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sdkit._cli", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `sdkit.generate` is called with; nothing is made."""
    arguments: dict[str, Any] = {}

    def generate(**given: Any) -> None:
        arguments.update(given)
        raise InvalidRequest("nothing is made here")

    monkeypatch.setattr(sdkit._generate, "generate", generate)
    return arguments


def test_every_argument_of_generate_is_offered_with_its_default() -> None:
    function = inspect.signature(sdkit._generate.generate).parameters
    command = inspect.signature(generate_command).parameters
    assert set(function) - NOT_OFFERED == set(command) - {"out", "as_json"}
    # Lists are None on the command line until something is given.
    single = [n for n in command if n in function and n not in ("loras", "embeddings", "control_scale")]
    assert {n: command[n].default for n in single} == {n: function[n].default for n in single}


def test_what_is_not_written_is_passed_as_generates_own_default(
    passed: dict[str, Any], tmp_path: Path
) -> None:
    assert main(["generate", "a red star", "-o", str(tmp_path / "out.png")]) == 2
    expected = {
        name: parameter.default
        for name, parameter in inspect.signature(generate_command).parameters.items()
        if name not in ("out", "as_json")
    }
    lists = {"prompt": "a red star", "loras": [], "embeddings": [], "control_scale": 1.0, "model": "shapes"}
    assert passed == expected | lists


def test_every_option_reaches_generate(passed: dict[str, Any], tmp_path: Path) -> None:
    words = f"""generate red blue -o {tmp_path}/out.png --model m --revision r --config c
        --prediction-type sample --vae v
        --lora a.safetensors:0.5 --lora b.safetensors --embedding cat=c.safetensors --controlnet c1
        --controlnet c2 --refiner f --quantise fp8 --allow-pickle --local-files-only --negative blur --sampler heun
        --schedule karras --steps 9 --guidance 3.5 --guidance-interval 0.3 5 --seed 5 --num-images 2
        --width 64 --height 72 --refiner-start 0.7 --option clip_skip=2 --option x="y" --trajectory 4
        --image i.png --image j.png --strength 0.4 --mask m.png --image-guidance 2 --control-image k.png
        --control-image l.png --control-scale 0.5 --control-scale 0.25 --batch-size 3
        --device cpu --dtype float16 --memory low --compile off"""
    assert main(words.split()) == 2
    assert passed == {
        "prompt": ["red", "blue"],
        "model": "m",
        "revision": "r",
        "config": "c",
        "prediction_type": "sample",
        "vae": "v",
        "loras": [Lora("a.safetensors", 0.5), Lora("b.safetensors", 1.0)],
        "embeddings": {"cat": "c.safetensors"},
        "controlnet": ["c1", "c2"],
        "refiner": "f",
        "quantise": "fp8",
        "allow_pickle": True,
        "local_files_only": True,
        "negative_prompt": "blur",
        "sampler": "heun",
        "schedule": "karras",
        "steps": 9,
        "guidance_scale": 3.5,
        "guidance_interval": (0.3, 5.0),
        "seed": 5,
        "num_images": 2,
        "width": 64,
        "height": 72,
        "refiner_start": 0.7,
        "options": {"clip_skip": 2, "x": "y"},
        "trajectory": 4,
        "image": ["i.png", "j.png"],
        "strength": 0.4,
        "mask": "m.png",
        "image_guidance_scale": 2.0,
        "control_image": ["k.png", "l.png"],
        "control_scale": [0.5, 0.25],
        "batch_size": 3,
        "device": "cpu",
        "dtype": "float16",
        "memory": "low",
        "compile": "off",
    }


@pytest.mark.parametrize(
    ("text", "lora"),
    [
        ("ink.safetensors", Lora("ink.safetensors")),
        ("ink.safetensors:0.8", Lora("ink.safetensors", 0.8)),
        ("ink.safetensors:-1", Lora("ink.safetensors", -1.0)),
        ("owner/name:0.5", Lora("owner/name", 0.5)),
        (r"C:\styles\ink.safetensors", Lora(r"C:\styles\ink.safetensors")),
        (r"C:\styles\ink.safetensors:0.8", Lora(r"C:\styles\ink.safetensors", 0.8)),
        ("C:5", Lora("C:5")),
        ("a:b/ink.safetensors", Lora("a:b/ink.safetensors")),
    ],
)
def test_a_lora_is_a_file_with_or_without_a_weight(text: str, lora: Lora) -> None:
    assert read_lora(text) == lora


def test_a_lora_whose_own_name_ends_like_a_weight_is_taken_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "style:2").mkdir()
    assert read_lora(f"{tmp_path}/style:2") == Lora(f"{tmp_path}/style:2")
    assert read_lora(f"{tmp_path}/style:2:0.5") == Lora(f"{tmp_path}/style:2", 0.5)


def test_embeddings_name_their_tokens_or_leave_that_to_the_file(tmp_path: Path) -> None:
    assert read_embeddings(["<cat>=c.pt", "dog=C:\\d.pt"]) == {"<cat>": "c.pt", "dog": "C:\\d.pt"}
    assert read_embeddings(["c.pt", "folder/d=1.pt"]) == ["c.pt", "folder/d=1.pt"]
    (tmp_path / "a=b.pt").touch()
    assert read_embeddings([f"{tmp_path}/a=b.pt"]) == [f"{tmp_path}/a=b.pt"]
    for mixed in (["cat=c.pt", "d.pt"], ["cat=c.pt", "cat=d.pt"]):
        with pytest.raises(InvalidRequest, match="--embedding must name a token for each file or for none"):
            read_embeddings(mixed)


def test_options_hold_json_values() -> None:
    assert read_options(["a=2", 'b="x=y"', "c=[1, null]", "d=true"]) == {
        "a": 2,
        "b": "x=y",
        "c": [1, None],
        "d": True,
    }
    assert read_options([]) is None


def test_sampler_names_complete_with_their_titles() -> None:
    assert complete_sampler("heu") == [("heun", "Heun")]
    assert ("euler_a", "Euler a") in complete_sampler("euler")
    assert complete_sampler("euler_k") == [("euler_karras", "Euler Karras")]
    assert complete_sampler("plm") == [("plms", "PLMS")]
    assert complete_sampler("nothing") == []


def test_what_is_proposed_is_what_is_accepted() -> None:
    for memory in cli_options.MEMORY:
        assert Session("shapes", device="cpu", memory=memory).memory == memory
    for dtype in cli_options.DTYPES:
        assert Session("shapes", device="cpu", dtype=dtype).dtype == dtype
    assert Session("shapes", device="cpu", compile=cli_options.NAMES[0]).compile in cli_options.NAMES


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        ("sdkit generate --sampler dpmpp_2m_s", ["dpmpp_2m_sde", "dpmpp_2m_sde_heun"]),
        ("sdkit generate --schedule k", ["karras"]),
        ("sdkit generate --memory ", ["auto", "low", "high"]),
        ("sdkit sam", ["samplers"]),
        ("sdkit generate --traj", ["--trajectory"]),
    ],
)
def test_the_shell_is_proposed_names(words: str, proposed: list[str]) -> None:
    at = str(len(words.split(" ")) - 1)
    ended = _process([], _SDKIT_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=at)
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, proposed, "")


def test_bash_completes_sampler_names_by_the_script_that_is_installed(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    (tmp_path / "sdkit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sdkit._cli "$@"\n')
    (tmp_path / "sdkit").chmod(0o755)
    script = (
        'eval "$(_SDKIT_COMPLETE=source_bash sdkit)"\n'
        # bash keeps the quotation marks as they were typed
        "COMP_WORDS=(sdkit generate '\"a red star\"' --sampler dpmpp_2m_s) COMP_CWORD=4\n"
        'complete -p sdkit && _sdkit_completion sdkit && printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        [bash, "--norc", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PATH": path},
    )
    complete, *names = ended.stdout.splitlines()
    assert (complete, names) == (
        "complete -o default -F _sdkit_completion sdkit",
        ["dpmpp_2m_sde", "dpmpp_2m_sde_heun"],
    )


def test_the_target_is_checked_before_anything_is_loaded(
    passed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "a red star", "-o", str(tmp_path / "out.txt")]) == 2
    assert "path must end in a picture format such as .png" in capsys.readouterr().err
    assert passed == {}
