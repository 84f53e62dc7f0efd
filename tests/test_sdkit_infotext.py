"""The WebUI's text: written so that sd-parsers and the WebUI read it, and read as they write it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from infotexts import ANY, HOSTILE_LINE, LAST_LINE, PARAMETERS, STAR, parsed, quick

from sdkit import InvalidRequest
from sdkit._infotext import Parameters, from_text, to_text


def test_the_text_is_prompt_negative_prompt_and_one_line_of_settings() -> None:
    assert to_text(STAR) == f"a red star, on grey\nNegative prompt: blurry\n{LAST_LINE}"


def test_whitespace_around_the_prompts_is_not_written() -> None:
    text = to_text(replace(STAR, prompt="\n a \n b \n", negative_prompt=" c\t"))
    assert text == f"a \n b\nNegative prompt: c\n{LAST_LINE}"


def test_what_is_unknown_or_empty_is_left_out() -> None:
    bare = replace(STAR, prompt="", negative_prompt="", schedule="", model="", model_hash="", extra=())
    assert to_text(bare) == (
        "Steps: 20, Sampler: DPM++ 2M, CFG scale: 7.5, Seed: 18446744073709551615, Size: 512x768"
    )
    assert from_text(to_text(bare)) == bare


@pytest.mark.parametrize(
    ("scale", "written"),
    [(7.5, "7.5"), (7, "7"), (7.0, "7"), (0.1, "0.1"), (0.1 + 0.2, "0.30000000000000004"), (1e22, "1e+22")],
)
def test_guidance_is_written_as_short_as_is_exact(scale: float, written: str) -> None:
    text = to_text(replace(STAR, guidance_scale=scale))
    assert f", CFG scale: {written}, Seed: " in text
    assert from_text(text).guidance_scale == scale


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain (v1.5)", "plain (v1.5)"),
        ("a, b", '"a, b"'),
        ("a: b", '"a: b"'),
        ("a\nb", r'"a\nb"'),
        ('"a"', r'"\"a\""'),
        ("c:\\d", r'"c:\\d"'),
        (" a", '" a"'),
        ("a\u00a0", '"a\u00a0"'),
        ("", '""'),
        ("a\0b", r'"a\u0000b"'),
        ("星, é", '"星, é"'),
        # A reader that cuts at every comma would take these for settings.
        ("a, Seed: 3", r'"a\u002c Seed\u003a 3"'),
        ('Hashes: {"a"}', r'"Hashes\u003a {\"a\"}"'),
    ],
)
def test_a_value_is_in_quotation_marks_only_where_it_needs_them(value: str, written: str) -> None:
    text = to_text(replace(STAR, extra=(("Note", value),)))
    assert text.endswith(f", Note: {written}")
    assert from_text(text).extra == (("Note", value),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance_scale": float("nan")}, "guidance_scale must be finite, got nan"),
        ({"guidance_scale": float("-inf")}, "guidance_scale must be finite, got -inf"),
        ({"sampler": " "}, "sampler must be a title such as 'Euler a', got ' '"),
        ({"extra": (("Seed", "3"),)}, "extra must not set Seed a second time; leave it out"),
        ({"extra": (("Note", "a"), ("Note", "b"))}, "extra must not set Note a second time; leave it out"),
    ],
)
def test_what_the_text_cannot_say_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        to_text(replace(STAR, **changes))
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["", "a", "a:b", "a, b", "a.b", " ab", "ab ", "-ab", "a\nb"])
def test_a_name_that_no_reader_would_find_again_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"extra must have names of two or more letters, .*, got "):
        to_text(replace(STAR, extra=((name, "x"),)))


@quick
@given(PARAMETERS)
@example(replace(STAR, prompt=f"a\n{HOSTILE_LINE}", negative_prompt=HOSTILE_LINE, model=f"a, {HOSTILE_LINE}"))
def test_text_of_ours_says_what_was_written(parameters: Parameters) -> None:
    assert from_text(to_text(parameters)) == parameters


# --- what the format itself changes


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("  a\n b \n\n", "a\n b"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("a, Negative prompt: b\nNegative prompt: c", "a, Negative prompt : b\nNegative prompt : c"),
        (" \r\n ", ""),
    ],
)
def test_a_prompt_that_the_format_cannot_hold_is_written_so_that_all_read_the_same(
    prompt: str, read: str
) -> None:
    changed = replace(STAR, prompt=prompt, negative_prompt=prompt)
    again = from_text(to_text(changed))
    info = parsed(changed)
    assert again == replace(STAR, prompt=read, negative_prompt=read)
    assert (info.full_prompt, info.full_negative_prompt) == (read, read)


@quick
@given(ANY)
def test_what_is_read_is_written_again_as_it_is(prompt: str) -> None:
    once = from_text(to_text(replace(STAR, prompt=prompt)))
    assert from_text(to_text(once)) == once


# --- what sd-parsers reads


@quick
@given(PARAMETERS)
@example(replace(STAR, prompt=f"a\n{HOSTILE_LINE}", negative_prompt=HOSTILE_LINE, model=f"a, {HOSTILE_LINE}"))
def test_sd_parsers_reads_what_was_written(parameters: Parameters) -> None:
    info = parsed(parameters)
    (sampler,) = info.samplers
    assert info.full_prompt == parameters.prompt
    assert info.full_negative_prompt == parameters.negative_prompt
    assert sampler.name == parameters.sampler
    assert int(sampler.parameters["steps"]) == parameters.steps
    assert float(sampler.parameters["cfg_scale"]) == parameters.guidance_scale
    assert int(sampler.parameters["seed"]) == parameters.seed
    assert sampler.parameters.get("scheduler", "") == parameters.schedule
    assert info.metadata["Size"] == f"{parameters.width}x{parameters.height}"


def test_sd_parsers_reads_schedule_model_and_further_settings() -> None:
    info = parsed(STAR)
    (sampler,) = info.samplers
    assert sampler.parameters["scheduler"] == "Karras"
    assert sampler.model is not None
    assert (sampler.model.name, sampler.model.hash) == ("sd_xl_base_1.0", "31e35c80fc")
    assert info.metadata == {
        "Size": "512x768",
        "Denoising strength": "0.6",
        "RNG": "CPU",
        "Version": "sdkit 0.1.0",
    }


# --- what the WebUI and others write


def test_a_text_of_the_webui_is_understood() -> None:
    text = (
        "masterpiece, (1girl:1.2), <lora:detail:0.8>,\nsoft light\n"
        "Negative prompt: lowres,\nbad anatomy\n"
        "Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 1234567890,"
        " Size: 832x1216, Model hash: 6ce0161689, Model: animagine-xl, Clip skip: 2, Hires resize: 1664x2432,"
        ' Lora hashes: "detail: abc123, light: def456", Hires prompt: "a, \\"b\\"\\nc", Tiling,'
        " Version: v1.10.1"
    )
    assert from_text(text) == Parameters(
        prompt="masterpiece, (1girl:1.2), <lora:detail:0.8>,\nsoft light",
        negative_prompt="lowres,\nbad anatomy",
        steps=28,
        sampler="DPM++ 2M",
        schedule="Karras",
        guidance_scale=6.5,
        seed=1234567890,
        width=832,
        height=1216,
        model="animagine-xl",
        model_hash="6ce0161689",
        extra=(
            ("Clip skip", "2"),
            ("Hires resize", "1664x2432"),
            ("Lora hashes", "detail: abc123, light: def456"),
            ("Hires prompt", 'a, "b"\nc'),
            ("Version", "v1.10.1"),
        ),
    )
    assert from_text(text.replace("\n", "\r\n")) == from_text(text)


def test_an_old_text_keeps_sampler_and_schedule_in_one() -> None:
    found = from_text(
        "a cat\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.0, Seed: -1, Size: 512x512,"
        " Model hash: 45dee52b\n"
    )
    assert (found.sampler, found.schedule, found.model) == ("DPM++ 2M Karras", "", "")
    assert (found.negative_prompt, found.guidance_scale, found.seed, found.extra) == ("", 7.0, -1, ())


@pytest.mark.parametrize(
    ("text", "prompt", "negative_prompt"),
    [
        (HOSTILE_LINE, "", ""),
        (f"Negative prompt: b\n{HOSTILE_LINE}", "", "b"),
        (f"\n\n a \n{HOSTILE_LINE}\n\n", "a", ""),
        (f"a\n{LAST_LINE}\nb\n{HOSTILE_LINE}", f"a\n{LAST_LINE}\nb", ""),
        (f"a, Negative prompt: b\n{HOSTILE_LINE}", "a, Negative prompt: b", ""),
        (f"a\n  Negative prompt:b\nNegative prompt: c\n\nd\n{HOSTILE_LINE}", "a", "b\nc\n\nd"),
    ],
)
def test_prompts_are_parted_as_the_webui_parts_them(text: str, prompt: str, negative_prompt: str) -> None:
    found = from_text(text)
    assert (found.prompt, found.negative_prompt) == (prompt, negative_prompt)
    assert (found.steps, found.sampler, found.seed) == (5, "Heun", 3)


@pytest.mark.parametrize(
    ("more", "extra"),
    [
        ("Note: a, Note: b", (("Note", "b"),)),
        ("Note: , Empty:", ()),
        ("(Note: a", (("Note", "a"),)),
        ("- Note: a", (("Note", "a"),)),
        ("N: a, No te-1/2: b ", (("No te-1/2", "b"),)),
        ('Note: "a, Other: b', (("Note", '"a'), ("Other", "b"))),
        ('Note: "a" b, Other: c"', (("Note", '"a" b'), ("Other", 'c"'))),
        ('Note: "\\q"', (("Note", '"\\q"'),)),
        ('Note: "\\ud800"', (("Note", "\ufffd"),)),
        ('Hashes: {"model": "ab12"}, NGMS: 1', (("Hashes", '{"model": "ab12"}'), ("NGMS", "1"))),
    ],
)
def test_odd_settings_are_read_as_the_webui_reads_them(more: str, extra: tuple[tuple[str, str], ...]) -> None:
    assert from_text(f"a\n{HOSTILE_LINE}, {more}").extra == extra


# --- what is no such text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got ''"),
        ("a red star", "got 'a red star'"),
        ("Steps: 20, Sampler: Euler a", "got 'Steps: 20, Sampler: Euler a'"),
        (f"{HOSTILE_LINE}\nTemplate: a", "got 'Template: a'"),
        ("\x1b[31m" + "a" * 500, rf"got '\x1b[31m{'a' * 55}...'"),
    ],
)
def test_a_last_line_without_settings_is_quoted(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_text(text)
    assert str(caught.value) == (
        "parameters text must end in a line such as 'Steps: 20, Sampler: Euler a, CFG scale: 7', " + message
    )


@pytest.mark.parametrize("name", ["Steps", "Sampler", "CFG scale", "Seed", "Size"])
def test_a_setting_that_is_missing_or_empty_is_named(name: str) -> None:
    kept = [pair for pair in HOSTILE_LINE.split(", ") if not pair.startswith(name)]
    names = ", ".join(pair.split(":")[0] for pair in kept)
    for line in (", ".join(kept), ", ".join([*kept, f"{name}: "])):
        with pytest.raises(InvalidRequest) as caught:
            from_text(f"a\n{line}")
        assert str(caught.value) == f"parameters text must hold {name}, got only '{names}'"


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("Steps: 5", "Steps: five", "Steps must be a whole number, got 'five'"),
        ("Steps: 5", "Steps: ５", "Steps must be a whole number, got '５'"),
        ("Steps: 5", "Steps: 1_0", "Steps must be a whole number, got '1_0'"),
        ("Seed: 3", f"Seed: {'9' * 5000}", f"Seed must be a whole number, got '{'9' * 60}...'"),
        ("CFG scale: 1", "CFG scale: nan", "CFG scale must be a number, got 'nan'"),
        ("CFG scale: 1", "CFG scale: 1e999", "numbers must be finite, got '1e999'"),
        (
            "Size: 8x8",
            'Size: "8\\nx8"',
            r"Size must be width x height in pixels such as 512x768, got '8\nx8'",
        ),
    ],
)
def test_a_setting_that_is_no_number_is_named(right: str, wrong: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_text(f"a\n{HOSTILE_LINE.replace(right, wrong)}")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "line",
    ["a" * 10**6, "aa:" * 10**5, 'aa:",' * 10**5, 'aa:"' + r"\"" * 10**6, " -a" * 10**6],
    ids=["one word", "names", "open quotation marks", "escapes", "words"],
)
def test_a_hostile_line_is_read_in_linear_time(line: str) -> None:
    # In quadratic time each of these would take minutes to hours.
    with pytest.raises(InvalidRequest, match=r"^parameters text must "):
        from_text(line[: 4 * 2**20])


def test_a_text_beyond_all_bounds_is_refused() -> None:
    message = r"^parameters text must have at most 4194304 characters, got 4194305$"
    with pytest.raises(InvalidRequest, match=message):
        from_text("a" * (4 * 2**20 + 1))


# --- PNGs
