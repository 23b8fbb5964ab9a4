"""Any text, any options: what is not translated is kept exactly, and the answer is whole or names a field."""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.engine.request import DecodingOptions, Finished, FinishReason, Hypothesis, Timings
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.loading import load_models
from dragoman_service.repository.models import Route
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.settings import ServiceConfig
from dragoman_service.translation.assembly import Answer, Settled, assemble_steps, settled
from dragoman_service.translation.prepare import PreparedText, prepare
from dragoman_service.translation.sentences import ProtectedPiece
from dragoman_service.translation.text_worker import run_inline
from support.fake_workers import FakeWorkers, served
from support.server_thread import serving
from support.tiny import WORDS, tokenizer_model

MAX_SOURCE_TOKENS = 40
MAX_TARGET_TOKENS = 159  # of the tiny model
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
TOKENIZER = Tokenizer(tokenizer_model())

AWKWARD = list(" \u00a0\u3000\t\n\r\x0b\x0c\x1c\x1e\x85\u2028\u2029\0\x01\x1b\x7f.!?。…,;:«»\"'()*-–—·")
AWKWARD += list(
    "\u0301\u0308\u20dd\u0e33\u200b\u200c\u200d\u2060\ufeff\u00ad\u202a\u202e\u2066\ufffc\ufffd\u2581\u3164"
)
AWKWARD += list("İıßſŉǅΣςﬁ㎏½①Ａａ١१漢字한😀👩🇩\U000e0001\U0001d400\U0010ffff\ue000\ufdd0")
ANY = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from(AWKWARD), max_size=60)
RIGHT_TO_LEFT = st.text(
    st.characters(min_codepoint=0x590, max_codepoint=0x8FF) | st.sampled_from(" .\u200f\n"), max_size=60
)
LONG_WORDS = st.builds(lambda unit, count: unit * count, st.text(min_size=1, max_size=4), st.integers(1, 400))
SENTENCES = st.lists(st.sampled_from([*WORDS, *(word.upper() for word in WORDS), *".!?\n\t,"]), max_size=40).map(
    " ".join
)
SPACES = [" ", "  ", "\u00a0", "\u3000", " \u2009", "\t", "\n", "\r\n", "\u2028", "\x1f "]
SPACED = st.lists(st.sampled_from(["A", "cat", "1", "漢", "é", ".", "!", "«", "😀", *SPACES]), max_size=20).map("".join)
TEXTS = SPACED | ANY | RIGHT_TO_LEFT | LONG_WORDS | SENTENCES | st.lists(ANY | SENTENCES, max_size=4).map("\r\n".join)
LANGUAGES = st.sampled_from(["en", "de", "tr", "zh", "ar", "ja", "th", "xx"])

TRIED = settings(derandomize=True, database=None, deadline=None)
ROUNDS = pytest.mark.parametrize("rounds", [500, pytest.param(20_000, marks=pytest.mark.slow)])
CALLS = pytest.mark.parametrize("rounds", [150, pytest.param(1_500, marks=pytest.mark.slow)])


def tried(rounds: int, *phases: Phase) -> Any:
    """So many examples, the same in every run."""
    checks = list(HealthCheck)
    return settings(TRIED, max_examples=rounds, phases=phases or tuple(Phase), suppress_health_check=checks)


@pytest.fixture(scope="module")
def route() -> Iterator[Route]:
    """A model that takes short sentences only, with a real tokenizer."""
    engine = FakeWorkers()
    model = served(engine, max_source_tokens=MAX_SOURCE_TOKENS, max_target_tokens=MAX_TARGET_TOKENS)
    yield Route(dataclasses.replace(model, tokenizer=TOKENIZER), "en", "de")
    engine.close()


def prepared_for(route: Route, text: str) -> PreparedText:
    return prepare(text, "", route, DecodingOptions(), lambda piece: None)


