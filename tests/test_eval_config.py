"""The configuration composes, becomes a frozen plan, and says what is wrong with it in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from asking import Ask
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from eval.command import one_line, opened
from eval.config import CONF, ROOT, to_yaml
from eval.schema import register
from sdkit import InvalidRequest, UnknownSampler

GROUPS = {
    folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
    for folder in sorted(CONF.iterdir())
    if folder.is_dir()
}


def test_the_default_is_at_least_36_cells_of_128_prompts_on_the_bundled_model(ask: Ask) -> None:
    plan = ask()
    assert plan.model.source == "shapes"
    assert len(plan.grid.samplers) * len(plan.grid.steps) * len(plan.grid.guidances) >= 36
    assert len(plan.prompts.texts) == 128
    assert (plan.model.device, plan.model.dtype) == ("cpu", "float32")


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group, options in GROUPS.items() for option in options]
)
def test_every_option_of_every_group_composes(group: str, option: str, tmp_path: Path) -> None:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("sweep", [f"{group}={option}"])
    assert OmegaConf.to_object(composed) is not None
    assert to_yaml(composed)


def test_equal_plans_share_a_folder_and_others_do_not(ask: Ask) -> None:
    assert ask().folder == ask("out=null").folder
    assert Path(ask().folder).parent == ROOT / "reports"
    assert Path(ask().folder).name.startswith("shapes-")
    assert ask("grid.seed=1").folder != ask().folder
    assert ask("out=/somewhere").folder == "/somewhere"


def test_a_models_name_cannot_leave_the_reports(ask: Ask) -> None:
    folder = Path(ask("model=folder", "model.source=x", "model.name=../../etc/x y").folder)
    assert folder.parent == ROOT / "reports"
    assert folder.name.startswith("etc-x-y-")


def test_aliases_and_repeats_become_one_axis_value(ask: Ask) -> None:
    grid = ask(
        "grid.sampler=[Euler a,euler_ancestral,ddim]", "grid.steps=[4,4]", "grid.guidance=[1,1.0]"
    ).grid
    assert (grid.samplers, grid.steps, grid.guidances) == (("euler_a", "ddim"), (4,), (1.0,))


def test_a_prompt_file_and_a_reference_folder_become_the_plan(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\na dog\n")
    (tmp_path / "1.png").touch()
    (tmp_path / "2.png").touch()
    plan = ask(
        "prompts=file", f"prompts.path={tmp_path}/p.txt", "reference=folder", f"reference.path={tmp_path}"
    )
    assert plan.prompts.texts == ("a cat", "a dog")
    assert plan.reference.path == str(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["grid.sampler=[eular]"], "got 'eular'; nearest: euler"),
        (["grid.sampler=[]"], "grid.sampler must hold at least one value"),
        (["grid.steps=[4,0]"], "steps must be 1..1000, got 0"),
        (["grid.steps=[1000000]"], "steps must be 1..1000, got 1000000"),
        (["grid.sampler=[heun]", "grid.steps=[2]"], "steps must be 3..1000 for heun, got 2"),
        (["grid.guidance=[0.5]"], "guidance_scale must be 1..50"),
        (["grid.seed=-1"], "grid.seed must be 0.."),
        (["model.width=65"], "model.width must be a multiple of 8 in 8..4096, got 65; try 64"),
        (["model.height=100000"], "model.height must be a multiple of 8"),
        (["model=folder"], "model.source must be a folder or a hub id"),
        (["prompts.count=0"], "prompts.count must be 1 or more, got 0"),
        (["prompts=file"], "prompts.path must be a file for prompts=file, got nothing"),
        (["prompts=file", "prompts.path=/none.txt"], "prompts file /none.txt cannot be read"),
        (["prompts.kind=poem"], "prompts.kind must be one of shapes, file, got 'poem'"),
        (["reference=folder"], "reference.path must be a folder of pictures"),
        (["reference=folder", "reference.path=/none"], "got '/none'; there is none"),
        (["reference.count=1"], "reference.count must be 2..50000, got 1"),
        (["metrics.extractors=[fid]"], "metrics.extractors must be one of shapes-clip, inception"),
        (["metrics.extractors=[]"], "metrics.extractors must hold at least one value"),
        (["metrics.scores=[fidd]"], "fid"),
        (["+metrics.weights.vgg=x"], "metrics.weights must be one of shapes-clip"),
        (
            ["metrics.converged.sampler=euler_a"],
            "metrics.converged.sampler must be deterministic, got 'euler_a'",
        ),
        (["metrics.converged.count=-1"], "metrics.converged.count must be 0..4096, got -1"),
        (["metrics.batch=0"], "metrics.batch must be 1..4096, got 0"),
        (["prompts.seeds_per_prompt=0"], "prompts.seeds_per_prompt must be 1..4096, got 0"),
        (["prompts.split=held"], "prompts.split must be one of"),
        (["reference.crop=square"], "reference.crop"),
        (["windows=[{score: fid, low: 2, high: 1, source: x}]"], "must have low < high"),
        (["hardware.batch=0"], "hardware.batch must be 1..4096, got 0"),
        (["hardware.dtype=float8"], "hardware.dtype must be one of float32"),
        (["hardware.threads=0"], "hardware.threads must be 1..4096, got 0"),
    ],
)
def test_a_bad_value_is_one_line_that_says_what_is_allowed(ask: Ask, overrides: list[str], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(*overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_sampler_has_its_own_kind(ask: Ask) -> None:
    with pytest.raises(UnknownSampler):
        ask("grid.sampler=[nope]")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("grid.step=[4]", "nearest: grid.steps"),
        ("model=sdlx", "sdxl"),
        ("modle=shapes", "nearest: model"),
        ("grid.steps=[a]", "could not be converted to Integer"),
        ("grid.steps=4", "grid.steps"),
        ("grid.steps=[4", "grid.steps=[4"),
    ],
)
def test_hydras_own_refusals_become_one_line(ask: Ask, override: str, said: str) -> None:
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        ask(override)
    line = one_line(caught.value)
    assert said in line
    assert "\n" not in line


def test_keys_of_the_users_own_words_need_no_sign_of_hydras(ask: Ask, tmp_path: Path) -> None:
    assert opened(["metrics.weights.inception=f", "prompts.where.Category=x", "grid.seed=1"]) == [
        "++metrics.weights.inception=f",
        "++prompts.where.Category=x",
        "grid.seed=1",
    ]
    (tmp_path / "p.csv").write_text("Prompt,Category\na cat,Animals\na car,Vehicles\n")
    asked = ["prompts=file", f"prompts.path={tmp_path / 'p.csv'}", "prompts.where.Category=Animals"]
    assert ask(*opened(asked)).prompts.texts == ("a cat",)


def test_guards_and_scores_of_the_rule_are_given_by_name(ask: Ask) -> None:
    asked = [
        "decide.guards.clipped.high=0.02",
        "decide.guards.clipped.low=0.01",
        "decide.guards.judge_all.low=0.9",
    ]
    decide = ask(*opened([*asked, "decide.scores.kid={weight: 2, margin: 3%}"])).decide
    assert [(each.score, each.low, each.high) for each in decide.guards] == [
        ("clipped", 0.01, 0.02),
        ("judge_all", 0.9, None),
    ]
    assert [each.name for each in decide.scores] == ["clip_score", "fid", "kid"]


def test_importing_the_harness_loads_no_torch() -> None:
    code = "import sys, eval.config; print([name for name in ('torch', 'diffusers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_batch_is_a_number_or_is_searched(ask: Ask) -> None:
    assert (ask("hardware.batch=3").hardware.batch, ask("hardware.batch=3").hardware.search_batch) == (
        3,
        False,
    )
    auto = ask("hardware.batch=auto", "hardware.max_batch=8", "hardware.timing_batch=4").hardware
    assert (auto.search_batch, auto.batch, auto.max_batch, auto.timing_batch) == (True, 8, 8, None)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("hardware.batch=many", "must be a number or \"auto\", got 'many'"),
        ("hardware.batch=0", "hardware.batch must be 1..4096, got 0"),
        ("hardware.max_batch=0", "hardware.max_batch"),
        ("hardware.noise_bound=0", "hardware.noise_bound must be a finite number above 0"),
        ("hardware.price_per_hour=-1", "hardware.price_per_hour must be a finite number above 0"),
        ("hardware.price_per_hour=nan", "hardware.price_per_hour"),
    ],
)
def test_what_measuring_cannot_do_is_said_before_work(ask: Ask, asked: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        ask(asked)


def test_a_price_has_a_currency(ask: Ask) -> None:
    hardware = ask("hardware.price_per_hour=2.5", "hardware.currency=EUR").hardware
    assert (hardware.price_per_hour, hardware.currency) == (2.5, "EUR")
    assert ask().hardware.price_per_hour is None
