"""XLIFF: translations are written beside their sources, with all that the sources have inside."""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_service.text.markup.files import FileFormat, units_of, written
from dragoman_service.text.markup.formats import TextFormat, document_of
from dragoman_service.text.markup.units import FileError

ONE = """<?xml version="1.0" encoding="UTF-8"?>
<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
  <file source-language="en" target-language="de" datatype="plaintext" original="a">
    <header><note>Not this</note></header>
    <body>
      <trans-unit id="a">
        <source>Save the <g id="1">file</g> &amp; go</source>
        <note>nor this</note>
      </trans-unit>
      <trans-unit id="b" approved="yes"><source>Done</source><target>Fertig</target></trans-unit>
      <trans-unit id="c"><source>New</source><target state = "needs-translation">New</target></trans-unit>
      <trans-unit id="d"><source>Hello <x id="INTERPOLATION" equiv-text="{{ name }}"/>!</source><target/></trans-unit>
      <trans-unit id="e" translate="no"><source>ERR_1</source></trans-unit>
      <group translate="no"><trans-unit id="f"><source>No</source></trans-unit></group>
      <trans-unit id="g"><source>12:30</source></trans-unit>
      <trans-unit id="h">
        <source>Two.</source>
        <seg-source><mrk mtype="seg" mid="1">Two.</mrk></seg-source>
        <alt-trans><source>Two</source><target>Zwei</target></alt-trans>
      </trans-unit>
    </body>
  </file>
</xliff>
"""
TWO = """<xliff:xliff version="2.0" xmlns:xliff="urn:oasis:names:tc:xliff:document:2.0" srcLang="en" trgLang="de">
\t<xliff:file id="f">
\t\t<xliff:unit id="1" xml:space="preserve">
\t\t\t<xliff:segment>
\t\t\t\t<xliff:source>One <xliff:pc id="1">two</xliff:pc>
three</xliff:source>
\t\t\t</xliff:segment>
\t\t\t<xliff:ignorable><xliff:source> x </xliff:source></xliff:ignorable>
\t\t\t<xliff:segment state="final"><xliff:source>a</xliff:source><xliff:target>b</xliff:target></xliff:segment>
\t\t</xliff:unit>
\t</xliff:file>
</xliff:xliff>"""


def file_of(unit: str) -> str:
    return f'<xliff version="1.2" xmlns:a="urn:a"><trans-unit id="1">{unit}</trans-unit></xliff>'


def segment(content: str) -> str:
    return file_of(f"<source>{content}</source>")


def inner(source: str) -> str:
    """What stands between the tags of the only target."""
    (target,) = re.findall("<target>(.*)</target>", source, re.DOTALL)
    return str(target)


def shouted(source: str) -> str:
    """The file, translated as the server translates HTML, by a model that writes capitals."""
    units = units_of(source, FileFormat.XLIFF)
    documents = [document_of(unit.text, TextFormat.HTML) for unit in units]
    return written(source, units, [it.written([(b.text.upper(), None) for b in it.blocks]) for it in documents])


def test_the_first_version() -> None:
    units = units_of(ONE, FileFormat.XLIFF)
    assert [re.sub("<[^>]*>", "*", unit.text) for unit in units] == [
        "Save the *file* &amp; go", "New", "Hello **!", "*Two.*",
    ]  # fmt: skip
    changed = shouted(ONE)
    expected = (
        ONE.replace("go</source>", 'go</source>\n        <target>SAVE THE <g id="1">FILE</g> &amp; GO</target>')
        .replace('"needs-translation">New', '"needs-review-translation">NEW')
        .replace("<target/>", '<target>HELLO <x id="INTERPOLATION" equiv-text="{{ name }}"/>!</target>')
        .replace("</seg-source>", '</seg-source>\n        <target><mrk mtype="seg" mid="1">TWO.</mrk></target>')
    )
    assert changed == expected
    assert units_of(changed, FileFormat.XLIFF) == []


def test_the_second_version_with_a_prefix_and_lines() -> None:
    added = '\n\t\t\t\t<xliff:target>ONE <xliff:pc id="1">TWO</xliff:pc>\nTHREE</xliff:target>'
    assert shouted(TWO) == TWO.replace("three</xliff:source>", f"three</xliff:source>{added}")


def test_without_translations_a_file_stays_as_it_is() -> None:
    for source in (ONE, TWO, "\ufeff" + ONE.replace("\n", "\r\n")):
        units = units_of(source, FileFormat.XLIFF)
        assert units
        assert written(source, units, [None for _ in units]) == source


def test_formatting_moves_with_words_and_variables_are_words() -> None:
    source = 'a<bpt id="1">&lt;b></bpt> c<ept id="1">&lt;/b></ept> <ph id="2">%s</ph><ph id="3" ctype="lb"/> e'
    (unit,) = units_of(segment(source), FileFormat.XLIFF)
    assert unit.text == (
        'a<img data-n="0"> c<img data-n="1"> <code data-n="2"></code><img data-n="3"> e'
    )  # fmt: skip
    (block,) = document_of(unit.text, TextFormat.HTML).blocks
    assert len(block.kept) == 1
    assert len(block.marks) == 3


def test_what_is_protected_is_kept_whole() -> None:
    for attribute in ('mtype="protected"', 'translate="no"'):
        source = f"the <mrk {attribute}>Old <g id='1'>Name</g></mrk> here"
        assert inner(shouted(segment(source))) == f"THE <mrk {attribute}>Old <g id='1'>Name</g></mrk> HERE"


