"""DOCX and ODT: formatting, objects and fields stay, and everything else to the byte."""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Sequence
from xml.dom import minidom

import docx as python_docx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_service.text.markup.documents import OpenDocument, open_document
from dragoman_service.text.markup.files import FileFormat
from dragoman_service.text.markup.office.archive import ArchiveBounds
from dragoman_service.text.markup.units import FileError
from support.office import CONTENT_TYPES, RELATIONSHIPS, archive, docx, entries, louder, odt, run

BOLD, ITALIC = "<w:b/>", "<w:i/>"
FIELD = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'.format
CODE = '<w:r><w:instrText xml:space="preserve"> {} </w:instrText></w:r>'.format


def opened(data: bytes) -> OpenDocument:
    return open_document(data, FileFormat.DOCX if b"word/" in data else FileFormat.ODT)


def texts(data: bytes) -> list[str]:
    return list(opened(data).texts)


def translated(data: bytes, part: str = "word/document.xml") -> str:
    """The part of a document, with its texts in capitals, between the first paragraph and the end of the body."""
    document = opened(data)
    written = entries(document.written([louder(text) for text in document.texts]))
    for source in written.values():
        if source.startswith(b"<"):
            minidom.parseString(source)
    source = written[part].decode()
    found = re.search(r"<(w:body|office:text)>(.*)</\1>", source, re.DOTALL)
    assert found
    return found[2]


def paragraph(*content: str) -> bytes:
    return docx(f"<w:p><w:pPr><w:jc/></w:pPr>{''.join(content)}</w:p>")


def test_formatting_of_real_documents_is_kept() -> None:
    document = python_docx.Document()
    document.add_heading("A title", 0)
    mixed = document.add_paragraph("The ")
    mixed.add_run("green").bold = True
    mixed.add_run(" house is ")
    mixed.add_run("very").italic = True
    mixed.add_run(" old.")
    table = document.add_table(1, 2)
    table.cell(0, 1).text = "Two\tthree\nfour"
    document.sections[0].header.paragraphs[0].text = "A header"
    document.add_paragraph("42")
    data = io.BytesIO()
    document.save(data)
    source = open_document(data.getvalue(), FileFormat.DOCX)
    again = python_docx.Document(io.BytesIO(source.written([louder(text) for text in source.texts])))
    assert [it.text for it in again.paragraphs] == ["A TITLE", "THE GREEN HOUSE IS VERY OLD.", "42"]
    runs = [(it.text, bool(it.bold), bool(it.italic)) for it in again.paragraphs[1].runs]
    assert runs == [
        ("THE ", False, False), ("GREEN", True, False), (" HOUSE IS ", False, False), ("VERY", False, True),
        (" OLD.", False, False),
    ]  # fmt: skip
    assert again.tables[0].cell(0, 1).text == "TWO\tTHREE\nFOUR"
    assert again.sections[0].header.paragraphs[0].text == "A HEADER"
    assert again.paragraphs[0].style.name == "Title"


def test_a_word_that_is_divided_into_runs_is_whole() -> None:
    data = paragraph(
        run("The hou", rsid="00A1"), '<w:proofErr w:type="spellStart"/>', run("se", rsid="00B2"),
        '<w:proofErr w:type="spellEnd"/>', run(" is", '<w:lang w:val="en-US"/>'), "<w:r><w:lastRenderedPageBreak/>",
        '<w:t xml:space="preserve"> green.</w:t></w:r>',
    )  # fmt: skip
    assert texts(data) == ["The house is green."]
    assert translated(data) == (
        '<w:p><w:pPr><w:jc/></w:pPr><w:r><w:t xml:space="preserve">THE HOUSE IS GREEN.</w:t></w:r></w:p>'
    )


def test_most_text_has_no_tag_whatever_its_formatting() -> None:
    data = paragraph(run("Nearly all of it is bold, ", BOLD), run("but"), run(" not this.", BOLD))
    assert texts(data) == ['Nearly all of it is bold, <span data-n="0">but</span> not this.']
    assert translated(data).count("<w:b/>") == 2


