"""Ray on one machine with two workers: the same bytes as one process, also when a worker is killed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_bench import FakeActor, contents, plan, run

from eval import sweep
from eval.running.loading import load_run
from eval.running.ray_pool import ROOT, RayPool, ray_pool
from sdkit import InvalidRequest

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    found = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    found.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield found
    found.shutdown()


def pool(ray: Any, root: Path, workers: int = 2) -> RayPool:
    root.mkdir(parents=True, exist_ok=True)
    paths = (str(ROOT), str(Path(__file__).parent))
    return RayPool(plan(root), root, workers, ray, ours=False, actor=FakeActor, paths=paths)


def test_two_workers_of_ray_leave_the_same_bytes_as_one_process(ray: Any, tmp_path: Path) -> None:
    run(tmp_path / "whole")
    said: list[str] = []
    found = run(tmp_path / "run", said=said, pool=pool(ray, tmp_path / "run"))
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert [found.results[place].scores for place in range(4)] == [
        result.scores for result in load_run(tmp_path / "whole").results
    ]
    made = [line.partition(": made in")[0] for line in said if ": made in" in line]
    assert len(made) == len(set(made)) == 12


def test_a_worker_of_ray_killed_in_a_batch_is_replaced_and_the_sweep_ends_whole(
    ray: Any, tmp_path: Path
) -> None:
    run(tmp_path / "whole")
    root, said = tmp_path / "run", list[str]()
    root.mkdir()
    (root / "kill").touch()
    found = run(root, said=said, pool=pool(ray, root))
    assert contents(root) == contents(tmp_path / "whole")
    assert all(result.error is None for result in found.results.values())
    assert sum("its worker on Ray's place" in line and "died" in line for line in said) == 1


def test_a_real_sweep_by_ray_equals_the_local_one(ray: Any, tmp_path: Path, tiny_sd: Path) -> None:
    command = [
        "model=folder", f"model.source={tiny_sd}", "model.width=64", "model.height=64", "grid.sampler=[ddim]",
        "grid.steps=[2]", "grid.guidance=[3]", "prompts.count=4", "reference.count=16", "hardware.batch=2",
        "hardware.timing_batch=1", "hardware.latency_repeats=1", "metrics.batch=3", "metrics.converged.count=0",
    ]  # fmt: skip
    assert sweep.main([*command, f"out={tmp_path / 'a' / 'local'}"]) == 0
    by_ray = ["executor=ray", "executor.workers=1", f"out={tmp_path / 'b' / 'ray'}"]
    assert sweep.main([*command, *by_ray]) == 0
    local, ours = load_run(tmp_path / "a" / "local"), load_run(tmp_path / "b" / "ray")
    (first,), (second,) = local.results, ours.results
    assert (first.cell, second.error) == (second.cell, None)
    for one, other in zip(first.scores, second.scores, strict=True):
        assert (one.value is None) == (other.value is None)
        if one.value is not None:
            assert one.value == pytest.approx(other.value, rel=1e-3, abs=1e-3)


def test_without_ray_installed_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidRequest, match=r"pip install 'sdkit-t2i\[ray\]'"):
        ray_pool(plan(tmp_path), tmp_path)


def test_devices_are_not_for_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main(["executor=ray", "hardware.devices=[cpu]", f"out={tmp_path / 'run'}"]) == 2
    assert "hardware.devices is for executor=local" in capsys.readouterr().err
