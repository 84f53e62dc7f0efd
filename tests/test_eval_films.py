"""Filmstrips: the way to a scored picture, made beside the scores and never in their way."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_bench import HEIGHT, WIDTH, FakeGenerator, Made, contents, leftovers, plan, run
from PIL import Image

from eval.records import Cell, ReportPlan, digest
from eval.running import atomic
from eval.running.atomic import RunFolderGaveOut
from eval.running.films import Film, make_film, read_film
from eval.running.loading import load_run
from eval.running.reuse import other_runs
from eval.running.store import RunFolder
from sdkit import InvalidRequest, OutOfMemory, Session


@dataclass(frozen=True)
class Staged(Made):
    stages: tuple[torch.Tensor, ...] = ()


@dataclass
class FilmGenerator(FakeGenerator):
    """A fake that tells stages, which darken from white to its picture."""

    fails: Exception | None = None

    def sample(self, text: Any, trajectory: int | None = None, **asked: Any) -> Staged:  # type: ignore[override]
        if trajectory is not None and self.fails is not None:
            raise self.fails
        made = super().sample(text, **asked)
        shape = (3, asked["height"], asked["width"])
        stages = tuple(
            torch.full((len(text), *shape), 255 - 20 * i, dtype=torch.uint8)
            for i in range((trajectory or 1) - 1)
        )
        return Staged(made.images, made.latents, stages=stages)


def films(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob("cells/*/film/*"))}


def levels(path: Path) -> np.ndarray[Any, Any]:
    """(H, W, 3) int."""
    with Image.open(path) as strip:
        return np.asarray(strip).astype(int)


@pytest.fixture(scope="module")
def session(tiny_sd: Path) -> Session:
    return Session(tiny_sd, device="cpu")


def scored(root: Path) -> dict[str, bytes]:
    return {name: payload for name, payload in contents(root).items() if "/film/" not in name}


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", 12), ("heun", 4), ("dpmpp_2m_karras", 3)])
def test_the_last_frame_is_the_scored_picture_and_the_first_is_noise(
    session: Session, tmp_path: Path, sampler: str, steps: int
) -> None:
    text = session.encode(["a red star", "a blue ring", "a green square"])
    cell = Cell("f", sampler, steps, 3.0, "d", 3, 7, 64, 64, "float32", "cpu")
    asked: dict[str, Any] = {
        "sampler": sampler,
        "steps": steps,
        "guidance_scale": 3.0,
        "width": 64,
        "height": 64,
    }
    batch = session.sample(text, seeds=cell.seeds(0, 3), **asked).images
    film = make_film(session, lambda i, j: text.take(range(i, j)), cell, ReportPlan(2, 8), tmp_path)
    assert film == read_film(tmp_path)
    assert film is not None
    assert film.pictures == (0, 1)
    frames = min(8, session.model_evals(sampler, steps) + 1)
    assert len(film.steps) == frames
    assert film.steps[0] == 0
    assert film.steps[-1] == steps
    assert list(film.steps) == sorted(film.steps)
    for picture in film.pictures:
        strip = levels(tmp_path / film.path(picture))
        assert strip.shape == (64, 64 * frames, 3)
        last = batch[picture].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(strip[:, -64:] - last).max() <= 1
        assert np.abs(strip[:, :64] - last).max() > 1


def test_steps_say_how_many_whole_steps_each_frame_stands_after(tmp_path: Path) -> None:
    cell = Cell("f", "ddim", 20, 1.0, "d", 1, 0, WIDTH, HEIGHT, "float32", "cpu")
    told: Any = FilmGenerator()
    film = make_film(told, range, cell, ReportPlan(1, 5), tmp_path)
    assert film == Film((0,), (0, 5, 10, 15, 20), WIDTH, HEIGHT)
    kept = json.loads((tmp_path / "film" / "film.json").read_text())
    assert kept == {
        "pictures": [0],
        "steps": [0, 5, 10, 15, 20],
        "frame_width": WIDTH,
        "frame_height": HEIGHT,
    }


def test_frames_of_high_pictures_are_reduced_to_256_px(tmp_path: Path) -> None:
    class High(FilmGenerator):
        def sample(self, text: Any, trajectory: int | None = None, **asked: Any) -> Staged:  # type: ignore[override]
            made = super().sample(text, trajectory, **asked)
            return replace(made, images=made.stages[0])

    cell = Cell("f", "ddim", 4, 1.0, "d", 1, 0, 768, 512, "float32", "cpu")
    told: Any = High()
    film = make_film(told, range, cell, ReportPlan(1, 3), tmp_path)
    assert film is not None
    assert (film.frame_width, film.frame_height) == (384, 256)
    assert levels(tmp_path / film.path(0)).shape == (256, 3 * 384, 3)


def test_films_change_nothing_that_is_scored_and_go_along_when_cells_are_taken_over(tmp_path: Path) -> None:
    plain, filmed = FakeGenerator(), FilmGenerator()
    run(tmp_path / "plain", generator=plain)
    said: list[str] = []
    first = run(tmp_path / "filmed", generator=filmed, said=said)
    assert scored(tmp_path / "plain") == scored(tmp_path / "filmed")
    assert [r.scores for r in load_run(tmp_path / "plain").results] == [
        r.scores for r in load_run(tmp_path / "filmed").results
    ]
    assert len(films(tmp_path / "filmed")) == 2 * len(first.results)
    assert films(tmp_path / "plain") == {}
    assert not any("filmstrip" in line for line in said)
    taken = FilmGenerator()
    run(tmp_path / "taken", generator=taken, elsewhere=[tmp_path / "filmed"])
    assert taken.made == []
    assert films(tmp_path / "taken") == films(tmp_path / "filmed")
    assert other_runs(tmp_path / "taken", None)


def test_a_whole_run_without_films_is_not_redone_for_them(tmp_path: Path) -> None:
    asked = plan(tmp_path)
    run(tmp_path, replace(asked, report=ReportPlan(filmstrips=0)), FilmGenerator())
    assert films(tmp_path) == {}
    again = FilmGenerator()
    assert all(result.reused for result in run(tmp_path, asked, again).results.values())
    assert again.made == []
    assert films(tmp_path) == {}


@pytest.mark.parametrize(
    ("error", "said_of_it"),
    [(OutOfMemory("no room for one more"), "no room for one more"), (ValueError("x\ny"), "ValueError: x y")],
)
def test_a_cell_whose_film_fails_stands_and_the_log_says_why(
    tmp_path: Path, error: Exception, said_of_it: str
) -> None:
    said: list[str] = []
    found = run(tmp_path, generator=FilmGenerator(fails=error), said=said)
    assert all(result.error is None and result.scores for result in found.results.values())
    assert films(tmp_path) == {}
    assert sum(line.endswith(f": no filmstrip: {said_of_it}") for line in said) == len(found.results)


def test_a_generator_that_tells_no_stages_makes_no_film_and_draws_nothing_for_it(tmp_path: Path) -> None:
    said: list[str] = []
    generator = FakeGenerator()
    asked = plan(tmp_path, guidances=(1.0,), samplers=("ddim",))
    run(tmp_path, asked, generator, said=said)
    assert sum("no filmstrip: FakeGenerator tells no stages" in line for line in said) == 1
    assert not list(tmp_path.glob("cells/*/film"))
    assert not any(seeds == (0,) and name == "ddim" for name, _, seeds in generator.made)


def test_a_disk_that_gives_out_at_a_film_stops_the_run_and_the_next_ends_with_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole", generator=FilmGenerator())
    real = atomic.write_atomic

    def failing(path: Path, payload: bytes, **options: Any) -> None:
        if path.name == "film.json":
            raise atomic.refusal(path, OSError(28, "full"))
        real(path, payload, **options)

    monkeypatch.setattr("eval.running.films.write_atomic", failing)
    with pytest.raises(RunFolderGaveOut):
        run(tmp_path / "run", generator=FilmGenerator())
    cell = next((tmp_path / "run" / "cells").iterdir())
    assert read_film(cell) is None
    monkeypatch.undo()
    run(tmp_path / "run", generator=FilmGenerator())
    assert films(tmp_path / "run") == films(tmp_path / "whole")
    assert leftovers(tmp_path / "run") == []


def test_a_film_of_other_frames_replaces_the_old_one_and_a_torn_one_is_none(tmp_path: Path) -> None:
    asked = plan(tmp_path, guidances=(1.0,), samplers=("ddim",), steps=(6,))
    folder = RunFolder(tmp_path).cell_folder(run(tmp_path, asked, FilmGenerator()).results[0].cell.key)
    first = read_film(folder)
    assert first is not None
    (folder / "cell.json").unlink()
    run(tmp_path, replace(asked, report=ReportPlan(2, 3)), FilmGenerator())
    second = read_film(folder)
    assert second is not None
    assert (len(first.steps), len(second.steps), second.pictures) == (7, 3, (0, 1))
    (folder / second.path(1)).unlink()
    assert read_film(folder) is None
    (folder / "film" / "film.json").write_bytes(b'{"pictures": [0')
    assert read_film(folder) is None


def test_the_report_names_no_folder_and_its_keys_are_checked(ask: Any) -> None:
    plain, other = ask(), ask("report.filmstrips=0", "report.frames=4", "report.pictures=embedded")
    assert plain.report == ReportPlan()
    assert other.report == ReportPlan(0, 4, "embedded")
    assert plain.folder == other.folder
    assert digest(plain.asked) == digest(other.asked)
    for wrong in ("report.filmstrips=-1", "report.frames=1", "report.pictures=above"):
        with pytest.raises(InvalidRequest, match=wrong.split("=")[0]):
            ask(wrong)