def test_formatting_goes_with_its_words() -> None:
    data = paragraph(run("one "), run("two", ITALIC), run(" three"))
    document = opened(data)
    assert document.texts == ['one <span data-n="0">two</span> three']
    written = entries(document.written(['<span data-n="0">zwei</span> eins drei']))["word/document.xml"].decode()
    assert f"{run('zwei', ITALIC)}{run(' eins drei')}</w:p>" in written


def test_links_insertions_and_controls_enclose_their_text() -> None:
    link = '<w:hyperlink r:id="rId1" xmlns:r="x">'
    control = "<w:sdt><w:sdtPr><w:alias/></w:sdtPr><w:sdtContent>"
    data = paragraph(
        run("See "), link, run("this page", "<w:u/>"), "</w:hyperlink>", run(" or "),
        "<w:ins>", run("that"), "</w:ins>",
        run(" or "), control, run("mine"), "</w:sdtContent></w:sdt>",
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del>",
    )  # fmt: skip
    assert re.sub(r' data-n="\d+"', "", texts(data)[0]) == (
        "See <span>this page</span> or <span>that</span> or <span>mine</span><img>"
    )
    assert translated(data) == (
        f"<w:p><w:pPr><w:jc/></w:pPr>{run('SEE ')}{link}{run('THIS PAGE', '<w:u/>')}</w:hyperlink>{run(' OR ')}"
        f"<w:ins>{run('THAT')}</w:ins>{run(' OR ')}{control}{run('MINE')}</w:sdtContent></w:sdt>"
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
    )


def test_fields() -> None:
    link = "".join([FIELD("begin"), CODE('HYPERLINK "http://x"'), FIELD("separate")])
    data = paragraph(link, run("a page"), FIELD("end"), run(" on "), FIELD("begin"), CODE("PAGE"), FIELD("separate"),
                     run("3"), FIELD("end"), run(" ends"))  # fmt: skip
    assert re.sub(r' data-n="\d+"', "", texts(data)[0]) == "<span>a page</span> on <code></code> ends"
    written = translated(data)
    assert re.findall(r'fldCharType="(\w+)"|<w:t [^>]*>([^<]*)', written) == [
        ("begin", ""), ("separate", ""), ("", "A PAGE"), ("end", ""), ("", " ON "), ("begin", ""), ("separate", ""),
        ("", "3"), ("end", ""), ("", " ENDS"),
    ]  # fmt: skip


def test_a_field_over_several_paragraphs_keeps_its_order() -> None:
    data = docx(
        f"<w:p>{FIELD('begin')}{CODE('TOC')}{FIELD('separate')}{run('First')}</w:p>"
        f"<w:p>{run('Second')}{FIELD('end')}</w:p>"
    )
    assert re.findall(r'fldCharType="(\w+)"|<w:t [^>]*>([^<]*)', translated(data)) == [
        ("begin", ""), ("separate", ""), ("", "FIRST"), ("", "SECOND"), ("end", ""),
    ]  # fmt: skip


def test_ranges_are_not_reversed() -> None:
    data = paragraph(run("one "), '<w:bookmarkStart w:id="0"/>', run("two"), '<w:bookmarkEnd w:id="0"/>', run(" three"))
    document = opened(data)
    text = document.texts[0]
    assert re.sub(r' data-n="\d+"', "", text) == "one <img>two<img> three"
    swapped = 'eins <img data-n="1">zwei<img data-n="0"> drei'
    written = entries(document.written([swapped]))["word/document.xml"].decode()
    assert written.index("bookmarkStart") < written.index("bookmarkEnd")


def test_marks_that_a_translation_lacks_or_repeats_stand_once() -> None:
    note = '<w:r><w:footnoteReference w:id="2"/></w:r>'
    data = paragraph(run("one"), note, run(" two"))
    document = opened(data)
    for translation in ("eins zwei", 'eins<img data-n="0"> zwei<img data-n="0">', '<img data-n="7">eins</span> zwei'):
        written = entries(document.written([translation]))["word/document.xml"].decode()
        assert written.count("footnoteReference") == 1
        minidom.parseString(written)


