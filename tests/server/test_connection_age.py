"""Connections are asked to close once they are old, and no call fails by it."""

from __future__ import annotations

import time

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from faults.http2 import GOAWAY, HELLO, connection, frames
from support.fake_workers import FakeWorkers, served
from support.server_thread import serving


def test_an_old_connection_is_asked_to_close() -> None:
    with serving([served(FakeWorkers())], max_connection_age=1.0) as server, connection(server.address) as opened:
        opened.sendall(HELLO)
        assert any(kind == GOAWAY for kind, _, _ in frames(opened))


def test_no_call_fails_while_connections_age() -> None:
    options = {"max_connection_age": 1.0, "max_connection_age_grace": 30.0}
    with serving([served(FakeWorkers())], **options) as server, grpc.insecure_channel(server.address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        until, answered = time.monotonic() + 4, 0
        while time.monotonic() < until:
            answered += len(stub.Translate(pb.TranslateRequest(texts=["a"])).translations)
        assert answered > 100
