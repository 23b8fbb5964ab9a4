"""Files: what is translated is replaced, and all else stays, to the byte."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_service.text.markup.files import FileFormat, units_of, written
from dragoman_service.text.markup.formats import TextFormat, document_of
from dragoman_service.text.markup.units import FileError

SRT = """\ufeff1\r
00:00:01,000 --> 00:00:02,500\r
Hello <i>you\r
over there</i> & now\r
\r
2\r
00:00:03,000 --> 00:00:04,000\r
{\\an8}- Hi!\r
- Who are you?\r
\r
3\r
00:00:05,000 --> 00:00:06,000\r
...\r
"""
VTT = """WEBVTT - title

STYLE
::cue { color: red }

NOTE not this

intro
00:01.000 --> 01:02.000 align:left
<v Bob>Hello <00:01.500>world
and more

01:00:01.000 --> 01:00:02.000
- one
"""
PO = """# comment
msgid ""
msgstr ""
"Content-Type: text/plain\\n"

#, c-format
msgctxt "menu"
msgid "one \\"%s\\""
" and two\\n"
msgstr ""

msgid "a file"
msgid_plural "%d files"
msgstr[0] ""
msgstr[1] ""

msgid "done"
msgstr "fertig"

#~ msgid "old"
#~ msgstr ""
"""
JSON = '{ "title": "A \\"big\\" caf\\u00e9",\n "list": ["x y", 1, null, {"id": "n\\n"}], "no": "", "s": "\\ud800 a" }'


def texts(source: str, file_format: FileFormat) -> list[str]:
    return [unit.text for unit in units_of(source, file_format)]


def shouted(source: str, file_format: FileFormat) -> str:
    units = units_of(source, file_format)
    return written(source, units, [unit.text.upper() for unit in units])


@pytest.mark.parametrize(
    ("source", "file_format"),
    [
        (SRT, FileFormat.SRT),
        (VTT, FileFormat.VTT),
        (JSON, FileFormat.JSON),
        ("<p>a</p>\n", FileFormat.HTML),
        ("# a\n\nb\n", FileFormat.MARKDOWN),
        ("", FileFormat.HTML),
    ],
)
def test_what_is_not_changed_is_the_same_to_the_byte(source: str, file_format: FileFormat) -> None:
    units = units_of(source, file_format)
    assert written(source, units, [unit.text for unit in units]) == source
    assert written(source, units, [None for _ in units]) == source


def test_subtitles() -> None:
    assert texts(SRT, FileFormat.SRT) == ["Hello <i>you\r\nover there</i> & now", "Hi!", "Who are you?"]
    units = units_of(SRT, FileFormat.SRT)
    changed = written(SRT, units, ["Hallo <i>ihr da dr\u00fcben</i> & jetzt", "He!", None])
    assert changed == SRT.replace(
        "Hello <i>you\r\nover there</i> & now", "Hallo <i>ihr da\r\ndr\u00fcben</i> & jetzt"
    ).replace("Hi!", "He!")


def test_subtitles_without_empty_lines() -> None:
    times = "00:00:01,0 --> 00:00:02,0\n"
    assert texts(f"1\n{times}one\n2\n{times}12\ntwo 3\n\n3\n{times}4 a\n5\n", FileFormat.SRT) == [
        "one",
        "12\ntwo 3",
        "4 a\n5",
    ]


def test_web_subtitles() -> None:
    assert texts(VTT, FileFormat.VTT) == ["<v Bob>Hello", "world\nand more", "one"]
    assert "STYLE\n::cue { color: red }\n\nNOTE not this\n\nintro\n00:01.000 --> " in shouted(VTT, FileFormat.VTT)


def test_values_of_json() -> None:
    assert texts(JSON, FileFormat.JSON) == ['A "big" caf\u00e9', "x y", "n\n"]
    changed = json.loads(shouted(JSON, FileFormat.JSON))
    assert changed["title"] == 'A "BIG" CAF\u00c9'
    assert changed["list"] == ["X Y", 1, None, {"id": "N\n"}]
    assert "\\u00c9" in shouted(JSON, FileFormat.JSON)
    assert shouted('["\u00e9"]', FileFormat.JSON) == '["\u00c9"]'


def test_messages_without_a_translation() -> None:
    assert texts(PO, FileFormat.PO) == ['one "%s" and two\n', "a file", "%d files"]
    units = units_of(PO, FileFormat.PO)
    changed = written(PO, units, ['eins "%s"\nzwei\n', "eine Datei", "%d Dateien"])
    expected = PO.replace('two\\n"\nmsgstr ""', 'two\\n"\nmsgstr ""\n"eins \\"%s\\"\\n"\n"zwei\\n"')
    expected = expected.replace('[0] ""', '[0] "eine Datei"').replace('[1] ""', '[1] "%d Dateien"')
    assert changed == expected
    assert texts(changed, FileFormat.PO) == []


@pytest.mark.parametrize(
    ("source", "file_format", "problem"),
    [
        ('{"a"', FileFormat.JSON, "not JSON"),
        ('msgid "a\n', FileFormat.PO, "line 1"),
        ("\nnothing", FileFormat.PO, "line 2"),
        ('msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=ASCII\\n"\n', FileFormat.PO, "line 3: .* ASCII"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><xliff version="1.2"/>', FileFormat.XLIFF, "ISO-8859-1; .* UTF-8"),
        ("<html>\n<meta charset='latin1'>", FileFormat.HTML, "line 2: .* latin1"),
        ('<meta content="text/html; charset=x" http-equiv="Content-Type">', FileFormat.HTML, "the encoding x"),
    ],
)
def test_other_files_are_refused(source: str, file_format: FileFormat, problem: str) -> None:
    with pytest.raises(FileError, match=problem):
        units_of(source, file_format)


@pytest.mark.parametrize(
    ("source", "file_format"),
    [
        ('<?xml version="1.0" encoding="utf-8"?><xliff version="1.2"/>', FileFormat.XLIFF),
        ('msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n', FileFormat.PO),
        ('msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=CHARSET\\n"\n', FileFormat.PO),
        ("<meta charset=UTF8>", FileFormat.HTML),
    ],
)
def test_a_file_may_say_that_it_is_utf_8(source: str, file_format: FileFormat) -> None:
    assert units_of(source, file_format) == []


SOUP = (
    "1\n",
    "00:00:01,000 --> 00:00:02,000\n",
    "00:01.0 --> 00:02.0\n",
    "word",
    " ",
    "\n",
    "\r\n",
    "- ",
    "<i>",
    "</i>",
    "<00:01>",
)


@settings(max_examples=200)
@given(st.lists(st.sampled_from((*SOUP, "{\\an8}", "WEBVTT", "-->", "NOTE", "\t")), max_size=25).map("".join))
def test_any_subtitles(source: str) -> None:
    units = units_of(source, FileFormat.SRT)
    assert all(source[unit.start : unit.end] == unit.text for unit in units)
    assert written(source, units, [unit.text for unit in units]) == source
    times = re.compile(r"^[0-9:,.]+ --> .*$", re.MULTILINE)
    assert times.findall(shouted(source, FileFormat.SRT)) == times.findall(source)


@given(
    st.recursive(st.text() | st.none() | st.integers(), lambda it: st.lists(it) | st.dictionaries(st.text(), it)),
    st.booleans(),
)
def test_any_json(value: object, ascii_only: bool) -> None:
    source = json.dumps(value, ensure_ascii=ascii_only)
    units = units_of(source, FileFormat.JSON)
    assert written(source, units, [unit.text for unit in units]) == source
    json.loads(written(source, units, [unit.text + '"\\\n' for unit in units]))


@pytest.mark.parametrize(
    ("source", "file_format", "expected"),
    [
        ("---\ntitle: x\n---\na\n", FileFormat.MARKDOWN, "---\ntitle: x\n---\nA\n"),
        ("# a", FileFormat.MARKDOWN, "# A"),
        ("00:00:01,0 --> 00:00:02,0\na", FileFormat.SRT, "00:00:01,0 --> 00:00:02,0\nA"),
        ('["a"]', FileFormat.JSON, '["A"]'),
        ('msgid "a"\nmsgstr ""', FileFormat.PO, 'msgid "a"\nmsgstr "A"'),
        ("<p>a", FileFormat.HTML, "<p>A"),
    ],
)
def test_a_byte_order_mark_is_no_text(source: str, file_format: FileFormat, expected: str) -> None:
    units = units_of("\ufeff" + source, file_format)
    changed = written("\ufeff" + source, units, [document_shouted(unit.text, file_format) for unit in units])
    assert changed == "\ufeff" + expected


def document_shouted(text: str, file_format: FileFormat) -> str:
    if file_format.of_texts is TextFormat.PLAIN:
        return text.upper()
    document = document_of(text, file_format.of_texts)
    return document.written([(block.text.upper(), None) for block in document.blocks])


def test_numbers_of_json_may_have_any_number_of_digits() -> None:
    assert texts('["a", %s]' % ("1" * 5_000), FileFormat.JSON) == ["a"]


def test_html_without_text_is_not_sent() -> None:
    script = f"<script>{'a' * 30_000}</script>"
    assert texts(f"<p>one</p>{script}<p>two</p><hr>", FileFormat.HTML) == ["one", "two"]
    assert texts(script, FileFormat.HTML) == []
    assert texts("<p>one</p><hr><p>two</p>", FileFormat.HTML) == ["one</p><hr><p>two"]


def test_long_html_is_sent_in_parts() -> None:
    source = "<div translate=no><p>a</p></div>" + "<p>one <b>two</b>\n</p>" * 4_000
    units = units_of(source, FileFormat.HTML)
    assert len(units) > 2
    assert sum(unit.text.count("<b>two</b>") for unit in units) == 4_000
    assert all(unit.text.count("<b>") == unit.text.count("</b>") for unit in units)
    assert shouted(source, FileFormat.HTML).lower() == source


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("source", "file_format"),
    [
        ("00:00:01,000 --> 00:00:02,000\n" + "a b\n" * 100_000, FileFormat.SRT),
        ('msgid "a"\nmsgstr ""\n' * 50_000, FileFormat.PO),
        ('msgid "a"\n' + '"%s"\n' % ("b " * 50) * 200_000 + 'msgstr ""\n', FileFormat.PO),
    ],
    ids=["srt", "po", "po of one message"],
)
def test_time_is_linear(source: str, file_format: FileFormat) -> None:
    """Within the time limit of a test, which quadratic time would exceed many times over."""
    units = units_of(source, file_format)
    changed = written(source, units, [unit.text.replace("\n", " ") for unit in units])
    text = f'"{units[0].text}"'
    assert changed == (source if file_format is FileFormat.SRT else source.replace('""', text))
