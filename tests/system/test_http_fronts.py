"""A real server of several processes, over HTTP: every interface, quotas, tokens, and a front that is killed."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.http_calls import Reply, ask
from support.processes import processes
from support.server_process import ServerProcess, server_process
from support.tokens import add_token, revoke_token
from support.waiting import wait_until

CONNECTIONS = 16
"""Each request has one of its own: of so many, no front gets none but once in thousands of runs."""
MORNING = "Good morning!"
REQUESTS: dict[str, tuple[str, object]] = {
    "dragoman.v1": ("/v1/translate", {"texts": [MORNING], "options": {"maxLength": 12}}),
    "events": ("/v1/translate/stream", {"text": MORNING, "options": {"maxLength": 12}}),
    "libretranslate": ("/translate", {"q": MORNING, "source": "en", "target": "de"}),
    "google_v2": ("/language/translate/v2", {"q": MORNING, "target": "de"}),
    "google_v3": ("/v3/projects/p:translateText", {"contents": [MORNING], "targetLanguageCode": "de"}),
    "deepl": ("/v2/translate", {"text": [MORNING], "target_lang": "DE"}),
}
QUICK = REQUESTS["dragoman.v1"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens.json"


@pytest.fixture(scope="module")
def always(tokens: Path) -> str:
    """A token without quotas."""
    return add_token(tokens, "always", scopes=("translate", "glossaries"))


@pytest.fixture(scope="module")
def server(
    bundle: Path, tokens: Path, always: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    folder = str(tmp_path_factory.mktemp("glossaries"))
    options = ("--tokens", str(tokens), "--glossaries", folder, "--glossaries-writable", "--fronts", "2")
    with server_process([bundle], "--http-port", "0", *options) as running:
        yield running


def send(server: ServerProcess, request: tuple[str, object], token: str) -> Reply:
    path, content = request
    return ask(server.url + path, content, {"authorization": f"Bearer {token}"})


def statuses(server: ServerProcess, token: str, count: int = CONNECTIONS) -> Counter[int]:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        replies = pool.map(lambda _: send(server, QUICK, token), range(count))
        return Counter(reply.status for reply in replies)


@pytest.mark.parametrize("interface", REQUESTS)
def test_every_front_serves_every_interface(server: ServerProcess, always: str, interface: str) -> None:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        replies = list(pool.map(lambda _: send(server, REQUESTS[interface], always), range(CONNECTIONS)))
    assert {reply.status for reply in replies} == {200}
    if interface not in ("dragoman.v1", "events"):  # whose answers have times
        assert len({reply.body for reply in replies}) == 1


def test_a_glossary_is_there_on_every_front_at_once(server: ServerProcess, always: str) -> None:
    new = {"name": "n", "source_lang": "en", "target_lang": "de", "entries": "a\tb", "entries_format": "tsv"}
    for _ in range(5):
        made = send(server, ("/v2/glossaries", new), always)
        assert made.status == 201
        path = f"{server.url}/v2/glossaries/{made.json['glossary_id']}"
        headers = {"authorization": f"DeepL-Auth-Key {always}"}
        assert {ask(path, None, headers).status for _ in range(CONNECTIONS)} == {200}
        assert ask(path, None, headers, verb="DELETE").status == 204
        assert {ask(path, None, headers).status for _ in range(CONNECTIONS)} == {404}


def test_quotas_are_exact_whatever_the_front_and_the_interface(server: ServerProcess, tokens: Path) -> None:
    few = add_token(tokens, "few", requests_per_minute=20)
    wait_until(lambda: statuses_of_models(server, few) == {200, 429} or statuses_of_models(server, few) == {429})
    time.sleep(60 / 20 * 3)  # as many as were used may be there again; more than 20 never are
    began = time.monotonic()
    kinds = [it for name, it in REQUESTS.items() if name != "events"]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        ends = Counter(pool.map(lambda number: send(server, kinds[number % len(kinds)], few).status, range(80)))
    refilled = (time.monotonic() - began) * 20 / 60
    assert set(ends) == {200, 429}
    assert 1 <= ends[200] <= 20 + refilled


def statuses_of_models(server: ServerProcess, token: str) -> set[int]:
    headers = {"authorization": f"Bearer {token}"}
    return {ask(f"{server.url}/v1/models", None, headers).status for _ in range(CONNECTIONS * 2)}


def test_a_token_that_is_replaced_ends_on_every_front(server: ServerProcess, tokens: Path, always: str) -> None:
    old = add_token(tokens, "old")
    wait_until(lambda: statuses(server, old) == {200: CONNECTIONS})
    new = add_token(tokens, "new")
    wait_until(lambda: statuses(server, new) == {200: CONNECTIONS})
    revoke_token(tokens, "old")
    wait_until(lambda: statuses(server, old) == {401: CONNECTIONS})
    assert statuses(server, new) == statuses(server, always) == {200: CONNECTIONS}


def test_a_killed_front_costs_its_own_connections_and_is_replaced(server: ServerProcess, always: str) -> None:
    """The last test of this server."""
    ends: Counter[str] = Counter()
    stopping = threading.Event()

    def call() -> None:
        while not stopping.is_set():
            try:
                reply = send(server, QUICK, always)
                ends[str(reply.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                ends[type(error).__name__] += 1
                time.sleep(0.05)

    before = server.metrics()["dragoman_process_restarts_total"]
    callers = [threading.Thread(target=call) for _ in range(CONNECTIONS)]
    for caller in callers:
        caller.start()
    try:
        wait_until(lambda: ends["200"] > 20)
        os.kill(processes(server)["front 1"], signal.SIGKILL)
        server.wait_for_metrics(lambda metrics: metrics["dragoman_process_restarts_total"] == before + 1)
        wait_until(lambda: len(processes(server)) == 3)
        answered = ends["200"]
        wait_until(lambda: ends["200"] > answered + 40)
    finally:
        stopping.set()
        for caller in callers:
            caller.join()
    assert {end for end in ends if end.isdecimal()} == {"200"}
    print(f"front killed: {dict(ends)}")
    assert statuses(server, always) == {200: CONNECTIONS}
