"""Prompts from the world and from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.scoring.prompts import file_prompts, shapes_prompts
from sdkit import InvalidRequest
from sdkit.shapes import world


def test_the_worlds_prompts_are_distinct_held_out_and_half_of_each_kind() -> None:
    texts = shapes_prompts("shapes", 64).texts
    scenes = [world.parse(text) for text in texts]
    assert len(set(texts)) == 64
    assert all(scene is not None and scene.held_out for scene in scenes)
    assert sum(len(scene.shapes) == 2 for scene in scenes if scene) == 32


def test_more_prompts_begin_with_the_fewer() -> None:
    assert shapes_prompts("s", 20).texts[:8] == shapes_prompts("s", 8).texts


def test_more_prompts_than_the_world_has_captions_still_end() -> None:
    assert len(shapes_prompts("s", 2000).texts) == 2000


def test_the_digest_follows_the_texts() -> None:
    assert shapes_prompts("a", 4).digest == shapes_prompts("b", 4).digest
    assert shapes_prompts("a", 4).digest != shapes_prompts("a", 5).digest


def _file(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_text_file_is_one_prompt_a_line(tmp_path: Path) -> None:
    path = _file(tmp_path, "p.txt", "\ufeffa cat\n\n  ein Bär \n")
    assert file_prompts("f", path).texts == ("a cat", "ein Bär")
    assert file_prompts("f", path, count=1).texts == ("a cat",)


@pytest.mark.parametrize(
    ("name", "text"),
    [("p.tsv", "id\tPrompt\n1\ta, cat\n2\tdog\n"), ("p.csv", 'id,Prompt\n1,"a, cat"\n2,dog\n')],
)
def test_a_table_gives_its_column(tmp_path: Path, name: str, text: str) -> None:
    assert file_prompts("f", _file(tmp_path, name, text), column="Prompt").texts == ("a, cat", "dog")


def test_coco_gives_the_first_caption_of_each_image(tmp_path: Path) -> None:
    rows = [(2, 9, "second"), (1, 8, "late"), (1, 3, "first")]
    annotations = [{"image_id": image, "id": number, "caption": text} for image, number, text in rows]
    path = _file(tmp_path, "c.json", json.dumps({"annotations": annotations}))
    assert file_prompts("f", path).texts == ("first", "second")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.txt", "\n \n", "holds no prompt"),
        ("p.csv", "a,b\n1,2\n", "prompts.column must be one of a, b, got 'Prompt'"),
        ("p.json", "[]", "not COCO's captions"),
        ("p.xls", "x", r"must end in \.txt"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        file_prompts("f", _file(tmp_path, name, text), column="Prompt")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_too_large_a_count_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        file_prompts("f", str(tmp_path / "none.txt"))
    with pytest.raises(InvalidRequest, match=r"prompts\.count must be 1\.\.1 .*got 2"):
        file_prompts("f", _file(tmp_path, "p.txt", "a\n"), count=2)
    with pytest.raises(InvalidRequest, match=r"prompts\.count must be 1 or more, got 0"):
        shapes_prompts("s", 0)


def test_latin_1_is_refused_as_unreadable(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("Bär".encode("latin-1"))
    with pytest.raises(InvalidRequest, match="cannot be read"):
        file_prompts("f", str(tmp_path / "p.txt"))