def answered(route: Route, prepared: PreparedText, translations: list[tuple[int, ...]]) -> str:
    """The text in which each sentence has the translation given."""
    hypotheses = [Hypothesis(tokens, (0.0,) * len(tokens), -1.0, FinishReason.STOP) for tokens in translations]
    finished = [Finished(number, (hypothesis,)) for number, hypothesis in enumerate(hypotheses)]
    answers: list[Answer] = list(finished)
    for number, piece in enumerate(prepared.sentences):
        if isinstance(piece, ProtectedPiece):
            given = (piece.written(TOKENIZER.decode(translations[number])),)
            kept = settled(piece, finished[number], route, DecodingOptions())
            answers[number] = kept or Settled((hypotheses[number],), given, Timings())
    return run_inline(assemble_steps(prepared, answers, route, DecodingOptions())).hypotheses[0].text


@ROUNDS
def test_what_is_not_translated_is_kept_exactly(route: Route, rounds: int) -> None:
    """Sentences are replaced by numbers that are not in the text: what stands between the numbers is of the text."""
    numbers = [tuple(TOKENIZER.encode(f"{number:04}")) for number in range(2_000)]

    @tried(rounds)
    @given(TEXTS.filter(lambda text: "0" not in text), LANGUAGES, LANGUAGES)
    def check(text: str, source: str, target: str) -> None:
        prepared = prepared_for(dataclasses.replace(route, source_language=source, target_language=target), text)
        assert "".join(piece.text for piece in prepared.pieces) == text
        assert all(len(piece.tokens) < MAX_SOURCE_TOKENS for piece in prepared.pieces)
        result = answered(route, prepared, numbers[: prepared.num_sentences])
        start = 0
        for number, sentence in enumerate(prepared.sentences):
            before, _, result = result.partition(f"{number:04}")
            assert text[start:].startswith(before + sentence.text)
            assert not CONTROLS.search(sentence.text)
            start += len(before) + len(sentence.text)
        assert result == text[start:]

    check()


@ROUNDS
def test_a_text_translated_into_itself_is_itself(route: Route, rounds: int) -> None:
    """Without the rule for capitals, as far as the tokenizer's normalisation leaves the text alone."""

    @tried(rounds)
    @given(TEXTS)
    def check(text: str) -> None:
        prepared = prepared_for(dataclasses.replace(route, target_language="tr"), text)
        assume(all(unchanged(sentence.text) for sentence in prepared.sentences))
        assert answered(route, prepared, [sentence.tokens for sentence in prepared.sentences]) == text

    def unchanged(sentence: str) -> bool:
        same = unicodedata.normalize("NFKC", sentence) == sentence and "  " not in sentence
        return same and TOKENIZER.decode(TOKENIZER.encode(sentence)) == sentence

    check()


@ROUNDS
def test_whatever_the_model_says_lines_stay_lines(route: Route, rounds: int) -> None:
    """Line breaks and control characters are those of the text, whatever bytes a model spells."""

    @tried(rounds)
    @given(TEXTS, st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=12))
    def check(text: str, ids: list[int]) -> None:
        prepared = prepared_for(route, text)
        result = answered(route, prepared, [tuple(ids)] * prepared.num_sentences)
        assert CONTROLS.findall(result) == CONTROLS.findall(text)
        result.encode()

    check()


@pytest.mark.parametrize("space", [chr(code) for code in range(0x10000) if chr(code).isspace()], ids=ascii)
def test_no_space_before_a_full_stop_is_too_much(route: Route, space: str) -> None:
    text = f"A{space}. B{space}{space}. C"
    assert "".join(piece.text for piece in prepared_for(route, text).pieces) == text


@ROUNDS
def test_a_prefix_is_taken_or_named(route: Route, rounds: int) -> None:
    @tried(rounds)
    @given(TEXTS, TEXTS, st.integers(1, 12) | st.integers(1, MAX_TARGET_TOKENS))
    def check(text: str, prefix: str, max_length: int) -> None:
        try:
            prepared = prepare(text, prefix, route, DecodingOptions(max_length=max_length), lambda piece: None)
        except InvalidInput as error:
            assert error.field == "target_prefix"  # noqa: PT017 - that it is raised is not what is tested
            return
        assert "".join(piece.text for piece in prepared.pieces) == text
        assert prepared.prefix is None or prepared.prefix.length < max_length
        assert prepared.num_sentences or not prepared.prefix

    check()


