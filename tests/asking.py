"""The plan of a command line, composed as `python eval/sweep.py` composes it."""

from __future__ import annotations

from collections.abc import Callable

from hydra import compose, initialize_config_dir

from eval.config import CONF, to_plan
from eval.records import Plan
from eval.schema import register

Ask = Callable[..., Plan]


def ask_for(*overrides: str) -> Plan:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_plan(compose("sweep", list(overrides)))
