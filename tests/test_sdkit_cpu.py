"""The processor's name: one that several generations share is told apart."""

from __future__ import annotations

import pytest

from sdkit._cpu import cpu_name, told_apart

ZEN_5 = ["processor\t: 0", "cpu family\t: 26", "model\t\t: 2", "model name\t: AMD EPYC", "", "processor\t: 1"]


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (ZEN_5, "AMD EPYC (family 26, model 2)"),
        ([*ZEN_5, "cpu family\t: 25", "model name\t: another"], "AMD EPYC (family 26, model 2)"),
        (["cpu family\t: 25", "model\t: 17", "model name\t: AMD EPYC 9R14"], "AMD EPYC 9R14"),
        (["model name\t: Some Processor"], "Some Processor"),
        (["model name\t:"], None),
        (["processor\t: 0", "BogoMIPS\t: 50.00"], None),
    ],
)
def test_a_name_without_a_number_gets_what_lies_behind_it(lines: list[str], name: str | None) -> None:
    assert told_apart(lines) == name


def test_this_machine_has_a_name() -> None:
    assert cpu_name().strip()