@pytest.fixture(scope="module")
def stub(tiny_bundle: Bundle) -> Iterator[translation_pb2_grpc.TranslationStub]:
    config = ServiceConfig.of(model_paths=(tiny_bundle.path,), threads=1, lanes=1, max_rows=16)
    models = load_models(config.model_paths, config.model, Metrics(CollectorRegistry()))
    with serving(models) as server, grpc.insecure_channel(server.address) as channel:
        yield translation_pb2_grpc.TranslationStub(channel)


def mostly(good: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 11).flatmap(lambda number: good if number else odd)


FLOATS = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 5.1, 5e-324, 1e308])
INT32 = st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 300)
SAMPLING = st.fixed_dictionaries(
    {},
    optional={
        "temperature": mostly(st.floats(1e-6, 100), FLOATS),
        "top_k": mostly(st.integers(1, 256), INT32),
        "top_p": mostly(st.floats(1e-6, 1), FLOATS),
        "seed": st.integers(0, 2**64 - 1),
    },
)
OTHERS = {
    "length_penalty": mostly(st.floats(0, 5), FLOATS),
    "min_length": mostly(st.integers(0, 6), INT32),
    "repetition_penalty": mostly(st.floats(1, 10), FLOATS),
    "no_repeat_ngram_size": mostly(st.integers(0, 16), INT32),
    "patience": mostly(st.floats(1, 10), FLOATS),
    "coverage_penalty": mostly(st.floats(0, 10), FLOATS),
}
WORDING = {
    "suppressed_words": mostly(st.lists(st.sampled_from([*WORDS, "ﬁ", "die Katze", "."]), max_size=4), st.lists(TEXTS)),
    "suppressed_tokens": mostly(
        st.lists(st.sampled_from(["▁die", "s", "<unk>", "<0xC3>"]), max_size=4), st.lists(TEXTS)
    ),
    "target_prefix_bias": mostly(st.floats(0, 100), FLOATS),
}
WORDINGS = st.just({}) | st.fixed_dictionaries({}, optional=WORDING)
SAMPLED = {"sampling": SAMPLING.map(lambda fields: pb.Sampling(**fields)), "num_hypotheses": st.integers(1, 16)}
SEARCHED = {"beam_size": mostly(st.integers(4, 16), INT32), "num_hypotheses": mostly(st.integers(1, 4), INT32)}
OPTIONS = st.sampled_from([SAMPLED, SEARCHED, SEARCHED, SAMPLED | SEARCHED]).flatmap(
    lambda kind: st.fixed_dictionaries({"max_length": mostly(st.integers(6, 12), INT32)}, optional=kind | OTHERS)
)
FIELDS = {
    *pb.TranslateRequest.DESCRIPTOR.fields_by_name,
    *pb.TranslateStreamRequest.DESCRIPTOR.fields_by_name,
    *(f"options.{name}" for name in pb.DecodingOptions.DESCRIPTOR.fields_by_name),
    *(f"options.sampling.{name}" for name in pb.Sampling.DESCRIPTOR.fields_by_name),
}


def named_field(error: grpc.RpcError) -> str:
    """The field that a call was refused for."""
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    (violation,) = bad.field_violations
    name = re.sub(r"\[\d+\]$", "", violation.field)
    assert name in FIELDS
    return name


