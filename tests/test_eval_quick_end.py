"""How a script's process ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import atexit, sys
from eval.command import QuickEnd

class Late:
    def __del__(self):
        print("taken apart")

end, late = QuickEnd(), Late()
atexit.register(print, "registered")
end.code = {code}
print("done")
sys.exit(3)
"""


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [(0, 0, ["done", "registered"]), (3, 3, ["done", "registered"]), (None, 3, ["done", "registered", "taken apart"])],
)  # fmt: skip
def test_with_a_code_the_process_ends_before_its_modules_are_taken_apart_and_without_one_as_usual(
    code: int | None, exit_code: int, said: list[str]
) -> None:
    command = [sys.executable, "-c", SCRIPT.format(code=code)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout.splitlines(), ended.stderr) == (exit_code, said, "")
