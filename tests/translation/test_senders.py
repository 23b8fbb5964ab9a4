"""Client and priority of a call, from the clients and the command line to the requests of the engine."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.cli.main import main
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.values import Options
from dragoman_service.engine.request import Priority, Request
from support.fake_workers import FakeWorkers, served
from support.server_thread import serving


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FakeWorkers, str]]:
    engine = FakeWorkers()
    with serving([served(engine)], client_header="x-tenant") as server:
        yield engine, server.address


@pytest.fixture
def engine(running: tuple[FakeWorkers, str]) -> FakeWorkers:
    running[0].submitted.clear()
    return running[0]


@pytest.fixture
def address(running: tuple[FakeWorkers, str]) -> str:
    return running[1]


def last(engine: FakeWorkers) -> Request:
    return engine.submitted[-1]


@pytest.mark.parametrize(
    ("name", "priority"),
    [("", Priority.INTERACTIVE), ("interactive", Priority.INTERACTIVE), ("batch", Priority.BATCH)],
)
def test_the_priority_of_a_client_reaches_the_engine(
    address: str, engine: FakeWorkers, name: str, priority: Priority
) -> None:
    with TranslationClient(address) as client:
        client.translate(["a"], Options(priority=name))
        assert last(engine).priority is priority
        list(client.translate_stream("b", Options(priority=name)))
        assert last(engine).priority is priority
        list(client.translate_many(["c", "d"], Options(priority=name)))
        assert last(engine).priority is priority


def test_a_priority_that_there_is_not_is_refused(address: str, engine: FakeWorkers) -> None:
    with TranslationClient(address) as client, pytest.raises(ValueError, match="priority: got 'urgent'; allowed"):
        client.translate(["a"], Options(priority="urgent"))
    with grpc.insecure_channel(address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        with pytest.raises(grpc.RpcError, match="priority: got 77; allowed: PRIORITY_UNSPECIFIED, PRIORITY_INTER"):
            stub.Translate(pb.TranslateRequest(texts=["a"], priority=77))  # type: ignore[arg-type]
    assert engine.submitted == []


@pytest.mark.parametrize(
    ("arguments", "terminal", "priority"),
    [
        (("text",), True, Priority.INTERACTIVE),
        (("text",), False, Priority.INTERACTIVE),
        ((), True, Priority.INTERACTIVE),
        ((), False, Priority.BATCH),
        (("--input", "FILE"), True, Priority.BATCH),
        (("--input", "FILE"), False, Priority.BATCH),
        (("text", "--priority", "batch"), True, Priority.BATCH),
        (("--input", "FILE", "--priority", "interactive"), True, Priority.INTERACTIVE),
    ],
)
def test_whoever_looks_at_a_screen_goes_before_files_and_pipes(
    address: str,
    engine: FakeWorkers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    terminal: bool,
    priority: Priority,
) -> None:
    file = tmp_path / "lines"
    file.write_text("a line\n")
    given = io.TextIOWrapper(io.BytesIO(b"a line\n"))
    monkeypatch.setattr(given, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stdin", given)
    words = [str(file) if it == "FILE" else it for it in arguments]
    assert main(["translate", "--server", address, *words]) == 0
    assert last(engine).priority is priority


def test_calls_say_whose_they_are_in_the_metadata_that_the_operator_trusts(address: str, engine: FakeWorkers) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        for metadata in ((("x-tenant", "shop"),), (("x-tenant", "s" * 999),), (("x-other", "shop"),), ()):
            stub.Translate(pb.TranslateRequest(texts=["a"]), metadata=metadata)
    clients = [request.client for request in engine.submitted]
    assert clients == ["shop", "s" * 200, "ipv4:127.0.0.1", "ipv4:127.0.0.1"]


def test_where_no_metadata_is_trusted_it_is_the_address_without_the_port() -> None:
    engine = FakeWorkers()
    with serving([served(engine)]) as running:
        for _ in range(2):
            with grpc.insecure_channel(running.address) as channel:
                stub = translation_pb2_grpc.TranslationStub(channel)
                stub.Translate(pb.TranslateRequest(texts=["a"]), metadata=(("x-tenant", "shop"),))
    assert [request.client for request in engine.submitted] == ["ipv4:127.0.0.1"] * 2


def test_a_client_has_its_part_of_the_permits_and_no_more() -> None:
    held = FakeWorkers(held=True)
    config = {"client_header": "x-tenant"}
    with serving([served(held, permits=5)], **config) as running, grpc.insecure_channel(running.address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)

        def call(client: str, text: str) -> grpc.Future:
            return stub.Translate.future(pb.TranslateRequest(texts=[text]), metadata=(("x-tenant", client),))

        greedy = call("greedy", "\n".join("abcdefgh"))
        await_running(held, 4)
        refused = call("greedy", "x").exception(30)
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "4 sentences of this client are waiting or running; the rest is for others" in refused.details()
        modest = call("modest", "y")
        await_running(held, 5)
        held.release()
        assert modest.result(30).translations[0].hypotheses[0].text == "Y"
        assert greedy.result(30).translations[0].hypotheses[0].text == "\n".join("ABCDEFGH")


def await_running(engine: FakeWorkers, count: int) -> None:
    patience = time.monotonic() + 30
    while engine.running < count:
        assert time.monotonic() < patience
        time.sleep(0.001)
