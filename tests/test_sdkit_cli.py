"""The command line: exit code 0 with the files that were written, 2 with one line for a user's mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sdkit._cli import main

ROOT = Path(__file__).parents[1]


def test_generate_writes_its_pictures_and_says_their_seeds(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    arguments = ["generate", "a red star", "-o", str(out), "--model", str(tiny_sd), "--device", "cpu"]
    assert main([*arguments, "--sampler", "Euler a", "--steps", "3", "--seed", "7", "--num-images", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"{tmp_path}/out-0000.png  seed 7",
        f"{tmp_path}/out-0001.png  seed 8",
    ]
    assert printed.err == ""
    with Image.open(tmp_path / "out-0001.png") as image:
        assert image.size == (64, 64)


def test_samplers_are_listed_with_their_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samplers"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert len(lines) == 11
    assert "2N-1" in lines["heun"]
    assert "N+1" in lines["pndm"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps", "0"], "sdkit: steps must be 1..1000, got 0"),
        (["--width", "65"], "sdkit: width must be a multiple of 8 in 8..4096, got 65; try 64"),
        (["--sampler", "hein"], "nearest: heun"),
        (["--model", "nothing-here"], 'sdkit: model must be "shapes", a diffusers folder or a hub id'),
        (["--device", "tpu"], "sdkit: device must be one of cpu"),
        (["-o", "nowhere/out.png"], "sdkit: folder nowhere must exist"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    arguments = ["generate", "a red star", "-o", str(tmp_path / "out.png"), "--model", str(tiny_sd)]
    assert main([*arguments, *more]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_mistake_in_a_real_process_leaves_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sdkit._cli", "generate", "", "-o", str(tmp_path / "out.png")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 2
    assert ended.stderr == "sdkit: prompt must be a non-empty string, got ''\n"
