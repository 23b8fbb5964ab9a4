"""Limits on connections, and on what comes before a body."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dragoman_service.server.http import connections
from dragoman_service.server.http.room import Room
from support.certificates import Authority
from support.fake_workers import FakeWorkers, served
from support.http_calls import ask, ended, head, opened, posted
from support.server_thread import serving
from support.waiting import wait_until

TRANSLATE = "/v1/translate"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


def test_who_waits_longest_makes_room_and_who_works_keeps_the_seat() -> None:
    async def test() -> None:
        ends: list[str] = []
        room = Room(3)
        seats = {name: room.enter(lambda name=name: ends.append(name), 60) for name in "abc"}
        seats["a"].work()
        assert room.enter(lambda: None, 60)
        assert ends == ["b"]
        seats["c"].work()
        last = room.enter(lambda: ends.append("last"), 60)  # in place of the one that came after b
        assert last
        last.work()
        assert room.enter(lambda: None, 60) is None
        seats["a"].wait(60)
        assert room.enter(lambda: None, 60)
        assert ends == ["b", "a"]
        assert len(room) == 3

    run(test())


def test_bodies_that_do_not_come_keep_nobody_out() -> None:
    with serving([served(FakeWorkers())], http_port=0, max_connections=3) as server, ExitStack() as stack:
        whole = posted(TRANSLATE, {"texts": ["a"]})
        slow = [stack.enter_context(opened(server.url)) for _ in range(3)]
        for connection in slow:
            connection.sendall(whole[:-1])
        wait_until(lambda: server.metric("dragoman_requests_running", api="http_v1", method="Translate") == 3)
        assert ask(server.url + TRANSLATE, {"texts": ["a"]}).status == 200
        assert ended(slow[0]) == b"", "it has waited longest"
        slow[2].sendall(whole[-1:])
        assert slow[2].recv(1_000).startswith(b"HTTP/1.1 200 ")


def test_a_seat_that_waits_too_long_is_given_back() -> None:
    async def test() -> None:
        ended = asyncio.Event()
        room = Room(1)
        assert room.enter(ended.set, 0.01)
        await ended.wait()
        assert len(room) == 0

    run(test())


def is_closed_after(connection: socket.socket, byte: int) -> bool:
    """Whether the server closes a connection within a moment after a byte."""
    try:
        connection.sendall(bytes((byte,)))
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"", b"POST /v1/tran", head(TRANSLATE, "content-length: 10")])
def test_a_connection_without_a_whole_head_is_closed(sent: bytes) -> None:
    with serving([served(FakeWorkers())], http_port=0) as server, opened(server.url) as connection:
        connection.sendall(sent)
        assert ended(connection) == b""


@pytest.mark.usefixtures("impatient")
def test_bytes_that_trickle_do_not_gain_time() -> None:
    with serving([served(FakeWorkers())], http_port=0) as server, opened(server.url) as connection:
        connection.sendall(posted(TRANSLATE, {"texts": ["a"]}))
        assert connection.recv(10_000)
        connection.settimeout(0.1)
        slow = iter(head(TRANSLATE, *["x: y"] * 100))
        wait_until(lambda: is_closed_after(connection, next(slow)))


@pytest.mark.usefixtures("impatient")
def test_a_body_after_its_answer_is_read_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragoman_service.server.http.context._LINGER_SECONDS", 0.3)
    with serving([served(FakeWorkers())], http_port=0, max_message_mib=1) as server, opened(server.url) as connection:
        connection.sendall(head(TRANSLATE, "content-length: 1000000000") + b"\r\n")
        assert connection.recv(10_000).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionError):
            connection.sendall(b"x" * 2**30)


def test_a_head_that_is_too_large_or_no_head_is_refused() -> None:
    with serving([served(FakeWorkers())], http_port=0) as server:
        for bad in (head("/v1/models", "x: " + "y" * 40_000, verb="GET"), b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n"):
            with opened(server.url) as connection:
                connection.sendall(bad + b"\r\n")
                assert ended(connection).startswith(b"HTTP/1.1 400 ")


def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragoman_service.server.intake.READ_SECONDS", 0.8)
    monkeypatch.setattr("dragoman_service.server.http.context._LINGER_SECONDS", 0.1)
    with serving([served(FakeWorkers())], http_port=0) as server, opened(server.url) as connection:
        connection.sendall(head(TRANSLATE, "content-length: 100", "connection: close") + b"\r\n{")
        assert ended(connection).startswith(b"HTTP/1.1 408 ")


def test_connections_that_say_nothing_keep_nobody_out() -> None:
    with serving([served(FakeWorkers())], http_port=0, max_connections=4) as server, ExitStack() as stack:
        idle = [stack.enter_context(opened(server.url)) for _ in range(8)]
        assert ask(server.url + TRANSLATE, {"texts": ["a"]}).status == 200
        assert ended(idle[0]) == b""


def test_connections_with_requests_are_not_closed_for_new_ones() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)], http_port=0, max_connections=2) as server, ExitStack() as stack:
        busy = [stack.enter_context(opened(server.url)) for _ in range(2)]
        for connection in busy:
            connection.sendall(posted(TRANSLATE, {"texts": ["a"]}, "connection: close"))
        wait_until(lambda: engine.running == 2)
        with opened(server.url) as late:
            assert ended(late) == b""
        engine.release()
        assert all(ended(connection).startswith(b"HTTP/1.1 200 ") for connection in busy)


def test_tls_with_a_new_certificate_for_new_connections(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    context = ssl.create_default_context(cafile=str(authority.file))
    tls = {"tls_cert": str(pair.cert), "tls_key": str(pair.key)}
    with serving([served(FakeWorkers())], http_port=0, **tls) as server:
        url = f"https://localhost:{server.server.http_port}"
        assert ask(url + TRANSLATE, {"texts": ["a"]}, tls=context).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(f"{url}/v1/models", tls=ssl.create_default_context())
        newer = authority.issue("newer")
        pair.cert.write_bytes(newer.cert.read_bytes())
        pair.key.write_bytes(newer.key.read_bytes())
        server.server._tls.check()
        with context.wrap_socket(
            opened(f"http://localhost:{server.server.http_port}"), server_hostname="localhost"
        ) as it:
            assert int(it.getpeercert()["serialNumber"], 16) == newer.serial


def test_an_answer_in_parts_does_not_wait_for_acknowledgements() -> None:
    with serving([served(FakeWorkers())], http_port=0) as server, opened(server.url) as connection:
        connection.sendall(posted(TRANSLATE, {"texts": ["a"]}))
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        (served_connection,) = server.server._http._state.connections
        own = served_connection.transport.get_extra_info("socket")
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
