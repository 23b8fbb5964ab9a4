"""`dragoman.v1` over HTTP: a real server in this process, in front of a scripted engine."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf import json_format

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.engine.request import Event, Failed, Progress, Request
from dragoman_service.errors import EngineFailure
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FIRST, FakeWorkers, served, shout
from support.http_calls import JSON, ask, ended, head, opened, posted
from support.server_thread import ServerThread, serving
from support.waiting import wait_until

TRANSLATE, STREAM = "/v1/translate", "/v1/translate/stream"


@pytest.fixture
def engine() -> FakeWorkers:
    return FakeWorkers()


@pytest.fixture
def server(engine: FakeWorkers) -> Iterator[ServerThread]:
    with serving([served(engine)], http_port=0, limits=RequestLimits(max_texts=20)) as running:
        yield running


def test_replies_are_those_of_grpc(server: ServerThread) -> None:
    request = {"texts": ["One.\n Two!", "", "three"], "options": {"numHypotheses": 2}, "return_tokens": True}
    found = json_format.ParseDict(ask(server.url + TRANSLATE, request).json, pb.TranslateResponse())
    with grpc.insecure_channel(server.address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        assert found == stub.Translate(json_format.ParseDict(request, pb.TranslateRequest()))
        models = ask(f"{server.url}/v1/models").json
        assert json_format.ParseDict(models, pb.ListModelsResponse()) == stub.ListModels(pb.ListModelsRequest())
        texts = {"texts": ["Guten Morgen", "Good morning"]}
        detected = json_format.ParseDict(ask(f"{server.url}/v1/detect", texts).json, pb.DetectLanguageResponse())
        assert detected == stub.DetectLanguage(pb.DetectLanguageRequest(**texts))


def test_callers_in_parallel_get_what_grpc_gives(server: ServerThread) -> None:
    requests = [{"texts": [f"Text {n} of call {call}." for n in range(10)]} for call in range(24)]
    with ThreadPoolExecutor(8) as callers, grpc.insecure_channel(server.address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        replies = callers.map(lambda request: ask(server.url + TRANSLATE, request), requests)
        for request, reply in zip(requests, replies, strict=True):
            found = json_format.ParseDict(reply.json, pb.TranslateResponse())
            assert found == stub.Translate(pb.TranslateRequest(**request))


def test_a_stream_comes_as_events(server: ServerThread) -> None:
    reply = ask(server.url + STREAM, {"text": "One. Two"})
    assert reply.headers["content-type"] == "text/event-stream"
    *pieces, (name, last) = reply.events
    assert "".join(piece["chunk"] for _, piece in pieces) == "ONE. TWO"
    assert name == ""
    assert last["result"]["translation"]["hypotheses"][0]["text"] == "ONE. TWO"


def test_an_error_within_a_stream_is_an_event() -> None:
    engine = FakeWorkers(lambda request: [Progress(request.id, (FIRST + 65,)), Failed(request.id, EngineFailure("no"))])
    with serving([served(engine)], http_port=0) as server:
        (_, piece), (name, error) = ask(server.url + STREAM, {"text": "a"}).events
        assert piece == {"chunk": "A"}
        assert (name, error["code"]) == ("error", 13)


@pytest.mark.parametrize(
    ("content", "status", "field"),
    [
        ({"texts": []}, 400, "texts"),
        ({"texts": ["a"] * 21}, 400, "texts"),
        ({"text": "a"}, 400, "text"),
        ({"texts": "a"}, 400, "texts"),
        ({"texts": [1]}, 400, "texts"),
        ({"texts": ["a"], "options": {"sampling": {"seed": "x"}}}, 400, "options.sampling.seed"),
        ({"texts": ["a"], "options": {"top": 1}}, 400, "options.top"),
        ({"texts": ["a"], "options": {"beamSize": 17}}, 400, "options.beam_size"),
        ({"texts": ["a"], "options": {"sampling": {"topK": 0}, "beam_size": 1}}, 400, "options.sampling.top_k"),
        ({"texts": ["a"], "priority": "HIGH"}, 400, "priority"),
        ({"texts": ["a"], "model": "none"}, 404, ""),
        ([], 400, "request"),
        (b"{", 400, "request"),
        (b"", 400, "request"),
        (b'{"texts": ["\xe9"]}', 400, "request"),
        (b'{"texts": ["\\ud800"]}', 400, "request"),
        (b"[" * 100_000, 400, "request"),
        (b'{"texts": [' + b"1" * 5_000 + b"]}", 400, "request"),
    ],
)  # fmt: skip
def test_errors_are_a_status_with_the_field(
    server: ServerThread, engine: FakeWorkers, content: object, status: int, field: str
) -> None:
    reply = ask(server.url + TRANSLATE, content, JSON)
    assert reply.status == status
    assert reply.json["code"] == {400: 3, 404: 5}[status]
    reason, *others = reply.json["details"]
    assert reason["domain"] == "dragoman"
    named = [violation["field"] for other in others for violation in other["fieldViolations"]]
    assert named == [field] * bool(field)
    assert engine.submitted == []
    assert server.metric("dragoman_requests_total", api="http_v1", method="Translate", code="OK") == 0


def test_a_body_over_the_limit_is_refused_whether_it_says_so_or_not() -> None:
    with serving([served(FakeWorkers())], http_port=0, max_message_mib=1) as server:
        assert ask(server.url + TRANSLATE, b"x" * (2**20 + 1), JSON).status == 413
        with opened(server.url) as connection:
            connection.sendall(head(TRANSLATE, "transfer-encoding: chunked", "connection: close") + b"\r\n")
            connection.sendall(b"20000\r\n" + b"x" * 2**17 + b"\r\n")
            for _ in range(8):
                connection.sendall(b"20000\r\n" + b"x" * 2**17 + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
            assert ended(connection).startswith(b"HTTP/1.1 413 ")
        fits = b'{"texts": ["a"]}'.ljust(2**20)
        assert ask(server.url + TRANSLATE, fits, JSON).status == 200


def test_requests_of_a_connection_follow_each_other(server: ServerThread) -> None:
    request = posted(TRANSLATE, {"texts": ["a"]})
    last = posted(TRANSLATE, {"texts": ["b"]}, "connection: close")
    with opened(server.url) as connection:
        connection.sendall(request + request + last)  # the second one arrives before the first one is answered
        assert re.findall(rb'"text":"(\w)"', ended(connection)) == [b"A", b"A", b"B"]


def test_an_overloaded_server_says_when_to_come_back(server: ServerThread, engine: FakeWorkers) -> None:
    engine.refuse_after = 0
    reply = ask(server.url + TRANSLATE, {"texts": ["a"]})
    assert (reply.status, reply.headers["retry-after"]) == (429, "3")
    assert reply.json["details"][0]["reason"] == "OVERLOADED"


def test_request_ids(server: ServerThread) -> None:
    assert ask(f"{server.url}/v1/models", None, {"x-request-id": "id-7"}).headers["x-request-id"] == "id-7"
    assert len(ask(f"{server.url}/v1/models").headers["x-request-id"]) == 32


def test_calls_are_counted_by_interface(server: ServerThread) -> None:
    ask(server.url + TRANSLATE, {"texts": ["a"]})
    assert server.metric("dragoman_requests_total", api="http_v1", method="Translate", code="OK") == 1
    assert server.metric("dragoman_requests_running", api="http_v1", method="Translate") == 0


def test_unknown_paths_and_verbs(server: ServerThread) -> None:
    assert ask(f"{server.url}/v2/nothing").status == 404
    reply = ask(server.url + TRANSLATE)
    assert (reply.status, set(reply.headers["allow"].split(", "))) == (405, {"POST", "OPTIONS"})
    assert ask(server.url + TRANSLATE, verb="OPTIONS").status == 204


def test_the_deadline_of_a_call() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)], http_port=0) as server:
        reply = ask(server.url + TRANSLATE, {"texts": ["a"]}, {"x-server-timeout": "0.3"})
        assert (reply.status, reply.json["code"]) == (504, 4)
        assert engine.running == 0
        reply = ask(server.url + TRANSLATE, {"texts": ["a"]}, {"x-server-timeout": "soon"})
        assert reply.json["details"][1]["fieldViolations"][0]["field"] == "x-server-timeout"


@pytest.mark.parametrize(("path", "content"), [(TRANSLATE, {"texts": ["One. Two."]}), (STREAM, {"text": "One. Two."})])
def test_a_caller_who_goes_frees_the_engine(path: str, content: object) -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)], http_port=0) as server:
        with opened(server.url) as connection:
            connection.sendall(posted(path, content))
            wait_until(lambda: engine.running == 2)
        wait_until(lambda: engine.running == 0)
        wait_until(lambda: server.metric("dragoman_cancellations_total", reason="cancelled") == 1)
        # Nothing is held for the call any more.
        (model,) = server.server.registry.models
        assert model.engine.permits.idle


def test_calls_that_run_end_and_new_ones_are_refused_when_the_server_stops() -> None:
    engine = FakeWorkers(held=True)
    with (
        serving([served(engine)], http_port=0) as server,
        opened(server.url) as connection,
        opened(server.url) as late,
    ):
        connection.sendall(posted(TRANSLATE, {"texts": ["a"]}))
        wait_until(lambda: engine.running == 1)
        stopping = asyncio.run_coroutine_threadsafe(server.server.stop(30), server.loop)
        wait_until(lambda: ask(f"{server.url}/health").status == 503)
        wait_until(lambda: server.server._frontend._draining)
        late.sendall(posted(TRANSLATE, {"texts": ["a"]}, "connection: close"))
        assert ended(late).startswith(b"HTTP/1.1 503 ")
        engine.release()
        assert b'"text":"A"' in ended(connection)
        stopping.result(60)


def test_the_description_has_every_field(server: ServerThread) -> None:
    document = ask(f"{server.url}/v1/openapi.json").json
    schemas = document["components"]["schemas"]
    for kind in (pb.TranslateRequest, pb.TranslateStreamResponse, pb.Sampling, pb.ModelInfo):
        fields = {field.json_name for field in kind.DESCRIPTOR.fields}
        assert fields == set(schemas[kind.DESCRIPTOR.name]["properties"])
    assert schemas["Sampling"]["properties"]["seed"] == {"type": "string", "format": "uint64"}
    assert "PRIORITY_BATCH" in schemas["TranslateRequest"]["properties"]["priority"]["enum"]
    references = set(re.findall(r'"#/components/schemas/([\w.]+)"', json.dumps(document)))
    assert references <= set(schemas)
    for path, operations in document["paths"].items():
        for verb in operations:
            reply = ask(server.url + path, {} if verb == "post" else None, verb=verb.upper())
            assert reply.status in (200, 400, 404), path
            assert b"Not Found" not in reply.body, path


@pytest.mark.parametrize(
    ("origins", "allowed"), [((), None), (("https://a.example",), "https://a.example"), (("*",), "*")]
)
def test_pages_of_other_websites(origins: tuple[str, ...], allowed: str | None) -> None:
    asked = {"origin": "https://a.example", "access-control-request-method": "POST"}
    with serving([served(FakeWorkers())], http_port=0, http_origins=origins) as server:
        assert ask(f"{server.url}/v1/models", None, asked).headers.get("access-control-allow-origin") == allowed
        assert ask(server.url + TRANSLATE, None, asked, verb="OPTIONS").status == (200 if allowed else 400)
        # LibreTranslate's page may be anywhere.
        assert ask(f"{server.url}/languages", None, asked).headers["access-control-allow-origin"] == "*"


def test_a_stream_that_nobody_reads_is_given_up() -> None:
    def script(request: Request) -> list[Event]:
        *_, finished = shout(request)
        return [Progress(request.id, (FIRST + ord("A"),) * 100_000), finished]  # more than sockets buffer

    engine = FakeWorkers(script)
    model = served(engine, permits=4)
    with serving([model], http_port=0, write_timeout=0.5) as server, opened(server.url) as connection:
        connection.sendall(posted(STREAM, {"text": "a\n" * 200}))
        wait_until(lambda: server.metric("dragoman_cancellations_total", reason="cancelled") == 1)
        wait_until(lambda: model.engine.permits.free == 4)
        assert len(engine.submitted) < 200
        assert b'"result"' not in ended(connection)  # the connection was closed, not only left
