from __future__ import annotations

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dragoman_service.metrics import Metrics
from dragoman_service.observer import EngineStats
from dragoman_service.plan import Join, StepPlan, StepResult
from dragoman_service.request import Failed, Finished, FinishReason, Hypothesis, Progress, Request, Timings
from support.fake_engine import FakeEngine, served

NAMES = {
    "dragoman_requests",
    "dragoman_requests_running",
    "dragoman_request_duration_seconds",
    "dragoman_time_to_first_token_seconds",
    "dragoman_rejections",
    "dragoman_cancellations",
    "dragoman_queue_duration_seconds",
    "dragoman_inter_token_latency_seconds",
    "dragoman_step_duration_seconds",
    "dragoman_step_rows",
    "dragoman_slots_used",
    "dragoman_slots_total",
    "dragoman_kv_cache_tokens",
    "dragoman_kv_cache_capacity_tokens",
    "dragoman_queue_depth",
    "dragoman_engine_healthy",
    "dragoman_source_tokens",
    "dragoman_target_tokens",
    "dragoman_finished",
    "dragoman_model_info",
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_names_are_what_dashboards_rely_on(metrics: Metrics) -> None:
    families = {
        family.name: family for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
    }
    assert {name for name in families if name.startswith("dragoman_")} == NAMES
    assert "process_resident_memory_bytes" in families
    assert "python_info" in families
    assert not any(family.type == "summary" for name, family in families.items() if name.startswith("dragoman_"))


def test_nothing_goes_to_the_global_registry(metrics: Metrics) -> None:
    assert not any(family.name.startswith("dragoman_") for family in REGISTRY.collect())


def test_steps(metrics: Metrics) -> None:
    observer = metrics.observer("m")
    plan = StepPlan(
        copies=(),
        joins=(Join((5, 2), (0, 1)),),
        tokens=(1, 1, 7),
        positions=(0, 0, 4),
        source_lengths=(2, 2, 9),
        num_candidates=2,
    )
    result = StepResult([[1]] * 3, [[0.0]] * 3, encode_seconds=0.25, decode_seconds=0.5)
    observer.step(plan, result, 1.0, EngineStats(rows_used=3))
    for phase, seconds in (("encode", 0.25), ("decode", 0.5), ("schedule", 0.25)):
        assert value(metrics, "dragoman_step_duration_seconds_sum", model="m", phase=phase) == seconds
    assert value(metrics, "dragoman_step_rows_sum", model="m") == 3
    without_join = StepPlan((), (), (1,), (0,), (1,), 1)
    observer.step(without_join, result, 1.0, EngineStats(rows_used=0))
    assert value(metrics, "dragoman_step_duration_seconds_count", model="m", phase="encode") == 1


def test_sentences(metrics: Metrics) -> None:
    observer = metrics.observer("m")
    request = Request(id=1, source=(5, 6, 2), max_length=9)
    best = Hypothesis((7, 8), (0.0, 0.0), -1.0, FinishReason.LENGTH)
    other = Hypothesis((7, 8, 9), (0.0, 0.0, 0.0), -2.0, FinishReason.STOP)
    observer.event(request, Progress(1, (7,)))
    observer.event(request, Failed(1, RuntimeError()))
    assert value(metrics, "dragoman_queue_duration_seconds_count", model="m") == 0
    observer.event(request, Finished(1, (best, other), Timings(queue=0.5, encode=0.1, decode=3.0)))
    assert value(metrics, "dragoman_queue_duration_seconds_sum", model="m") == 0.5
    assert value(metrics, "dragoman_inter_token_latency_seconds_sum", model="m") == 1.5
    assert value(metrics, "dragoman_source_tokens_total", model="m") == 3
    assert value(metrics, "dragoman_target_tokens_total", model="m") == 2
    assert value(metrics, "dragoman_finished_total", model="m", reason="length") == 1
    assert value(metrics, "dragoman_finished_total", model="m", reason="stop") == 0


def test_engine_state_is_read_when_scraped(metrics: Metrics) -> None:
    stats = EngineStats(waiting=2, rows_used=3, cached_positions=20)
    healthy = True
    description = served(FakeEngine()).description
    metrics.watch(description, lambda: stats, lambda: healthy)
    assert value(metrics, "dragoman_queue_depth", model="loud") == 2
    assert value(metrics, "dragoman_kv_cache_tokens", model="loud") == 20
    assert value(metrics, "dragoman_kv_cache_capacity_tokens", model="loud") == 16 * (101 + 200)
    stats, healthy = EngineStats(waiting=5, rows_used=1), False
    assert value(metrics, "dragoman_queue_depth", model="loud") == 5
    assert value(metrics, "dragoman_slots_used", model="loud") == 1
    assert value(metrics, "dragoman_kv_cache_tokens", model="loud") == 0
    assert value(metrics, "dragoman_slots_total", model="loud") == 16
    assert value(metrics, "dragoman_engine_healthy", model="loud") == 0
    assert value(metrics, "dragoman_model_info", model="loud", version="1", precision="fp32", device="cpu") == 1
