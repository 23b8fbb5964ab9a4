"""Kept spans inside sentences: whatever the model does, each stands in every translation once, unchanged."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import MappingProxyType

import pytest

from dragoman_service.engine.request import DecodingOptions, Event, Finished, Progress, Request, Timings
from dragoman_service.repository.models import ServedModel
from dragoman_service.text.segmenter import Piece
from dragoman_service.text.spans import Kind, Span
from dragoman_service.translation import prepare
from dragoman_service.translation.assembly import TextResult
from dragoman_service.translation.frontend import Frontend
from dragoman_service.translation.prepare import Sender
from dragoman_service.translation.protection import Protected, parts_around, protected, trimmed
from dragoman_service.translation.quantities import with_quantities
from dragoman_service.translation.settings import RequestLimits
from dragoman_service.translation.warnings import WarningKind
from support.cases import TEXTS, slow_calls
from support.fake_workers import FIRST, CharacterTokenizer, FakeWorkers, hypothesis_of, served
from support.frontends import call, collect, on_frontend, translate

STAND_INS = ("4711", "8352", "9163")
SPANS = {
    "https://a.example/B_c?d=1": Kind.URL,
    "a.b@c.example": Kind.MAIL,
    "README.md": Kind.FILE,
    "%s": Kind.PLACEHOLDER,
    "%1$s": Kind.PLACEHOLDER,
    "{count}": Kind.PLACEHOLDER,
    "<b>": Kind.TAG,
    "</b>": Kind.TAG,
    "@mia": Kind.MENTION,
    "10²": Kind.NUMBER,
    "😀": Kind.SYMBOL,
    "\u20ac": Kind.SYMBOL,
    "\u00ad": Kind.INVISIBLE,
    "\u2060": Kind.INVISIBLE,
}
PATTERN = re.compile("|".join(map(re.escape, sorted(SPANS, key=len, reverse=True))))


def spans_of(text: str) -> list[Span]:
    return [Span(*match.span(), SPANS[match.group()]) for match in PATTERN.finditer(text)]


def guarded(text: str, stand_ins: Sequence[str] = STAND_INS) -> Protected:
    found = protected(text, spans_of(text), stand_ins)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("See https://a.example/B_c?d=1 now", "See 4711 now"),
        ("{count}%s of them", "4711 of them"),
        ("pre{count}post", "pre 4711 post"),
        ("In 4711 there were {count}", "In 4711 there were 8352"),
        ("It costs 5 € here", "It costs 5 € here"),
        ("I 😀 you\u00ad both", "I 4711 you both"),
        ("第{count}章", "第 4711 章"),
    ],
)
def test_what_the_model_reads(text: str, shown: str) -> None:
    assert guarded(text).shown() == shown
    assert guarded(text).restored(shown) == text


def test_too_few_stand_ins() -> None:
    assert protected("a {count} b %s", spans_of("a {count} b %s"), ("X1",)) is None


@pytest.mark.parametrize(
    ("text", "translation", "restored"),
    [
        ("See {count} now", "Siehe jetzt 4711", "Siehe jetzt {count}"),
        ("See  {count} now", "Jetzt 4711, siehe", "Jetzt  {count}, siehe"),
        ("pre{count}post", "post 4711 pre", "post{count}pre"),
        ("第{count}章", "Chapter 4711 it is", "Chapter {count} it is"),
        ("Page {count} of %s", "共 8352 页第 4711 页", "共 %s 页第 {count} 页"),
        ("Page {count} of it", "第4711页", "第{count}页"),
        ("See {count} now", "Siehe jetzt", None),
        ("See {count} now", "Siehe 4711 und 4711", None),
        ("See {count} now", "Siehe 47112", None),
        ("See {count} now", "Siehe a4711", None),
        ("See {count} now", "Siehe 4711 für jetzt11", None),
        ("See {count} on 11 May", "Siehe 4711 am 11. Mai", "Siehe {count} am 11. Mai"),
        ("See {count} now", "Siehe 4711 {count}", None),
        ("a <b> b </b> c", "A 4711 B 8352 C", "A <b> B </b> C"),
        ("a <b> b </b> c", "A 8352 B 4711 C", None),
        ("a {count} b %1$s c", "A 8352 B 4711 C", "A %1$s B {count} C"),
        ("soft\u00adhyphen one", "Weicher Trenner", "Weicher\u00ad Trenner"),
        ("soft\u00adhyphen one", "softhyphen one", "soft\u00adhyphen one"),
    ],
)
def test_what_becomes_of_a_translation(text: str, translation: str, restored: str | None) -> None:
    assert guarded(text).restored(translation) == restored


def test_capitals_are_for_the_text_between() -> None:
    assert guarded("see {count} now").restored("siehe 4711 jetzt", str.upper) == "SIEHE {count} JETZT"


def test_parts_have_all_of_the_sentence() -> None:
    text = "See %s, 5 {count} and more"
    parts = parts_around(text, spans_of(text))
    assert "".join(part.text for part in parts) == text
    assert [part.text for part in parts if not part.kept] == ["See", "and more"]
    translations = [None if part.kept else f"{part.text.upper()}%s." for part in parts]
    assert guarded(text).from_parts([part.text for part in parts], translations) == "SEE %s, 5 {count} AND MORE."


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("😀 Hello 😀 you 😀", "Hello 😀 you"),
        ("<b>Hello {count} you</b>", "Hello {count} you"),
        ("<b>Hello</b> you <b>too</b>", "<b>Hello</b> you <b>too</b>"),
        ("{count} of you", "{count} of you"),
    ],
)
def test_what_stands_at_the_ends_is_not_shown(text: str, inner: str) -> None:
    start, end = trimmed(text, spans_of(text))
    assert text[start:end] == inner


# --- the law, with any model


Model = Callable[[str, random.Random], str]
WORDS = ("alpha", "Beta", "gamma,", "5", "x", "(delta)", "Größe", "漢字", "e\u0301a", ".")


def echo(shown: str, rng: random.Random) -> str:
    return shown


def doubled(shown: str, rng: random.Random) -> str:
    return f"{shown} {shown}"


def reversed_words(shown: str, rng: random.Random) -> str:
    return " ".join(reversed(shown.split()))


def dropped(shown: str, rng: random.Random) -> str:
    return " ".join(word for word in shown.split() if rng.random() < 0.8)


def shuffled(shown: str, rng: random.Random) -> str:
    words = shown.split()
    rng.shuffle(words)
    return " ".join(words)


def hostile(shown: str, rng: random.Random) -> str:
    """Writes anything: spans of its own, stand-ins, parts of them."""
    return "".join(rng.choice([*SPANS, *STAND_INS, "4", " ", "word", "\n", "."]) for _ in range(rng.randrange(9)))


def empty(shown: str, rng: random.Random) -> str:
    return ""


def workers(model: Model) -> FakeWorkers:
    def script(request: Request) -> list[Event]:
        shown = "".join(chr(token - FIRST) for token in request.source[:-1])
        rng = random.Random(shown)
        count = request.options.num_hypotheses
        hypotheses = tuple(hypothesis_of(request, model(shown, rng), rank) for rank in range(count))
        streamed = [Progress(request.id, (token,)) for token in hypotheses[0].tokens] if request.stream else []
        return [*streamed, Finished(request.id, hypotheses, Timings())]

    return FakeWorkers(script)


def random_text(rng: random.Random) -> str:
    chosen = [rng.choice([*WORDS, *WORDS, *SPANS]) for _ in range(rng.randrange(1, 12))]
    return "".join(word + rng.choice(["", " ", " ", "  ", "\u00a0"]) for word in chosen)


@pytest.fixture
def spanned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text is one sentence with the spans of this module, or is kept if it has no letter."""

    def pieces_of(text: str, language: str, **others: object) -> Iterator[Piece]:
        body = text.strip()
        start = text.index(body)
        translatable = any(map(str.isalpha, body))
        for piece in (
            Piece(text[:start], translatable=False),
            Piece(body, translatable, start, tuple(spans_of(body)) if translatable else ()),
            Piece(text[start + len(body) :], translatable=False),
        ):
            if piece.text:
                yield piece

    monkeypatch.setattr(prepare, "pieces_of", pieces_of)


