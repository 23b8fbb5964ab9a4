"""Both clients against a real gRPC server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import cycle, islice

import grpc
import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import Generation
from dragoman_service.client import values
from dragoman_service.client.calls import pause
from dragoman_service.client.client import AsyncTranslationClient, TranslationClient
from dragoman_service.client.errors import (
    CallCancelled,
    DeadlinePassed,
    InvalidRequest,
    ModelNotFound,
    ServerFailure,
    ServerOverloaded,
    ServerUnavailable,
    TranslationError,
)
from dragoman_service.client.values import FinishReason, Options, Sampling, Term, Translation
from dragoman_service.engine.request import Failed
from dragoman_service.errors import EngineFailure
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FIRST, FakeWorkers, served
from support.server_thread import ServerThread, serving
from support.waiting import wait_until

TEXTS = [f"text {number}" for number in range(50)]
UPPER = [text.upper() for text in TEXTS]


@pytest.fixture
def engine() -> FakeWorkers:
    return FakeWorkers()


@pytest.fixture
def server(engine: FakeWorkers) -> Iterator[ServerThread]:
    with serving([served(engine)]) as running:
        yield running


@pytest.fixture
def client(server: ServerThread) -> Iterator[TranslationClient]:
    with TranslationClient(server.address, texts_per_call=7, concurrency=3) as client:
        yield client


def test_result_has_everything(client: TranslationClient) -> None:
    options = Options(num_hypotheses=2, max_length=3, return_tokens=True, return_token_scores=True)
    (result,) = client.translate(["abcd"], options)
    assert (result.text, result.score, result.finish_reason) == ("ABC", -1.0, FinishReason.LENGTH)
    assert (result.model, result.version, result.sentences) == ("loud", "1", 1)
    assert (result.source_tokens, result.target_tokens) == (5, 3)
    assert (result.queue_seconds, result.encode_seconds, result.decode_seconds) == (0.25, 0.5, 0.5)
    assert result.hypotheses[0].tokens == ("A", "B", "C")
    assert result.hypotheses[0].token_scores == (-0.5, -0.5, -0.5)
    (other,) = client.translate(["ab"], options)
    assert [(it.text, it.tokens) for it in other.hypotheses] == [("AB", ("A", "B")), ("AB!", ("A", "B", "!"))]


def test_sentences_and_warnings_have_their_places(client: TranslationClient) -> None:
    text = "one. Two x"
    (result,) = client.translate([text], Options(return_sentences=True, max_length=4))
    sentences = result.hypotheses[0].sentences
    assert [(text[slice(*it.source)], result.text[slice(*it.target)]) for it in sentences] == [
        ("one.", "ONE."), ("Two x", "TWO ")
    ]  # fmt: skip
    assert [it.finish_reason for it in sentences] == [FinishReason.STOP, FinishReason.LENGTH]
    assert sum(it.score for it in sentences) == result.score
    assert client.translate([text])[0].hypotheses[0].sentences == ()
    (result,) = client.translate(["It is 7 o'clock"], Options(max_length=4))
    (warning,) = result.warnings
    assert (warning.kind, warning.source) == ("NUMBER_MISSING", (0, 15))
    assert "7" in warning.message


def test_terms_and_phrases_to_keep(client: TranslationClient) -> None:
    options = Options(keep=("hi",), terms=(Term("bank", "Haus"), Term("Ufer", "Bank", case_sensitive=True)))
    (result,) = client.translate(["hi a bank, Bank"], options)
    assert result.text == "hi A Haus, Haus"
    places = [(it.source, it.target, it.term.target) for it in result.hypotheses[0].applied_terms]
    assert places == [((5, 9), (5, 9), "Haus"), ((11, 15), (11, 15), "Haus")]
    *pieces, whole = client.translate_stream("hi a bank", options)
    assert ("".join(map(str, pieces)), whole) == ("hi A Haus", client.translate(["hi a bank"], options)[0])
    with pytest.raises(InvalidRequest, match=r"terms\[0\]\.target"):
        client.translate(["a"], Options(terms=(Term("a", ""),)))
    with pytest.raises(InvalidRequest, match=r"keep\[0\]: got a lone surrogate"):
        client.translate(["a"], Options(keep=("\ud800",)))


def test_suppressed_words_and_preferred_prefixes(client: TranslationClient, engine: FakeWorkers) -> None:
    options = Options(suppressed_words=("B",), suppressed_tokens=("C",), target_prefix_bias=1.5, patience=2.0)
    assert client.translate(["a"], options, target_prefixes="X")[0].text == "A"
    list(client.translate_stream("a", options, target_prefix="X"))
    for request in engine.submitted:
        banned, preferred = (bias.added(())[0].tolist() for bias in request.biases)
        assert (sorted(banned), preferred) == ([FIRST + ord("B"), FIRST + ord("C")], [FIRST + ord("X")])
        assert request.options.patience == 2.0
    for field in ("suppressed_words", "suppressed_tokens"):
        with pytest.raises(InvalidRequest, match=rf"{field}\[0\]: got a lone surrogate"):
            client.translate(["a"], Options(**{field: ("\ud800",)}))
    with pytest.raises(InvalidRequest, match="gives no alignments"):
        client.translate(["a"], Options(coverage_penalty=1.0))


def test_long_lists_go_in_several_calls_and_keep_their_order(client: TranslationClient, server: ServerThread) -> None:
    assert [result.text for result in client.translate(TEXTS)] == UPPER
    assert server.metric("dragoman_requests_total", api="dragoman_v1", method="Translate", code="OK") == 8


def test_texts_are_read_as_they_are_needed(client: TranslationClient) -> None:
    read = []

    def endless() -> Iterator[str]:
        while True:
            read.append(len(read))
            yield f"text {len(read) - 1}"

    results = client.translate_many(endless())
    assert [result.text for result in islice(results, 10)] == UPPER[:10]
    assert len(read) <= 7 * (3 + 2)
    results.close()


def test_no_texts_no_translations(client: TranslationClient, server: ServerThread) -> None:
    assert client.translate([]) == []


def test_prefixes(client: TranslationClient) -> None:
    assert [result.text for result in client.translate(["a"] * 9, target_prefixes=list("123456789"))][7:] == [
        "8A",
        "9A",
    ]
    assert [result.text for result in client.translate(["a", "b"], target_prefixes="X")] == ["XA", "XB"]
    with pytest.raises(ValueError, match="fewer"):
        client.translate(["a", "b"], target_prefixes=["x"])
    with pytest.raises(ValueError, match="more"):
        client.translate(["a"], target_prefixes=["x", "y"])


def test_one_string_is_not_a_list_of_texts(client: TranslationClient) -> None:
    with pytest.raises(TypeError, match="list of strings"):
        client.translate("abc")


def test_options_left_out_are_left_to_the_server(client: TranslationClient, engine: FakeWorkers) -> None:
    client.translate(["a"], Options(sampling=Sampling()))
    client.translate(["a"], Options(beam_size=2, length_penalty=0.0))
    client.translate(["a"])
    drawn, beam, default = (request.options for request in engine.submitted)
    assert drawn.sampling is not None
    assert (beam.beam_size, beam.length_penalty) == (2, 0.0)
    assert (default.beam_size, default.length_penalty) == (4, 1.4)


def test_stream(client: TranslationClient) -> None:
    *chunks, result = client.translate_stream("ab\ncd", target_prefix="X")
    assert isinstance(result, Translation)
    assert "".join(chunks) == result.text == "XAB\nCD"


def test_stream_left_early_is_given_up() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)]) as server, TranslationClient(server.address) as client:
        stream = client.translate_stream("abc")
        assert next(stream) == "A"
        stream.close()
        wait_until(lambda: engine.running == 0)


def test_list_models(client: TranslationClient) -> None:
    (model,) = client.list_models()
    assert (model.name, model.language_pairs, model.max_texts) == ("loud", (("en", "de"),), 1024)
    assert (model.default_beam_size, model.default_length_penalty, model.length_normalisation) == (4, 1.4, "gnmt")
    assert model.translates("EN", "de")
    assert not model.translates("de", "en")


def test_a_model_of_sets_is_listed() -> None:
    languages = Languages((("ja", "en"),), ("en", "de"), ("de", "fr"))
    many = served(FakeWorkers(), languages=languages, licence="CC-BY-4.0", generation=Generation(beam_size=2))
    with serving([many]) as server, TranslationClient(server.address) as client:
        (model,) = client.list_models()
    assert (model.source_languages, model.target_languages) == (("en", "de"), ("de", "fr"))
    assert (model.licence, model.default_beam_size) == ("CC-BY-4.0", 2)
    tags = ("en", "DE", "fr", "ja", "xx")
    for source in tags:
        for target in tags:
            assert model.translates(source, target) == languages.translates(source, target), (source, target)


def test_a_server_that_says_nothing_of_defaults_is_an_older_one() -> None:
    (model,) = values.models(pb.ListModelsResponse(models=[pb.ModelInfo(name="m")]))
    assert (model.default_beam_size, model.default_length_penalty, model.source_languages) == (None, None, ())
    assert (model.length_normalisation, model.licence) == ("gnmt", "")


def test_errors_come_back_by_kind(client: TranslationClient) -> None:
    with pytest.raises(InvalidRequest, match="beam_size: got 0") as caught:
        client.translate(["a"], Options(beam_size=0))
    assert caught.value.field == "options.beam_size"
    assert caught.value.request_id
    with pytest.raises(ModelNotFound, match="loud"):
        client.translate(["a"], Options(model="quiet"))
    with pytest.raises(ModelNotFound, match="en to de"):
        list(client.translate_stream("a", Options(target_language="xx")))


def test_engine_failure_is_the_servers_fault() -> None:
    engine = FakeWorkers(lambda request: [Failed(request.id, EngineFailure("x"))])
    with serving([served(engine)]) as server, TranslationClient(server.address) as client:
        with pytest.raises(ServerFailure) as caught:
            client.translate(["a"])
        assert caught.value.code is grpc.StatusCode.INTERNAL


def test_full_server_says_when_to_try_again() -> None:
    engine = FakeWorkers()
    engine.refuse_after = 0
    with (
        serving([served(engine)]) as server,
        TranslationClient(server.address) as client,
        pytest.raises(ServerOverloaded) as caught,
    ):
        client.translate(["a"])
    assert caught.value.retry_after == 2.5


def test_attempts_outlast_a_full_server() -> None:
    engine = FakeWorkers()
    engine.refuse_after, engine.retry_after = 0, 0.01
    with serving([served(engine)]) as server, TranslationClient(server.address, attempts=5) as client:
        results = client.translate_many(["a"])

        def relieve() -> None:
            wait_until(lambda: server.metric("dragoman_rejections_total", reason="overloaded") >= 1)
            engine.refuse_after = None

        asyncio.run(_beside(relieve, lambda: [result.text for result in results], ["A"]))


async def _beside(first: Callable[[], None], second: Callable[[], list[str]], expected: list[str]) -> None:
    _, found = await asyncio.gather(asyncio.to_thread(first), asyncio.to_thread(second))
    assert found == expected


def test_deadline_covers_all_calls_and_gives_up_the_rest() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)]) as server, TranslationClient(server.address, texts_per_call=1) as client:
        with pytest.raises(DeadlinePassed):
            client.translate(TEXTS, deadline=0.3)
        wait_until(lambda: engine.running == 0)


def test_nobody_listens(server: ServerThread) -> None:
    with TranslationClient("127.0.0.1:1") as client:
        with pytest.raises(ServerUnavailable):
            client.translate(["a"])
        with pytest.raises(ServerUnavailable):
            client.list_models()


def test_closed_client_gives_up_its_calls() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)]) as server:
        client = TranslationClient(server.address)
        stream = client.translate_stream("abc")
        assert next(stream) == "A"
        client.close()
        with pytest.raises(CallCancelled):
            list(stream)
        wait_until(lambda: engine.running == 0)


def test_attempts_are_checked() -> None:
    with pytest.raises(ValueError, match="attempts: got 0; allowed: 1 or more"):
        TranslationClient(attempts=0)


def test_long_texts_go_in_calls_of_fewer_bytes(server: ServerThread) -> None:
    texts = [f"text {number}\n{'*' * 98_990}" for number in range(60)]
    with TranslationClient(server.address) as client:
        assert [it.text for it in client.translate(texts)] == [text.upper() for text in texts]


@pytest.mark.parametrize("limits", [RequestLimits(max_texts=3), RequestLimits(max_sentences=5)])
def test_calls_that_are_too_large_together_are_divided(engine: FakeWorkers, limits: RequestLimits) -> None:
    with serving([served(engine)], limits=limits) as server, TranslationClient(server.address) as client:
        assert [result.text for result in client.translate(TEXTS)] == UPPER


def test_each_refused_text_is_told_in_its_place(engine: FakeWorkers) -> None:
    texts = list(TEXTS)
    texts[3], texts[30], texts[31], texts[49] = "a\udc80", "x" * 101, "a\nb\nc\nd\ne\nf", "x" * 101
    limits = RequestLimits(max_characters=100, max_sentences=5)
    with serving([served(engine)], limits=limits) as server, TranslationClient(server.address) as client:
        outcomes = list(client.translate_each(texts))
        with pytest.raises(InvalidRequest, match=r"^texts\[3\]: got a lone surrogate"):
            client.translate(texts)
        with pytest.raises(InvalidRequest, match=r"^texts\[2\]: got '101 characters'; allowed: at most 100;") as caught:
            client.translate(["a", "b", "x" * 101, "c"])
        assert (caught.value.field, caught.value.index) == ("texts[2]", 2)

        async def work() -> None:
            async with AsyncTranslationClient(server.address) as other:
                shown = [shown_of(it) async for it in other.translate_each(texts)]
                assert shown == [shown_of(it) for it in outcomes]

        asyncio.run(work())
    refused = {index: str(it) for index, it in enumerate(outcomes) if isinstance(it, InvalidRequest)}
    assert refused == {
        3: r"texts[3]: got a lone surrogate, '\udc80', as character 2; allowed: Unicode text without lone surrogates",
        30: "texts[30]: got '101 characters'; allowed: at most 100; send it in parts",
        31: "texts[31]: got 'more than 5 sentences'; allowed: at most 5 in one call; send them in several",
        49: "texts[49]: got '101 characters'; allowed: at most 100; send it in parts",
    }
    assert [shown_of(it) for index, it in enumerate(outcomes) if index not in refused] == [
        text for index, text in enumerate(UPPER) if index not in refused
    ]


def shown_of(outcome: Translation | InvalidRequest) -> str:
    return outcome.text if isinstance(outcome, Translation) else str(outcome)


@pytest.mark.parametrize("field", ["model", "source_language", "target_language", "target_prefix"])
def test_lone_surrogates_are_refused_by_name(client: TranslationClient, field: str) -> None:
    bad = {field: "a\udc80"}
    prefix = bad.pop("target_prefix", "")
    with pytest.raises(InvalidRequest, match="got a lone surrogate") as caught:
        client.translate(["a"], Options(**bad), target_prefixes=prefix)
    assert caught.value.field == (field if bad else "target_prefixes[0]")
    with pytest.raises(InvalidRequest, match="got a lone surrogate") as caught:
        list(client.translate_stream("a", Options(**bad), target_prefix=prefix))
    assert caught.value.field == field
    with pytest.raises(InvalidRequest, match=r"^text: got a lone surrogate"):
        list(client.translate_stream("a\udc80"))


def test_one_prefix_for_all_is_left_out_of_blank_texts(client: TranslationClient) -> None:
    assert [it.text for it in client.translate(["a", "", " ", "b"], target_prefixes="X")] == ["XA", "", " ", "XB"]
    with pytest.raises(InvalidRequest, match=r"^target_prefixes\[1\]: got 'X'"):
        client.translate(["a", ""], target_prefixes=["X", "X"])


def overloaded(seconds: float) -> ServerOverloaded:
    error = ServerOverloaded("full", grpc.StatusCode.RESOURCE_EXHAUSTED)
    error.retry_after = seconds
    return error


UNAVAILABLE = ServerUnavailable("away", grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize(
    ("error", "attempt", "left", "least"),
    [
        (UNAVAILABLE, 1, None, 0.5),
        (UNAVAILABLE, 3, None, 2),
        (UNAVAILABLE, 9_999, None, 10),
        (UNAVAILABLE, 10_000, None, None),
        (UNAVAILABLE, 1, 0.4, None),
        (CallCancelled("x", grpc.StatusCode.CANCELLED), 1, None, 0.5),
        (overloaded(0.1), 1, None, 0.5),
        (overloaded(45), 1, None, 45),
        (overloaded(45), 1, 30, None),
        (InvalidRequest("x", grpc.StatusCode.INVALID_ARGUMENT), 1, None, None),
        (ServerFailure("x", grpc.StatusCode.INTERNAL), 1, None, None),
    ],
)
def test_pauses(error: TranslationError, attempt: int, left: float | None, least: float | None) -> None:
    seconds = pause(error, attempt, 10_000, left)
    assert seconds is None if least is None else least <= (seconds or 0) <= least * 1.2


def test_async_client(server: ServerThread) -> None:
    async def work() -> None:
        async with AsyncTranslationClient(server.address, texts_per_call=7, concurrency=3) as client:
            assert [result.text for result in await client.translate(TEXTS)] == UPPER
            items = [item async for item in client.translate_stream("ab")]
            assert items[:2] == ["A", "B"]
            assert (await client.list_models())[0].name == "loud"
            with pytest.raises(InvalidRequest, match="beam_size"):
                await client.translate(["a"], Options(beam_size=0))
            with pytest.raises(ModelNotFound):
                await client.translate(["a"], Options(model="quiet"))
            assert await client.translate([]) == []

    asyncio.run(work())


def test_async_client_cancelled_or_late_frees_the_engine() -> None:
    engine = FakeWorkers(held=True)

    async def work(address: str) -> None:
        async with AsyncTranslationClient(address, texts_per_call=1) as client:
            async with aclosing(client.translate_stream("abc")) as stream:
                assert await anext(stream) == "A"
            with pytest.raises(TranslationError):
                await client.translate(TEXTS, deadline=0.3)
            task = asyncio.create_task(client.translate(TEXTS))
            while engine.running < 4:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with serving([served(engine)]) as server:
        asyncio.run(work(server.address))
        wait_until(lambda: engine.running == 0)


def test_attempts_outlast_a_server_that_restarts() -> None:
    """While it shuts down a server answers UNAVAILABLE, and the next one is there soon."""
    answers = iter([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE])

    class Restarting(translation_pb2_grpc.TranslationServicer):
        def Translate(  # noqa: N802
            self, request: pb.TranslateRequest, context: grpc.ServicerContext
        ) -> pb.TranslateResponse:
            if code := next(answers, None):
                context.abort(code, "the server is shutting down")
            hypotheses = [pb.Hypothesis(text=text.upper()) for text in request.texts]
            return pb.TranslateResponse(translations=[pb.TextTranslation(hypotheses=[each]) for each in hypotheses])

    server = grpc.server(ThreadPoolExecutor(2))
    translation_pb2_grpc.add_TranslationServicer_to_server(Restarting(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with TranslationClient(f"127.0.0.1:{port}", attempts=5) as client:
            assert [it.text for it in client.translate(["one", "two"])] == ["ONE", "TWO"]
    finally:
        server.stop(0)


def test_attempts_of_other_calls() -> None:
    answers = cycle([grpc.StatusCode.UNAVAILABLE, None])

    class Restarting(translation_pb2_grpc.TranslationServicer):
        def Score(self, request: pb.ScoreRequest, context: grpc.ServicerContext) -> pb.ScoreResponse:  # noqa: N802
            if code := next(answers):
                context.abort(code, "the server is shutting down")
            return pb.ScoreResponse(scores=[pb.ScoredTranslation(score=-1.0)])

    async def scored(address: str) -> float:
        async with AsyncTranslationClient(address, attempts=2) as client:
            return (await client.score(["a"], ["b"]))[0].score

    server = grpc.server(ThreadPoolExecutor(2))
    translation_pb2_grpc.add_TranslationServicer_to_server(Restarting(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        with TranslationClient(address, attempts=2) as client:
            assert client.score(["a"], ["b"])[0].score == -1.0
        assert asyncio.run(scored(address)) == -1.0
        with TranslationClient(address) as client, pytest.raises(ServerUnavailable):
            client.score(["a"], ["b"])
    finally:
        server.stop(0)