def test_paragraphs_inside_of_others_are_texts_of_their_own() -> None:
    box = "<w:r><w:pict><w:txbxContent><w:p>{}</w:p></w:txbxContent></w:pict></w:r>"
    inner = box.format(run("inner") + box.format(run("innermost")))
    data = docx(f"<w:p>{run('one ')}{inner}{run('two')}</w:p>", header=f"<w:p>{run('head')}</w:p>",
                notes=f"<w:p>{run('note')}</w:p>")  # fmt: skip
    document = opened(data)
    assert [re.sub(r"<[^>]*>", "|", text) for text in document.texts] == [
        "one |two", "inner|", "innermost", "head", "note"
    ]  # fmt: skip
    assert document.places[:2] == ["word/document.xml, paragraph 1", "word/document.xml, paragraph 2"]
    whole = translated(data)
    assert re.findall(r"<w:t [^>]*>([^<]*)", whole) == ["ONE ", "INNER", "INNERMOST", "TWO"]
    some = entries(document.written([None, None, "X", None, None]))["word/document.xml"].decode()
    assert some == entries(data)["word/document.xml"].decode().replace("innermost", "X")


def test_text_is_read_as_word_reads_it() -> None:
    data = paragraph("<w:r><w:t> a &amp; b&#160;</w:t><w:noBreakHyphen/><w:softHyphen/><w:t>c<!-- x --></w:t></w:r>")
    assert texts(data) == ["a &amp; b\xa0\u2011\xadc"]
    data = paragraph("<w:r><w:t><![CDATA[a < b]]></w:t></w:r>")
    assert translated(data).endswith(">A &lt; B</w:t></w:r></w:p>")


def test_another_prefix_is_as_good() -> None:
    data = docx(f"<w:p>{run('one ')}{run('two', BOLD)}</w:p>")
    other = {
        name: content.replace(b"w:", b"x1:").replace(b"xmlns:w=", b"xmlns:x1=")
        for name, content in entries(data).items()
    }
    default = {
        name: content.replace(b"<w:", b"<").replace(b"</w:", b"</").replace(b"xmlns:w=", b"xmlns=")
        for name, content in entries(data).items()
    }
    for changed in (other, default):
        document = opened(archive(changed))
        assert document.texts == ['one <span data-n="0">two</span>']
        minidom.parseString(entries(document.written(["eins"]))["word/document.xml"])


def test_an_odt_document() -> None:
    note = "<text:note-citation>1</text:note-citation><text:note-body><text:p>{}</text:p></text:note-body></text:note>"
    data = odt(
        '<text:h>A  title</text:h><text:p>The <text:span text:style-name="B">green</text:span> house<text:note>'
        f"{note.format('A note.')}"
        ' is <text:a xlink:href="x">old</text:a>.<text:tab/>See <text:page-number>3</text:page-number></text:p>'
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>",
        styles="<text:p>A footer</text:p>",
    )
    document = opened(data)
    assert [re.sub(r' data-n="\d+"', "", text) for text in document.texts] == [
        "A title", "The <span>green</span> house<img> is <span>old</span>.<br>See <code></code>", "A note.", "A footer",
    ]  # fmt: skip
    assert translated(data, "content.xml") == (
        '<text:h>A TITLE</text:h><text:p>THE <text:span text:style-name="B">GREEN</text:span> HOUSE<text:note>'
        f"{note.format('A NOTE.')}"
        ' IS <text:a xlink:href="x">OLD</text:a>.<text:tab/>SEE <text:page-number>3</text:page-number></text:p>'
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
    )


