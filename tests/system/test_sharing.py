"""Many ask for more than a real server can do: who is served, who waits, who is refused, and what it costs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from dragoman_protos.metadata import DETAILS_KEY
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.errors import ServerOverloaded
from dragoman_service.client.values import Options, translate_request
from support.server_process import START_SECONDS, ServerProcess, server_process
from support.waiting import wait_until

HEADER = "x-client"
FIXED = Options(beam_size=1, min_length=40, max_length=40)
"""Every sentence takes 40 steps, whatever the model thinks of it."""
SENTENCES = [f"The cat number {number} reads a book." for number in range(10_000)]


@contextmanager
def flood(address: str, *, calls: int, client: str, priority: str = "") -> Iterator[list[grpc.Future]]:
    """Ten thousand sentences in so many calls at once; given up in the end."""
    with grpc.insecure_channel(address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        size = len(SENTENCES) // calls
        options = Options(beam_size=1, min_length=40, max_length=40, priority=priority)
        running = [
            stub.Translate.future(
                translate_request(SENTENCES[index * size : (index + 1) * size], (), options),
                metadata=((HEADER, client),),
            )
            for index in range(calls)
        ]
        try:
            yield running
        finally:
            for call in running:
                call.cancel()


def ask(address: str, client: str, count: int = 1, options: Options = FIXED) -> list[str]:
    """One call after the other."""
    with grpc.insecure_channel(address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        metadata = ((HEADER, client),)
        return [
            stub.Translate(translate_request(["The cat."], (), options), timeout=START_SECONDS, metadata=metadata)
            .translations[0]
            .hypotheses[0]
            .text
            for _ in range(count)
        ]


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[ServerProcess]:
    with server_process([bundle], "--max-rows", "8", "--max-queue", "256", "--client-header", HEADER) as running:
        yield running


def wait_for_flood(server: ServerProcess) -> None:
    server.wait_for_metrics(lambda metrics: metrics["dragoman_queue_depth"] > 150)


def test_ten_thousand_sentences_of_one_do_not_starve_anothers_one(server: ServerProcess) -> None:
    with flood(server.address, calls=50, client="flood") as calls:
        wait_for_flood(server)
        begun = server.metrics()["dragoman_finished_total"]
        ask(server.address, "single", count=20)
        between = server.metrics()["dragoman_finished_total"] - begun
        refused = sum(call.done() for call in calls)
        print(
            f"flood: {len(calls) - refused} calls of 200 sentences run, {refused} were refused; "
            f"{between:.0f} sentences were done during 20 calls of another client, one after the other"
        )
        # First come, first served would have had each wait for all that waited before it: 150 sentences or more.
        assert between < 20 * 60
        assert refused < len(calls)
    server.wait_until_free()


def test_interactive_calls_go_before_batch_calls_of_the_same_client(server: ServerProcess) -> None:
    with flood(server.address, calls=50, client="one", priority="batch"):
        wait_for_flood(server)
        begun = server.metrics()["dragoman_finished_total"]
        ask(server.address, "two", count=10)
        between = server.metrics()["dragoman_finished_total"] - begun
        print(f"{between:.0f} sentences were done during 10 interactive calls, one after the other")
        assert between < 10 * 40
    server.wait_until_free()


def test_overload_is_refused_at_once_with_a_delay_that_fits(server: ServerProcess) -> None:
    with flood(server.address, calls=50, client="flood") as calls:
        wait_for_flood(server)
        # Whoever is refused is so at once, but the last of them may be on their way still.
        wait_until(lambda: any(call.done() for call in calls))
        refused = [call for call in calls if call.done()]
        for call in refused:
            assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details = dict(refused[0].trailing_metadata())[DETAILS_KEY]
        delays = [
            error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            for detail in status_pb2.Status.FromString(details).details
            if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)
        ]
        assert len(delays) == 1
        assert 0.1 <= delays[0].seconds + delays[0].nanos / 1e9 <= 30
    server.wait_until_free()


def test_tokens_count_and_not_only_sentences(bundle: Path) -> None:
    with server_process([bundle], "--max-queue-tokens", "40", "--max-rows", "4") as server:
        with TranslationClient(server.address) as client:
            stream = client.translate_stream("\n".join(SENTENCES[:50]), FIXED, deadline=START_SECONDS)
            assert next(stream)
            waiting = server.metrics()["dragoman_queue_depth"]
            assert waiting < 10, "more than forty tokens are in the engine"
            errors: list[ServerOverloaded] = []

            def insist() -> None:
                while not errors:
                    try:
                        client.translate(["The cat."], FIXED)
                    except ServerOverloaded as error:
                        errors.append(error)

            thread = threading.Thread(target=insist)
            thread.start()
            assert sum(1 for item in stream if isinstance(item, str)) >= 49, "the call that ran was not finished"
            thread.join(START_SECONDS)
        assert "source tokens are waiting or running" in str(errors[0])


def test_what_cannot_be_done_in_time_is_refused_before_it_costs_anything(server: ServerProcess) -> None:
    with TranslationClient(server.address) as client:
        client.translate(SENTENCES[:200], FIXED)  # from which the server learns its pace
    before = server.metrics()
    request = translate_request(SENTENCES[:1024], (), FIXED)
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        translation_pb2_grpc.TranslationStub(channel).Translate(request, timeout=0.25)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    server.wait_for_metrics(lambda metrics: metrics["dragoman_requests_running"] == 0)
    after = server.metrics()
    spent = after["dragoman_source_tokens_total"] - before["dragoman_source_tokens_total"]
    print(f"{caught.value.details()}; {spent:.0f} tokens were translated for it")
    assert after["dragoman_cancellations_total"] == before.get("dragoman_cancellations_total", 0) + 1
