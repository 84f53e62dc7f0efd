"""Pictures of unknown make find their prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.scoring.pairing import Pairing, pair
from eval.scoring.prompts import PromptSource
from sdkit import InvalidRequest


def _pictures(folder: Path, *names: str) -> Path:
    images = folder / "images"
    for name in names:
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(b"")  # pairing looks at names only
    return images


def _source(folder: Path, name: str, content: str, **chosen: Any) -> PromptSource:
    (folder / name).write_text(content, encoding="utf-8")
    return PromptSource("p", str(folder / name), **chosen)


def _pairs(found: Pairing) -> list[tuple[str, str]]:
    return list(zip((file.name for file in found.files), found.prompts.rows, strict=True))


def _named(folder: Path, *rows: tuple[str, str], **chosen: Any) -> PromptSource:
    lines = [json.dumps({"file_name": name, "text": text}) for name, text in rows]
    return _source(folder, "metadata.jsonl", "\n".join(lines), **chosen)


def test_without_names_the_natural_order_decides(tmp_path: Path) -> None:
    found = pair(
        _pictures(tmp_path, "10.png", "2.png", "1.png"), _source(tmp_path, "p.txt", "one\ntwo\nten\n")
    )
    assert _pairs(found) == [("1.png", "one"), ("2.png", "two"), ("10.png", "ten")]
    assert found.notes == ("pictures paired with prompts in the natural order of their names",)


def test_several_pictures_a_prompt_stand_together(tmp_path: Path) -> None:
    images = _pictures(tmp_path, *(f"{index}.png" for index in range(6)))
    found = pair(images, _source(tmp_path, "p.txt", "a\nb\n"))
    assert found.prompts.seeds_per_prompt == 3
    assert found.prompts.rows == ("a", "a", "a", "b", "b", "b")
    assert "3 to each prompt, which must stand together" in found.notes[0]


@pytest.mark.parametrize(
    ("pictures", "chosen", "said"),
    [
        (5, {}, r"must be 2 or a multiple of it for 2 prompts \(1 empty line left out\), got 5"),
        (1, {}, "must be 2 or a multiple of it for 2 prompts .*, got 1"),
        (4, {"seeds_per_prompt": 3}, "must be 3 x 2 for 2 prompts .*, got 4"),
    ],
)
def test_numbers_that_do_not_fit_are_one_line_with_both(
    tmp_path: Path, pictures: int, chosen: dict[str, Any], said: str
) -> None:
    images = _pictures(tmp_path, *(f"{index}.png" for index in range(pictures)))
    with pytest.raises(InvalidRequest, match=said) as caught:
        pair(images, _source(tmp_path, "p.txt", "a\n\nb\n", **chosen))
    assert "\n" not in str(caught.value)


def test_names_decide_where_they_are_given_and_pictures_without_a_prompt_are_named(tmp_path: Path) -> None:
    images = _pictures(tmp_path, "1.png", "deep/2.png", "3.png")
    found = pair(images, _named(tmp_path, ("3.png", "three"), ("./deep/2.png", "two")))
    assert _pairs(found) == [("3.png", "three"), ("2.png", "two")]
    assert found.notes == (
        "pictures paired with prompts by column 'file_name'",
        "1 of 3 pictures left out, as no prompt names them: 1.png",
    )


@pytest.mark.parametrize("column", ["file_name", "file", "image", "path"])
def test_a_table_may_name_pictures_in_any_usual_column(tmp_path: Path, column: str) -> None:
    images = _pictures(tmp_path, "1.png", "2.png")
    for name, tab in (("p.csv", ","), ("p.tsv", "\t")):
        rows = [(column, "prompt"), ("2.png", "two"), ("1.png", "one")]
        found = pair(images, _source(tmp_path, name, "\n".join(tab.join(row) for row in rows)))
        assert _pairs(found) == [("2.png", "two"), ("1.png", "one")]


def test_names_of_the_described_photographs_leave_the_order_to_decide(tmp_path: Path) -> None:
    content = "id\tcaption\tfile_name\n7\ta city\tCOCO_0009.jpg\n8\ta clock\tCOCO_0002.jpg\n"
    found = pair(_pictures(tmp_path, "0.png", "1.png"), _source(tmp_path, "captions.tsv", content))
    assert _pairs(found) == [("0.png", "a city"), ("1.png", "a clock")]
    assert "column 'file_name' names none of the pictures" in found.notes


def test_pictures_named_after_the_photographs_are_paired_by_name_whatever_their_suffix(
    tmp_path: Path,
) -> None:
    content = "id\tcaption\tfile_name\n7\ta city\tCOCO_0009.jpg\n8\ta clock\tCOCO_0002.jpg\n"
    images = _pictures(tmp_path, "COCO_0002.png", "COCO_0009.png")
    found = pair(images, _source(tmp_path, "captions.tsv", content))
    assert _pairs(found) == [("COCO_0009.png", "a city"), ("COCO_0002.png", "a clock")]


def test_two_pictures_that_differ_by_the_suffix_only_are_refused_for_a_third(tmp_path: Path) -> None:
    images = _pictures(tmp_path, "a.png", "a.webp")
    with pytest.raises(InvalidRequest, match=r"picture 'a.jpg' must be one file of .*got a\.(png|webp), a\."):
        pair(images, _named(tmp_path, ("a.jpg", "a")))
    assert _pairs(pair(images, _named(tmp_path, ("a.webp", "a")))) == [("a.webp", "a")]


def test_missing_pictures_are_named_and_counted(tmp_path: Path) -> None:
    rows = [("1.png", "one"), *((f"gone{index}.png", "x") for index in range(7)), ("", "y")]
    with pytest.raises(
        InvalidRequest, match=r"8 of 9 are missing: gone0\.png, .*gone4\.png and 3 more"
    ) as caught:
        pair(_pictures(tmp_path, "1.png"), _named(tmp_path, *rows))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../secret.png", "a/../../secret.png", "/etc/secret.png"])
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    images = _pictures(tmp_path, "1.png")
    (tmp_path / "secret.png").write_bytes(b"")
    with pytest.raises(InvalidRequest, match="must lie in .*secret.png"):
        pair(images, _named(tmp_path, (name, "a")))


def test_a_whole_path_inside_the_folder_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _pictures(tmp_path, "1.png", "2.png")
    source = _named(tmp_path, (str(images / "2.png"), "two"))
    assert _pairs(pair(images, source)) == [("2.png", "two")]
    monkeypatch.chdir(tmp_path)
    assert _pairs(pair(Path("images"), source)) == [("2.png", "two")]


def test_a_picture_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"must name a picture once, got twice: 1\.png"):
        pair(_pictures(tmp_path, "1.png"), _named(tmp_path, ("1.png", "a"), ("1.png", "b")))


def test_named_pictures_of_equal_prompts_are_put_together(tmp_path: Path) -> None:
    images = _pictures(tmp_path, "1.png", "2.png", "3.png", "4.png")
    rows = [("1.png", "a"), ("2.png", "b"), ("3.png", "a"), ("4.png", "b")]
    found = pair(images, _named(tmp_path, *rows))
    assert _pairs(found) == [("1.png", "a"), ("3.png", "a"), ("2.png", "b"), ("4.png", "b")]
    assert (found.prompts.texts, found.prompts.seeds_per_prompt) == (("a", "b"), 2)
    assert found.prompts.notes == ()
    with pytest.raises(InvalidRequest, match=r"prompts\.seeds_per_prompt must be 2 .*got 4"):
        pair(images, _named(tmp_path, *rows, seeds_per_prompt=4))


def test_unequal_repeats_stay_as_they_are_and_are_told(tmp_path: Path) -> None:
    images = _pictures(tmp_path, "1.png", "2.png", "3.png")
    found = pair(images, _named(tmp_path, ("1.png", "a"), ("2.png", "b"), ("3.png", "a")))
    assert found.prompts.seeds_per_prompt == 1
    assert found.prompts.notes == ("1 of 3 prompts is a repeat of an earlier one, kept",)


def test_filters_choose_among_the_named(tmp_path: Path) -> None:
    images = _pictures(tmp_path, "1.png", "2.png")
    found = pair(images, _named(tmp_path, ("1.png", "a cat"), ("2.png", "a dog"), contains="dog"))
    assert _pairs(found) == [("2.png", "a dog")]
    assert found.prompts.notes == ("1 of 2 prompts left out by the filters",)


def test_an_empty_or_absent_folder_is_one_line(tmp_path: Path) -> None:
    source = _source(tmp_path, "p.txt", "a\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="must be a folder with pictures, got none in"):
        pair(tmp_path / "empty", source)
    for wrong in (tmp_path / "none", tmp_path / "p.txt"):
        with pytest.raises(InvalidRequest, match="images must be a folder"):
            pair(wrong, source)