@CALLS
def test_any_text_with_any_options_has_a_translation_or_names_a_field(
    stub: translation_pb2_grpc.TranslationStub, route: Route, rounds: int
) -> None:
    description = dataclasses.replace(route.model.description, max_source_tokens=160)
    route = dataclasses.replace(route, model=dataclasses.replace(route.model, description=description))
    outcomes = {"translated": 0, "refused": 0}

    @tried(rounds, Phase.generate)  # a call that hangs takes its time: no shrinking
    @given(st.lists(TEXTS, min_size=1, max_size=3), st.lists(TEXTS, max_size=1), OPTIONS, WORDINGS)
    def check(texts: list[str], prefixes: list[str], options: dict[str, Any], wording: dict[str, Any]) -> None:
        request = pb.TranslateRequest(
            texts=texts,
            target_prefixes=prefixes * len(texts),
            options=pb.DecodingOptions(**options),
            return_tokens=True,
            return_token_scores=True,
            **wording,
        )
        try:
            response = stub.Translate(request, timeout=30)
        except grpc.RpcError as error:
            outcomes["refused"] += 1
            named_field(error)
            return
        outcomes["translated"] += 1
        assert len(response.translations) == len(texts)
        for index, (text, translation) in enumerate(zip(texts, response.translations, strict=True)):
            prefix = (prefixes * len(texts))[index] if prefixes else ""
            prepared = prepare(text, prefix, route, DecodingOptions(), lambda piece: None)
            check_translation(text, prefix, prepared.num_sentences, translation, options)
            for hypothesis in translation.hypotheses:
                assert not set(wording.get("suppressed_tokens", ())) & set(hypothesis.tokens)

    check()
    print(outcomes)
    assert min(outcomes.values()) > rounds // 10


def check_translation(
    text: str, prefix: str, sentences: int, translation: pb.TextTranslation, options: dict[str, Any]
) -> None:
    assert translation.sentences == sentences
    found, wanted = [hypothesis.text for hypothesis in translation.hypotheses], options.get("num_hypotheses", 1)
    if "sampling" in options:
        assert len(found) == wanted
    else:
        assert 1 <= len(set(found)) == len(found) <= wanted
    for hypothesis in translation.hypotheses:
        controls = CONTROLS.findall(hypothesis.text)
        assert controls == CONTROLS.findall(text) or sorted(controls) == sorted(CONTROLS.findall(text + prefix))
        assert len(hypothesis.tokens) == len(hypothesis.token_scores)
        if all(warning.kind != pb.TranslationWarning.SPANS_IN_PARTS for warning in translation.warnings):
            least, most = options.get("min_length", 0), options["max_length"]
            assert sentences * least <= len(hypothesis.tokens) <= sentences * most
        assert math.isfinite(hypothesis.score)
        if not sentences:
            assert hypothesis.text == text
    if sentences == 1 and "sampling" not in options:
        scores = [hypothesis.score for hypothesis in translation.hypotheses]
        assert scores == sorted(scores, reverse=True)


@CALLS
def test_a_stream_of_any_text_with_any_options_is_the_translation(
    stub: translation_pb2_grpc.TranslationStub, rounds: int
) -> None:
    @tried(rounds, Phase.generate)
    @given(TEXTS, OPTIONS, WORDINGS)
    def check(text: str, options: dict[str, Any], wording: dict[str, Any]) -> None:
        decoding = pb.DecodingOptions(**options)
        if decoding.HasField("sampling") and not decoding.sampling.HasField("seed"):
            decoding.sampling.seed = 5  # without one, each call draws afresh
        streamed = pb.TranslateStreamRequest(text=text, options=decoding, **wording)
        try:
            request = pb.TranslateRequest(texts=[text], options=decoding, **wording)
            whole = stub.Translate(request, timeout=30).translations[0]
        except grpc.RpcError as error:
            refused = named_field(error)
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.TranslateStream(streamed, timeout=30))
            assert named_field(caught.value) == refused
            return
        *chunks, last = stub.TranslateStream(streamed, timeout=30)
        result = last.result.translation
        assert "".join(message.chunk for message in chunks) == result.hypotheses[0].text
        assert all(message.chunk for message in chunks)
        for translation in (result, whole):
            translation.ClearField("timings")
        assert result == whole

    check()
