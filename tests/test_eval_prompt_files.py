"""Files of prompts as they are published and as they go wrong."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.prompt_files import read_prompt_file
from eval.scoring.prompts import PromptSource, load_prompts
from sdkit import InvalidRequest

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def _published(name: str) -> Path:
    if not (SHARED / name).is_file():
        pytest.skip(f"{name} is not beside this checkout")
    return SHARED / name


def _write(folder: Path, name: str, content: str | bytes) -> str:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def _texts(path: str, **chosen: str) -> tuple[str, ...]:
    return load_prompts(PromptSource("p", path, **chosen)).texts  # type: ignore[arg-type]


def test_partiprompts_is_read_as_published() -> None:
    path = _published("PartiPrompts.tsv")
    lines = path.read_text(encoding="utf-8").split("\n")[1:-1]
    texts = _texts(str(path))
    assert len(texts) == 1632
    assert texts == tuple(
        line.split("\t")[0].strip() for line in lines
    )  # none of its prompts is quoted as a whole
    assert sum(text.startswith('"G I G G L E" painted') for text in texts) == 1


@pytest.mark.parametrize(
    ("name", "column", "differing"),
    [("mlperf-captions_source.tsv", "caption", 0), ("PartiPrompts.tsv", "Prompt", 1)],
)
def test_a_published_table_agrees_with_pandas_but_for_a_quote_that_pandas_drops(
    name: str, column: str, differing: int
) -> None:
    pandas = pytest.importorskip("pandas")
    path = str(_published(name))
    theirs = [text.strip() for text in pandas.read_csv(path, sep="\t")[column]]
    ours = _texts(path)
    differ = [(mine, other) for mine, other in zip(ours, theirs, strict=True) if mine != other]
    assert len(differ) == differing
    assert all(mine.replace('"', "") == other.replace('"', "") for mine, other in differ)


def test_mlperfs_captions_are_five_thousand_with_their_repeats_told() -> None:
    found = load_prompts(PromptSource("mlperf", str(_published("mlperf-captions_source.tsv"))))
    assert len(found.texts) == 5000
    assert found.notes == ("35 of 5000 prompts are repeats of an earlier one, kept",)
    assert sum('"Cheese Shop"' in text for text in found.texts) == 1


def test_drawbench_is_a_csv_with_prompts_and_categories(tmp_path: Path) -> None:
    content = (
        'Prompts,Category\nOne car.,Counting\n"A ""red"" hat, gloves.",DALL-E\nA pear.,Gary Marcus et al. \n'
    )
    path = _write(tmp_path, "drawbench.csv", content)
    assert _texts(path) == ("One car.", 'A "red" hat, gloves.', "A pear.")
    marcus = PromptSource("d", path, where={"Category": "Gary Marcus et al."})
    assert load_prompts(marcus).texts == ("A pear.",)


@pytest.mark.parametrize("name", ["p.txt", "p.csv", "p.tsv", "p.jsonl", "p.json"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_format_gives_the_same_prompts_with_or_without_a_byte_order_mark(
    tmp_path: Path, name: str, mark: bytes
) -> None:
    content = {
        "p.txt": "a cat\r\n  ein Bär \r\n",
        "p.csv": 'id,prompt\r\n1,a cat\r\n2,"ein Bär"\r\n',
        "p.tsv": "id\tprompt\n1\ta cat\n2\tein Bär",
        "p.jsonl": '{"id": 1, "prompt": "a cat"}\n{"id": 2, "prompt": "ein Bär"}\n',
        "p.json": '["a cat", "ein Bär"]',
    }[name]
    assert _texts(_write(tmp_path, name, mark + content.encode())) == ("a cat", "ein Bär")


def test_json_may_be_strings_a_line_or_a_list_of_objects(tmp_path: Path) -> None:
    assert _texts(_write(tmp_path, "p.jsonl", '"a cat"\n\n"a dog"')) == ("a cat", "a dog")
    assert _texts(_write(tmp_path, "p.json", '[{"text": "a cat"}, {"text": null, "id": 3}]')) == ("a cat",)


def test_coco_gives_the_first_caption_of_each_image_or_all(tmp_path: Path) -> None:
    rows = [(2, 9, "second"), (1, 8, "late"), (1, 3, "first")]
    annotations = [{"image_id": image, "id": number, "caption": text} for image, number, text in rows]
    images = [{"id": 1, "file_name": "one.jpg"}]
    path = _write(tmp_path, "c.json", json.dumps({"annotations": annotations, "images": images}))
    assert _texts(path) == ("first", "second")
    assert _texts(path, captions="all") == ("first", "late", "second")
    assert [row.text("file_name") for row in read_prompt_file(path).rows] == ["one.jpg", ""]


def test_a_stray_quote_in_a_tsv_swallows_no_line(tmp_path: Path) -> None:
    path = _write(
        tmp_path, "p.tsv", 'prompt\tid\n"Open at first\t1\nthen "shut"\t2\n"whole ""cell"""\t3\n"a\tb"\t4\n'
    )
    assert _texts(path) == ('"Open at first', 'then "shut"', 'whole "cell"', "a\tb")


def test_a_short_row_lacks_its_last_cells_and_blank_lines_are_counted(tmp_path: Path) -> None:
    found = load_prompts(PromptSource("p", _write(tmp_path, "p.tsv", "id\tprompt\tnote\n1\ta cat\n\n2\n")))
    assert found.texts == ("a cat",)
    assert found.notes == ("2 rows without a prompt left out",)


