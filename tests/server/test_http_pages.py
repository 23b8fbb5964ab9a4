"""The pages on the metrics port, over real sockets."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from dragoman_service.server import http_pages as pages
from dragoman_service.server.http_pages import Condition, PagesServer

PATIENCE = 30.0
"""Seconds after which a test gives up; only a broken server comes near."""


class Pages:
    """A server of pages, and what it says when asked."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.condition = Condition()
        registry = CollectorRegistry()
        self.counter = Counter("things", "Things.", registry=registry)
        self.server = PagesServer(host, 0, registry, lambda: self.condition)
        self.host = f"[{host}]" if ":" in host else host

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.server.port}{path}", timeout=PATIENCE) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def server() -> Iterator[Pages]:
    made = Pages()
    yield made
    made.server.close()


@pytest.fixture
def served(server: Pages) -> Pages:
    """One that is well."""
    server.condition = Condition()
    server.counter.reset()
    return server


def test_the_metrics_are_as_of_now(served: Pages) -> None:
    served.counter.inc(3)
    status, text = served.get("/metrics")
    assert status == 200
    assert "\nthings_total 3.0\n" in text
    served.counter.inc()
    assert "\nthings_total 4.0\n" in served.get("/metrics")[1]


def test_a_server_that_is_well_is_ready_and_alive(served: Pages) -> None:
    assert served.get("/ready") == (200, "ready\n")
    assert served.get("/live") == (200, "alive\n")


def test_who_is_not_ready_says_why_and_may_be_alive(served: Pages) -> None:
    served.condition = Condition(not_ready="no model is in service")
    assert served.get("/ready") == (503, "no model is in service\n")
    assert served.get("/live") == (200, "alive\n")


def test_who_is_not_alive_says_why(served: Pages) -> None:
    served.condition = Condition(not_ready="en-de hängt", not_alive="en-de hängt")
    assert served.get("/live") == (503, "en-de hängt\n")
    assert served.get("/ready") == (503, "en-de hängt\n")


def test_the_condition_is_asked_for_at_every_look(served: Pages) -> None:
    for problem in ("starting", "", "shutting down", ""):
        served.condition = Condition(not_ready=problem)
        assert served.get("/ready")[0] == (503 if problem else 200)


def test_verdicts_are_plain_text(served: Pages) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{served.server.port}/ready", timeout=PATIENCE) as page:
        assert page.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_who_says_nothing_holds_nobody_up(served: Pages) -> None:
    silent = [socket.create_connection(("127.0.0.1", served.server.port), timeout=PATIENCE) for _ in range(5)]
    silent[0].sendall(b"GET /rea")
    try:
        assert served.get("/ready") == (200, "ready\n")
        assert served.get("/metrics")[0] == 200
    finally:
        for connection in silent:
            connection.close()


def test_who_says_nothing_is_hung_up_on(served: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < pages._SilentHandler.timeout <= 60
    monkeypatch.setattr(pages._SilentHandler, "timeout", 0.05)
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=PATIENCE) as silent:
        assert silent.recv(1) == b""


def test_a_condition_that_takes_its_time_holds_no_other_page_up(served: Pages) -> None:
    go_on = threading.Event()
    answers: list[tuple[int, str]] = []

    def slow() -> Condition:
        go_on.wait(PATIENCE)
        return Condition()

    made = PagesServer("127.0.0.1", 0, CollectorRegistry(), slow)
    url = f"http://127.0.0.1:{made.port}"
    asking = threading.Thread(
        target=lambda: answers.append((urllib.request.urlopen(f"{url}/ready", timeout=PATIENCE).status, ""))
    )
    asking.start()
    with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE) as page:
        assert page.status == 200
    assert answers == []
    go_on.set()
    asking.join(PATIENCE)
    assert answers == [(200, "")]
    made.close()


def test_an_address_that_cannot_be_had_is_an_error(served: Pages) -> None:
    with pytest.raises(OSError, match="in use"):
        PagesServer("127.0.0.1", served.server.port, CollectorRegistry(), Condition)


def test_after_the_end_nobody_listens() -> None:
    made = Pages()
    port = made.server.port
    made.server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_address_of_ipv6() -> None:
    made = Pages("::1")
    assert made.get("/ready") == (200, "ready\n")
    made.server.close()


def test_what_is_served_says_nothing_on_the_terminal(served: Pages, capfd: pytest.CaptureFixture[str]) -> None:
    served.get("/ready")
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=PATIENCE) as rude:
        rude.sendall(b"\0\1\2 nonsense\r\n\r\n")
        rude.recv(1000)
    assert capfd.readouterr() == ("", "")
