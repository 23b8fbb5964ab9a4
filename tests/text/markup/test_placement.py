"""Where tags stand in a translation: each once, nested as in the text, around the words that belong to their words."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_service.text.markup.document import Document
from dragoman_service.text.markup.formats import TextFormat, document_of
from dragoman_service.text.markup.placement import Part
from dragoman_service.text.words import words_of

TAG = re.compile(r"<(/?)([a-z][0-9]*)>")


def translated(source: str, target: str, pairs: Sequence[tuple[int, int]] | None = None) -> str:
    """Translate HTML of one block; `pairs` are numbers of words of the text and of the translation."""
    document = document_of(source, TextFormat.HTML)
    (block,) = document.blocks
    own, its = words_of(block.text), words_of(target)
    aligned = [(own[one], its[other]) for one, other in pairs or ()]
    return document.written([(target, [Part((0, len(block.text)), (0, len(target)), aligned)])])


@pytest.mark.parametrize(
    ("source", "target", "pairs", "written"),
    [
        # Words change places, and the tag goes with its words.
        ("<b>Yesterday</b> I ran", "Ich lief gestern", [(0, 2), (1, 0), (2, 1)], "Ich lief <b>gestern</b>"),
        # All of a text stays all of it, though the full stop is not aligned.
        ("<b>I ran.</b>", "Ich lief.", [(0, 0), (1, 1)], "<b>Ich lief.</b>"),
        ("<i><b>I ran</b>.</i>", "Ich lief.", [(0, 0), (1, 1)], "<i><b>Ich lief</b>.</i>"),
        # The smallest interval that has all words.
        ("a <b>b c</b> d", "B x C y", [(1, 0), (2, 2), (3, 3)], "<b>B x C</b> y"),
        # What two elements would enclose is divided between them.
        ("<b>a c</b> <i>b</i>", "A B C", [(0, 0), (1, 2), (2, 1)], "<b>A</b> <i>B</i> C"),
        ("<b>a</b> <i>b</i>", "AB", [(0, 0), (1, 0)], "<b>AB</b><i></i>"),
        # A tag by itself stays beside the word that it touches.
        ("one<img> two", "Zwei eins", [(0, 1), (1, 0)], "Zwei eins<img>"),
        ("one <img>two", "Zwei eins", [(0, 1), (1, 0)], "<img>Zwei eins"),
        ("<img>one two<img>", "Zwei eins", [(0, 1), (1, 0)], "<img>Zwei eins<img>"),
        # No alignment: by the words that are the same, and by their order.
        ("Call <b>Anna</b> now", "Jetzt rufen Sie Anna an", None, "Jetzt rufen Sie <b>Anna</b> an"),
        ("<b>one two</b> three four", "eins zwei drei vier", None, "<b>eins zwei</b> drei vier"),
        # A word that is not aligned takes the place of its neighbour.
        ("I <b>do</b> run", "Ich renne", [(0, 0), (2, 1)], "Ich <b>renne</b>"),
        ("a <b>b</b> c", "", None, "<b></b>"),
        # No tag stands inside what is kept, nor inside a word of a script whose words have accents in them.
        (
            "<b>a</b> <i>b</i> c",
            "https://a.example/x_y z",
            [(0, 0), (1, 4), (2, 9)],
            "<b>https://a.example/x_y</b><i></i> z",
        ),
        (
            "one <b>two</b>",
            "\u0939\u093f\u0928\u094d\u0926\u0940 x",
            [(0, 0), (1, 2)],
            "<b>\u0939\u093f\u0928\u094d\u0926\u0940</b> x",
        ),
    ],
)
def test_placement(source: str, target: str, pairs: list[tuple[int, int]] | None, written: str) -> None:
    assert translated(source, target, pairs) == written


NAMES = ("b", "i", "u")


@st.composite
def nested_html(draw: st.DrawFn) -> str:
    """Words with well-nested tags; each element has a number of its own."""
    written: list[str] = []
    opened: list[str] = []
    count = 0
    for kind in draw(st.lists(st.sampled_from(("word", "word", "open", "close", "space", "stop")), max_size=24)):
        if kind == "open":
            opened.append(f"{draw(st.sampled_from(NAMES))}{count}")
            count += 1
            written.append(f"<{opened[-1]}>")
        elif kind == "close" and opened:
            written.append(f"</{opened.pop()}>")
        elif kind == "word":
            written.append(draw(st.sampled_from(("one ", "two", " three ", "four"))))
        else:
            written.append({"space": " ", "stop": ". "}.get(kind, " "))
    return "".join([*written, *(f"</{name}>" for name in reversed(opened))])


@given(nested_html(), st.data())
def test_every_tag_stands_once_and_nested_whatever_the_alignment(source: str, data: st.DataObject) -> None:
    document = document_of(source, TextFormat.HTML)
    target = " ".join(data.draw(st.lists(st.sampled_from(("eins", "zwei", "one", ".", "drei-vier", " ")), max_size=12)))
    translations = []
    for block in document.blocks:
        own, its = words_of(block.text), words_of(target)
        pairs = []
        if own and its:
            pairs = data.draw(st.lists(st.tuples(st.sampled_from(own), st.sampled_from(its)), max_size=10))
        translations.append((target, [Part((0, len(block.text)), (0, len(target)), pairs)]))
    written = document.written(translations)
    assert sorted(TAG.findall(written)) == sorted(TAG.findall(source))
    assert is_nested(written)
    if document.blocks:
        assert TAG.sub("", written) == target


def is_nested(source: str) -> bool:
    opened: list[str] = []
    for closes, name in TAG.findall(source):
        if not closes:
            opened.append(name)
        elif not opened or opened.pop() != name:
            return False
    return not opened


def test_an_unchanged_sentence_keeps_its_tags_to_the_byte() -> None:
    source = "<b>A</b>nna  <i> sings</i> . <u>She</u> is <s>here</s>."
    document = document_of(source, TextFormat.HTML)
    (block,) = document.blocks
    start = block.text.index("She")
    end = len(block.text)
    target = block.text[:start] + "Sie ist hier."
    written = written_with(
        document, target, [Part((0, start - 1), (0, start - 1)), Part((start, end), (start, len(target)))]
    )
    assert written == "<b>A</b>nna  <i> sings</i> . <u>Sie</u> ist <s>hier</s>."


def written_with(document: Document, target: str, parts: Sequence[Part]) -> str:
    return document.written([(target, parts)])


def test_time_is_linear_in_nested_and_in_many_tags() -> None:
    for source in ("<b>" * 20_000 + "word" + "</b>" * 20_000, "<b>word </b>" * 8_000, "<b>word<i> " * 8_000):
        document = document_of(source, TextFormat.HTML)
        assert document.written([("other " * 4_000, None)]).count("<b>") == source.count("<b>")
