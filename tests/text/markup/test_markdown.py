"""Markdown: to the byte where nothing is translated; what marks structure is never translated."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_service.text.markup.document import Document
from dragoman_service.text.markup.formats import TextFormat, document_of

SOUP = (
    *(
        "*",
        "**",
        "***",
        "_",
        "__",
        "~~",
        "`",
        "``",
        "[",
        "](x)",
        "](<y z> 'T')",
        "]",
        "[a]",
        "[a]: x\n",
        "[^1]",
        "[^1]: ",
    ),
    *("word", "two words", " ", "  ", "\n", "\n\n", "\r\n", "\r", "\t", "    ", "> ", "- ", "1. ", "7) ", "# ", " #\n"),
    *(
        "|",
        "|--|:-:|\n",
        "---\n",
        "===\n",
        "```\n",
        "~~~\n",
        "\\",
        "\\*",
        "&amp;",
        "&",
        "<b>",
        "</b>",
        "<kbd>",
        "</kbd>",
    ),
    *("<div>", "</div>\n", "<!--", "-->", "<pre>\n", "<http://a.b>", "!", "\U000f0000", "é", "+++\n", "- [ ] "),
)
ROOT = Path(__file__).parents[3]


def markdown(source: str) -> Document:
    return document_of(source, TextFormat.MARKDOWN)


def echoed(source: str) -> str:
    document = markdown(source)
    return document.written([(block.text, None) for block in document.blocks])


def shouted(source: str) -> str:
    document = markdown(source)
    return document.written([(block.text.upper(), None) for block in document.blocks])


@settings(max_examples=500)
@given(st.lists(st.sampled_from(SOUP), max_size=30).map("".join))
def test_what_is_not_changed_is_the_same_to_the_byte(source: str) -> None:
    assert echoed(source) == source


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"], ids=lambda path: path.name)
def test_real_documents(path: Path) -> None:
    source = path.read_bytes().decode()
    assert echoed(source) == source
    fences = [line for line in source.split("\n") if line.startswith("    ") or line.startswith("|--")]
    changed = shouted(source)
    assert all(line in changed for line in fences)


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("# A *nice* title #\n", "# A *NICE* TITLE #\n"),
        ("## a # \t\n## b##\n#\n## ##", "## A # \t\n## B##\n#\n## ##"),
        ("- - -\n- - a\n+ * * * \n- - -a\n+ - - - -", "- - -\n- - A\n+ * * * \n- - -A\n+ - - - -"),
        ("[a [b] c][] [b][] [B]\n\n[b]: x", "[A [b] C][] [b][] [B]\n\n[b]: x"),
        ("Title\n=====\n\ntext", "TITLE\n=====\n\nTEXT"),
        ("**bold *both*** no", "**BOLD *BOTH*** NO"),
        ("***both*** and ~~gone~~", "***BOTH*** AND ~~GONE~~"),
        ("snake_case 2 * 3 * 4", "SNAKE_CASE 2 * 3 * 4"),
        ("a `code` b", "A `code` B"),
        ("a ``c`d`` b `", "A ``c`d`` B `"),
        ('[a link](http://x.y/a_(b) "t")', '[A LINK](http://x.y/a_(b) "t")'),
        ("![alt](i.png) and <http://x.y>", "![ALT](i.png) AND <http://x.y>"),
        ("see [foo] or [bar][foo] or [baz]\n\n[foo]: http://x", "SEE [foo] OR [BAR][foo] OR [BAZ]\n\n[foo]: http://x"),
        ("note[^1].\n\n[^1]: the note", "NOTE[^1].\n\n[^1]: THE NOTE"),
        ("> a\n> b", "> A B"),
        ("> a\nlazy", "> A LAZY"),
        ("one  \ntwo\\\nthree", "ONE  \nTWO\\\nTHREE"),
        ("- a\n  b\n- [x] c\n1. d", "- A B\n- [x] C\n1. D"),
        ("in the year\n1986. it was", "IN THE YEAR 1986. IT WAS"),
        ("- a\n\n      code\n\n  b", "- A\n\n      code\n\n  B"),
        ("a\n\n    code\n\nb", "A\n\n    code\n\nB"),
        ("```js\nlet x\n```\na", "```js\nlet x\n```\nA"),
        ("> ```\n> x\n> ```\n> a", "> ```\n> x\n> ```\n> A"),
        ("| a b | c \\| d |\n|--|:-:|\n| e | `f` |\n\ng", "| A B | C \\| D |\n|--|:-:|\n| E | `f` |\n\nG"),
        ("---\ntitle: x\n---\na", "---\ntitle: x\n---\nA"),
        ("a\n\n---\n\nb", "A\n\n---\n\nB"),
        ("<div align=center>\n <h1>a</h1>\n</div>\n\nb", "<div align=center>\n <h1>A</h1>\n</div>\n\nB"),
        ("a <b>b</b> <kbd>Ctrl</kbd> &amp; c\\*", "A <b>B</b> <kbd>Ctrl</kbd> &amp; C\\*"),
    ],
)
def test_structure(source: str, written: str) -> None:
    assert echoed(source) == source
    assert shouted(source) == written


@pytest.mark.parametrize(
    ("translation", "written"),
    [
        ("a * b", "a * b"),
        ("a *b*", "a \\*b\\*"),
        ("1. a", "1\\. a"),
        ("- a", "\\- a"),
        ("# a", "\\# a"),
        ("`a` [b](c) <d>", "\\`a\\` \\[b](c) \\<d>"),
        ("a_b & c &amp;", "a_b & c \\&amp;"),
    ],
)
def test_a_translation_adds_no_marks(translation: str, written: str) -> None:
    assert markdown("text").written([(translation, None)]) == written


@pytest.mark.parametrize(
    "source",
    [
        "*a " * 33_000,
        "*a" * 50_000,
        "[a" * 50_000,
        "`a``" * 25_000,
        "<b " * 33_000,
        "<kbd>" * 20_000,
        "a\n" * 50_000,
        "> " * 50_000,
        "- " * 50_000,
        "[a](" * 25_000,
        "|a\n|-\n" * 8_000,
        "```a\n" * 20_000,
        "<div>\n" * 16_000,
        "# a" + " " * 400_000 + "b",
        "+ - " * 25_000 + "a",
        "> 1. " * 40_000 + "a",
        "[" * 200_000 + "a" + "]" * 200_000,
        "[a]: b\n\n" + "[a " * 100_000 + "]" * 100_000,
    ],
    ids=lambda source: source[:6].encode("unicode_escape").decode(),
)
@pytest.mark.timeout(60)
def test_time_is_linear(source: str) -> None:
    """Within the time limit of a test, which quadratic time would exceed many times over."""
    assert echoed(source) == source
