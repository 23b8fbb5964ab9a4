"""Connections that say nothing, read nothing or have nobody at their other end, and more of them than there can be."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.client.values import stream_request
from support.caller import LONG_TEXT, SLOW, SMALL_WINDOW, caller
from support.server_process import START_SECONDS, ServerProcess, server_process
from support.traffic import ALONE, Traffic, traffic, translations
from support.waiting import wait_until

SILENT = 400
CALLS = 20
"""Of each method, that show that others are served."""
NOTICED_SECONDS = 120
"""Within which gRPC has to see that nobody is there."""
ELSEWHERE = "127.0.0.2"
"""Where clients connect that are cut off: an address of this machine as well."""


def port_of(url: str) -> int:
    return int(url.removesuffix("/metrics").rsplit(":", 1)[1])


def connections(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]


def others_are_served(seen: Traffic) -> None:
    seen.wait_for(CALLS)
    assert seen.problems == []


def wait_until_descriptors_are(server: ServerProcess, count: float, seconds: float = 60) -> None:
    """A call of our own is one; what a connection left is closed in a moment."""
    server.wait_for_metrics(lambda metrics: metrics["process_open_fds"] <= count, seconds)


def test_silent_connections_keep_nobody_from_being_served(bundle: Path) -> None:
    with server_process([bundle]) as server, ExitStack() as stack:
        expected = translations(server.address)
        before = server.metrics()["process_open_fds"]
        for port, count in ((port_of(server.address), SILENT), (port_of(server.metrics_url), 20)):
            for connection in connections(port, count):
                stack.enter_context(connection)
        server.wait_for_metrics(lambda metrics: metrics["process_open_fds"] >= before + SILENT)
        with traffic(server.address, expected) as seen:
            others_are_served(seen)
        stack.close()
        wait_until_descriptors_are(server, before)
        print(f"{SILENT} silent connections beside {seen}")
        assert server.errors == []


@pytest.mark.slow
def test_silent_connections_are_closed_in_the_end(bundle: Path) -> None:
    with server_process([bundle]) as server, ExitStack() as stack:
        before = server.metrics()["process_open_fds"]
        for connection in connections(port_of(server.address), SILENT):
            stack.enter_context(connection)
        server.wait_for_metrics(lambda metrics: metrics["process_open_fds"] >= before + SILENT)
        wait_until_descriptors_are(server, before, NOTICED_SECONDS)


def test_streams_that_nobody_reads_are_given_up_and_others_go_on(bundle: Path) -> None:
    with server_process([bundle], "--write-timeout", "1", "--grace", "1") as server, ExitStack() as stack:
        expected = translations(server.address)
        streams = []
        for _ in range(4):
            channel = stack.enter_context(grpc.insecure_channel(server.address, [*ALONE, *SMALL_WINDOW]))
            stub = translation_pb2_grpc.TranslationStub(channel)
            streams.append(stub.TranslateStream(stream_request(LONG_TEXT, "", SLOW), timeout=START_SECONDS))
        for stream in streams:
            assert next(stream).chunk
        with traffic(server.address, expected) as seen:
            others_are_served(seen)
        metrics = server.wait_for_metrics(lambda metrics: metrics["dragoman_requests_running"] == 0)
        assert metrics["dragoman_cancellations_total"] == len(streams)
        server.wait_until_free()
        for stream in streams[:2]:
            with pytest.raises(grpc.RpcError, match="was not read") as caught:
                list(stream)
            assert caught.value.code() is grpc.StatusCode.CANCELLED
        print(f"{len(streams)} unread streams beside {seen}")
        # The others are unread to this moment, and must not keep the server from ending.
        server.process.terminate()
        assert server.process.wait(START_SECONDS) == 0
        assert server.errors == []


def test_who_leaves_while_a_piece_waits_for_them_is_no_fault_of_the_server(bundle: Path) -> None:
    with server_process([bundle]) as server, ExitStack() as stack:
        channels = [grpc.insecure_channel(server.address, [*ALONE, *SMALL_WINDOW]) for _ in range(3)]
        stubs = [translation_pb2_grpc.TranslationStub(stack.enter_context(channel)) for channel in channels]
        request = stream_request(LONG_TEXT[:4000], "", SLOW)
        late, cancelled, gone = (
            stub.TranslateStream(request, timeout=n) for stub, n in zip(stubs, (4, 60, 60), strict=True)
        )
        for stream in (late, cancelled, gone):
            assert next(stream).chunk
        # No row is taken and yet all calls run: they have all that they will send.
        server.wait_for_metrics(lambda m: m["dragoman_slots_used"] == 0 and m["dragoman_requests_running"] == 3)
        cancelled.cancel()
        channels[2].close()
        server.wait_for_metrics(lambda metrics: metrics["dragoman_requests_running"] == 0)
        assert codes(server, "TranslateStream") == {"CANCELLED": 2, "DEADLINE_EXCEEDED": 1}
        assert server.errors == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stopped", "cut off"])
def test_who_vanishes_in_the_middle_of_a_stream_loses_it(bundle: Path, how: str) -> None:
    with server_process([bundle], "--host", "0.0.0.0", "--write-timeout", "3600") as server:
        vanish(server, how, "stream")
        ended = codes(server, "TranslateStream")
        assert ended.total() - ended["OK"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stopped", "cut off"])
def test_who_vanishes_between_calls_keeps_no_connection(bundle: Path, how: str) -> None:
    with server_process([bundle], "--host", "0.0.0.0") as server:
        vanish(server, how, "idle")


def codes(server: ServerProcess, method: str) -> Counter[str]:
    """How calls have ended so far."""
    with urllib.request.urlopen(server.metrics_url, timeout=START_SECONDS) as page:
        families = text_string_to_metric_families(page.read().decode())
    samples = [sample for family in families for sample in family.samples if sample.name == "dragoman_requests_total"]
    return Counter({s.labels["code"]: int(s.value) for s in samples if s.labels["method"] == method})


def vanish(server: ServerProcess, how: str, what: str) -> None:
    """Let two clients vanish and wait until the server has noticed, while others are served."""
    port = port_of(server.address)
    before = server.metrics()["process_open_fds"]
    expected = translations(f"127.0.0.1:{port}")
    with caller(f"{ELSEWHERE}:{port}", what) as one, caller(f"{ELSEWHERE}:{port}", what) as two:
        assert server.metrics()["process_open_fds"] >= before + 2
        with stopped([one, two]) if how == "stopped" else cut_off(port):
            began = time.monotonic()
            with traffic(f"127.0.0.1:{port}", expected) as seen:
                others_are_served(seen)
            wait_until_descriptors_are(server, before, NOTICED_SECONDS)
            print(f"{what}, {how}: noticed within {time.monotonic() - began:.0f} s, beside {seen}")
            server.wait_for_metrics(lambda metrics: metrics["dragoman_requests_running"] == 0)
            server.wait_until_free()


@contextmanager
def stopped(processes: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """Their machine still answers for them, and nobody reads."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    yield


