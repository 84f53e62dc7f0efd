"""Training in small: every stage runs, resumes where it stopped, and writes what plain libraries load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sdkit.shapes import _autoencoder, _contrastive, _denoiser, _loop, _pool, train

CPU = torch.device("cpu")


@pytest.fixture
def in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = (_autoencoder, "CROPS WHOLE DECODER"), (_contrastive, "TEXT SCORER"), (_denoiser, "SCHEDULE")
    for room, name in ((room, name) for room, names in stages for name in names.split()):
        monkeypatch.setattr(room, name, replace(getattr(room, name), steps=2, batch=4, warmup=1))
    monkeypatch.setattr(_pool, "COUNT", 8)
    monkeypatch.setattr(_autoencoder, "EVALUATED", 4)
    monkeypatch.setattr(_contrastive, "EVALUATED", 4)


@pytest.mark.usefixtures("in_small")
def test_training_from_nothing_writes_folders_that_diffusers_and_open_clip_load(tmp_path: Path) -> None:
    import open_clip
    from diffusers import StableDiffusionPipeline

    weights = tmp_path / "weights"
    arguments = ["--folder", str(tmp_path / "run"), "--weights", str(weights), "--device", "cpu"]
    assert train.main(arguments) == 0
    pipeline = StableDiffusionPipeline.from_pretrained(weights / "pipeline", dtype=torch.float32)
    assert pipeline.safety_checker is None
    assert pipeline("a red star", num_inference_steps=1, output_type="np").images.shape == (1, 64, 64, 3)
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{weights / 'scorer'}")
    assert model.encode_image(torch.zeros(1, 3, 64, 64)).shape == (1, 64)
    assert {path.suffix for path in weights.rglob("*") if path.stat().st_size > 100_000} == {".safetensors"}


def _learn(folder: Path, steps: int, schedule: _loop.Schedule, shares: int = 1) -> list[float]:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = nn.Linear(3, 1)

    def objective(share: int) -> _loop.Objective:
        def step(index: int) -> dict[str, torch.Tensor]:
            generator = torch.Generator().manual_seed(index)
            inputs = torch.randn(8, 3, generator=generator)[share::shares]
            return {"loss": (model(inputs)[:, 0] - inputs.sum(1)).square().mean()}

        return step

    objectives = [objective(share) for share in range(shares)]
    _loop.learn("toy", model, objectives, replace(schedule, steps=steps), folder)
    return model.weight.detach().flatten().tolist()


def test_a_run_that_was_stopped_ends_where_one_that_was_not_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = _loop.Schedule(steps=20, batch=8, rate=1e-2, warmup=2, average=True)
    constant = monkeypatch.setattr(_loop.Schedule, "rate_at", lambda self, step: self.rate)
    assert constant is None
    whole = _learn(tmp_path / "whole", 20, schedule)
    _learn(tmp_path / "stopped", 9, schedule)
    assert _learn(tmp_path / "stopped", 20, schedule) == pytest.approx(whole, rel=1e-6)


def test_two_shares_side_by_side_learn_what_one_whole_batch_does(tmp_path: Path) -> None:
    schedule = _loop.Schedule(steps=10, batch=8, rate=1e-2, warmup=2)
    whole = _learn(tmp_path / "whole", 10, schedule)
    assert _learn(tmp_path / "shares", 10, schedule, shares=2) == pytest.approx(whole, rel=1e-5)


def test_the_rate_warms_up_and_falls_to_a_hundredth() -> None:
    schedule = _loop.Schedule(steps=1000, batch=1, rate=1.0, warmup=10)
    rates = [schedule.rate_at(step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[1000] == pytest.approx(0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)