def test_a_translation_has_no_markup_of_its_own() -> None:
    (unit,) = units_of(segment("one"), FileFormat.XLIFF)
    assert unit.write('a &lt; b & c < d "e"') == '<target>a &lt; b &amp; c &lt; d "e"</target>'
    assert unit.write('<span data-n="0">x</span>') == '<target>&lt;span data-n="0"&gt;x&lt;/span&gt;</target>'


def test_characters_that_xml_does_not_have_are_replaced() -> None:
    (unit,) = units_of(segment("one"), FileFormat.XLIFF)
    assert unit.write("a\x00b\x1f\ufffe\U0001f600") == "<target>a\ufffdb\ufffd\ufffd\U0001f600</target>"


def test_references_to_characters_stay() -> None:
    """A carriage return would be read as a line feed, and HTML reads some numbers as other characters."""
    source = "one&#13;two &#x85; &#160;three &amp;#13;"
    assert inner(shouted(segment(source))) == "ONE&#13;TWO &#x85; &#160;THREE &amp;#13;"


def test_a_target_of_tags_alone_is_empty_and_gets_the_segments() -> None:
    content = '<mrk mtype="seg" mid="1">{}</mrk> <mrk mtype="seg" mid="2">{}</mrk>'
    source = f"<source>one. two.</source><seg-source>{content.format('one.', 'two.')}</seg-source>"
    for target in ('<mrk mtype="seg" mid="1"/><mrk mtype="seg" mid="2"/>', "<!-- not yet -->", "&#160;"):
        assert inner(shouted(file_of(f"{source}<target>{target}</target>"))) == content.format("ONE.", "TWO.")
    for target in ("<g id='1'>Eins</g>", "12", "<![CDATA[x]]>"):
        assert units_of(file_of(f"{source}<target>{target}</target>"), FileFormat.XLIFF) == []


def test_elements_of_other_vocabularies_are_others() -> None:
    source = file_of("<source>one</source><a:source>two</a:source><a:target>three</a:target>")
    assert shouted(source) == source.replace("one</source>", "one</source><target>ONE</target>")


def test_character_data_stays_text() -> None:
    assert inner(shouted(segment("<![CDATA[a <b> & c]]>"))) == "A &lt;B&gt; &amp; C"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", "line 1: not XML"),
        ("<xliff version='1.2'><trans-unit>\n</xliff>", "line 2: not XML"),
        ("<html></html>", "<html"),
        ('<xliff version="3.0"/>', "3.0"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><xliff version="1.2"/>', "DOCTYPE"),
    ],
)
def test_other_files_are_refused(source: str, problem: str) -> None:
    with pytest.raises(FileError, match=problem):
        units_of(source, FileFormat.XLIFF)


WORDS = st.text(st.sampled_from("ab <&>\"' é\n😀"), min_size=1, max_size=6).map(escape)
LEAVES = st.one_of(
    WORDS,
    st.builds(
        lambda name, extra: f'<{name} id="i"{extra}/>',
        st.sampled_from(["x", "ph", "bx", "ex", "sc", "ec"]),
        st.sampled_from(["", ' ctype="lb"', ' equiv-text="a > b"']),
    ),
    st.builds('<ph id="p">{}</ph>'.format, WORDS),
    st.builds("<!-- {} -->".format, st.sampled_from(["a", "<b>"])),
    st.builds("<![CDATA[{}]]>".format, st.sampled_from(["a", "<b>", "&amp;", '<img data-n="0">'])),
)
CONTENT = st.recursive(
    st.lists(LEAVES, max_size=4).map("".join),
    lambda content: st.builds(
        lambda name, a, b, c: f'{a}<{name} id="i">{b}</{name}>{c}', st.sampled_from(["g", "pc", "mrk"]), *[content] * 3
    ),
    max_leaves=6,
)


def tree(content: str) -> str:
    return re.sub(r"\s+", " ", ElementTree.canonicalize(f"<r>{content}</r>", with_comments=True))


@settings(max_examples=300, deadline=None)
@given(CONTENT, st.booleans())
def test_any_content_comes_back_and_none_is_lost_by_any_model(content: str, preserved: bool) -> None:
    source = segment(content).replace("<source>", f'<source xml:space="{"preserve" if preserved else "default"}">')
    units = units_of(source, FileFormat.XLIFF)
    if not units:
        return
    document = document_of(units[0].text, TextFormat.HTML)
    same = document.written([(block.text, None) for block in document.blocks])
    assert tree(inner(written(source, units, [same]))) == tree(content)
    turned = document.written([(" ".join(reversed(block.text.split(" "))), None) for block in document.blocks])
    made = inner(written(source, units, [turned]))
    assert Counter(it.tag for it in ElementTree.fromstring(f"<r>{made}</r>").iter()) == Counter(
        it.tag for it in ElementTree.fromstring(f"<r>{content}</r>").iter()
    )


def test_a_large_file_takes_linear_time() -> None:
    """A hundred thousand tags, nested and side by side."""
    deep = "a " + "<g id='1'>" * 20_000 + "b" + "</g>" * 20_000
    many = "a <x id='1'/>" * 50_000
    for content in (deep, many):
        (unit,) = units_of(segment(content), FileFormat.XLIFF)
        assert inner(unit.write(unit.text)) == content
