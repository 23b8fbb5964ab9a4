"""The routes of the page; `system/test_page.py` looks at it in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from support.fake_workers import FakeWorkers, served
from support.http_calls import ask, head, opened
from support.server_thread import ServerThread, serving
from support.waiting import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving([served(FakeWorkers())], http_port=0) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "text/html"), ("/page/page.css", "text/css"), ("/page/page.js", "text/javascript")]
)
def test_files(server: ServerThread, path: str, kind: str) -> None:
    reply = ask(server.url + path)
    assert reply.status == 200
    assert reply.headers["content-type"] == f"{kind}; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    policy = dict(it.split(" ", 1) for it in reply.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert "access-control-allow-origin" not in ask(server.url + path, headers={"origin": "https://a.example"}).headers


def test_a_file_that_has_not_changed_is_not_sent_again(server: ServerThread) -> None:
    first = ask(f"{server.url}/")
    assert first.headers["cache-control"] == "no-cache"
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = ask(f"{server.url}/", headers={"if-none-match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert ask(f"{server.url}/", headers={"if-none-match": '"other"'}).body == first.body


def test_the_page_needs_nothing_but_its_own_files(server: ServerThread) -> None:
    index = ask(f"{server.url}/").body.decode()
    named = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', index)
    assert named
    for path in named:
        assert ask(f"{server.url}/{path}").status == 200
    script = ask(f"{server.url}/page/page.js").body.decode()
    for name in re.findall(r'from "\./([^"]+)"', script):
        assert ask(f"{server.url}/page/{name}").status == 200


@pytest.mark.parametrize("path", ["/page/page.js", "/v1/openapi.json"])
def test_who_takes_no_answers_loses_the_connection(path: str) -> None:
    with serving([served(FakeWorkers())], http_port=0, write_timeout=0.2) as server, opened(server.url) as connection:
        assert server.server._http is not None
        room = server.server._http._room
        connection.sendall((head(path, verb="GET") + b"\r\n") * 1000)
        wait_until(lambda: len(room) == 1)
        wait_until(lambda: len(room) == 0)


def test_verbs(server: ServerThread) -> None:
    head = ask(f"{server.url}/", verb="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert ask(f"{server.url}/", {}).status == 405


def test_the_metrics_are_named_to_those_who_reach_them(server: ServerThread) -> None:
    path = f"{server.url}/page/settings.json"
    assert ask(path).json["metricsPort"] == server.server.metrics_port
    assert ask(path, headers={"host": "translate.example"}).json["metricsPort"] == 0
    with serving([served(FakeWorkers())], http_port=0, http_host="127.0.0.1", metrics_host="127.0.0.2") as apart:
        assert ask(f"{apart.url}/page/settings.json").json["metricsPort"] == 0


def test_the_limits_of_documents_are_named() -> None:
    with serving([served(FakeWorkers())], http_port=0, max_document_mib=3) as server:
        limits = ask(f"{server.url}/page/settings.json").json["documents"]
    assert limits["maxBytes"] == 3 << 20
    assert {".txt", ".docx"} <= set(limits["suffixes"])


def test_a_server_without_the_page() -> None:
    with serving([served(FakeWorkers())], http_port=0, interfaces=("libretranslate",)) as server:
        assert ask(f"{server.url}/").status == 404
        assert ask(f"{server.url}/page/page.js").status == 404
        assert ask(f"{server.url}/v1/models").status == 200