def broken(source: str, translation: str, more: Mapping[str, int] = MappingProxyType({})) -> dict[str, tuple[int, int]]:
    """The spans of a sentence that stand more or less often in its translation, where they are not as they were.

    `more` says how much more often a span may stand there.
    """
    start, end = trimmed(source, with_quantities(source, spans_of(source)))
    if not any(map(str.isalpha, source[start:end])):
        return {} if translation == source else {source: (1, 0)}
    if not (translation.startswith(source[:start]) and translation.endswith(source[end:])):
        return {source: (1, 0)}
    source, translation = source[start:end], translation[start : len(translation) - len(source) + end]
    numbers = {span: (wanted, translation.count(span)) for span, wanted in spans_inside(source).items()}
    # The source may have more: "5" before "10²" is no part of it if another span stands before.
    most = {span: source.count(span) + more.get(span, 0) for span in numbers}
    return {span: (wanted, got) for span, (wanted, got) in numbers.items() if not wanted <= got <= most[span]}


def spans_inside(sentence: str) -> Counter[str]:
    return Counter(sentence[span.start : span.end] for span in with_quantities(sentence, spans_of(sentence)))


MODELS = [echo, doubled, reversed_words, dropped, shuffled, hostile, empty]


@pytest.mark.usefixtures("spanned")
@pytest.mark.parametrize("calls", [2, slow_calls(14)])
@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_the_law(model: Model, beam: int, calls: int) -> None:
    rng = random.Random(f"{model.__name__} {beam}")
    options = DecodingOptions(beam_size=beam, num_hypotheses=beam)
    for _ in range(calls):
        fake = served(workers(model), stand_ins=STAND_INS, max_source_tokens=300, max_target_tokens=900)
        texts = [random_text(rng) for _ in range(TEXTS)]
        for text, result in zip(texts, all_translated(fake, texts, options), strict=True):
            assert 1 <= len(result.hypotheses) <= beam
            for hypothesis in result.hypotheses:
                assert broken(text, hypothesis.text) == {}, (text, hypothesis.text)
                assert model is not echo or hypothesis.text == text


