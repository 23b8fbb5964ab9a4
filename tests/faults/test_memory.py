"""There is no memory for what is asked: that fails or the server is started again, and the next calls are answered."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from dragoman_service.client.client import TranslationClient
from dragoman_service.client.errors import TranslationError
from dragoman_service.client.values import Options
from support.cgroup import memory_limit
from support.server_process import START_SECONDS, server_process
from support.supervisor import SUPERVISORD, Supervised, supervised
from support.traffic import OPTIONS, traffic, translations

with_supervisor = pytest.mark.skipif(SUPERVISORD is None, reason="supervisord (package supervisor) is not installed")

MEBIBYTE = 2**20
CALLS = 10
WITHSTOOD_SECONDS = 30
"""Of such calls; most often it takes one."""
LARGE = [f"The cat number {number} reads a book. " * 90 for number in range(1024)]
"""Nearly as much as a message may have."""
LARGE_OPTIONS = Options(max_length=1, beam_size=1)
MANY = [f"The cat number {number} reads a book and runs over the old green tree." for number in range(1024)]
LONG = Options(min_length=150, max_length=150, beam_size=1)
"""For rows that need all the room that there can be in the caches."""
ROOM_FOR_ALL = ("--max-rows", "1024", "--max-queue", "4096", "--window", "2048", "--max-sentences", "1000000")
ROOM_FOR_ALL += ("--call-memory-mib", "100000", "--message-memory-mib", "1000")


@pytest.fixture(autouse=True)
def _calls_are_not_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of ours sends less in one call."""
    monkeypatch.setattr("dragoman_service.client.calls._BYTES_PER_CALL", 1000 * MEBIBYTE)


@pytest.mark.parametrize(
    ("texts", "options"),
    [pytest.param(LARGE, LARGE_OPTIONS, id="message", marks=pytest.mark.slow), pytest.param(MANY, LONG, id="caches")],
)
def test_a_call_for_which_there_is_no_memory_fails_alone(bundle: Path, texts: list[str], options: Options) -> None:
    with server_process([bundle], *ROOM_FOR_ALL) as server:
        expected = translations(server.address)
        with TranslationClient(server.address, texts_per_call=1024) as client:
            start_threads(client)
            with no_more_memory(server.process.pid, 8 * MEBIBYTE):
                with pytest.raises(TranslationError) as caught:
                    client.translate(texts, options, deadline=START_SECONDS)
                print(caught.value.code.name, caught.value)
                assert caught.value.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
                for text, translation in list(expected.items())[:CALLS]:
                    assert client.translate([text], OPTIONS)[0].text == translation
            assert server.process.poll() is None
            assert len(client.translate(MANY, LONG)) == len(MANY)
        with traffic(server.address, expected) as seen:
            seen.wait_for(CALLS)
        assert seen.problems == []


def start_threads(client: TranslationClient) -> None:
    """Those that the server starts when they are first needed; each takes more memory than will be left."""
    for _ in range(3):
        client.translate(["The cat runs. " * 1000], LARGE_OPTIONS)


@contextmanager
def no_more_memory(pid: int, size: int) -> Iterator[None]:
    """But so many bytes, for what a process asks of the system."""
    used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    usual = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (used + size, usual[1]))
    yield
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_AS, usual)


@pytest.mark.slow
@with_supervisor
def test_who_asks_for_more_than_there_is_gets_the_server_killed_and_the_next_find_it_back(
    bundle: Path, tmp_path: Path
) -> None:
    with memory_limit(400 * MEBIBYTE) as limited, supervised(tmp_path, bundle, *ROOM_FOR_ALL, before=limited) as server:
        expected = translations(server.backend.address)
        outcomes = overwhelm(server)
        assert "(terminated by SIGKILL; not expected)" in server.log
        served_again(server, expected, outcomes)


@pytest.mark.slow
@with_supervisor
def test_when_the_system_refuses_memory_to_native_code_the_next_find_the_server_back(
    bundle: Path, tmp_path: Path
) -> None:
    """gRPC's core and others end the process then: nobody could do anything about it there."""
    with supervised(tmp_path, bundle, *ROOM_FOR_ALL) as server:
        expected = translations(server.backend.address)
        with no_more_memory(server.pids[-1], 64 * MEBIBYTE):
            outcomes = overwhelm(server)
            served_again(server, expected, outcomes)


def overwhelm(server: Supervised) -> Counter[str]:
    """Many calls at once, each as large as can be, until the server has ended or has withstood it."""
    outcomes: Counter[str] = Counter()
    limit = time.monotonic() + WITHSTOOD_SECONDS

    def ask(_: int) -> None:
        with TranslationClient(server.backend.address, texts_per_call=1024) as client:
            while len(server.pids) == 1 and time.monotonic() < limit:
                try:
                    client.translate(LARGE, LARGE_OPTIONS, deadline=10)
                    outcomes["answered"] += 1
                except TranslationError as error:
                    outcomes[error.code.name] += 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    return outcomes


def served_again(server: Supervised, expected: dict[str, str], outcomes: Counter[str]) -> None:
    server.wait_until_ready(len(server.pids))
    with traffic(server.backend.address, expected, wait_for_ready=True) as seen:
        seen.wait_for(CALLS)
    print(f"{dict(outcomes)}, {len(server.pids) - 1} restarts, then {seen}")
    assert seen.problems == []
