"""Whatever is said to the ports, HTTP/2 or not: it ends with its connection, and the server goes on as before."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import grpc
import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.client import TranslationClient
from faults.damage import damaged
from faults.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    HELLO,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    call_headers,
    connection,
    frame,
    header_block,
    message,
    say,
)
from faults.wire import canary, unharmed
from support.server_process import ServerProcess, server_process
from support.waiting import wait_until

TRANSLATE = "/dragoman.v1.Translation/Translate"
GOOD = message(pb.TranslateRequest(texts=["A cat."]).SerializeToString())


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[ServerProcess]:
    with server_process([tiny_bundle.path], "--max-rows", "16") as running:
        yield running


def call(*more: tuple[bytes, bytes], data: bytes = GOOD, path: str = TRANSLATE) -> bytes:
    """All that a client sends for a call."""
    headers = frame(HEADERS, END_HEADERS, 1, call_headers(path, *more))
    return HELLO + headers + frame(DATA, END_STREAM, 1, data)


def test_a_call_made_by_hand_is_answered(server: ServerProcess) -> None:
    """Else the tests here would prove nothing."""
    heard = say(server.address, call((b"x-request-id", b"by-hand")), patience=60)
    assert b"by-hand" in heard
    assert b"grpc-status\x010" in heard


CALLS = {
    "an id in Greek": call((b"x-request-id", "αβγ".encode())),
    "an id that is no text": call((b"x-request-id", b"\xe9\xff")),
    "an id with a line break": call((b"x-request-id", b"a\r\nb")),
    "binary metadata that is no base64": call((b"x-bin", b"\xff*")),
    "a header without a name": call((b"", b"x")),
    "a deadline that is none": call((b"grpc-timeout", b"soon")),
    "a negative deadline": call((b"grpc-timeout", b"-1S")),
    "a deadline in millennia": call((b"grpc-timeout", b"99999999H")),
    "a compression that nobody knows": call((b"grpc-encoding", b"nope")),
    "compressed rubbish": call((b"grpc-encoding", b"gzip"), data=message(b"rubbish", compressed=1)),
    "compressed by nothing": call(data=message(b"rubbish", compressed=1)),
    "a mark of compression that is none": call(data=message(b"rubbish", compressed=77)),
    "no message": call(data=b""),
    "half a message": call(data=GOOD[:-3]),
    "two messages": call(data=GOOD + GOOD),
    "a message of 4 GiB": call(data=message(b"x", length=2**32 - 1)),
    "a message that never ends": call(data=message(b"x", length=10_000)),
    "a path of 100 000 characters": call(path="/" + "x" * 100_000),
    "no path": HELLO + frame(HEADERS, END_HEADERS, 1, header_block([(b":method", b"POST")])) + frame(DATA, 1, 1, GOOD),
    "no POST": HELLO + frame(HEADERS, END_HEADERS | END_STREAM, 1, header_block([(b":method", b"GET")])),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_odd_call_harms_nobody(server: ServerProcess, name: str) -> None:
    with unharmed(server):
        say(server.address, CALLS[name], patience=0.3)


OPEN = HELLO + frame(HEADERS, END_HEADERS, 1, call_headers(TRANSLATE))
BREACHES = {
    "nothing": b"",
    "half a preface": PREFACE[:11],
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a handshake of TLS": bytes.fromhex("16030100c4010000c00303") + bytes(190),
    "no settings": PREFACE + frame(HEADERS, END_HEADERS, 1, call_headers(TRANSLATE)),
    "settings of an odd length": PREFACE + frame(SETTINGS, 0, 0, b"abc"),
    "settings that cannot be": HELLO
    + frame(SETTINGS, 0, 0, bytes.fromhex("0004ffffffff") + bytes.fromhex("000500000001")),
    "settings 10 000 times": HELLO + frame(SETTINGS, 0, 0) * 10_000,
    "pings 10 000 times": HELLO + frame(PING, 0, 0, bytes(8)) * 10_000,
    "a frame longer than its kind": HELLO + frame(PING, 0, 0, bytes(9_000)),
    "a frame of 16 MiB to come": HELLO + b"\xff\xff\xff" + bytes([DATA, 0, 0, 0, 0, 1]),
    "frames of no kind": HELLO + frame(0xEE, 0xFF, 2**32 - 1, b"x") * 100,
    "data without a call": HELLO + frame(DATA, 0, 1, GOOD) * 100,
    "data on the connection": HELLO + frame(DATA, 0, 0, GOOD),
    "headers of 20 MB": OPEN[:-1] + b"".join(frame(CONTINUATION, 0, 1, b"\0\x01x\x01y" * 3_000) for _ in range(1_300)),
    "a header that never ends": HELLO + frame(HEADERS, 0, 1, b"\0\x7f\xff\xff\xff\xff\xff\xff\xff\x7f"),
    "a header from a table that is empty": HELLO + frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\x0f"),
    "a call on a stream of the server's": HELLO + frame(HEADERS, END_HEADERS, 2, call_headers(TRANSLATE)),
    "a promise": HELLO + frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + call_headers(TRANSLATE)),
    "a window that overflows": OPEN + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 3,
    "a window of nothing": OPEN + frame(WINDOW_UPDATE, 0, 1, bytes(4)),
    "a stream that depends on itself": OPEN + frame(PRIORITY, 0, 1, b"\0\0\0\x01\x10") * 50,
    "goodbye, and on": HELLO + frame(GOAWAY, 0, 0, bytes(8)) + OPEN[len(HELLO) :] + frame(DATA, END_STREAM, 1, GOOD),
    "a call that is not finished": OPEN + frame(DATA, 0, 1, GOOD[:9]),
    "calls taken back 2 000 times": HELLO
    + b"".join(
        frame(HEADERS, END_HEADERS, stream, call_headers(TRANSLATE))
        + frame(DATA, END_STREAM, stream, GOOD)
        + frame(RST_STREAM, 0, stream, bytes(4))
        for stream in range(1, 4_001, 2)
    ),
    "empty data 20 000 times": OPEN + frame(DATA, 0, 1) * 20_000,
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_of_the_protocol_ends_its_connection_and_no_other(server: ServerProcess, name: str) -> None:
    with unharmed(server):
        say(server.address, BREACHES[name], patience=0.1)


def test_calls_that_are_taken_back_again_and_again_cost_no_other_caller_its_answer(server: ServerProcess) -> None:
    """A client of ours that may try again, as `dragoman translate` does, is always answered.

    Of the calls that the server has not looked at, gRPC cancels some beyond 2,000, from whomever they are
    (docs/operations.md).
    """
    attacking = True

    def attack() -> None:
        while attacking:
            say(server.address, BREACHES["calls taken back 2 000 times"], patience=0.05)

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        with TranslationClient(server.address, attempts=20) as client:
            for _ in range(15):
                assert len(client.translate(["The cat sees a dog. It runs."])) == 1
    finally:
        attacking = False
        attacker.join()
    wait_until(lambda: is_answered(server))


def is_answered(server: ServerProcess) -> bool:
    """Whether a canary is answered at its first attempt. It may be cancelled while calls of an attack are left."""
    try:
        return bool(canary(server))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.CANCELLED:
            raise
        return False


@pytest.mark.parametrize("rounds", [150, pytest.param(3_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("begin", [b"", PREFACE, HELLO, call(data=b"")], ids=["", "preface", "hello", "call"])
def test_random_bytes_and_frames_harm_nobody(server: ServerProcess, begin: bytes, rounds: int) -> None:
    rng = random.Random(f"frames after {len(begin)} bytes")

    def some() -> bytes:
        if not begin or rng.random() < 0.2:
            return rng.randbytes(rng.choice((1, 10, 100, 10_000)))
        return b"".join(
            frame(
                rng.randrange(12), rng.getrandbits(8), rng.choice((0, 1, 2, 3, 2**31)), rng.randbytes(rng.randrange(40))
            )
            for _ in range(rng.randrange(1, 30))
        )

    with unharmed(server) as tried:
        for _ in range(rounds):
            say(server.address, begin + some(), patience=0.01)
            tried["connections"] += 1


def test_connections_that_are_silent_keep_nobody_waiting_and_are_let_go(server: ServerProcess) -> None:
    opened = server.metrics()["process_open_fds"]
    with unharmed(server), ExitStack() as stack:
        for number in range(200):
            silent = stack.enter_context(connection(server.address))
            silent.sendall((b"", PREFACE[:11], HELLO, OPEN)[number % 4])
        assert b"grpc-status\x010" in say(server.address, call(), patience=60)
    server.wait_for_metrics(lambda metrics: metrics["process_open_fds"] <= opened + 5)


def test_the_port_of_the_metrics_survives_it_too(server: ServerProcess) -> None:
    rng = random.Random("metrics")
    address = urlsplit(server.metrics_url).netloc
    get = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
    with unharmed(server), ExitStack() as stack:
        for number in range(4):
            stack.enter_context(connection(address)).sendall((b"", get[:20])[number % 2])
        for data in (HELLO, b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"x" * 100_000, b"A: b\r\n" * 10_000, b"\0" * 70_000):
            say(address, data, patience=0.1)
        for _ in range(50):
            say(address, damaged(get, rng), patience=0.01)
        time.sleep(0.1)  # for what is written to standard error on another thread


def test_a_path_that_is_no_text_ends_connections_and_not_the_server(server: ServerProcess) -> None:
    """In grpcio 1.84 and 1.85 it ends gRPC's server from within, which is why the version is pinned."""
    with unharmed(server):
        say(server.address, call(path="/?").replace(b"/?", b"/\xf6"), patience=0.3)


@pytest.mark.parametrize("rounds", [150, pytest.param(3_000, marks=pytest.mark.slow)])
def test_a_damaged_call_harms_nobody(server: ServerProcess, rounds: int) -> None:
    rng, good = random.Random("damaged call"), call()
    with unharmed(server) as tried:
        for _ in range(rounds):
            say(server.address, damaged(good, rng), patience=0.01)
            tried["connections"] += 1