def test_a_quoted_cell_of_a_csv_may_hold_a_line_end(tmp_path: Path) -> None:
    assert _texts(_write(tmp_path, "p.csv", 'prompt,id\n"a\ncat",1\na dog,2\n')) == ("a\ncat", "a dog")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.txt", "\n \n", "holds no prompt; write one a line"),
        ("p.txt", "", "holds no prompt"),
        ("p.txt", "a\rb\n", "line 1 holds a lone CR"),
        ("p.txt", "a\nb\0c\n", "line 2 holds a NUL"),
        ("p.txt", "Bär".encode("latin-1"), "cannot be read: byte 1 is not UTF-8"),
        ("p.csv", "prompt\n".encode("utf-16"), "is not UTF-8"),
        ("p.csv", "a,b\n1,2\n", "none has a usual name for prompts; it has a, b"),
        ("p.csv", "prompt,text\n1,2\n", "several could hold the prompts; it has prompt, text"),
        ("p.csv", "prompt,prompt\n1,2\n", "name each column once, got 'prompt' twice"),
        (
            "p.csv",
            "prompt,id\na red, blue car,2\n",
            'line 2 has 3 cells for 2 columns; put a cell .* in "quotes"',
        ),
        ("p.csv", 'prompt,id\n"G" x,2\n', "line 2 is not CSV"),
        ("p.csv", 'prompt,id\n"open,2\nx,3\n', "line 2 is not CSV"),
        ("p.csv", "prompt,id\n" + "x" * 200_000 + ",2\n", "line 2 is not CSV: field larger than field limit"),
        ("p.tsv", "prompt\tid\na\tb\tc\n", "line 2 has 3 cells for 2 columns"),
        ("p.csv", "\na\n", "must name its columns in the first line"),
        ("p.tsv", "", "must name its columns in the first line"),
        ("p.jsonl", '"a"\n{"prompt": \n', "line 2 is not JSON"),
        ("p.jsonl", '"a"\n7\n', "line 2 must be a string or an object, got int"),
        ("p.jsonl", '"a"\n{"prompt": "b"}\n', "must hold strings or objects, got both"),
        ("p.jsonl", '{"prompt": ["a"]}\n', "entry 1 must be a string, got list"),
        ("p.jsonl", '"a\\u0000b"\n', "entry 1 holds a NUL"),
        ("p.jsonl", '"a\\ud800b"\n', "half of a surrogate pair"),
        ("p.json", "[]", "holds no prompt"),
        ("p.json", "{", "is not JSON"),
        ("p.json", "[" * 100_000, "is not JSON"),
        ("p.json", '{"captions": []}', "is not COCO's captions"),
        ("p.json", '{"annotations": [{"image_id": 1, "id": "x"}]}', "is not COCO's captions"),
        ("p.xls", "x", r"must end in \.txt, \.csv, \.tsv, \.jsonl or \.json, got 'p.xls'"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    path = _write(tmp_path, name, content)
    with pytest.raises(InvalidRequest, match=said) as caught:
        load_prompts(PromptSource("p", path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    for name, said in (("none.txt", "No such file"), ("folder.txt", "Is a directory")):
        with pytest.raises(InvalidRequest, match=said):
            load_prompts(PromptSource("p", str(tmp_path / name)))


def test_a_column_must_be_there_and_a_plain_file_has_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"prompts\.column must be one of a, b, got 'Prompt'"):
        load_prompts(PromptSource("p", _write(tmp_path, "p.csv", "a,b\n1,2\n"), column="Prompt"))
    with pytest.raises(InvalidRequest, match=r"prompts\.column must be null for .*got 'Prompt'"):
        load_prompts(PromptSource("p", _write(tmp_path, "p.txt", "a\n"), column="Prompt"))
    assert _texts(_write(tmp_path, "q.csv", "a,prompt\n1,2\n"), column="a") == ("1",)


PROMPTS = st.lists(
    st.text(st.characters(exclude_characters="\0\r\n\t", exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(["a\u2028b", "a\x85b", "a\x0bb", "a\x1cb", '"a" b', '""', "a,b", "\ufeffa"]),
    min_size=1,
    max_size=8,
).filter(lambda texts: any(text.strip() for text in texts))


@settings(max_examples=60)
@given(PROMPTS)
def test_only_line_feeds_part_prompts_in_every_format(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    table = io.StringIO()
    csv.writer(table).writerows([["id", "prompt"], *([index, text] for index, text in enumerate(texts))])
    quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
    contents = {
        "p.txt": "\ufeff" + "\n".join(texts),
        "p.csv": table.getvalue(),
        "p.tsv": "\n".join(["prompt\tid", *(f"{text}\t1" for text in quoted)]),
        "p.jsonl": "\r\n".join(json.dumps({"prompt": text}, ensure_ascii=False) for text in texts),
        "p.json": json.dumps(texts),
    }
    folder = tmp_path_factory.mktemp("odd")
    expected = tuple(text.strip() for text in texts if text.strip())
    for name, content in contents.items():
        assert _texts(_write(folder, name, content)) == expected, name


@settings(max_examples=60)
@given(st.binary(max_size=60), st.sampled_from([".txt", ".csv", ".tsv", ".jsonl", ".json"]))
def test_any_bytes_give_prompts_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = _write(tmp_path_factory.mktemp("any"), f"p{suffix}", content)
    try:
        found = _texts(path)
    except InvalidRequest as error:
        message = str(error)
    else:
        message = ""
        assert found
        assert all(text == text.strip() != "" for text in found)
    assert "\n" not in message
