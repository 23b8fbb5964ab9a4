"""What the server is beside its calls: health, reflection, ports, draining, metrics. In front of a scripted engine."""

from __future__ import annotations

import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.cli import serve as serve_command
from dragoman_service.cli.main import main
from dragoman_service.cli.serve import GRPC_LOGGER
from dragoman_service.server import convert, servicer
from dragoman_service.server.channel_options import public_options
from dragoman_service.server.intake import IntakeSettings
from dragoman_service.server.server import StartupError, check_free
from dragoman_service.server.settings import ServerSettings
from support.fake_workers import FakeWorkers, served
from support.server_process import page
from support.server_thread import ServerThread, refusal, serving
from support.waiting import wait_until

SERVICE = "dragoman.v1.Translation"
Stub = translation_pb2_grpc.TranslationStub


@pytest.fixture
def engine() -> FakeWorkers:
    return FakeWorkers()


@pytest.fixture
def server(engine: FakeWorkers) -> Iterator[ServerThread]:
    with serving([served(engine)]) as running:
        yield running


def test_connections_are_pinged() -> None:
    options = dict(public_options(ServerSettings(), IntakeSettings()))
    assert 0 < options["grpc.keepalive_time_ms"] <= 60_000
    assert 0 < options["grpc.keepalive_timeout_ms"] <= 20_000
    assert options["grpc.http2.max_pings_without_data"] == 0


def test_health(channel: grpc.Channel, engine: FakeWorkers) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert refusal(lambda: health.Check(health_pb2.HealthCheckRequest(service="x"))).code() is grpc.StatusCode.NOT_FOUND
    engine.healthy = False
    not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
    wait_until(lambda: health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=30).status == not_serving)


def test_reflection_lists_and_describes_the_service(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
    assert database.FindFileContainingSymbol(SERVICE).package == "dragoman.v1"


def test_two_servers_cannot_share_a_port(server: ServerThread) -> None:
    with (
        pytest.raises(StartupError, match=str(server.server.port)),
        serving([served(FakeWorkers())], port=server.server.port),
    ):
        pass
    port = server.server.metrics_port
    with pytest.raises(StartupError, match="metrics port"), serving([served(FakeWorkers())], metrics_port=port):
        pass


def test_drain_finishes_what_runs_and_refuses_the_rest() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)]) as server, grpc.insecure_channel(server.address) as channel:
        stub, health = Stub(channel), health_pb2_grpc.HealthStub(channel)
        running = stub.Translate.future(pb.TranslateRequest(texts=["a"]))
        wait_until(lambda: engine.running == 1)
        stopping = threading.Thread(target=server.stop, args=(30,))
        stopping.start()
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        wait_until(lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=30).status == not_serving)
        error = refusal(lambda: stub.Translate(pb.TranslateRequest(texts=["b"])))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert not running.done()
        engine.release()
        assert running.result(60).translations[0].hypotheses[0].text == "A"
        stopping.join(60)
        assert not stopping.is_alive()


def test_drain_waits_for_a_reply_that_is_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*arguments: Any, **options: Any) -> pb.TextTranslation:
        time.sleep(1.0)
        return convert.text_translation(*arguments, **options)

    monkeypatch.setattr(servicer, "text_translation", slow)
    monkeypatch.setattr("dragoman_service.server.server._REPLY_SECONDS", 0.5)
    engine = FakeWorkers(held=True)
    with serving([served(engine)]) as server, grpc.insecure_channel(server.address) as channel:
        running = Stub(channel).Translate.future(pb.TranslateRequest(texts=["a\n" * 40]))
        wait_until(lambda: engine.running > 0)
        stopping = threading.Thread(target=server.stop, args=(30,))
        stopping.start()
        engine.release()
        assert running.result(60).translations[0].sentences == 40
        stopping.join(60)
        assert not stopping.is_alive()


def test_drain_gives_up_what_does_not_end() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)]) as server, grpc.insecure_channel(server.address) as channel:
        running = Stub(channel).Translate.future(pb.TranslateRequest(texts=["a"]))
        wait_until(lambda: engine.running == 1)
        server.stop(0.05)
        assert running.exception().code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def test_metrics_page(channel: grpc.Channel, server: ServerThread) -> None:
    Stub(channel).Translate(pb.TranslateRequest(texts=["a"]))
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server.metrics_port}/metrics", timeout=30) as page:
        text = page.read().decode()
    assert 'dragoman_requests_total{api="dragoman_v1",code="OK",method="Translate"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert "python_info" in text


def test_pages_may_have_an_address_of_their_own() -> None:
    with serving([served(FakeWorkers())], metrics_host="127.0.0.2") as server:
        port = server.server.metrics_port
        assert page(f"http://127.0.0.2:{port}/ready") == (200, "ready\n")
        with pytest.raises(urllib.error.URLError, match="refused"):
            page(f"http://127.0.0.1:{port}/ready")
        with grpc.insecure_channel(server.address) as channel:
            assert Stub(channel).Translate(pb.TranslateRequest(texts=["a"])).translations
        busy = {"metrics_host": "127.0.0.2", "metrics_port": port}
        taken = rf"metrics port {port} on 127\.0\.0\.2"
        with pytest.raises(StartupError, match=taken), serving([served(FakeWorkers())], **busy):
            pass
        with pytest.raises(StartupError, match=rf"--metrics-port: port {port} on 127\.0\.0\.2 cannot be had"):
            check_free("metrics-", "127.0.0.2", port)
    with pytest.raises(StartupError, match=r"--metrics-host: 'nowhere\.invalid' is no address of this machine"):
        check_free("metrics-", "nowhere.invalid", 1)


def test_a_caller_who_leaves_while_the_end_is_sent_is_no_news(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger(GRPC_LOGGER)
    monkeypatch.setattr(serve_command, "_serve", lambda config: 0)
    monkeypatch.setattr(logging, "basicConfig", lambda **options: None)
    monkeypatch.setattr(logger, "filters", [])
    assert main(["serve", "unused"]) == 0
    # As gRPC logs it; to meet the moment takes tens of thousands of calls.
    logger.error("", exc_info=cygrpc.ExecuteBatchError("execute_batch", ()))
    assert caplog.messages == []
    logger.error("another", exc_info=cygrpc.UsageError())
    logger.error("bare")
    caplog.set_level(logging.DEBUG, GRPC_LOGGER)
    logger.error("asked for", exc_info=cygrpc.ExecuteBatchError("execute_batch", ()))
    assert caplog.messages == ["another", "bare", "asked for"]