def test_white_space_of_odt() -> None:
    data = odt('<text:p> a\n  b<text:s text:c="2"/>c <text:span text:style-name="B"> d</text:span></text:p>')
    assert texts(data) == ['a b  c <span data-n="0">d</span>']
    document = opened(data)
    written = entries(document.written([' x  y <span data-n="0"> z</span>']))["content.xml"].decode()
    assert '<text:p><text:s text:c="1"/>x <text:s text:c="1"/>y <text:span text:style-name="B"><text:s' in written


ODD_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff<&>"))
PIECES = st.sampled_from(
    [
        run("one "), run("two", BOLD), run("three", ITALIC), "<w:r><w:tab/></w:r>", "<w:r><w:br/><w:drawing/></w:r>",
        FIELD("begin"), FIELD("separate"), FIELD("end"), CODE("PAGE"), CODE("HYPERLINK"), '<w:bookmarkStart w:id="1"/>',
        '<w:bookmarkEnd w:id="1"/>', f"<w:hyperlink>{run('link', BOLD)}</w:hyperlink>", "<w:hyperlink/>", "<w:r/>",
        f"<w:ins>{FIELD('end')}{run('x')}</w:ins>", "<w:sdt><w:sdtPr/></w:sdt>", "<m:oMath xmlns:m='x'/>", run("    "),
        f"<w:r><w:pict><w:p>{run('box')}</w:p></w:pict></w:r>", "<!-- c -->", "<w:proofErr/>", "<w:del/>",
    ]
)  # fmt: skip


@given(st.lists(st.lists(PIECES, max_size=12), max_size=4), st.data())
def test_any_paragraphs_with_any_translations(paragraphs: list[list[str]], data: st.DataObject) -> None:
    source = docx("".join(f"<w:p>{''.join(pieces)}</w:p>" for pieces in paragraphs))
    document = opened(source)
    assert entries(document.written(document.texts)) == entries(document.written([None] * len(document.texts)))
    assert entries(document.written(document.texts)) == entries(source)
    odd = st.lists(st.one_of(ODD_TEXT, st.sampled_from(_tags(document.texts)))).map("".join)
    written = document.written([data.draw(odd) for _ in document.texts])
    before, after = (entries(it)["word/document.xml"].decode() for it in (source, written))
    minidom.parseString(after)
    changing = "|".join(["w:r", "w:rPr", "w:t", "w:b", "w:i", "w:proofErr", "w:br", "w:tab"])
    tags = re.compile(rf"</?(?!(?:{changing})[ />])[\w:]+[ />]")
    assert sorted(tags.findall(before.replace("<w:proofErr/>", ""))) == sorted(tags.findall(after))
    fields = re.compile(r'fldCharType="(\w+)"')
    assert fields.findall(before) == fields.findall(after)


def _tags(texts: Sequence[str]) -> list[str]:
    return sorted({tag for text in texts for tag in re.findall(r"<[^<>]*>", text)}) or [""]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no archive", "not a whole ZIP archive"),
        (docx("")[:-30], "not a whole ZIP archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 word/", r"got a document of Word 97 to 2003"),
        (archive({"word/x": ""}), r"no DOCX: got an archive without \[Content_Types\].xml"),
        (archive({"[Content_Types].xml": "<Types/>", "word/x": ""}), "no DOCX: got an archive with 0 documents"),
        (archive({"[Content_Types].xml": CONTENT_TYPES, "word/x": ""}), "word/document.xml: got no such entry"),
        (
            archive({"[Content_Types].xml": CONTENT_TYPES.replace(
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main",
                "application/vnd.ms-word.document.macroEnabled.main"), "word/x": ""}),
            "no DOCX: got a document with macros",
        ),
        (docx("<w:p>"), "word/document.xml: line 2: not XML: mismatched tag"),
        (docx("", **{"../evil": "x"}), r"'../evil': got a name that leaves the archive"),
        (docx("", **{"word/document.xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><a/>"}), "word/document.xml: got <!DOCTYPE"),
        (
            docx("", **{"word/document.xml": '<?xml version="1.0" encoding="latin-1"?><a/>'}),
            "word/document.xml: got the encoding latin-1; allowed: UTF-8",
        ),
        (docx("", **{"word/document.xml": b"<a>\xff</a>"}), "word/document.xml: got another encoding than UTF-8"),
        (docx("", **{"word/media/bomb": b"\0" * 20_000_000}), "word/media/bomb: got more than 200 bytes for each"),
        (archive({"mimetype": "application/zip"}), "no ODT: got an archive of 'application/zip'"),
        (archive({"mimetype": "application/vnd.oasis.opendocument.text"}), "no ODT: got an archive without content"),
        (odt("", **{"META-INF/manifest.xml": "<m><encryption-data/></m>"}), "got a document with a password"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message):
        opened(data)


