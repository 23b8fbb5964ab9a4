"""Word alignments from the source positions of tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dragoman_service.engine.request import DecodingOptions, Event, Finished, Request, Timings
from dragoman_service.text.segmenter import EncodedPiece
from dragoman_service.translation.alignment import word_alignment
from dragoman_service.translation.assembly import TextResult
from support.fake_workers import FIRST, CharacterTokenizer, FakeWorkers, hypothesis_of, served
from support.frontends import call, translate


class TaggedTokenizer(CharacterTokenizer):
    """Reads two ids before each text."""

    source_overhead = 3

    def source(self, ids, source_language, target_language):  # type: ignore[no-untyped-def]
        return (4, 5, *super().source(ids, source_language, target_language))


def reverse(request: Request) -> list[Event]:
    """Translate into the words in the opposite order, and align each character with its own."""
    first = 2 if request.source[0] == 4 else 0
    source = "".join(chr(token - FIRST) for token in request.source[first:-1])
    words, places, start = source.split(" "), [], 0
    for word in words:
        places.append(range(start + first, start + first + len(word)))
        start += len(word) + 1
    aligned: list[int] = []
    for place in reversed(places):
        aligned += [*([-1] if aligned else []), *place]
    hypothesis = hypothesis_of(request, " ".join(reversed(words)), 0)
    aligned = [*aligned, len(request.source) - 1] if request.alignments else []
    return [Finished(request.id, (replace(hypothesis, alignment=tuple(aligned)),), Timings())]


def pairs(text: str, result: TextResult) -> list[tuple[str, str]]:
    (hypothesis,) = result.hypotheses
    return [
        (text[slice(*source)], hypothesis.text[slice(*target)])
        for sentence in hypothesis.sentences
        for source, target in sentence.alignment
    ]


@pytest.mark.parametrize("tokenizer", [CharacterTokenizer(), TaggedTokenizer()])
def test_words_are_aligned(tokenizer: CharacterTokenizer) -> None:
    text = "One two, it's three.\nFour five!"
    model = replace(served(FakeWorkers(reverse)), tokenizer=tokenizer)
    (result,) = translate(model, text, sentences=True, alignments=True)
    assert result.hypotheses[0].text == "three. it's two, One\nfive! Four"
    assert pairs(text, result) == [
        *((word, word) for word in ("three", ".", "it's", "two", ",", "One")),
        *((word, word) for word in ("five", "!", "Four")),
    ]


def test_without_alignments_there_are_sentences() -> None:
    text = "One two.\n***\nFour"
    (result,) = translate(served(FakeWorkers(reverse)), text, sentences=True)
    (hypothesis,) = result.hypotheses
    assert pairs(text, result) == []
    assert [text[slice(*it.source)] for it in hypothesis.sentences] == ["One two.", "Four"]
    assert [hypothesis.text[slice(*it.target)] for it in hypothesis.sentences] == ["two. One", "Four"]
    assert translate(served(FakeWorkers(reverse)), text)[0].hypotheses[0].sentences == ()


@pytest.mark.parametrize(("tokenizer", "before"), [(CharacterTokenizer(), 0), (TaggedTokenizer(), 2)])
@pytest.mark.parametrize("text", ["Öl, 12!", "DAS IST GUT, 12!", "foo@bar.de öl 12"])
def test_a_translation_is_to_cover_the_letters_that_the_model_reads(
    tokenizer: CharacterTokenizer, before: int, text: str
) -> None:
    engine = FakeWorkers(reverse)
    model = replace(served(engine, alignments=True), tokenizer=tokenizer)
    options = DecodingOptions(coverage_penalty=0.5)
    (result,) = translate(model, text, options=options, sentences=True)
    for request in engine.submitted:
        assert request.alignments
        read = tokenizer.decode(request.source[before:-1])
        assert request.content == tuple(before + place for place, it in enumerate(read) if it.isalpha())
        assert request.content
    assert result.hypotheses[0].sentences[0].alignment == (), "they were not asked for"
    translate(replace(served(plain := FakeWorkers(reverse), alignments=True), tokenizer=tokenizer), text)
    assert (plain.submitted[0].content, plain.submitted[0].alignments) == ((), False)


def test_capitals_that_change_the_length_are_not_aligned() -> None:
    route = call(served(FakeWorkers())).route
    request = Request(1, (FIRST,), 10)
    hypothesis = replace(hypothesis_of(request, "straße", 0), alignment=(0,) * 6)
    piece = EncodedPiece("ROAD", CharacterTokenizer().encode("Road"), capitals=True)
    assert word_alignment(piece, hypothesis, "STRASSE", route) == []
    assert word_alignment(piece, hypothesis, "STRABE", route) == [((0, 4), (0, 6))]