class _WithEmoji(CharacterTokenizer):
    """Prefixes have only characters of the vocabulary."""

    vocab_size = 0x20000

    def texts(self) -> list[bytes]:
        return [piece.encode(errors="surrogatepass") for piece in self.pieces(range(self.vocab_size))]


WITH_EMOJI = _WithEmoji()


@pytest.mark.usefixtures("spanned")
@pytest.mark.parametrize("calls", [2, slow_calls(14)])
@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_the_law_of_prefixes(model: Model, beam: int, calls: int) -> None:
    """A translation begins with exactly its prefix, which may have spans. Those that it lacks follow it, each once."""
    rng = random.Random(f"prefix {model.__name__} {beam}")
    options = DecodingOptions(beam_size=beam, num_hypotheses=beam)
    for _ in range(calls):
        fake = served(workers(model), stand_ins=STAND_INS, max_source_tokens=300, max_target_tokens=900)
        fake = replace(fake, tokenizer=WITH_EMOJI)
        texts = [f"Say {random_text(rng)}" for _ in range(TEXTS)]
        prefixes = [random_prefix(text, rng) for text in texts]
        results = all_translated(fake, texts, options, prefixes)
        for text, prefix, result in zip(texts, prefixes, results, strict=True):
            for hypothesis in result.hypotheses:
                assert hypothesis.text.startswith(prefix), (text, prefix, hypothesis.text)
                more = {span: prefix.count(span) for span in spans_inside(text)}
                assert broken(text, hypothesis.text, more) == {}, (text, prefix, hypothesis.text)


