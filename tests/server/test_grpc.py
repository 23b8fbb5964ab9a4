"""The wire: a real gRPC server in this process, in front of a scripted engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from dragoman_protos.metadata import DETAILS_KEY
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service import errors
from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import Generation
from dragoman_service.engine.request import Event, Failed, Progress, Request
from dragoman_service.server.status import status_of
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FIRST, FakeWorkers, served, shout
from support.server_thread import ServerThread, refusal, serving
from support.waiting import wait_until

SERVICE = "dragoman.v1.Translation"
Stub = translation_pb2_grpc.TranslationStub


@pytest.fixture
def engine() -> FakeWorkers:
    return FakeWorkers()


@pytest.fixture
def server(engine: FakeWorkers) -> Iterator[ServerThread]:
    with serving([served(engine)], limits=RequestLimits(max_texts=20, window=4)) as running:
        yield running


@pytest.fixture
def stub(channel: grpc.Channel) -> Stub:
    return Stub(channel)


def details(error: grpc.RpcError) -> dict[str, object]:
    """The google.rpc details, by the name of their type."""
    packed = dict(error.trailing_metadata())[DETAILS_KEY]
    status = status_pb2.Status.FromString(packed)
    assert status.code == error.code().value[0]
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
    return {
        kind.DESCRIPTOR.name: kind.FromString(detail.value)
        for detail in status.details
        for kind in kinds
        if detail.Is(kind.DESCRIPTOR)
    }


def test_translate(stub: Stub) -> None:
    response = stub.Translate(pb.TranslateRequest(texts=["One.\n Two!", "", "three"]))
    assert [text.hypotheses[0].text for text in response.translations] == ["ONE.\n TWO!", "", "THREE"]
    assert (response.model, response.version) == ("loud", "1")
    first = response.translations[0]
    assert (first.finish_reason, first.sentences, first.source_tokens, first.target_tokens) == (
        pb.FINISH_REASON_STOP,
        2,
        10,
        8,
    )
    assert (first.timings.queue_seconds, first.timings.encode_seconds, first.timings.decode_seconds) == (0.25, 0.5, 0.5)
    assert not first.hypotheses[0].tokens
    assert not first.hypotheses[0].token_scores


def test_tokens_and_scores_on_demand(stub: Stub) -> None:
    request = pb.TranslateRequest(texts=["ab"], return_tokens=True, return_token_scores=True)
    (text,) = stub.Translate(request).translations
    assert list(text.hypotheses[0].tokens) == ["A", "B"]
    assert list(text.hypotheses[0].token_scores) == [-0.5, -0.5]


def test_options_reach_the_engine(stub: Stub, engine: FakeWorkers) -> None:
    options = pb.DecodingOptions(num_hypotheses=2, max_length=9, sampling=pb.Sampling(seed=7, top_k=3))
    stub.Translate(pb.TranslateRequest(texts=["a"], options=options))
    stub.Translate(pb.TranslateRequest(texts=["a"]))
    stub.Translate(pb.TranslateRequest(texts=["a"], options=pb.DecodingOptions(num_hypotheses=6)))
    drawn, default, many = (request.options for request in engine.submitted)
    assert (drawn.beam_size, drawn.num_hypotheses, drawn.max_length) == (1, 2, 9)
    assert drawn.sampling is not None
    assert (drawn.sampling.seed, drawn.sampling.top_k, drawn.sampling.temperature) == (7, 3, 1.0)
    assert (default.beam_size, default.num_hypotheses, default.sampling) == (4, 1, None)
    assert (many.beam_size, many.num_hypotheses) == (6, 6)


def test_suppressed_words_and_preferred_prefixes_reach_the_engine(stub: Stub, engine: FakeWorkers) -> None:
    fields = {"suppressed_words": ["A"], "suppressed_tokens": ["b"], "target_prefix_bias": 0.0}
    stub.Translate(pb.TranslateRequest(texts=["a"], target_prefixes=["X"], **fields))
    list(stub.TranslateStream(pb.TranslateStreamRequest(text="a", target_prefix="X", **fields)))
    stub.Translate(pb.TranslateRequest(texts=["a"], target_prefixes=["X"]))
    unary, stream, plain = engine.submitted
    for request in (unary, stream):
        suppressed, preferred = request.biases
        assert sorted(suppressed.added(())[0].tolist()) == [FIRST + ord("A"), FIRST + ord("b")]
        assert (preferred.added(())[0].tolist(), preferred.added(())[1]) == ([FIRST + ord("X")], 0.0)
        assert request.target_prefix == ()
    assert (plain.biases, plain.target_prefix) == ((), (FIRST + ord("X"),))


def test_stream(stub: Stub, server: ServerThread) -> None:
    messages = list(stub.TranslateStream(pb.TranslateStreamRequest(text="ab\ncd", target_prefix="X")))
    assert [message.WhichOneof("content") for message in messages] == ["chunk"] * 6 + ["result"]
    result = messages[-1].result
    assert "".join(message.chunk for message in messages[:-1]) == "XAB\nCD" == result.translation.hypotheses[0].text
    assert (result.model, result.version) == ("loud", "1")
    assert server.metric("dragoman_time_to_first_token_seconds_count", model="loud", version="1") == 1


def test_list_models(stub: Stub) -> None:
    (model,) = stub.ListModels(pb.ListModelsRequest()).models
    assert (model.name, model.version, model.precision, model.description) == ("loud", "1", "fp32", "Shouts.")
    assert [(pair.source_language, pair.target_language) for pair in model.language_pairs] == [("en", "de")]
    assert (model.limits.max_source_tokens, model.limits.max_target_tokens, model.limits.max_texts) == (101, 200, 20)
    assert (model.limits.max_characters, model.limits.max_beam_size) == (100_000, 16)
    assert model.limits.max_sentences == 20_000
    assert (list(model.source_languages), list(model.target_languages), model.licence) == ([], [], "")
    assert (model.default_options.beam_size, model.default_options.length_penalty) == (4, 1.4)
    assert model.length_normalisation == "gnmt"


def test_a_model_of_many_languages_is_listed_in_few_bytes() -> None:
    tags = tuple(f"{a}{b}{c}-Latn" for a in "abcdef" for b in "abcdef" for c in "abcdef")[:202]
    many = served(FakeWorkers(), languages=Languages((("en", "de"),), tags, tags[1:]), licence="MIT")
    with serving([many]) as server, grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        reply = stub.ListModels(pb.ListModelsRequest())
        request = pb.TranslateRequest(texts=["a"], source_language="AAA-latn", target_language="fce-Latn")
        assert stub.Translate(request).translations[0].hypotheses[0].text == "A"
        error = refusal(lambda: stub.Translate(pb.TranslateRequest(texts=["a"], target_language="xx")))
    (model,) = reply.models
    assert (tuple(model.source_languages), tuple(model.target_languages)) == (tags, tags[1:])
    assert [(pair.source_language, pair.target_language) for pair in model.language_pairs] == [("en", "de")]
    assert model.licence == "MIT"
    assert reply.ByteSize() < 6_000
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert len(error.details()) < 200


def test_a_request_gets_the_defaults_of_the_model_unless_it_says_otherwise() -> None:
    workers = FakeWorkers()
    model = served(workers, generation=Generation(beam_size=6, length_penalty=0.2, normalisation="power"))
    asked = [{}, {"beam_size": 2}, {"length_penalty": 0.0}, {"num_hypotheses": 8}]
    with serving([model]) as server, grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        for options in asked:
            stub.Translate(pb.TranslateRequest(texts=["a"], options=pb.DecodingOptions(**options)))
        stub.Translate(pb.TranslateRequest(texts=["a"], options=pb.DecodingOptions(sampling=pb.Sampling())))
        (listed,) = stub.ListModels(pb.ListModelsRequest()).models
    found = [(request.options.beam_size, request.options.length_penalty) for request in workers.submitted]
    assert found == [(6, 0.2), (2, 0.2), (6, 0.0), (8, 0.2), (1, 0.2)]
    assert (listed.default_options.beam_size, listed.default_options.length_penalty) == (6, 0.2)
    assert listed.length_normalisation == "power"


def test_a_default_of_the_model_is_within_the_limit_of_the_server() -> None:
    workers = FakeWorkers()
    with (
        serving([served(workers, generation=Generation(beam_size=6), max_rows=5)]) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = Stub(channel)
        stub.Translate(pb.TranslateRequest(texts=["a"]))
        (listed,) = stub.ListModels(pb.ListModelsRequest()).models
    assert workers.submitted[0].options.beam_size == listed.default_options.beam_size == 5


@pytest.mark.parametrize(
    ("fields", "options", "field"),
    [
        ({"texts": []}, {}, "texts"),
        ({"texts": ["a"] * 21}, {}, "texts"),
        ({"texts": ["a" * 100_001]}, {}, "texts[0]"),
        ({"texts": ["a", "b"], "target_prefixes": ["x"]}, {}, "target_prefixes"),
        ({"texts": ["a", "b"], "target_prefixes": ["", "x" * 100_001]}, {}, "target_prefixes[1]"),
        ({"texts": ["a", "b"], "target_prefixes": ["x", "x" * 300]}, {}, "target_prefixes[1]"),
        ({"texts": ["a", " "], "target_prefixes": ["x", "x"]}, {}, "target_prefixes[1]"),
        ({"priority": 7}, {}, "priority"),
        ({"suppressed_words": ["a", " b"]}, {}, "suppressed_words[1]"),
        ({"suppressed_words": ["a"] * 101}, {}, "suppressed_words"),
        ({"suppressed_words": ["a"], "target_prefixes": ["b a "]}, {}, "suppressed_words[0]"),
        ({"suppressed_tokens": ["no piece"]}, {}, "suppressed_tokens[0]"),
        ({"target_prefix_bias": 101}, {}, "target_prefix_bias"),
        ({}, {"coverage_penalty": 10.5}, "options.coverage_penalty"),
        ({}, {"coverage_penalty": 1}, "options.coverage_penalty"),
        ({}, {"max_length": 201}, "options.max_length"),
        ({}, {"beam_size": 0}, "options.beam_size"),
        ({}, {"beam_size": 1000}, "options.beam_size"),
        ({}, {"beam_size": 2, "num_hypotheses": 3}, "options.num_hypotheses"),
        ({}, {"min_length": 5, "max_length": 4}, "options.min_length"),
        ({}, {"max_length": 0}, "options.max_length"),
        ({}, {"length_penalty": float("nan")}, "options.length_penalty"),
        ({}, {"repetition_penalty": 0}, "options.repetition_penalty"),
        ({}, {"no_repeat_ngram_size": 17}, "options.no_repeat_ngram_size"),
        ({}, {"beam_size": 2, "sampling": pb.Sampling()}, "options.beam_size"),
        ({}, {"sampling": pb.Sampling(temperature=0)}, "options.sampling.temperature"),
        ({}, {"sampling": pb.Sampling(top_k=257)}, "options.sampling.top_k"),
        ({}, {"sampling": pb.Sampling(top_p=0)}, "options.sampling.top_p"),
    ],
)
def test_bad_input_is_refused_with_the_field(
    stub: Stub, engine: FakeWorkers, server: ServerThread, fields: dict[str, Any], options: dict[str, Any], field: str
) -> None:
    request = pb.TranslateRequest(**{"texts": ["a"], **fields}, options=pb.DecodingOptions(**options))
    error = refusal(lambda: stub.Translate(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details().startswith(f"{field}: got ")
    assert "allowed: " in error.details()
    found = details(error)
    assert [violation.field for violation in found["BadRequest"].field_violations] == [field]
    assert (found["ErrorInfo"].reason, found["ErrorInfo"].domain) == ("INVALID_INPUT", "dragoman")
    assert engine.submitted == []
    assert server.metric("dragoman_rejections_total", reason="invalid_input") == 1
    assert server.metric("dragoman_requests_total", api="dragoman_v1", method="Translate", code="INVALID_ARGUMENT") == 1


@pytest.mark.parametrize(
    ("fields", "options", "field"),
    [
        ({"text": "a" * 100_001}, {}, "text"),
        ({"target_prefix": "x" * 300}, {}, "target_prefix"),
        ({"text": " ", "target_prefix": "x"}, {}, "target_prefix"),
        ({"suppressed_tokens": ["x"], "target_prefix": "x"}, {}, "suppressed_tokens[0]"),
        ({"priority": 7}, {}, "priority"),
        ({}, {"min_length": 5, "max_length": 4}, "options.min_length"),
        ({}, {"sampling": pb.Sampling(top_k=257)}, "options.sampling.top_k"),
    ],
)
def test_bad_input_of_a_stream_is_refused_with_the_field(
    stub: Stub, engine: FakeWorkers, fields: dict[str, Any], options: dict[str, Any], field: str
) -> None:
    request = pb.TranslateStreamRequest(**{"text": "a", **fields}, options=pb.DecodingOptions(**options))
    error = refusal(lambda: list(stub.TranslateStream(request)))
    assert error.details().startswith(f"{field}: got ")
    assert [violation.field for violation in details(error)["BadRequest"].field_violations] == [field]
    assert engine.submitted == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "quiet"}, "loud"),
        ({"source_language": "en", "target_language": "xx"}, "en to de"),
        ({"source_language": "de"}, "en to de"),
    ],
)
def test_unknown_model_or_language_pair_says_what_there_is(stub: Stub, fields: dict[str, str], message: str) -> None:
    for act in (
        lambda: stub.Translate(pb.TranslateRequest(texts=["a"], **fields)),
        lambda: list(stub.TranslateStream(pb.TranslateStreamRequest(text="a", **fields))),
    ):
        error = refusal(act)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert message in error.details()


@pytest.mark.parametrize(
    "text",
    [
        "a\0b\x01c\x7fd\x85e",
        "😀👩‍👩‍👧 yes 😀",
        "日本語。ไทย ქართული עברית العربية",
        "e\u0301 ﬁ \u200f x",
        "x" * 100_000,
    ],
)
def test_odd_text_is_translated_and_nothing_is_lost(stub: Stub, text: str) -> None:
    (translation,) = stub.Translate(pb.TranslateRequest(texts=[text])).translations
    assert translation.hypotheses[0].text == "".join(character.upper() for character in text)


def test_full_queue_is_refused_with_retry_info() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine, permits=1)]) as server, grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        first = stub.Translate.future(pb.TranslateRequest(texts=["a"]))
        wait_until(lambda: engine.running == 1)
        error = refusal(lambda: stub.Translate(pb.TranslateRequest(texts=["b"])))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(error)["RetryInfo"].retry_delay.seconds == 1
        assert server.metric("dragoman_rejections_total", reason="overloaded") == 1
        engine.release()
        assert first.result(60).translations[0].hypotheses[0].text == "A"


def test_deadline_too_short_frees_the_engine() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)]) as server, grpc.insecure_channel(server.address) as channel:
        error = refusal(lambda: Stub(channel).Translate(pb.TranslateRequest(texts=["a", "b"]), timeout=0.3))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        wait_until(lambda: engine.running == 0)
        assert len(engine.cancelled) == 2
        assert all(request.deadline is not None for request in engine.submitted)
        wait_until(lambda: server.metric("dragoman_cancellations_total", reason="deadline_exceeded") == 1)
        wait_until(
            lambda: (
                server.metric(
                    "dragoman_requests_total", api="dragoman_v1", method="Translate", code="DEADLINE_EXCEEDED"
                )
                == 1
            )
        )


def test_client_gone_frees_the_engine() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)]) as server, grpc.insecure_channel(server.address) as channel:
        call = Stub(channel).Translate.future(pb.TranslateRequest(texts=["a", "b"]))
        wait_until(lambda: engine.running == 2)
        call.cancel()
        wait_until(lambda: engine.running == 0)
        wait_until(lambda: server.metric("dragoman_cancellations_total", reason="cancelled") == 1)
        wait_until(lambda: server.metric("dragoman_requests_running", api="dragoman_v1", method="Translate") == 0)


@pytest.mark.parametrize("way", ["cancels", "disconnects"])
def test_client_gone_in_mid_stream_frees_the_engine(way: str) -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)]) as server, grpc.insecure_channel(server.address) as channel:
        call = Stub(channel).TranslateStream(pb.TranslateStreamRequest(text="abc\nd"))
        assert next(call).chunk == "A"
        assert engine.running == 2
        (call.cancel if way == "cancels" else channel.close)()
        wait_until(lambda: engine.running == 0)
        wait_until(
            lambda: (
                server.metric("dragoman_requests_total", api="dragoman_v1", method="TranslateStream", code="CANCELLED")
                == 1
            )
        )


def test_stream_that_nobody_reads_is_given_up() -> None:
    def script(request: Request) -> list[Event]:
        *_, finished = shout(request)
        return [Progress(request.id, (FIRST + ord("A"),) * 100_000), finished]  # more than gRPC buffers

    engine = FakeWorkers(script)
    model = served(engine, permits=4)
    with serving([model], write_timeout=0.5) as server, grpc.insecure_channel(server.address) as channel:
        unread = Stub(channel).TranslateStream(pb.TranslateStreamRequest(text="a\n" * 200))
        wait_until(lambda: engine.running > 0 or len(engine.submitted) > 0)
        wait_until(lambda: server.metric("dragoman_cancellations_total", reason="cancelled") == 1)
        wait_until(lambda: model.engine.permits.free == 4)
        assert len(engine.submitted) < 200
        error = refusal(lambda: list(unread))
        assert error.code() is grpc.StatusCode.CANCELLED
        assert "not read for 0.5 s" in error.details()


@pytest.mark.parametrize("stream", [False, True])
def test_our_fault_is_internal_without_details_but_with_the_request_id(
    stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeWorkers(lambda request: [Failed(request.id, RuntimeError("secret path /etc"))])
    with serving([served(engine)]) as server, grpc.insecure_channel(server.address) as channel:
        metadata = (("x-request-id", "my-id-7"),)
        stub = Stub(channel)
        if stream:
            request = pb.TranslateStreamRequest(text="a")
            error = refusal(lambda: list(stub.TranslateStream(request, metadata=metadata)))
        else:
            error = refusal(lambda: stub.Translate(pb.TranslateRequest(texts=["a"]), metadata=metadata))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()
    assert "my-id-7" in error.details()
    assert dict(error.trailing_metadata())["x-request-id"] == "my-id-7"
    (record,) = [record for record in caplog.records if record.name == "dragoman_service.server.call_lifecycle"]
    assert "my-id-7" in record.getMessage()
    assert record.exc_info is not None
    assert "secret" in str(record.exc_info[1])


def test_success_carries_a_request_id(stub: Stub) -> None:
    _, call = stub.Translate.with_call(pb.TranslateRequest(texts=["a"]))
    assert len(dict(call.trailing_metadata())["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInput("f", 1, "2"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotFound("x"), grpc.StatusCode.NOT_FOUND),
        (errors.Unauthenticated("x"), grpc.StatusCode.UNAUTHENTICATED),
        (errors.Forbidden("x"), grpc.StatusCode.PERMISSION_DENIED),
        (errors.Overloaded("x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.QuotaExceeded("x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.DeadlineExceeded("x"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.Cancelled("x"), grpc.StatusCode.CANCELLED),
        (errors.ShuttingDown("x"), grpc.StatusCode.UNAVAILABLE),
        (errors.EngineFailure("x"), grpc.StatusCode.INTERNAL),
        (ValueError("x"), grpc.StatusCode.INTERNAL),
    ],
)
def test_table_of_codes(error: Exception, code: grpc.StatusCode) -> None:
    assert status_of(error, "id").code is code


def test_the_delay_of_a_retry_is_not_cut() -> None:
    """A caller who waits a nanosecond too short is refused again. 1.001 * 1e9 is a little less than 1001000000."""
    delays = [number / 1_000 for number in range(1, 60_001)]
    assert any(int(delay * 1e9) != round(delay * 1e9) for delay in delays)
    for delay in delays:
        packed = status_pb2.Status.FromString(status_of(errors.QuotaExceeded("x", delay), "id").details)
        info = error_details_pb2.RetryInfo.FromString(packed.details[1].value)
        assert info.retry_delay.ToNanoseconds() == round(delay * 1_000) * 10**6


def test_every_error_of_a_call_has_its_line_in_the_table() -> None:
    not_of_calls = {errors.BundleError}
    for kind in set(errors.DragomanError.__subclasses__()) - not_of_calls:
        if kind.__module__ == errors.__name__ and kind is not errors.EngineFailure:
            error = kind.__new__(kind)
            error.args, error.__dict__ = ("x",), {"field": "f", "retry_after": 1.0}
            assert status_of(error, "id").code is not grpc.StatusCode.INTERNAL


def test_many_calls_at_once(stub: Stub, engine: FakeWorkers) -> None:
    texts = [f"text {number}" for number in range(200)]
    calls = [stub.Translate.future(pb.TranslateRequest(texts=[text])) for text in texts]
    assert [call.result(60).translations[0].hypotheses[0].text for call in calls] == [text.upper() for text in texts]
    assert engine.running == 0
