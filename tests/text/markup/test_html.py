"""HTML: to the byte where nothing is translated, and well-formed where it was, whatever the model."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dragoman_service.text.markup.document import Document
from dragoman_service.text.markup.formats import TextFormat, document_of
from dragoman_service.text.markup.html import HtmlRules

SOUP = (
    *(
        "<b>",
        "</b>",
        "<p>",
        "</p>",
        '<i x="1">',
        "</i>",
        "<br/>",
        "<script>",
        "</script>",
        "<code>",
        "</code>",
        "<pre>",
    ),
    *("</pre>", '<div translate="no">', "</div>", "<li class='a notranslate'>", "</li>", '<img alt="', "<textarea>"),
    *("hello ", "World. ", "\n", "  ", "\t", "&amp;", "&nbsp;", "&#10;", "&foo;", "&not", "&", ";", "<", ">", '"', "'"),
    *("=", "/", "<!--", "-->", "<!", "<?", "\U000f0000", "&#xF0001;", "é", "&eacute;", "👍", "\0", "<svg>", "</svg>"),
)
soup = st.lists(st.sampled_from(SOUP), max_size=30).map("".join)


def html(source: str, *attributes: str) -> Document:
    return document_of(source, TextFormat.HTML, HtmlRules(attributes=frozenset(attributes)))


def texts(source: str, *attributes: str) -> list[str]:
    return [block.text for block in html(source, *attributes).blocks]


def echoed(document: Document) -> str:
    return document.written([(block.text, None) for block in document.blocks])


def shouted(source: str, *attributes: str) -> str:
    document = html(source, *attributes)
    return document.written([(block.text.upper(), None) for block in document.blocks])


@settings(max_examples=500)
@given(soup)
@example('<a title="It&apos;s" title=\'"\'>x</a')
@example("<b>x<i>y</b>z</i>")
def test_what_is_not_changed_is_the_same_to_the_byte(source: str) -> None:
    assert echoed(html(source)) == source
    assert echoed(html(source, "alt", "title")) == source


@pytest.mark.parametrize(
    ("source", "blocks", "written"),
    [
        ("<b>here</b>", ["here"], "<b>HERE</b>"),
        ("Click <a href='x'>it</a> now.", ["Click it now."], "CLICK <a href='x'>IT</a> NOW."),
        ("<ul><li>one<li>two</ul>", ["one", "two"], "<ul><li>ONE<li>TWO</ul>"),
        ("<td>a</td><td><b>b</b></td>", ["a", "b"], "<td>A</td><td><b>B</b></td>"),
        ("one<br>two", ["one", "two"], "ONE<br>TWO"),
        ("<i>one<br>two</i>", ["one", "two"], "<i>ONE<br>TWO</i>"),
        ("a\n  wrapped <x-y>line</x-y>", ["a wrapped line"], "A WRAPPED <x-y>LINE</x-y>"),
        ("caf&eacute; &amp; th\u00e9 a&b", ["caf\u00e9 & th\u00e9 a&b"], "CAF\u00c9 &amp; TH\u00c9 A&amp;B"),
        ("a &lt;b&gt; c", ["a <b> c"], "A &lt;B&gt; C"),
        ("<p>a<script>if (a<b) '</p>'</script>b", ["a", "b"], "<p>A<script>if (a<b) '</p>'</script>B"),
        ("<pre>a <b>b</b></pre>c", ["c"], "<pre>a <b>b</b></pre>C"),
        ("<p translate=no>a<p>b</p>", ["b"], "<p translate=no>a<p>B</p>"),
        ("<ul translate='no'><li>a<li>b</ul>c", ["c"], "<ul translate='no'><li>a<li>b</ul>C"),
        ("<div class='x notranslate'>a<div>b</div>c</div>d", ["d"], "<div class='x notranslate'>a<div>b</div>c</div>D"),
        ("a <!-- no --> b", ["a  b"], "A  <!-- no -->B"),
        ("a < b <3 <a", ["a < b <3 <a"], "A < B &lt;3 &lt;A"),
        ("<title>It</title><meta name=x>", ["It"], "<title>IT</title><meta name=x>"),
        ("5 &euro; &#8364;", [], "5 &euro; &#8364;"),
        ("", [], ""),
    ],
)
def test_blocks(source: str, blocks: list[str], written: str) -> None:
    assert texts(source) == blocks
    assert shouted(source) == written


def test_inline_elements_that_are_kept_are_one_character_of_the_text() -> None:
    (block,) = html("Use <code>a&lt;b</code> or <span translate=no>C <b>d</b></span>.").blocks
    assert [block.text[start:end] for start, end in block.kept] == ["\U000f0000", "\U000f0001"]
    assert shouted("Use <code>a&lt;b</code> now") == "USE <code>a&lt;b</code> NOW"


def test_a_private_character_of_the_text_is_not_taken_for_what_is_kept() -> None:
    source = "\U000f0000 or <code>x</code> and &#xF0001;"
    assert echoed(html(source)) == source
    assert shouted(source) == "\U000f0000 OR <code>x</code> AND &#xF0001;"


def test_attributes_are_translated_if_asked_for() -> None:
    source = """<img alt="a &quot;cat&quot;" title='x'> on <a title="the mat" href="a b">it</a>"""
    assert texts(source) == [" on it"]
    assert texts(source, "alt", "title") == [" on it", 'a "cat"', "x", "the mat"]
    assert (
        shouted(source, "alt") == """<img alt="A &quot;CAT&quot;" title='x'> ON <a title="the mat" href="a b">IT</a>"""
    )
    document = html(source, "title")
    written = document.written([(text, None) for text in ("on it", "it's", '"the" <mat>')])
    assert (
        written
        == """<img alt="a &quot;cat&quot;" title='it&#39;s'>on <a title="&quot;the&quot; &lt;mat>" href="a b">it</a>"""
    )


class Tags(HTMLParser):
    """The tags of a document, as the standard library finds them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.append(f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"</{tag}>")