def random_prefix(text: str, rng: random.Random) -> str:
    """Spans of a text in any order, words, and what is no whole span."""
    spans = [text[span.start : span.end] for span in spans_of(text)]
    chosen = [rng.choice([*WORDS, *spans, *spans, *SPANS]) for _ in range(rng.randrange(1, 6))]
    prefix = "".join(word + rng.choice(["", " ", " ", "  ", "\t"]) for word in chosen)
    return prefix[: rng.randrange(1, len(prefix) + 1)] if rng.random() < 0.2 else prefix


def all_translated(
    model: ServedModel, texts: Sequence[str], options: DecodingOptions, prefixes: Sequence[str] = ()
) -> list[TextResult]:
    wanted = call(model, *texts, options=options, target_prefixes=tuple(prefixes))
    results: list[TextResult] = on_frontend(model, lambda frontend: frontend.translate(wanted), RequestLimits())
    return results


@pytest.mark.usefixtures("spanned")
@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_the_law_of_streams(model: Model, beam: int) -> None:
    rng = random.Random(f"stream {model.__name__} {beam}")
    fake = served(workers(model), stand_ins=STAND_INS, max_source_tokens=300, max_target_tokens=900)
    texts = [random_text(rng) for _ in range(30)]

    async def work(frontend: Frontend) -> list[list[str | TextResult]]:
        options = DecodingOptions(beam_size=beam)
        return [await collect(frontend.stream(call(fake, text, options=options))) for text in texts]

    for text, (*chunks, result) in zip(texts, on_frontend(fake, work), strict=True):
        assert "".join(chunks) == result.hypotheses[0].text
        assert broken(text, result.hypotheses[0].text) == {}
        assert model is not echo or result.hypotheses[0].text == text


@pytest.mark.usefixtures("spanned")
def test_the_best_hypothesis_that_keeps_the_spans_is_chosen() -> None:
    texts = iter(["No spans", "Zwei 4711 4711", "Siehe 4711 jetzt", "Jetzt 4711"])
    engine = workers(lambda shown, rng: next(texts))
    (result,) = translate(served(engine, stand_ins=STAND_INS), "See %s now", options=DecodingOptions(beam_size=4))
    assert [hypothesis.text for hypothesis in result.hypotheses] == ["Siehe %s jetzt"]
    assert (len(engine.submitted), result.warnings) == (1, ())


@pytest.mark.usefixtures("spanned")
def test_a_sentence_that_has_lost_a_span_is_translated_with_other_stand_ins() -> None:
    engine = workers(lambda shown, rng: shown.replace("4711", "").upper())
    (result,) = translate(served(engine, stand_ins=STAND_INS), "See %s now and {count}", target_prefixes=("Sie",))
    assert result.hypotheses[0].text == "SieSEE %s NOW AND {count}"
    assert (len(engine.submitted), result.warnings) == (2, ())
    shown = ["See 4711 now and 8352", "See 8352 now and 9163"]
    assert ["".join(chr(it - FIRST) for it in request.source[:-1]) for request in engine.submitted] == shown
    assert result.source_tokens == 2 * (len(shown[0]) + 1)


@pytest.mark.usefixtures("spanned")
@pytest.mark.parametrize("stream", [False, True])
def test_further_attempts_are_part_of_the_call(stream: bool) -> None:
    """Their requests have permits, the client and the deadline of the call, and their tokens are counted."""
    engine = workers(lambda shown, rng: re.sub("[0-9]", "", shown).upper())
    model = served(engine, stand_ins=STAND_INS, permits=2)
    wanted = call(model, "See %s now", sender=Sender(client="shop", deadline=1e12))
    if stream:
        *_, result = on_frontend(model, lambda frontend: collect(frontend.stream(wanted)))
    else:
        (result,) = on_frontend(model, lambda frontend: frontend.translate(wanted))
    assert result.hypotheses[0].text == "SEE %s NOW"
    assert [(warning.kind, warning.start, warning.end) for warning in result.warnings] == [
        (WarningKind.SPANS_IN_PARTS, 0, 10)
    ]
    assert {(request.client, request.deadline) for request in engine.submitted} == {("shop", 1e12)}
    assert len(engine.submitted) == 4
    tokens = 2 * (len("See 4711 now") + 1) + len("See") + 1 + len("now") + 1
    assert (result.sentences, result.source_tokens) == (1, tokens)
    assert model.engine.permits.free == model.engine.permits.capacity
    assert model.engine.permits.tokens == 0


