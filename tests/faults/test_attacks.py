"""Anonymous callers who want the server's memory or time: it stays within its limits, and others are answered."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.server.intake import READ_SECONDS, IntakeSettings
from faults.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    HELLO,
    PING,
    PREFACE,
    SETTINGS,
    call_headers,
    connection,
    frame,
    frames,
    message,
)
from support.attackers import TRANSLATE, Unfinished
from support.memory_bound import KIB_PER_CALL, PENDING_CALLS
from support.server_process import START_SECONDS, ServerProcess, page, server_process
from support.traffic import Traffic, traffic, translations
from support.waiting import wait_until

MEBIBYTE = 2**20
DEFAULTS = IntakeSettings()
CALLS = 20
"""Of honest callers, during an attack."""
SPARE_MIB = 60
"""Memory of connections and calls as such, and what the allocator keeps. While a message arrives, gRPC takes up to
twice its memory."""
PAGE_SECONDS = 2.0
"""Generous: a test machine is busy."""


def resident_mib(server: ServerProcess, field: str = "VmRSS") -> float:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


@contextmanager
def under_attack(server: ServerProcess, allowed_mib: float) -> Iterator[Traffic]:
    """Honest callers beside the attack within the context, and checks of memory and health pages after it."""
    expected = translations(server.address)
    before = resident_mib(server)
    with traffic(server.address, expected) as seen:
        yield seen
        seen.wait_for(CALLS)
        pages = server.metrics_url.removesuffix("/metrics")
        for name in ("/live", "/ready"):
            started = time.monotonic()
            assert page(pages + name)[0] == 200
            assert time.monotonic() - started < PAGE_SECONDS
    assert seen.problems == []
    peak = resident_mib(server, "VmHWM") - before
    print(f"{peak:.0f} MiB more, of {allowed_mib + SPARE_MIB:.0f} allowed; {seen}")
    assert peak < allowed_mib + SPARE_MIB


def statuses(server: ServerProcess, data: bytes, count: int, *, gzip: bool = False) -> Counter[str]:
    """Send the same bytes in many calls at once; returns how they ended."""
    compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
    with grpc.insecure_channel(server.address, compression=compression) as channel:
        call = channel.unary_unary(TRANSLATE)
        ended: Counter[str] = Counter()
        for future in [call.future(data, timeout=60) for _ in range(count)]:
            error = future.exception()
            ended[error.code().name if isinstance(error, grpc.RpcError) else "OK"] += 1  # type: ignore[attr-defined]
        return ended


def test_millions_of_empty_texts_are_not_parsed(bundle: Path) -> None:
    empty = b"\x0a\x00" * (DEFAULTS.max_message_mib * MEBIBYTE // 2 - 100)
    with server_process([bundle]) as server, under_attack(server, 2 * DEFAULTS.message_memory_mib):
        assert statuses(server, empty, 40, gzip=True) == {"INVALID_ARGUMENT": 40}


def test_small_bytes_that_unpack_to_many_are_not_unpacked(bundle: Path) -> None:
    with server_process([bundle]) as server, under_attack(server, 2 * DEFAULTS.message_memory_mib):
        assert statuses(server, b"\x0a\x00" * 32 * MEBIBYTE, 6, gzip=True) == {"RESOURCE_EXHAUSTED": 6}


def test_messages_that_never_end_hold_a_bounded_memory_for_a_bounded_time(bundle: Path) -> None:
    size = DEFAULTS.max_message_mib * MEBIBYTE - 1_000
    with ExitStack() as stack:
        server = stack.enter_context(server_process([bundle]))
        seen = stack.enter_context(under_attack(server, 2 * DEFAULTS.message_memory_mib))
        attackers = [Unfinished(stack.enter_context(connection(server.address)), 60, size) for _ in range(5)]
        seen.wait_for(5 * CALLS)
        wait_until(lambda: sum(each.ended for each in attackers) >= 250, seconds=READ_SECONDS + START_SECONDS)
        assert sum(each.sent for each in attackers) > DEFAULTS.message_memory_mib * MEBIBYTE


@pytest.mark.slow
def test_translations_that_need_more_memory_than_there_is_are_refused(bundle: Path) -> None:
    """Sixteen hypotheses of every sentence, as long as they can be."""
    options = pb.DecodingOptions(beam_size=16, num_hypotheses=16, min_length=100)
    request = pb.TranslateRequest(texts=["yes\n" * 19] * 1000, options=options)
    with server_process([bundle], "--call-memory-mib", "16") as server, under_attack(server, 16) as seen:
        with grpc.insecure_channel(server.address) as channel:
            stub = translation_pb2_grpc.TranslationStub(channel)
            calls = [stub.Translate.future(request) for _ in range(4)]  # a deadline would be refused at once
            with ThreadPoolExecutor(4) as threads:
                errors = list(threads.map(lambda call: call.exception(), calls))
        seen.wait_for(CALLS)
    assert {error.code().name for error in errors} == {"RESOURCE_EXHAUSTED"}  # type: ignore[union-attr]
    assert any("16 MiB" in str(error) for error in errors)


@pytest.mark.slow
def test_a_large_call_of_real_text_is_translated_within_its_memory(bundle: Path) -> None:
    texts = ["The cat number 7 reads a book and runs over the old green tree. " * 100] * 100
    request = pb.TranslateRequest(texts=texts, options=pb.DecodingOptions(beam_size=1, max_length=1))
    with ExitStack() as stack:
        server = stack.enter_context(server_process([bundle]))
        stack.enter_context(under_attack(server, DEFAULTS.call_memory_mib))
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        reply = translation_pb2_grpc.TranslationStub(channel).Translate(request, timeout=120)
    assert len(reply.translations) == 100


@pytest.mark.parametrize("text", ["漢。" * 33_000, "“a" * 33_000, "a\n" * 50_000, "\u0301" * 100_000, "A. " * 33_000])
def test_no_text_stops_the_others(bundle: Path, text: str) -> None:
    request = pb.TranslateRequest(texts=[text] * 3, options=pb.DecodingOptions(beam_size=1, max_length=1))
    with ExitStack() as stack:
        server = stack.enter_context(server_process([bundle]))
        seen = stack.enter_context(under_attack(server, DEFAULTS.call_memory_mib))
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        call = translation_pb2_grpc.TranslationStub(channel).Translate.future(request, timeout=60)
        seen.wait_for(CALLS)
        call.cancel()


def test_what_callers_say_at_the_end_of_a_connection_does_not_reach_the_log(bundle: Path) -> None:
    said = b"\n2026-01-01 00:00:00,000 ERROR dragoman_service.server: \x1b[31mforged\x98"
    with server_process([bundle]) as server:
        for code in range(14):
            with connection(server.address) as opened:
                opened.sendall(HELLO)
                opened.recv(9)
                opened.sendall(frame(GOAWAY, 0, 0, bytes(4) + code.to_bytes(4, "big") + said))
                opened.recv(1_000)
        assert page(server.metrics_url.removesuffix("/metrics") + "/live")[0] == 200
    assert server.errors == []


def test_replies_that_no_window_lets_through_count_as_calls(bundle: Path) -> None:
    """Such a caller answers pings, so nothing but the number of calls bounds what waits for it."""
    no_window = (4).to_bytes(2, "big") + bytes(4)  # SETTINGS_INITIAL_WINDOW_SIZE is 0
    block = call_headers("/dragoman.v1.Translation/ListModels")
    streams = range(1, 400, 2)
    calls = b"".join(
        frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, message(b"")) for stream in streams
    )
    with server_process([bundle], "--max-calls", "100") as server:
        with ExitStack() as stack:
            for _ in range(4):
                opened = stack.enter_context(connection(server.address))
                opened.sendall(PREFACE + frame(SETTINGS, 0, 0, no_window) + calls)
            server.wait_for_metrics(lambda metrics: metrics.get("dragoman_requests_total") == 4 * len(streams))
            assert 1 <= answered(server) <= 80
        with grpc.insecure_channel(server.address) as channel:
            list_models = translation_pb2_grpc.TranslationStub(channel).ListModels
            wait_until(lambda: list_models.future(pb.ListModelsRequest()).code() is grpc.StatusCode.OK)


def test_calls_with_much_metadata_that_arrive_faster_than_they_are_looked_at_take_a_bounded_memory(
    bundle: Path,
) -> None:
    block = call_headers(TRANSLATE, *((b"k%d" % number, b"v") for number in range(400)))
    calls = b"".join(frame(HEADERS, END_HEADERS, stream, block) for stream in range(1, 400, 2))
    max_calls = 200
    with server_process([bundle], "--max-calls", str(max_calls)) as server:
        before = resident_mib(server)

        def flood() -> None:
            """Returns when all have arrived."""
            with connection(server.address) as opened:
                opened.settimeout(START_SECONDS)
                opened.sendall(HELLO + calls + frame(PING, 0, 0, bytes(8)))
                assert any(kind == PING for kind, *_ in frames(opened))

        with ThreadPoolExecutor(60) as threads:
            for arrived in [threads.submit(flood) for _ in range(60)]:
                arrived.result()
        peak = resident_mib(server, "VmHWM") - before
        allowed = SPARE_MIB + KIB_PER_CALL / 1024 * (max_calls + PENDING_CALLS)
        print(f"{peak:.0f} MiB more, of {allowed:.0f} allowed")
        assert peak < allowed
        with grpc.insecure_channel(server.address) as channel:
            list_models = translation_pb2_grpc.TranslationStub(channel).ListModels
            wait_until(lambda: list_models.future(pb.ListModelsRequest()).code() is grpc.StatusCode.OK)


def answered(server: ServerProcess) -> float:
    """Number of calls that ended with OK."""
    families = text_string_to_metric_families(server.page("/metrics")[1])
    samples = (sample for family in families for sample in family.samples if sample.name == "dragoman_requests_total")
    return sum(sample.value for sample in samples if sample.labels["code"] == "OK")
