"""Where a request has its texts split, and texts whose lines are joined before."""

from __future__ import annotations

import pytest

from dragoman_service.engine.request import Event, Finished, Request, Timings
from dragoman_service.errors import InvalidInput
from dragoman_service.text.markup.formats import TextFormat
from dragoman_service.text.segmenter import Splitting
from dragoman_service.text.terms import Term
from dragoman_service.translation.warnings import WarningKind
from support.fake_workers import FIRST, FakeWorkers, hypothesis_of, served
from support.frontends import call, collect, on_frontend, translate

WRAPPED = "A long sen-\ntence goes\non. Then 7 comes\na second.\n\nA new one."


def text_of(request: Request) -> str:
    return "".join(chr(token - FIRST) for token in request.source[:-1])


def echo(request: Request) -> list[Event]:
    return [Finished(request.id, (hypothesis_of(request, text_of(request).replace("7", "x"), 0),), Timings())]


@pytest.mark.parametrize(
    ("splitting", "shown"),
    [
        (Splitting.SENTENCES, ["One.", "Two", "three."]),
        (Splitting.LINES, ["One. Two", "three."]),
        (Splitting.NONE, ["One. Two 4711 three."]),
    ],
)
def test_a_request_says_where_to_split(splitting: Splitting, shown: list[str]) -> None:
    workers = FakeWorkers(echo)
    (result,) = translate(served(workers), "One. Two\nthree.", splitting=splitting)
    assert result.hypotheses[0].text == "One. Two\nthree."
    assert [text_of(request) for request in workers.submitted[: len(shown)]] == shown


def test_joined_lines_are_translated_as_sentences_with_places_in_the_source() -> None:
    (result,) = translate(
        served(FakeWorkers(echo)), WRAPPED, join_lines=True, sentences=True, terms=(Term("second", "SECOND"),)
    )
    (hypothesis,) = result.hypotheses
    assert hypothesis.text == "A long sentence goes on. Then x comes a SECOND.\n\nA new one."
    assert [WRAPPED[slice(*it.source)] for it in hypothesis.sentences] == [
        "A long sen-\ntence goes\non.",
        "Then 7 comes\na second.",
        "A new one.",
    ]
    assert [WRAPPED[slice(*it.source)] for it in hypothesis.terms] == ["second"]
    (warning,) = (it for it in result.warnings if it.kind is WarningKind.NUMBER_MISSING)
    assert WRAPPED[warning.start : warning.end] == "Then 7 comes\na second."


def test_a_stream_of_joined_lines_gives_the_same() -> None:
    model = served(FakeWorkers())
    wrapped = call(model, WRAPPED, join_lines=True, sentences=True)
    *pieces, result = on_frontend(model, lambda frontend: collect(frontend.stream(wrapped)))
    assert (
        "".join(pieces) == result.hypotheses[0].text == "A LONG SENTENCE GOES ON. THEN 7 COMES A SECOND.\n\nA NEW ONE."
    )
    assert WRAPPED[slice(*result.hypotheses[0].sentences[0].source)] == "A long sen-\ntence goes\non."


def test_lines_of_markup_are_not_joined() -> None:
    with pytest.raises(InvalidInput, match="join_lines: got True; allowed: False with the format HTML"):
        translate(served(FakeWorkers(echo)), "<p>a\nb</p>", format=TextFormat.HTML, join_lines=True)
