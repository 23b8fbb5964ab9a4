"""ONNX Runtime raises in a step, or does not come back from it: a real model, served over gRPC."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.errors import ServerFailure, ServerUnavailable, TranslationError
from dragoman_service.client.values import Options
from dragoman_service.engine import lane as lane_module
from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.repository.loading import load_models
from dragoman_service.repository.models import ServedModel
from dragoman_service.runtime.runner import OrtRunner
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.settings import ServiceConfig
from support.server_thread import ServerThread, serving
from support.tiny import sentences
from support.waiting import PATIENCE, wait_until

POISON = "poison"
BEYOND = 10**6
"""No embedding has this row: ONNX Runtime raises where it is looked up."""
TEXTS = sentences(60, seed=3)
OPTIONS = Options(max_length=30)


class Poisoning:
    """A tokenizer that makes a token of nowhere from one word."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text)
        return [*ids, BEYOND] if POISON in text else ids


def load(bundle: Bundle, **config: Any) -> ServedModel:
    settings = ServiceConfig.of(**{"model_paths": (bundle.path,), "threads": 1, "max_rows": 16, **config})
    (model,) = load_models(settings.model_paths, settings.model, Metrics(CollectorRegistry()))
    return dataclasses.replace(model, tokenizer=Poisoning(model.tokenizer))


@pytest.fixture
def server(tiny_bundle: Bundle) -> Iterator[ServerThread]:
    with serving([load(tiny_bundle)]) as running:
        yield running


def failure_of(client: TranslationClient, text: str) -> TranslationError | None:
    try:
        client.translate([text], OPTIONS)
    except TranslationError as error:
        return error
    return None


def streamed(client: TranslationClient, text: str) -> str:
    *pieces, result = client.translate_stream(text, OPTIONS)
    assert "".join(map(str, pieces)) == getattr(result, "text", None)
    return "".join(map(str, pieces))


def test_a_poisonous_request_fails_alone_and_the_others_never_notice(
    server: ServerThread, caplog: pytest.LogCaptureFixture
) -> None:
    with TranslationClient(server.address) as client, ThreadPoolExecutor(24) as threads:
        expected = [translation.text for translation in client.translate(TEXTS, OPTIONS)]
        whole = [threads.submit(client.translate, [text], OPTIONS) for text in TEXTS]
        pieces = [threads.submit(streamed, client, text) for text in TEXTS]
        poisoned = [threads.submit(failure_of, client, f"{POISON} {number}") for number in range(6)]
        assert [future.result(PATIENCE)[0].text for future in whole] == expected
        assert [future.result(PATIENCE) for future in pieces] == expected
        for future in poisoned:
            assert isinstance(future.result(PATIENCE), ServerFailure)
    failed_steps = caplog.text.count("a step of ")
    print(f"120 calls answered as alone, 6 poisonous ones failed, {failed_steps} steps failed")
    assert "indices element out of data bounds" in caplog.text
    assert server.server.registry.models[0].engine.healthy


def test_one_poisonous_request_after_the_other_does_not_bring_the_engine_down(server: ServerThread) -> None:
    with TranslationClient(server.address) as client:
        for _ in range(4 * lane_module.MAX_CONSECUTIVE_FAILURES):
            assert isinstance(failure_of(client, POISON), ServerFailure)
        assert client.translate(TEXTS[:1], OPTIONS)


class Trouble:
    """In place of a runner's `run`: raises or hangs, as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: BaseException | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        run = OrtRunner.run

        def troubled(runner: OrtRunner, plan: StepPlan) -> StepResult:
            assert self.go_on.wait(PATIENCE)
            if self.error is not None:
                raise self.error
            return run(runner, plan)

        monkeypatch.setattr(OrtRunner, "run", troubled)


class Narrow(Trouble):
    """There is memory for so many rows only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
        super().__init__(monkeypatch)
        run = OrtRunner.run

        def narrow(runner: OrtRunner, plan: StepPlan) -> StepResult:
            if len(plan.tokens) > rows:
                raise MemoryError(f"{len(plan.tokens)} rows")
            return run(runner, plan)

        monkeypatch.setattr(OrtRunner, "run", narrow)


def test_work_for_which_there_is_no_memory_at_once_is_done_in_parts(
    server: ServerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TranslationClient(server.address) as client:
        expected = [translation.text for translation in client.translate(TEXTS, OPTIONS)]
        Narrow(monkeypatch, rows=5)
        assert [translation.text for translation in client.translate(TEXTS, OPTIONS)] == expected


def test_an_engine_that_can_do_nothing_any_more_says_so(server: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    trouble = Trouble(monkeypatch)
    with TranslationClient(server.address) as client:
        client.translate(TEXTS[:1], OPTIONS)
        trouble.error = MemoryError("all gone")
        for _ in range(lane_module.MAX_CONSECUTIVE_FAILURES):
            assert isinstance(failure_of(client, TEXTS[0]), ServerFailure)
        wait_until(lambda: server.page("/ready")[0] == 503, lambda: server.page("/ready"))
    assert server.page("/ready") == (503, "an engine is dead or hangs: tiny\n")
    assert server.page("/live") == (503, "an engine is dead or hangs: tiny\n")


def test_a_hung_step_is_seen_by_health_until_it_ends(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    trouble = Trouble(monkeypatch)
    with serving([load(tiny_bundle, step_timeout=0.3)]) as server, TranslationClient(server.address) as client:
        (expected,) = client.translate(TEXTS[:1], OPTIONS)
        trouble.go_on.clear()
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(client.translate, TEXTS[:1], OPTIONS)
            wait_until(lambda: server.page("/live")[0] == 503, lambda: server.page("/live"))
            assert server.page("/ready")[0] == 503
            assert isinstance(failure_of(client, TEXTS[0]), ServerFailure), "taken, though it would never be answered"
            trouble.go_on.set()
            assert waiting.result(PATIENCE)[0].text == expected.text
        wait_until(lambda: server.page("/ready")[0] == 200, lambda: server.page("/ready"))
        assert client.translate(TEXTS[:1], OPTIONS)[0].text == expected.text


def test_a_hung_step_does_not_keep_the_server_from_ending(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lane_module, "CLOSE_SECONDS", 0.2)
    trouble = Trouble(monkeypatch)
    with serving([load(tiny_bundle)]) as server, TranslationClient(server.address) as client:
        trouble.go_on.clear()
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(failure_of, client, TEXTS[0])
            time.sleep(0.2)
            server.stop(grace=0.1)
            assert isinstance(waiting.result(PATIENCE), (ServerUnavailable, ServerFailure))
    trouble.go_on.set()
    assert "a step hangs and cannot be stopped" in caplog.text