def test_encrypted_entries_and_two_of_a_name_are_refused() -> None:
    data = docx("")
    with pytest.raises(FileError, match="got an encrypted entry"):
        opened(data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"))
    written = io.BytesIO(data)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(written, "a") as file:
        file.writestr("word/document.xml", "<a/>")
    with pytest.raises(FileError, match="got two entries of this name"):
        opened(written.getvalue())


def test_bounds() -> None:
    data = docx(f"<w:p>{run('one two three')}</w:p>")
    for bounds, message in (
        (ArchiveBounds(entries=3), "more than 3 entries"),
        (ArchiveBounds(total_bytes=100), "an archive of more than 100 bytes"),
        (ArchiveBounds(text_bytes=100), "more than 100 bytes of text"),
    ):
        with pytest.raises(FileError, match=message):
            open_document(data, FileFormat.DOCX, bounds)


def test_entries_keep_their_order_and_kind_and_a_signature_is_left_out() -> None:
    data = odt("<text:p>one</text:p>", **{"META-INF/documentsignatures.xml": "<s/>"})
    document = opened(data)
    same, changed = (
        zipfile.ZipFile(io.BytesIO(document.written(translations))).infolist() for translations in (["one"], ["eins"])
    )
    before = zipfile.ZipFile(io.BytesIO(data)).infolist()
    assert [(it.filename, it.compress_type, it.date_time) for it in same] == [
        (it.filename, it.compress_type, it.date_time) for it in before
    ]
    assert [it.filename for it in changed] == [it.filename for it in before[:-1]]
    assert (changed[0].filename, changed[0].compress_type) == ("mimetype", zipfile.ZIP_STORED)
    kind = "http://schemas.openxmlformats.org/package/2006/relationships/digital-signature/origin"
    origin = f'<Relationship Id="r" Type="{kind}" Target="_xmlsignatures/origin.sigs"/>'
    signed = docx(f"<w:p>{run('one')}</w:p>", **{
        "_rels/.rels": RELATIONSHIPS.replace("/>", f">{origin}</Relationships>"), "_xmlsignatures/origin.sigs": "",
    })  # fmt: skip
    found = entries(opened(signed).written(["eins"]))
    assert "_xmlsignatures/origin.sigs" not in found
    assert b"digital-signature" not in found["_rels/.rels"]


@pytest.mark.parametrize(
    "body",
    [
        run("one ") * 100_000,
        (run("one ") + run("two ", BOLD)) * 30_000,
        "<w:hyperlink>" * 30_000 + run("one") + "</w:hyperlink>" * 30_000,
        FIELD("begin") * 30_000 + run("one"),
        (FIELD("begin") + FIELD("separate") + run("one") + FIELD("end")) * 15_000,
        f"<w:r><w:pict><w:p>{run('x')}" * 5_000 + "</w:p></w:pict></w:r>" * 5_000,
    ],
    ids=["runs", "looks", "links", "fields", "whole fields", "nested"],
)
def test_time_is_bounded(body: str) -> None:
    started = time.process_time()
    document = open_document(docx(f"<w:p>{body}</w:p>"), FileFormat.DOCX, ArchiveBounds(ratio=1_000_000))
    document.written([f"{louder(text)}!" for text in document.texts])
    assert time.process_time() - started < 20
