"""The benchmarks of a whole sweep: all ways make the same pictures, and what was found is told as it was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eval import sweep
from eval.benchmarks import __main__ as command
from eval.benchmarks import (
    careful,
    ideas,
    image_ways,
    images,
    inputs,
    naive,
    page,
    race,
    scaling,
    whole_sweep,
)
from eval.benchmarks.inputs import CellScores, Setting
from eval.benchmarks.part import Asked, Column, Kept, Part, Row
from eval.benchmarks.turns import CACHE, ROOT, Taken, Turn, Way, run_once, take_turns
from eval.benchmarks.whole_sweep import CAREFUL, EVERYTHING, NAIVE, OURS
from sdkit import InvalidRequest

SMALL = (
    "grid.sampler=[ddim,euler_a,dpmpp_2m,lms]", "grid.steps=[2]", "grid.guidance=[1,2]", "prompts.count=4",
    "hardware.batch=3", "reference.count=128", "metrics.scores=[clip_score,fid]", "metrics.converged.count=0",
)  # fmt: skip
PART = Part("sweep", "Title", "Told.", "way", (Column("seconds", ".1f"),), (Row("a|b", (1.25,)),))


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[Setting, CellScores]]:
    """What ours and both scripts find on the bundled model, in this process."""
    folder = tmp_path_factory.mktemp("ways")
    path = inputs.write_inputs(inputs.compose(SMALL), folder / "inputs")
    for name, script in (("careful", careful), ("naive", naive)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", [name, str(path), str(folder / name)])
            script.main()
    out, *overrides = inputs.sweep_command(folder / "ours", (*SMALL, *inputs.NO_SPEED))[1:]
    assert sweep.main([out, *overrides]) == 0
    return {name: inputs.read_scores(folder / name) for name in ("ours", "careful", "naive")}


@pytest.mark.parametrize("script", ["careful", "naive"])
def test_a_script_makes_the_pictures_that_ours_makes(
    script: str, scores: dict[str, dict[Setting, CellScores]]
) -> None:
    settings = list(scores["ours"])
    assert len(settings) == 8
    apart = whole_sweep.differences(scores[script], scores["ours"], settings)
    assert apart is not None
    assert apart.clip_score < whole_sweep.AGREED
    assert apart.fid < 1e-3  # the scripts' pictures differ by rounding alone


def test_scripts_are_given_the_sweeps_own_prompts_and_reference(tmp_path: Path) -> None:
    plan = inputs.compose(SMALL)
    given = json.loads(inputs.write_inputs(plan, tmp_path / "inputs").read_text())
    assert tuple(given["prompts"]) == plan.prompts.rows
    assert len(list(Path(given["reference"]).glob("*.png"))) == 128
    assert (given["samplers"], given["batch"], given["device"]) == (list(plan.grid.samplers), 3, "cpu")


def test_a_sampler_that_the_scripts_do_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"grid\.sampler must be of ddim, .*, got euler"):
        inputs.write_inputs(inputs.compose(("grid.sampler=[euler]",)), tmp_path)


def test_another_model_than_the_scripts_load_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"model\.source must be shapes for the scripts, got elsewhere"):
        inputs.write_inputs(inputs.compose(("model=folder", "model.source=elsewhere")), tmp_path)


def test_an_override_that_no_sweep_knows_is_refused_in_one_line() -> None:
    with pytest.raises(InvalidRequest, match=r"nearest: grid\.steps"):
        inputs.compose(("grid.stepz=[2]",))


def test_scaling_takes_a_share_of_the_prompts_for_all_ways() -> None:
    assert inputs.overrides_of(Asked(scale=0.25)) == ("prompts.count=32",)
    assert inputs.overrides_of(Asked()) == ()
    with pytest.raises(InvalidRequest, match="--scale must be over 0 and at most 1, got 2"):
        inputs.overrides_of(Asked(scale=2))


def _writes(word: str) -> Callable[[Path], Sequence[str]]:
    code = f"import os, sys; from pathlib import Path; Path(sys.argv[1], '{word}').write_text(os.environ['{CACHE}'])"
    return lambda own: ("-c", code, str(own))


def test_ways_take_turns_each_with_a_cache_of_its_own(tmp_path: Path) -> None:
    order: list[str] = []
    caches: list[str] = []

    def keep(way: Way, turn: Turn, own: Path) -> None:
        order.append(way.name)
        caches.append((own / way.name).read_text())

    taken = take_turns([Way("one", _writes("one"), 2), Way("two", _writes("two"), 1)], tmp_path, keep)
    assert order == ["one", "two", "one"]
    assert len(set(caches)) == 3
    assert [len(taken[name].seconds) for name in ("one", "two")] == [2, 1]


def test_a_turn_that_fails_has_no_seconds_but_a_reason() -> None:
    turn = run_once(("-c", f"raise SystemExit('{ROOT}/engine is not known')"))
    assert turn == Turn(None, "exit code 1: engine is not known")
    taken = Taken((turn, Turn(2.0)))
    assert (taken.median_s, taken.failure) == (2.0, turn.failure)


def test_a_turn_keeps_the_bytecode_of_what_it_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert run_once(("-c", "import sys; print(sys.dont_write_bytecode)")).printed == "False\n"


def test_ratios_are_of_turns_of_one_round() -> None:
    ours = Taken((Turn(1.0), Turn(10.0), Turn(2.0)))
    slowing = Taken((Turn(3.0), Turn(30.0)))  # the medians alone would say 8.25
    assert slowing.over(ours) == 3.0
    assert Taken((Turn(None, "lost"),)).over(ours) is None


def _swept(clip: float, **failed: str) -> Part:
    plan = inputs.compose(("grid.sampler=[ddim]", "grid.steps=[2]", "grid.guidance=[1]"))
    setting = Setting("ddim", 2, 1.0)
    names = (OURS, CAREFUL, NAIVE, EVERYTHING)
    found = {name: {setting: CellScores(90.0, 50.0)} for name in names}
    found[CAREFUL] = {setting: CellScores(90.0 + clip, 55.0)}
    taken = {name: Taken((Turn(4.0), Turn(6.0))) for name in names}
    taken[NAIVE] = Taken((Turn(None, "lost"),) if failed else (Turn(40.0),))
    if failed:
        found[NAIVE] = {}
    return whole_sweep.table(plan, taken, found)


def test_the_table_says_how_far_each_way_is_from_ours() -> None:
    part = _swept(0.001)
    rows = {row.label: row.values for row in part.rows}
    assert rows[OURS] == (2, 5.0, 4.0, 6.0, 1.0, 0.0, 0.0)
    assert rows[NAIVE][:5] == (1, 40.0, 40.0, 40.0, 10.0)
    assert rows[CAREFUL][5:] == (pytest.approx(0.001), pytest.approx(0.1))
    assert any(note.startswith("careful script: agrees") for note in part.notes)
    assert part.notes[-1] == f"fewer turns than 2, whose figures are of the first rounds: {NAIVE} (1)"


def test_a_way_that_disagrees_or_failed_is_named() -> None:
    part = _swept(0.5, naive="lost")
    assert any(
        "careful script: DISAGREES with ours by 0.5 in CLIP score at ddim, 2 steps" in note
        for note in part.notes
    )
    assert any("naive script: whether it agrees with ours is not known" in note for note in part.notes)
    lost = next(row for row in part.rows if row.label == NAIVE)
    assert (lost.values[1], lost.values[4:], lost.reason) == (None, (None, None, None), "lost")


def test_growth_is_told_by_the_row_that_was_added() -> None:
    sizes = {"small": scaling.Size(), "large": scaling.Size(prompts=64)}
    part = scaling.table(sizes, {"small": Taken((Turn(5.0),)), "large": Taken((Turn(6.28),))})
    assert part.rows[0].values == (1, 32, 2, 128, 5.0, None)
    assert part.rows[1].values[-1] == pytest.approx(10.0)
    assert inputs.compose(scaling.Size(cells=4).overrides).grid.guidances == (2.0, 2.25, 2.5, 2.75)


def test_an_idea_that_cannot_be_switched_off_says_so() -> None:
    taken = {"shared": Taken((Turn(2.0),)), "plain path": Taken((Turn(None, "exit code 2: no engine"),))}
    part = ideas.table(taken)
    assert part.rows[0].values == (2.0, 1.0)
    assert part.rows[1] == Row(
        "plain path `engine=percell` `hardware.compile=off`", (None, None), "exit code 2: no engine"
    )


def test_racing_is_left_out_with_its_reason_where_it_has_no_benchmark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(race, "RACING", "eval.no_such_benchmark")
    assert race.race(Asked()).rows == (
        Row("eval.no_such_benchmark", (None,), "there is no eval.no_such_benchmark"),
    )
    assert race.table(Row("racing", (1.0,)), "# Its title\ntext").page == "### Its title\ntext"


@pytest.mark.parametrize("way", [images.EAGER, images.OURS])
def test_a_way_of_making_batches_tells_its_seconds(
    way: str, tiny_sd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = image_ways.Shape(str(tiny_sd), "cpu", "float32", 64, 2, 2.0, 2)
    image_ways.main([way, json.dumps(asdict(shape))])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["seconds"]) == image_ways.REPEATS
    assert (found["flops_per_image"] is None) == (way == images.EAGER)


def test_both_ways_make_the_same_batch(tiny_sd: Path) -> None:
    shape = image_ways.Shape(str(tiny_sd), "cpu", "float32", 64, 2, 2.0, 2)
    theirs, (ours, _) = image_ways.by_diffusers(shape, compiled=False), image_ways.by_session(shape)
    difference = torch.cat(theirs()).int() - ours().images.int()
    assert difference.abs().max() <= 1  # a level, where rounding falls the other way


def test_utilisation_holds_every_way_against_the_same_operations() -> None:
    shape = image_ways.Shape("m", "cuda", "bfloat16", 512, 20, 7.5, 10)
    eager = images.Measured(
        "sd15", images.EAGER, shape, (image_ways.Batches((2.0,), None, 1e14, None),), None
    )
    ours = images.Measured(
        "sd15", images.OURS, shape, (image_ways.Batches((1.0,), 10**12, 1e14, None),), None
    )
    rows = images.table([eager, ours], "cuda").rows
    assert [row.values for row in rows] == [(10, 5, 1, 1, 0.05), (10, 10, 2, 1, 0.1)]


def _kept(part: Part) -> Kept:
    return Kept(part, "2030-01-02T03:04:05+00:00", "python -m eval.benchmarks sweep", {"cpu": "a processor"})


def test_a_kept_part_is_replaced_by_a_fresh_one_and_others_stay(tmp_path: Path) -> None:
    other = replace(PART, name="first")
    page.write(page.Results().with_parts([_kept(other), _kept(PART)], tuple(command.PARTS)), tmp_path)
    fresh = replace(PART, rows=(Row("new", (None,), "it was lost"),))
    page.write(page.read(tmp_path).with_parts([_kept(fresh)], tuple(command.PARTS)), tmp_path)
    assert [kept.part for kept in page.read(tmp_path).parts] == [fresh, other]


def test_the_page_is_a_table_with_reasons_for_what_is_empty() -> None:
    part = replace(PART, rows=(*PART.rows, Row("lost", (None,), "out of memory")), notes=("a note",))
    lines = page.section(_kept(part)).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table == ["| way | seconds |", "| --- | --: |", "| a\\|b | 1.2 |", f"| lost | {page.UNKNOWN} |"]
    assert lines[-2:] == ["- a note", "- lost: out of memory"]
    assert "cpu a processor." in lines


def test_the_command_keeps_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Asked] = []

    def measure(asked: Asked) -> Part:
        seen.append(asked)
        return PART

    monkeypatch.setitem(command.PARTS, "sweep", measure)
    asked = ["--runs", "3", "--scale", "0.5", "--set", "grid.steps=[4]"]
    assert command.main(["sweep", *asked, "--write", "--out", str(tmp_path / "new")]) == 0
    assert seen == [Asked(runs=3, naive_runs=3, scale=0.5, overrides=("grid.steps=[4]",))]
    (kept,) = page.read(tmp_path / "new").parts
    assert kept.command.endswith("sweep --runs 3 --scale 0.5 --set 'grid.steps=[4]' --write")
    assert {"commit", "torch", "cpu"} <= kept.environment.keys()
    assert str(tmp_path) not in (tmp_path / "new" / "RESULTS.md").read_text()
    assert "## Title" in capsys.readouterr().out


def test_results_of_another_form_are_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(command.PARTS, "sweep", lambda asked: pytest.fail("it was measured"))
    (tmp_path / "results.json").write_text('{"parts": [], "more": 1}')
    assert command.main(["sweep", "--write", "--out", str(tmp_path)]) == 2
    assert "results.json: unknown field 'more'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["sweeps"], "part must be of sweep, ideas"), (["--runs", "0"], "--runs must be at least 1, got 0")],
)
def test_a_command_that_cannot_be_met_says_why(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_the_scripts_hold_nothing_of_ours() -> None:
    for script in (careful, naive):
        imported: Any = Path(str(script.__file__)).read_text().splitlines()
        lines = [line for line in imported if line.startswith(("import ", "from "))]
        assert lines
        assert not [line for line in lines if "sdkit" in line or " eval" in line]
