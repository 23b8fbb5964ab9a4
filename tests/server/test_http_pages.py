"""The pages on the metrics port, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Metric

from dragoman_service.server import http_pages as pages
from dragoman_service.server.http_pages import Condition, PagesServer
from support.waiting import wait_until

PATIENCE = 30.0
"""Seconds after which a test gives up; only a broken server comes near."""


class Pages:
    """A server of pages, and what it says when asked."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.condition = Condition()
        self.registry = CollectorRegistry()
        self.counter = Counter("things", "Things.", registry=self.registry)
        self.server = PagesServer(host, 0, self.registry, lambda: self.condition)
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
    assert 0 < pages._CONNECTION_SECONDS <= 10
    monkeypatch.setattr(pages, "_CONNECTION_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=PATIENCE) as silent:
        assert silent.recv(1) == b""


def test_who_says_little_at_a_time_is_hung_up_on_too(served: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_CONNECTION_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=0.1) as slow:
        started = time.monotonic()
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012 - a byte every 0.1 s, far below any timeout
            while time.monotonic() < started + PATIENCE:
                slow.sendall(b"G")
                time.sleep(0.1)
        assert time.monotonic() - started < 5


def test_slow_connections_cost_no_threads_and_hold_nobody_up(served: Pages) -> None:
    before = threading.active_count()
    slow = []
    try:
        for _ in range(900):
            connection = socket.create_connection(("127.0.0.1", served.server.port), timeout=PATIENCE)
            connection.sendall(b"GET /live HTTP/1.1\r\n")
            slow.append(connection)
        for path, answer in (("/live", "alive\n"), ("/ready", "ready\n")):
            started = time.monotonic()
            assert served.get(path) == (200, answer)
            assert time.monotonic() - started < 2
        assert served.get("/metrics")[0] == 200
        assert threading.active_count() <= before
        assert len(served.server._open) <= pages._MOST_CONNECTIONS
    finally:
        for connection in slow:
            connection.close()


def test_who_does_not_read_its_page_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_CONNECTION_SECONDS", 0.5)
    made = Pages()
    things = Counter("many", "Many things.", ("name",), registry=made.registry)
    for name in range(20_000):
        things.labels(f"{name:0500}")
    with socket.create_connection(("127.0.0.1", made.server.port), timeout=PATIENCE) as unread:
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        unread.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        wait_until(lambda: len(made.server._open) == 1)
        wait_until(lambda: not made.server._open)
    made.server.close()


def test_other_paths_list_the_pages(served: Pages) -> None:
    listed = "pages: /metrics /ready /readyz /live /livez /healthz\n"
    assert served.get("/") == (200, listed)
    for path in ("/metric", "/metrics/", "/ready/", "//live", "/live/x", "/favicon.ico"):
        assert served.get(path) == (404, listed), path


def test_pages_have_the_names_that_kubernetes_gives_them(served: Pages) -> None:
    served.condition = Condition(not_ready="starting")
    assert served.get("/readyz") == (503, "starting\n")
    for path in ("/livez", "/healthz", "/healthz?verbose"):
        assert served.get(path) == (200, "alive\n"), path


@pytest.mark.parametrize("path", ["/metrics", "/ready", "/nothing"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PRI"])
def test_pages_are_only_read(served: Pages, method: str, path: str) -> None:
    status, headers, _ = ask(served, f"{method} {path} HTTP/1.1\r\nContent-Length: 6\r\n\r\na body")
    assert status == "HTTP/1.1 405 Method Not Allowed"
    assert "Allow: GET, HEAD" in headers


@pytest.mark.parametrize("path", ["/metrics", "/ready", "/nothing"])
def test_head_has_the_headers_alone(served: Pages, path: str) -> None:
    status, headers, body = ask(served, f"GET {path} HTTP/1.1\r\n\r\n")
    assert f"Content-Length: {len(body)}" in headers
    head = ask(served, f"HEAD {path} HTTP/1.1\r\n\r\n")
    assert (head[0], len(head[1]), head[2]) == (status, len(headers), "")


@pytest.mark.parametrize(
    "request_text",
    ["GET /live\r\n\r\n", "GET /live HTTP/2.0\r\n\r\n", "GET http://[/ HTTP/1.1\r\n\r\n", "GET /ä HTTP/1.1\r\n\r\n",
     "a" * 100_000, "GET /live HTTP/1.1\r\n" + "a: b\r\n" * 1_000 + "\r\n"],
)  # fmt: skip
def test_what_is_no_request_is_told_so(served: Pages, request_text: str) -> None:
    assert ask(served, request_text)[0] == "HTTP/1.1 400 Bad Request"


def test_formats_and_names_of_metrics_are_chosen_by_the_reader(served: Pages) -> None:
    accept = "Accept: application/openmetrics-text; version=1.0.0"
    status, headers, body = ask(served, f"GET /metrics?name[]=nothing HTTP/1.1\r\n{accept}\r\n\r\n")
    assert status == "HTTP/1.1 200 OK"
    assert any(line.startswith("Content-Type: application/openmetrics-text") for line in headers)
    assert body == "# EOF\n"


@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
@pytest.mark.parametrize("version", ["a.b", "1..0", "é", "1.0\r\n X: y", "9" * 5_000])
def test_a_version_that_is_none_is_told_so(served: Pages, kind: str, version: str) -> None:
    status, _, body = ask(served, f"GET /metrics HTTP/1.1\r\nAccept: {kind}; version={version}\r\n\r\n")
    assert status == "HTTP/1.1 400 Bad Request"
    assert body.startswith("Accept: ")


def test_no_part_of_a_request_adds_lines_to_the_answer(served: Pages) -> None:
    accept = "Accept: application/openmetrics-text; version=2.x\r\n X: y"
    _, headers, _ = ask(served, f"GET /metrics HTTP/1.1\r\n{accept}\r\n\r\n")
    assert not any(line.startswith((" ", "X")) for line in headers)


def test_a_page_that_fails_says_so_and_the_log_why(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def collect(self) -> Iterator[Metric]:
            raise OSError("the counters cannot be read")

    made = Pages()
    made.registry.register(Broken())
    assert made.get("/metrics") == (500, "the page failed; the server's log has the reason\n")
    assert "the page /metrics failed" in caplog.text
    assert "the counters cannot be read" in caplog.text
    made.condition = None  # type: ignore[assignment]
    assert made.get("/live")[0] == 500
    made.condition = Condition()
    assert made.get("/live") == (200, "alive\n")
    made.server.close()


def ask(served: Pages, request_text: str) -> tuple[str, list[str], str]:
    """Send a request as it is. Returns the status line, the headers, and the body."""
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=PATIENCE) as connection:
        connection.sendall(request_text.encode())
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    head, _, body = answer.decode().partition("\r\n\r\n")
    status, *headers = head.split("\r\n")
    return status, headers, body


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