@contextmanager
def cut_off(port: int) -> Iterator[None]:
    """No packet goes to or comes from `ELSEWHERE`, as if the machine's power were out. Needs root."""
    iptables = shutil.which("iptables", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if iptables is None:
        pytest.skip("iptables (Debian package iptables) is not installed")
    ends = (["-d", ELSEWHERE, "--dport", str(port)], ["-s", ELSEWHERE, "--sport", str(port)])
    rules = [["INPUT", "-i", "lo", "-p", "tcp", *end, "-j", "DROP"] for end in ends]
    with ExitStack() as stack:
        for rule in rules:
            done = subprocess.run([iptables, "-w", "-I", *rule], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no packet can be dropped here: {done.stderr.strip()}")
            stack.callback(subprocess.run, [iptables, "-w", "-D", *rule], check=True)
        yield


@pytest.mark.parametrize(
    "scrape",
    [False, pytest.param(True, marks=pytest.mark.slow)],
    ids=["calls", "calls and pages"],
)
def test_without_descriptors_it_goes_on_with_the_connections_it_has(bundle: Path, scrape: bool) -> None:
    with server_process([bundle]) as server, ExitStack() as stack:
        expected = translations(server.address)
        known = stack.enter_context(grpc.insecure_channel(server.address, ALONE))
        ask(known, seconds=START_SECONDS)
        with exhausted(server):
            if scrape:
                (page,) = connections(port_of(server.metrics_url), 1)
                stack.enter_context(page).sendall(b"GET /ready HTTP/1.0\r\n\r\n")
            unknown = stack.enter_context(grpc.insecure_channel(server.address, ALONE))
            with pytest.raises(grpc.RpcError):
                ask(unknown, seconds=1)
            used = processor_seconds(server)
            time.sleep(2)
            used = processor_seconds(server) - used
            ask(known, seconds=START_SECONDS)
        ask(unknown, seconds=START_SECONDS)
        with traffic(server.address, expected) as seen:
            others_are_served(seen)
        if scrape:
            page.settimeout(START_SECONDS)
            assert page.recv(1000).startswith(b"HTTP/1.1 200")
        # What the others have closed the server closes a moment later; until then there may be no descriptor for this.
        server.wait_for_metrics(lambda metrics: "process_open_fds" in metrics)
        print(f"{used:.2f} s of a processor in 2 s without descriptors")
        assert server.errors == []
        assert used < 1


def ask(channel: grpc.Channel, seconds: float) -> None:
    stub = translation_pb2_grpc.TranslationStub(channel)
    assert stub.ListModels(pb.ListModelsRequest(), timeout=seconds, wait_for_ready=True).models


@contextmanager
def exhausted(server: ServerProcess) -> Iterator[None]:
    """Connect until the server has no file descriptors left, which are fewer than usual."""
    pid = server.process.pid
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    limit = descriptors(pid) + 10
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, usual[1]))
    with ExitStack() as stack:
        for connection in connections(port_of(server.address), 15):
            stack.enter_context(connection)
        wait_until(lambda: descriptors(pid) >= limit, lambda: descriptors(pid))
        yield


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def processor_seconds(server: ServerProcess) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
