"""Documents with markup through the frontend: blocks are texts of one call, and places are those in the document."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_service.engine.request import DecodingOptions, Event, Finished, Request, Timings
from dragoman_service.errors import InvalidInput, Overloaded
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.text.markup.formats import TextFormat
from dragoman_service.text.terms import Term
from dragoman_service.translation.assembly import TextResult
from dragoman_service.translation.frontend import Frontend
from dragoman_service.translation.glossaries import GlossaryFolder
from dragoman_service.translation.settings import RequestLimits
from dragoman_service.translation.warnings import WarningKind
from support.fake_workers import FIRST, FakeWorkers, hypothesis_of, served
from support.frontends import LIMITS, call, collect, on_frontend, translate

TAG = re.compile(r"<[^<>]*>")


def text_of(request: Request) -> str:
    return "".join(chr(token - FIRST) for token in request.source[:-1])


def echo(request: Request) -> list[Event]:
    return [Finished(request.id, (hypothesis_of(request, text_of(request), 0),), Timings(decode=0.5))]


def backwards(request: Request) -> list[Event]:
    """Each word, from the last to the first, aligned to itself."""
    text = text_of(request)
    words = [match.span() for match in re.finditer(r"\S+", text)][::-1]
    target, aligned = "", []
    for start, end in words:
        aligned += [start] * bool(target) + list(range(start, end))
        target += " " * bool(target) + text[start:end]
    hypothesis = replace(hypothesis_of(request, target, 0), alignment=tuple(aligned))
    return [Finished(request.id, (hypothesis,), Timings())]


def html(*texts: str, script: object = echo, **fields: object) -> list[TextResult]:
    return translate(served(FakeWorkers(script)), *texts, format=TextFormat.HTML, **fields)


def test_tags_go_with_their_words() -> None:
    (result,) = html("<p>one <b>two</b> three <i>four <u>five</u></i></p><p>six</p>", script=backwards)
    assert result.hypotheses[0].text == "<p><i><u>five</u> four</i> three <b>two</b> one</p><p>six</p>"
    assert result.sentences == 2


def test_each_text_has_a_result_with_the_sums_of_its_blocks() -> None:
    results = html("<p>one</p><p>two. Three.</p>", "", "<hr>", "four", options=DecodingOptions(beam_size=2))
    assert [result.hypotheses[0].text for result in results] == ["<p>one</p><p>two. Three.</p>", "", "<hr>", "four"]
    assert [result.sentences for result in results] == [3, 0, 0, 1]
    assert [result.hypotheses[0].score for result in results] == [-3.0, 0, 0, -1.0]
    assert results[0].timings.decode == 0.5


def test_what_is_kept_is_not_shown_to_the_model() -> None:
    workers = FakeWorkers(echo)
    source = "Use <code>x &lt; y</code> or <b>z</b>.<pre>code</pre>"
    (result,) = translate(served(workers), source, format=TextFormat.HTML)
    assert result.hypotheses[0].text == source
    assert all("x" not in text_of(request) and "code" not in text_of(request) for request in workers.submitted)


def test_a_stream_sends_a_document_in_one_piece() -> None:
    model = served(FakeWorkers(echo))
    document = call(model, "<p>a</p><p>b</p>", format=TextFormat.HTML)
    text, result = on_frontend(model, lambda frontend: collect(frontend.stream(document)))
    assert text == result.hypotheses[0].text == "<p>a</p><p>b</p>"


def test_warnings_have_places_in_the_document() -> None:
    def silent(request: Request) -> list[Event]:
        return [Finished(request.id, (hypothesis_of(request, "", 0),), Timings())]

    source = "<p>&amp; <b>word</b></p>"
    (result,) = html(source, script=silent)
    (warning,) = result.warnings
    assert warning.kind is WarningKind.EMPTY
    assert source[warning.start : warning.end].endswith("word")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"target_prefixes": ("x",)}, "target_prefixes"),
        ({"sentences": True}, "return_sentences"),
        ({"sentences": True, "alignments": True}, "return_alignments"),
    ],
)
def test_what_documents_do_not_have(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        html("<p>one</p>", **fields)
    assert error.value.field == field


def test_the_memory_of_documents_is_counted_as_they_are_read() -> None:
    counted: list[int] = []

    class Counted:
        def add(self, amount: int) -> None:
            counted.append(amount)
            if sum(counted) > 4_000_000:
                raise Overloaded("too much")

    workers = FakeWorkers()
    texts = ["<b>a" * 12_500] * 20  # about 5 MB each
    limits = RequestLimits()
    model = served(workers)
    wanted = call(model, *texts, format=TextFormat.HTML, memory=Counted())
    with pytest.raises(Overloaded):
        on_frontend(model, lambda frontend: frontend.translate(wanted), limits)
    assert len(counted) == 1
    assert workers.submitted == []


def test_a_call_has_no_more_blocks_than_sentences() -> None:
    model = served(FakeWorkers())
    wanted = call(model, "<p>a</p>" * 3, "<p>\u4e2d</p>" * 2, format=TextFormat.HTML)
    limits = RequestLimits(max_sentences=4)
    problem = "texts: got 'more than 4 paragraphs'; allowed: at most 4 in one call"
    with pytest.raises(InvalidInput, match=problem):
        on_frontend(model, lambda frontend: frontend.translate(wanted), limits)


def test_errors_name_the_text_of_the_caller() -> None:
    model = served(FakeWorkers(echo), max_source_tokens=1)
    with pytest.raises(InvalidInput, match=r"texts\[1\]"):
        translate(model, "<hr>", "<p>1</p><p>one</p>", format=TextFormat.HTML)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ("<b>", "</b>", "<p>", "word ", "two", ". ", "<img>", "<code>x</code>", "&amp;", "😀 ", "10² ")
        ),
        max_size=14,
    ),
    st.lists(st.sampled_from(("<b>", "zwei", " ", "4711", "&lt;", "\U000f0000", "x", ".")), max_size=6),
)
def test_any_model_leaves_every_tag_and_what_is_kept(source: list[str], answer: list[str]) -> None:
    def hostile(request: Request) -> list[Event]:
        return [Finished(request.id, (hypothesis_of(request, "".join(answer), 0),), Timings())]

    document = "".join(source)
    (echoed,) = html(document)
    assert echoed.hypotheses[0].text == document
    (result,) = html(document, script=hostile)
    written = result.hypotheses[0].text
    assert sorted(TAG.findall(written)) == sorted(TAG.findall(document))
    assert written.count("<code>x</code>") == document.count("<code>x</code>")


def test_private_characters_of_terms_and_of_the_model_are_not_taken_for_what_is_kept() -> None:
    """A block shows what it keeps as private characters."""
    texts = ("See <code>a</code>. The bank.", "<code>a</code> bank <b>x</b>")
    terms = (Term("bank", "\U000f0000 Bank"),)
    results = html(*texts, terms=terms)
    assert [it.hypotheses[0].text for it in results] == [
        "See <code>a</code>. The \U000f0000 Bank.",
        "<code>a</code> \U000f0000 Bank <b>x</b>",
    ]

    def private(request: Request) -> list[Event]:
        return [Finished(request.id, (hypothesis_of(request, "\U000f0000a", 0),), Timings())]

    (result,) = html(texts[0], script=private)
    assert result.hypotheses[0].text == "a <code>a</code>.  a"


def test_private_characters_of_a_glossary_are_not_taken_for_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "shop.en-de.tsv").write_text("bank\t\U000f0000 Bank\n", "utf-8")
    model = served(FakeWorkers(echo))

    async def work() -> list[TextResult]:
        frontend = Frontend(ModelRegistry([model]), LIMITS, GlossaryFolder(tmp_path))
        try:
            wanted = call(model, "<code>a</code> the bank", glossary="shop", format=TextFormat.HTML)
            return await frontend.translate(wanted)
        finally:
            frontend.close()
            model.engine.close()

    (result,) = asyncio.run(work())
    assert result.hypotheses[0].text == "<code>a</code> the \U000f0000 Bank"


def test_tags_and_entities_stand_beside_terms_that_are_all_of_a_block() -> None:
    """Such a block has no sentence, and its translation is longer than its text."""
    (result,) = html("<b>bank</b> <i>bank</i> &amp; &#8364;", terms=(Term("bank", "das Geldhaus"),))
    assert result.hypotheses[0].text == "<b>das Geldhaus</b> <i>das Geldhaus</i> &amp; &#8364;"
