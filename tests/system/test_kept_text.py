"""What must stand in the translations of the bundled models, and what must not, from a real server."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import grpc
import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from support.server_process import START_SECONDS, server_process

from .conftest import BUNDLED

PAIRS = [BUNDLED, BUNDLED.parents[1] / "de-en" / "1"]
pytestmark = pytest.mark.skipif(
    not all((path / "manifest.json").exists() for path in PAIRS), reason="the bundled models are not there"
)

KEPT = {
    ("en", "It costs 100 € here."): ["100 €"],
    ("en", "Thanks 😀"): ["😀"],
    ("en", "Hello! 😊 How are you?"): [" 😊 "],
    ("en", "• One"): ["• "],
    ("en", "10² is 100."): ["10²"],
    ("en", "The area is 5 m²."): ["5 m²"],
    ("en", "Download it from https://example.com/Files/Report.PDF today."): ["https://example.com/Files/Report.PDF"],
    ("en", "Open README.MD in ASP.NET."): ["README.MD", "ASP.NET"],
    ("en", "You have %1$s new messages in {count} folders."): ["%1$s", "{count}"],
    ("en", "Click <b>here</b> to go on."): ["<b>", "</b>"],
    ("en", "Hello {{name}}, welcome to our shop!"): ["{{name}}"],
    ("en", "Fish &amp; chips are **bold** here."): ["&amp;", "**"],
    ("en", "Łódź is a city in Poland."): ["Łódź"],
    ("en", "Good\u2060morning."): ["\u2060"],
    ("de", "Ich habe %s Nachrichten in {count} Ordnern."): ["%s", "{count}"],
    ("de", "Das kostet 100 € im Monat, sagt @mia."): ["100 €", "@mia"],
}
OF_WORDS = [("en", "one"), ("en", "the"), ("en", "with"), ("de", "der"), ("de", "und")]


@pytest.fixture(scope="module")
def stub() -> Iterator[translation_pb2_grpc.TranslationStub]:
    with server_process(PAIRS, "--max-rows", "16") as server, grpc.insecure_channel(server.address) as channel:
        yield translation_pb2_grpc.TranslationStub(channel)


def translate(
    stub: translation_pb2_grpc.TranslationStub, text: str, language: str, **fields: object
) -> pb.TextTranslation:
    request = pb.TranslateRequest(texts=[text], source_language=language, **fields)
    (translation,) = stub.Translate(request, timeout=START_SECONDS).translations
    return translation


@pytest.mark.parametrize(("language", "text"), KEPT)
def test_spans_are_kept(stub: translation_pb2_grpc.TranslationStub, language: str, text: str) -> None:
    options = pb.DecodingOptions(beam_size=4, num_hypotheses=2)
    for hypothesis in translate(stub, text, language, options=options).hypotheses:
        assert {span: hypothesis.text.count(span) for span in KEPT[language, text]} == {
            span: text.count(span) for span in KEPT[language, text]
        }
        assert "\ufffd" not in hypothesis.text
    request = pb.TranslateStreamRequest(text=text, source_language=language)
    *chunks, last = stub.TranslateStream(request, timeout=START_SECONDS)
    assert "".join(it.chunk for it in chunks) == last.result.translation.hypotheses[0].text


@pytest.mark.parametrize(
    ("language", "text", "targets"),
    [
        ("en", "The bank is closed today.", ["Geldhaus"]),
        ("en", "The bank bought a small house in Berlin.", ["Geldhaus", "Gebäude"]),
        ("en", "Bank", ["Geldhaus"]),
        ("de", "Die Bank ist heute geschlossen.", ["money house"]),
    ],
)
def test_terms_stand_in_translations(
    stub: translation_pb2_grpc.TranslationStub, language: str, text: str, targets: list[str]
) -> None:
    sources = {"Geldhaus": "bank", "Gebäude": "house", "money house": "Bank"}
    terms = [pb.Term(source=sources[target], target=target) for target in targets]
    options = pb.DecodingOptions(beam_size=4, num_hypotheses=2)
    for hypothesis in translate(stub, text, language, terms=terms, keep=["Berlin"], options=options).hypotheses:
        assert [hypothesis.text.count(target) for target in targets] == [1] * len(targets)
        assert hypothesis.text.count("Berlin") == text.count("Berlin")
        assert [it.term.target for it in hypothesis.applied_terms] == targets
        for it in hypothesis.applied_terms:
            assert hypothesis.text[it.target.start : it.target.end] == it.term.target
            assert text[it.source.start : it.source.end].lower() == it.term.source.lower()


@pytest.mark.parametrize(("language", "word"), OF_WORDS)
def test_a_word_has_a_translation(stub: translation_pb2_grpc.TranslationStub, language: str, word: str) -> None:
    for size in (1, 4):
        assert translate(stub, word, language, options=pb.DecodingOptions(beam_size=size)).hypotheses[0].text.strip()


def test_a_text_of_another_script_is_returned_with_a_warning(stub: translation_pb2_grpc.TranslationStub) -> None:
    text = "这是一个测试。" * 50
    translation = translate(stub, text, "en")
    assert translation.hypotheses[0].text == text
    assert translation.warnings[0].kind == pb.TranslationWarning.SOURCE_NOT_READABLE
    assert text[translation.warnings[0].source.start : translation.warnings[0].source.end].startswith("这是")


def test_sentences_and_their_scores_add_up(stub: translation_pb2_grpc.TranslationStub) -> None:
    text = "The cat sees a dog.\n\nIt has %s bones. 😀 It runs!"
    (hypothesis,) = translate(
        stub, text, "en", return_sentences=True, return_token_scores=True, options=pb.DecodingOptions(length_penalty=0)
    ).hypotheses
    sources = [text[sentence.source.start : sentence.source.end] for sentence in hypothesis.sentences]
    targets = [hypothesis.text[sentence.target.start : sentence.target.end] for sentence in hypothesis.sentences]
    assert sources == ["The cat sees a dog.", "It has %s bones.", "It runs!"]
    assert all(targets)
    assert hypothesis.text == f"{targets[0]}\n\n{targets[1]} 😀 {targets[2]}"
    assert math.isclose(sum(sentence.score for sentence in hypothesis.sentences), hypothesis.score)
    for sentence in hypothesis.sentences:
        assert math.isclose(sum(sentence.token_scores) + sentence.end_score, sentence.score, abs_tol=1e-4)


URL = "https://example.com/Files/Report.PDF"
IN_PARTS = "%s of " + " and ".join(f"{{v{number}}} of the files" for number in range(8)) + " are here."
"""It has more spans than there are stand-ins."""


@pytest.mark.parametrize(
    ("source", "prefix"),
    [
        *(("The cat sleeps.", prefix) for prefix in ("Die Kat", "Die ", "  Ei", "Die  Katze", "10² ")),
        (f"Download it today from {URL}, please.", f"Laden Sie  {URL} her"),
        (f"Download it today from {URL}, please.", "Laden Sie https://exam"),
        (f"{URL} has it.", "Auf "),
        (IN_PARTS, "Es sind  %s von {v0} der Da"),
        (IN_PARTS, "{v0} von %s\tund {v1} von {v3}"),
    ],
)
@pytest.mark.parametrize("size", [1, 4])
def test_a_translation_begins_with_the_characters_of_its_prefix(
    stub: translation_pb2_grpc.TranslationStub, source: str, prefix: str, size: int
) -> None:
    options = pb.DecodingOptions(beam_size=size)
    text = translate(stub, source, "en", options=options, target_prefixes=[prefix]).hypotheses[0].text
    assert text.startswith(prefix)
    assert len(text) > len(prefix)
    for span in (URL, "%s", *(f"{{v{number}}}" for number in range(8))):
        assert text.count(span) == source.count(span)
    request = pb.TranslateStreamRequest(text=source, source_language="en", options=options, target_prefix=prefix)
    *chunks, _ = stub.TranslateStream(request, timeout=START_SECONDS)
    assert "".join(it.chunk for it in chunks) == text


SENTENCE = "The old man reads a newspaper in the garden, and his dog sleeps on the grass."
SEARCHES = [
    pb.DecodingOptions(beam_size=1),
    pb.DecodingOptions(beam_size=4, num_hypotheses=3),
    pb.DecodingOptions(sampling=pb.Sampling(seed=2, top_k=10), num_hypotheses=3),
]


@pytest.mark.parametrize("options", SEARCHES, ids=["greedy", "beam", "samples"])
def test_suppressed_words_stand_in_no_translation(
    stub: translation_pb2_grpc.TranslationStub, options: pb.DecodingOptions
) -> None:
    """Of each round, all words of the translations before it are suppressed."""
    words: set[str] = set()
    for _ in range(4):
        fields = {"options": options, "suppressed_words": sorted(words), "suppressed_tokens": ["▁und"]}
        translation = translate(stub, SENTENCE, "en", return_tokens=True, **fields)
        found: set[str] = set()
        for hypothesis in translation.hypotheses:
            assert "▁und" not in hypothesis.tokens
            found |= set(re.findall(r"\w+", hypothesis.text))
        assert found
        assert not found & words
        request = pb.TranslateStreamRequest(text=SENTENCE, source_language="en", **fields)
        *chunks, _ = stub.TranslateStream(request, timeout=START_SECONDS)
        assert "".join(it.chunk for it in chunks) == translation.hypotheses[0].text
        words |= found if len(words | found) <= 100 else set()


@pytest.mark.parametrize("options", SEARCHES, ids=["greedy", "beam", "samples"])
@pytest.mark.parametrize("prefix", ["Im Garten les", "Im Garten "])
def test_a_prefix_is_preferred_as_much_as_is_asked_for(
    stub: translation_pb2_grpc.TranslationStub, options: pb.DecodingOptions, prefix: str
) -> None:
    free, ignored, preferred = (
        translate(stub, SENTENCE, "en", options=options, **fields).hypotheses
        for fields in (
            {},
            {"target_prefixes": [prefix], "target_prefix_bias": 0},
            {"target_prefixes": [prefix], "target_prefix_bias": 100},
        )
    )
    assert [(it.text, it.score) for it in ignored] == [(it.text, it.score) for it in free]
    assert not free[0].text.startswith(prefix)
    assert preferred[0].text.startswith(prefix)


def test_what_is_left_out_costs_score(stub: translation_pb2_grpc.TranslationStub) -> None:
    for penalty in (0.0, 0.5, 10.0):
        options = pb.DecodingOptions(beam_size=4, num_hypotheses=4, length_penalty=0, coverage_penalty=penalty)
        fields = {"return_sentences": True, "return_token_scores": True}
        found = translate(stub, SENTENCE, "en", options=options, **fields).hypotheses
        costs = [sum(it.token_scores) + it.sentences[0].end_score - it.score for it in found]
        assert all(-1e-4 <= cost <= penalty + 1e-4 for cost in costs)
        assert any(cost > penalty / 20 for cost in costs) or not penalty
        assert [it.score for it in found] == sorted((it.score for it in found), reverse=True)
