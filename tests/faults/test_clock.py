"""The clock on the wall jumps by a day, forwards and backwards, while calls with deadlines run."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.errors import InvalidRequest
from dragoman_service.client.values import Options, stream_request, translate_request
from support.caller import LONG_TEXT, SLOW, SMALL_WINDOW
from support.server_process import START_SECONDS, ServerProcess, server_process
from support.traffic import ALONE, OPTIONS, traffic, translations
from support.waiting import wait_until

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime (Debian package faketime) is not installed")

DAYS = (1, -1, 0)
"""Where the clock is set, one after the other, in days from the true time: by one forwards, by two backwards."""
FORWARDS = 2
"""Of these jumps."""
CALLS = 5
"""Of each method, at each of these times."""
UNREAD = LONG_TEXT[:2000]
"""Its translation is more than is sent to whoever does not read."""
CLIENT = """
import sys, time
from support.traffic import traffic, translations

expected = translations(sys.argv[1])
with traffic(sys.argv[1], expected, clients=int(sys.argv[2])) as seen:
    for line in sys.stdin:
        print(time.time(), seen.answered.total(), flush=True)
print(seen.answered.total(), [code.name for code in seen.failed.elements()], len(seen.problems))
"""
CLIENTS = 4
"""At once."""


class WallClock:
    """That of the processes started with `environment`, through libfaketime; their monotonic clock is the true one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, days: int) -> None:
        """Within a second it is so many days off."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{days:+d}d\n")
        new.replace(self._file)


@contextmanager
def server_of(clock: WallClock, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """A server that goes by a clock."""
    with ExitStack() as stack:
        with monkeypatch.context() as patched:
            for name, value in clock.environment.items():
                patched.setenv(name, value)
            server = stack.enter_context(server_process([bundle], "--log-level", "info"))
        yield server
        server.process.terminate()
        assert server.process.wait(START_SECONDS) == 0


def jump(clock: WallClock, days: int, server: ServerProcess, client: TranslationClient) -> None:
    """Set the clock, and wait until the server's log shows that it has seen."""
    clock.set(days)
    day = (datetime.datetime.now() + datetime.timedelta(days=days)).date().isoformat()

    def seen() -> bool:
        with pytest.raises(InvalidRequest):
            client.translate(["a"], Options(beam_size=1000))
        return any(line.startswith(day) for line in server.errors[-1:])

    wait_until(seen, lambda: server.errors[-1:])


@pytest.mark.parametrize("jumps", [DAYS[:1], pytest.param(DAYS, marks=pytest.mark.slow)], ids=len)
def test_no_call_fails_when_the_servers_clock_jumps(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jumps: tuple[int, ...]
) -> None:
    began = time.monotonic()
    clock = WallClock(tmp_path)
    with server_of(clock, bundle, monkeypatch) as server, TranslationClient(server.address) as client:
        # The first is long, and libfaketime makes the server slow.
        expected = dict(list(translations(server.address, 10).items())[1:])
        with traffic(server.address, expected, clients=CLIENTS) as seen, health_watched(server.address) as statuses:
            for days in jumps:
                with stream_across(server.address):
                    jump(clock, days, server, client)
                seen.wait_for(CALLS)
                assert_durations_are_sane(server, client, time.monotonic() - began)
        assert (seen.problems, seen.failed.total()) == ([], 0)
        assert statuses == [health_pb2.HealthCheckResponse.SERVING]
        print(f"{len(jumps)} jumps, {seen}")