@given(
    st.lists(
        st.sampled_from(("<b>", "</b>", "<i>", "</i>", "<p>", "word ", "&amp;", "two", ". ", "<img>")), max_size=20
    ),
    st.lists(
        st.sampled_from(("<script>", "</b>", "&lt;", "<!--", "&", "lt;", " ", "x", "</", "<", '"', ">")), max_size=8
    ),
)
def test_a_translation_adds_no_tags(source: list[str], translation: list[str]) -> None:
    document = html("".join(source))
    written = document.written([("".join(translation), None) for _ in document.blocks])
    assert sorted(Tags(written).found) == sorted(Tags("".join(source)).found)
    if document.blocks:
        assert re.sub("<[^<>]*>", "", written).count("<!--") == 0


def test_offsets_are_those_of_the_document() -> None:
    source = "<p>Fish &amp; <b>chips</b>\n  now.</p>"
    (block,) = html(source).blocks
    for word in ("Fish", "&", "chips", "now"):
        place = block.source_of(block.text.index(word))
        assert source.startswith(word, place), word


@pytest.mark.parametrize(
    "source",
    [
        "<b>" * 33_000,
        "<a " * 33_000,
        '<a b="' * 16_000,
        "</b>" * 25_000,
        "<code>" * 16_000,
        "&" * 100_000,
        "<!--" * 25_000,
        "<script>" * 12_500,
        "<p><li>" * 14_000,
        "<b>x<i>" * 14_000,
        "<a b='\"<a" * 10_000,
        "<b><i>x</b></i>" * 6_600,
        "a<script>" + "</script " * 200_000,
    ],
    ids=lambda source: source[:8],
)
def test_time_is_linear(source: str) -> None:
    """Within the time limit of a test, which quadratic time would exceed many times over."""
    document = html(source, "alt")
    assert echoed(document) == source
    document.written([(block.text.upper() + "!", None) for block in document.blocks])


def test_rules_of_the_caller_say_what_is_kept_and_what_divides_text() -> None:
    source = "<li>one <X id=1>two</X> three<y/>four</li>"

    def texts(rules: HtmlRules) -> list[str]:
        document = document_of(source, TextFormat.HTML, rules)
        assert document.written([(block.text, None) for block in document.blocks]) == source
        return ["".join(" " if it in "\ue000\U000f0000" else it for it in block.text) for block in document.blocks]

    assert texts(HtmlRules()) == ["one two threefour"]
    (kept,) = document_of(source, TextFormat.HTML, HtmlRules(kept=frozenset({"x"}))).blocks
    assert "two" not in kept.text
    assert len(kept.kept) == 1
    assert texts(HtmlRules(blocks=frozenset({"x", "y"}))) == ["one ", "two", " three", "four"]
    whole = document_of(f"a {source} b", TextFormat.HTML, HtmlRules(inline=frozenset({"li"})))
    assert [block.text for block in whole.blocks] == ["a one two threefour b"]
