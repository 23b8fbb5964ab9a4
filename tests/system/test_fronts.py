"""A real server of several processes: what its callers see, also when one of the processes is killed."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.admin import AdminClient
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.errors import ServerUnavailable
from dragoman_service.client.values import Options, Sampling, Translation
from support.processes import processes
from support.repositories import add_version
from support.server_process import START_SECONDS, ServerProcess, run_dragoman, server_process
from support.tokens import add_token, bearer
from support.traffic import ALONE, Traffic, traffic, translations
from support.waiting import wait_until

CONNECTIONS = 16
"""Of as many connections, no front gets none but once in thousands of runs."""
SHORT = pb.TranslateRequest(texts=["A cat."], options=pb.DecodingOptions(beam_size=1, max_length=8))
SLOW = pb.DecodingOptions(beam_size=1, min_length=60, max_length=60)
LINES = [f"The cat number {number} reads a book." for number in range(2000)]
LONG = pb.TranslateStreamRequest(text="\n".join(LINES[:40]), options=SLOW)
ENDLESS = pb.TranslateStreamRequest(text="\n".join(LINES), options=SLOW)
"""Takes longer than any test waits."""


def stubs(stack: ExitStack, address: str, count: int = CONNECTIONS) -> list[translation_pb2_grpc.TranslationStub]:
    """Clients with a connection each."""
    channels = [stack.enter_context(grpc.insecure_channel(address, options=ALONE)) for _ in range(count)]
    return [translation_pb2_grpc.TranslationStub(channel) for channel in channels]


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def codes(seen: Traffic) -> set[str]:
    return {code.name for code in seen.failed}


def wrong(seen: Traffic) -> list[str]:
    """Answers that were not those expected; failed calls are counted elsewhere."""
    return [problem for problem in seen.problems if " became " in problem]


def counters(server: ServerProcess) -> dict[str, float]:
    return {
        name: value
        for name, value in server.metrics().items()
        if name.startswith("dragoman_") and name.endswith(("_total", "_count", "_sum", "_bucket"))
    }


def assert_no_counter_fell(before: dict[str, float], after: dict[str, float]) -> None:
    fallen = {name: (value, after.get(name)) for name, value in before.items() if after.get(name, -1.0) < value}
    assert not fallen


@pytest.fixture(scope="module")
def fronts(bundle: Path) -> Iterator[ServerProcess]:
    with server_process([bundle], "--fronts", "2", "--grace", "60") as running:
        yield running


def test_translations_streams_and_models_are_those_of_one_process(fronts: ServerProcess, server: ServerProcess) -> None:
    assert [line.split()[0] for line in fronts.lines] == ["model", "gRPC", "metrics", "ready"]
    assert translations(fronts.address, 20) == translations(server.address, 20)
    with TranslationClient(fronts.address) as client, TranslationClient(server.address) as other:
        assert [model.name for model in client.list_models()] == [model.name for model in other.list_models()]
        *chunks, result = client.translate_stream(LONG.text, Options(max_length=12))
        assert isinstance(result, Translation)
        for options in (
            Options(beam_size=4, num_hypotheses=4, max_length=20, return_tokens=True, return_token_scores=True),
            Options(sampling=Sampling(seed=3, temperature=1.5), num_hypotheses=2, max_length=20, return_tokens=True),
            Options(no_repeat_ngram_size=2, repetition_penalty=1.5, max_length=20, return_token_scores=True),
        ):
            here, there = (each.translate(LINES[:3], options) for each in (client, other))
            assert [it.hypotheses for it in here] == [it.hypotheses for it in there], "to the last bit"
        assert "".join(map(str, chunks)) == result.text == other.translate([LONG.text], Options(max_length=12))[0].text


def test_the_page_adds_up_and_both_fronts_work(fronts: ServerProcess) -> None:
    names = processes(fronts)
    before, ticks = fronts.metrics(), {name: cpu_ticks(pid) for name, pid in names.items()}
    with ExitStack() as stack, ThreadPoolExecutor(CONNECTIONS) as pool:
        made = stubs(stack, fronts.address)
        list(pool.map(lambda number: made[number % CONNECTIONS].Translate(SHORT), range(320)))
    after = fronts.metrics()
    for name in ("requests_total", "request_duration_seconds_count", "finished_total", "queue_duration_seconds_count"):
        assert after[f"dragoman_{name}"] - before[f"dragoman_{name}"] == 320, name
    assert after["dragoman_requests_running"] == 0
    assert all(cpu_ticks(pid) > ticks[name] for name, pid in names.items()), "every process has worked"


def test_a_killed_front_costs_its_own_calls_and_is_replaced(fronts: ServerProcess) -> None:
    expected = translations(fronts.address)
    before = fronts.metrics()["dragoman_process_restarts_total"]
    with traffic(fronts.address, expected, clients=CONNECTIONS, channel_options=FAST) as seen:
        seen.wait_for(10)
        counted = counters(fronts)
        os.kill(processes(fronts)["front 1"], signal.SIGKILL)
        fronts.wait_for_metrics(lambda metrics: metrics["dragoman_process_restarts_total"] == before + 1)
        seen.wait_for(10)
        wait_until(lambda: len(processes(fronts)) == 3)
        failed = seen.failed.total()
        seen.wait_for(20)
        assert_no_counter_fell(counted, counters(fronts))
    assert codes(seen) <= {"UNAVAILABLE"}
    assert failed <= 2 * CONNECTIONS, "calls of the front that was killed, and new ones on its connections"
    assert not wrong(seen)
    assert any("front 1" in line and "signal 9" in line for line in fronts.errors)
    assert fronts.page("/ready") == (200, "ready\n")
    print(f"front killed: {seen}")


def test_a_front_that_hangs_is_killed_and_replaced(fronts: ServerProcess) -> None:
    before = fronts.metrics()["dragoman_process_restarts_total"]
    os.kill(processes(fronts)["front 1"], signal.SIGSTOP)
    fronts.wait_for_metrics(lambda metrics: metrics["dragoman_process_restarts_total"] == before + 1, seconds=30)
    assert any("has said nothing for 10 s and is killed" in line for line in fronts.errors)
    wait_until(lambda: len(processes(fronts)) == 3)


def test_a_killed_engine_fails_calls_that_can_be_repeated_and_is_started_again(fronts: ServerProcess) -> None:
    expected = translations(fronts.address)
    names = processes(fronts)
    not_ready: list[tuple[int, str]] = []
    with traffic(fronts.address, expected, clients=CONNECTIONS, channel_options=FAST) as seen:
        seen.wait_for(5)
        counted = counters(fronts)
        os.kill(names["engine"], signal.SIGKILL)
        wait_until(lambda: not_ready.append(fronts.page("/ready")) or not_ready[-1][0] == 503)
        wait_until(lambda: fronts.page("/ready")[0] == 200, seconds=START_SECONDS)
        assert fronts.page("/live")[0] == 200
        seen.wait_for(10)
        failed = seen.failed.total()
        seen.wait_for(20)
        assert seen.failed.total() == failed, "all is well again"
        assert_no_counter_fell(counted, counters(fronts))
    after = processes(fronts)
    assert codes(seen) == {"UNAVAILABLE"}
    assert not wrong(seen)
    assert "engine process" in not_ready[-1][1]
    assert {after["front 1"], after["front 2"]} == {names["front 1"], names["front 2"]}, "the fronts stay"
    assert after["engine"] != names["engine"]
    print(f"engine killed: {seen}")


def test_running_calls_end_before_the_server_does(fronts: ServerProcess) -> None:
    """The last test of this server."""
    restarts = len(fronts.errors)
    with ExitStack() as stack, ThreadPoolExecutor(CONNECTIONS) as pool:
        calls = [stub.TranslateStream(LONG) for stub in stubs(stack, fronts.address, 8)]
        firsts = [next(call) for call in calls]
        fronts.process.terminate()
        wait_until(lambda: fronts.page("/ready") == (503, "shutting down\n"))
        with TranslationClient(fronts.address) as client, pytest.raises(ServerUnavailable):
            wait_until(lambda: not client.translate(["a"], Options(max_length=2)))
        ends = list(pool.map(lambda call: list(call)[-1], calls))
    assert all(first.chunk for first in firsts)
    assert [end.result.translation.sentences for end in ends] == [40] * 8
    assert fronts.process.wait(START_SECONDS) == 0
    assert len(fronts.errors) == restarts


def test_nothing_outlives_the_supervisor(tiny_bundle: Bundle) -> None:
    with server_process([tiny_bundle.path], "--fronts", "2") as server:
        pids = list(processes(server).values())
        port = server.address.rsplit(":", 1)[1]
        again = run_dragoman("serve", tiny_bundle.path, "--fronts", "2", "--port", port, "--metrics-port", "0")
        assert (again.returncode, again.stdout) == (1, "")
        assert f"--port: port {port}" in again.stderr
        server.process.kill()
        server.process.wait(START_SECONDS)
        wait_until(lambda: not any(map(runs, pids)))


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for init to notice."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_versions_and_aliases_change_under_load_and_no_call_fails(tiny_bundle: Bundle, tmp_path: Path) -> None:
    repository, address = tmp_path / "models", f"unix:{tmp_path}/admin.sock"
    for version in ("1", "2", "3"):
        add_version(repository, tiny_bundle.path, "tiny", version)
    options = ("--repository", str(repository), "--admin", address, "--watch", "0", "--fronts", "2")
    with (
        server_process([], *options) as server,
        AdminClient(address, deadline=START_SECONDS) as admin,
        ExitStack() as stack,
        traffic(server.address, translations(server.address), clients=4) as seen,
    ):
        made = stubs(stack, server.address)

        def versions(model: str = "tiny") -> set[str]:
            request = pb.TranslateRequest(texts=["A cat."], model=model, options=SHORT.options)
            return {stub.Translate(request, timeout=START_SECONDS).version for stub in made}

        for _ in range(5):
            admin.set_alias("tiny", "stable", "1")
            assert versions() == {"1"}, "every front knows before the operator has the answer"
            admin.load("tiny", "2")
            assert versions("tiny@2") == {"2"}
            admin.set_alias("tiny", "stable", "2")
            assert versions() == versions("tiny@stable") == {"2"}
            admin.unload("tiny", "1")
            assert versions() == {"2"}
            admin.load("tiny", "1")
            admin.set_alias("tiny", "canary", "3", share=0.5)
            assert versions("tiny@canary") == {"3"}
            admin.delete_alias("tiny", "canary")
        seen.wait_for(5)
        assert not seen.failed, seen
        assert not seen.problems
        wait_until(lambda: 'version="3"' not in page_of(server))


def page_of(server: ServerProcess) -> str:
    return "\n".join(line for line in server.page("/metrics")[1].splitlines() if "model_info" in line)


def test_quotas_are_exact_whatever_the_front(tiny_bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    few = add_token(path, "few", requests_per_minute=20)
    narrow = add_token(path, "narrow", concurrent=3)
    with server_process([tiny_bundle.path], "--fronts", "2", "--tokens", str(path)) as server, ExitStack() as stack:
        made = stubs(stack, server.address)

        def end(number: int) -> str:
            try:
                made[number % CONNECTIONS].Translate(SHORT, metadata=bearer(few), timeout=START_SECONDS)
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

        began = time.monotonic()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            ends = Counter(pool.map(end, range(80)))
        refilled = (time.monotonic() - began) * 20 / 60
        assert 20 <= ends["OK"] <= 20 + refilled
        assert set(ends) == {"OK", "RESOURCE_EXHAUSTED"}
        metrics = server.metrics()
        assert metrics["dragoman_token_requests_total"] == ends["OK"]
        assert metrics["dragoman_token_quota_refusals_total"] == ends["RESOURCE_EXHAUSTED"]

        def hold(stub: translation_pb2_grpc.TranslationStub) -> tuple[grpc.Call, str]:
            call = stub.TranslateStream(ENDLESS, metadata=bearer(narrow), timeout=START_SECONDS)
            try:
                next(call)
            except grpc.RpcError as error:
                return call, str(error.code().name)
            return call, "OK"

        held = [hold(stub) for stub in made]
        assert Counter(how for _, how in held) == {"OK": 3, "RESOURCE_EXHAUSTED": CONNECTIONS - 3}
        for front in ("front 1", "front 2"):
            os.kill(processes(server)[front], signal.SIGKILL)
            wait_until(lambda: len(processes(server)) == 3)
        server.wait_for_metrics(lambda metrics: metrics["dragoman_process_restarts_total"] == 2)
        wait_until(lambda: hold_again(made[0], narrow) == "OK")


def hold_again(stub: translation_pb2_grpc.TranslationStub, token: str) -> str:
    try:
        stub.Translate(SHORT, metadata=bearer(token), timeout=START_SECONDS, wait_for_ready=True)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


FAST = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))
"""Clients that connect again soon."""