@pytest.mark.usefixtures("spanned")
@pytest.mark.parametrize("texts", [1, 100])
def test_many_translations_are_checked_on_a_thread(texts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop serves the other callers meanwhile."""
    threads = set()

    def restored(*args: object) -> None:
        threads.add(threading.current_thread().name)

    monkeypatch.setattr(Protected, "restored", restored)
    engine = workers(echo)
    results = all_translated(served(engine, stand_ins=STAND_INS), ["See %s now"] * texts, DecodingOptions())
    assert {result.hypotheses[0].text for result in results} == {"See %s now"}
    assert threads == ({"dragoman-text"} if texts > 32 else {threading.main_thread().name})


@pytest.mark.usefixtures("spanned")
def test_letters_that_the_tokenizer_leaves_out() -> None:
    """A sentence may have no parts that the model can read."""

    class LeavesOutX(CharacterTokenizer):
        def encode(self, text: str) -> list[int]:
            return super().encode(text.replace("x", ""))

        def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
            return self.encode(text), [(place, place + 1) for place, it in enumerate(text) if it != "x"]

    model = replace(served(workers(empty), stand_ins=STAND_INS), tokenizer=LeavesOutX())
    (result,) = translate(model, "x %s x")
    assert result.hypotheses[0].text == "x %s x"


@pytest.mark.usefixtures("spanned")
@pytest.mark.parametrize("stand_ins", [STAND_INS[:2], STAND_INS])
def test_a_part_whose_translation_forms_a_span_with_what_stands_beside_it(stand_ins: tuple[str, ...]) -> None:
    """With too few stand-ins, and with stand-ins that are lost."""
    model = served(workers(lambda shown, rng: re.sub("(ab |[0-9]{4})", "", shown)), stand_ins=stand_ins)
    (result,) = translate(model, "%s € ab 5, x %s € 5 c")
    assert result.hypotheses[0].text.startswith("%s € ab 5, x %s € 5")


def test_a_second_attempt_in_a_stream_does_not_wait_for_later_sentences() -> None:
    def script(request: Request) -> list[Event]:
        shown = "".join(chr(token - FIRST) for token in request.source[:-1])
        if shown.startswith("Later"):
            return []  # never ends
        return [Finished(request.id, (hypothesis_of(request, shown.replace("4711", "").upper(), 0),), Timings())]

    model = served(FakeWorkers(script), stand_ins=STAND_INS)

    async def work(frontend: Frontend) -> str | TextResult:
        async with aclosing(frontend.stream(call(model, "See %s now. Later it ends."))) as pieces:
            return await anext(pieces)

    assert on_frontend(model, work) == "SEE %s NOW."


def test_plain_sentences_cost_nothing() -> None:
    engine = workers(echo)
    translate(served(engine), "One. Two.\nThree.", options=DecodingOptions(beam_size=3))
    assert [request.options.num_hypotheses for request in engine.submitted] == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It costs 100 € here", ["100 €"]),
        ("It costs €1,000.50 here", ["€1,000.50"]),
        ("It costs €, or 5", ["€"]),
        ("It is 10² big", ["10²"]),
        ("It is 5 10² big", ["5 10²"]),
        ("Of a1 €", ["€"]),
    ],
)
def test_a_number_and_its_unit_are_one_span(text: str, found: list[str]) -> None:
    assert [text[span.start : span.end] for span in with_quantities(text, spans_of(text))] == found
