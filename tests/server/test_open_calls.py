"""Calls that send messages for as long as they like."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from support.fake_workers import FakeWorkers, served
from support.server_thread import serving

MESSAGES = 400
"""Together more than health and reflection may take at a time."""


def test_the_memory_of_a_message_is_given_back_before_the_next_one() -> None:
    def questions() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        for _ in range(MESSAGES):
            yield reflection_pb2.ServerReflectionRequest(host="h" * 60_000, list_services="*")

    with serving([served(FakeWorkers())]) as server, grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = list(stub.ServerReflectionInfo(questions(), timeout=60))
    assert len(answers) == MESSAGES