def test_deadlines_hold_when_the_servers_clock_jumps(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = WallClock(tmp_path)
    with server_of(clock, bundle, monkeypatch) as server, TranslationClient(server.address) as client:
        client.translate(["The cat."], OPTIONS)
        for days in DAYS[:2]:
            with grpc.insecure_channel(server.address, ALONE) as channel:
                stub = translation_pb2_grpc.TranslationStub(channel)
                long = stub.Translate.future(translate_request([LONG_TEXT], (), SLOW), timeout=START_SECONDS)
                server.wait_for_metrics(lambda metrics: metrics["dragoman_requests_running"] == 1)
                jump(clock, days, server, client)
                long.cancel()
            server.wait_for_metrics(lambda metrics: metrics["dragoman_requests_running"] == 0)
            with pytest.raises(grpc.RpcError) as caught, stream_across(server.address, deadline=1):
                server.wait_for_metrics(lambda metrics: metrics["dragoman_requests_running"] == 0)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            server.wait_until_free()
            assert client.translate(["The cat."], OPTIONS, deadline=START_SECONDS)
        # Cancelled by its caller or by its deadline, a call ends alike; the server tells by the time that was left.
        assert cancellations(server, "cancelled") == cancellations(server, "deadline_exceeded") == len(DAYS[:2])


@pytest.mark.slow
def test_no_call_fails_when_the_clients_clock_jumps(bundle: Path, tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    environment = os.environ | clock.environment | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with server_process([bundle]) as server:
        command = [sys.executable, "-c", CLIENT, server.address, str(CLIENTS)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def state() -> tuple[int, int]:
                """How many days its clock is off, and how many calls were answered."""
                print("?", file=process.stdin, flush=True)
                shown, answered = process.stdout.readline().split()  # type: ignore[union-attr]
                return round((float(shown) - time.time()) / 86_400), int(answered)

            for days in (0, *DAYS):
                clock.set(days)
                wait_until(lambda days=days: state()[0] == days, state)  # type: ignore[misc]
                wanted = state()[1] + 2 * CALLS
                wait_until(lambda wanted=wanted: state()[1] >= wanted, state)  # type: ignore[misc]
            process.stdin.close()
            last = process.stdout.read()
    print(f"{len(DAYS)} jumps of the client, calls: {last}")
    *_, failed, problems = re.split(r" (?=\[)|(?<=\]) ", last.strip())
    # gRPC for Python makes a time on the wall of a deadline, and its core a time of the steady clock of that: who calls
    # at the very moment of a jump forwards is a day late.
    assert set(re.findall(r"\w+", failed)) <= {"DEADLINE_EXCEEDED"}
    assert int(problems) == failed.count("DEADLINE_EXCEEDED") <= CLIENTS * FORWARDS


@contextmanager
def stream_across(address: str, deadline: float = START_SECONDS) -> Iterator[None]:
    """A stream with a deadline, which cannot end while this is entered because nobody reads it."""
    with grpc.insecure_channel(address, [*ALONE, *SMALL_WINDOW]) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        stream = stub.TranslateStream(stream_request(UNREAD, "", SLOW), timeout=deadline)
        responses: list[pb.TranslateStreamResponse] = [next(stream)]
        yield
        responses += stream
        translation = responses[-1].result.translation
        assert "".join(response.chunk for response in responses) == translation.hypotheses[0].text
        assert translation.sentences == UNREAD.count("The cat number")
        timings = translation.timings
        assert min(timings.queue_seconds, timings.encode_seconds, timings.decode_seconds) >= 0
        assert max(timings.queue_seconds, timings.encode_seconds, timings.decode_seconds) < START_SECONDS


@contextmanager
def health_watched(address: str) -> Iterator[list[int]]:
    """What a watch of the server's health has said by the end; it must not have ended."""
    with grpc.insecure_channel(address, ALONE) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
        statuses = [next(watch).status]
        yield statuses
        assert watch.is_active()


def assert_durations_are_sane(server: ServerProcess, client: TranslationClient, elapsed: float) -> None:
    """None is negative, and none longer than the test has run."""
    (translation,) = client.translate(["The cat."], OPTIONS)
    timings = (translation.queue_seconds, translation.encode_seconds, translation.decode_seconds)
    assert all(0 <= seconds < elapsed for seconds in timings), timings
    metrics = server.metrics()
    for name in [name.removesuffix("_sum") for name in metrics if name.endswith("_seconds_sum")]:
        assert 0 <= metrics[f"{name}_sum"] <= elapsed * metrics[f"{name}_count"], name


def cancellations(server: ServerProcess, reason: str) -> float:
    """Calls given up for a reason."""
    with urllib.request.urlopen(server.metrics_url, timeout=START_SECONDS) as page:
        families = text_string_to_metric_families(page.read().decode())
    samples = [sample for family in families for sample in family.samples]
    given_up = [sample for sample in samples if sample.name == "dragoman_cancellations_total"]
    return sum(sample.value for sample in given_up if sample.labels["reason"] == reason)
