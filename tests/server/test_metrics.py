from __future__ import annotations

import dataclasses
import random

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dragoman_service.engine.request import Finished, FinishReason, Hypothesis, Request, Timings
from dragoman_service.engine.stats import EngineStats, Totals
from dragoman_service.repository.registry import Alias, ModelEntry
from dragoman_service.server.metrics import Metrics
from support.fake_workers import FakeWorkers, served

MODEL = served(FakeWorkers()).description
LABELS = {"model": "loud", "version": "1"}
NAMES = {
    "dragoman_documents",
    "dragoman_failed_steps",
    "dragoman_interruptions",
    "dragoman_model_alias",
    "dragoman_model_files_changed",
    "dragoman_model_load_duration_seconds",
    "dragoman_model_loads",
    "dragoman_repository_errors",
    "dragoman_requests",
    "dragoman_requests_running",
    "dragoman_request_duration_seconds",
    "dragoman_time_to_first_token_seconds",
    "dragoman_tls_certificate_expiry_timestamp_seconds",
    "dragoman_rejections",
    "dragoman_cancellations",
    "dragoman_token_requests",
    "dragoman_token_characters",
    "dragoman_token_quota_refusals",
    "dragoman_token_file_damaged",
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


class Watched:
    """An engine, as far as metrics ask."""

    def __init__(self, counts: EngineStats) -> None:
        self.counts = counts
        self.healthy = True

    def stats(self) -> EngineStats:
        return self.counts


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_names_are_what_dashboards_rely_on(metrics: Metrics) -> None:
    families = {
        family.name: family for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
    }
    ours = {name for name in families if name.startswith("dragoman_") and not name.endswith("_created")}
    assert ours == NAMES
    assert "process_resident_memory_bytes" in families
    assert "python_info" in families
    assert not any(family.type == "summary" for name, family in families.items() if name.startswith("dragoman_"))


def test_nothing_goes_to_the_global_registry(metrics: Metrics) -> None:
    assert not any(family.name.startswith("dragoman_") for family in REGISTRY.collect())


def test_totals(metrics: Metrics) -> None:
    totals = Totals(failed_steps=4)
    for histogram, seconds in (
        (totals.encode_seconds, 0.25),
        (totals.decode_seconds, 0.5),
        (totals.schedule_seconds, 0.002),
    ):
        histogram.add(seconds)
    totals.step_rows.add(3)
    totals.step_rows.add(300)
    request = Request(id=1, source=(5, 6, 2), max_length=9)
    best = Hypothesis((7, 8), (0.0, 0.0), -1.0, FinishReason.LENGTH)
    other = Hypothesis((7, 8, 9), (0.0, 0.0, 0.0), -2.0, FinishReason.STOP)
    totals.finished(request, Finished(1, (best, other), Timings(queue=0.5, encode=0.1, decode=3.0)))
    metrics.watch(MODEL, Watched(EngineStats(totals=totals)))
    for phase, seconds in (("encode", 0.25), ("decode", 0.5), ("schedule", 0.002)):
        assert value(metrics, "dragoman_step_duration_seconds_sum", **LABELS, phase=phase) == seconds
    below, above = (
        value(metrics, "dragoman_step_duration_seconds_bucket", **LABELS, phase="schedule", le=le)
        for le in ("0.001", "0.002")
    )
    assert (below, above) == (0, 1), "a bucket has the values up to its bound, the bound included"
    assert value(metrics, "dragoman_step_rows_sum", **LABELS) == 303
    assert value(metrics, "dragoman_step_rows_bucket", **LABELS, le="256.0") == 1
    assert value(metrics, "dragoman_step_rows_count", **LABELS) == 2
    assert value(metrics, "dragoman_queue_duration_seconds_sum", **LABELS) == 0.5
    assert value(metrics, "dragoman_inter_token_latency_seconds_sum", **LABELS) == 1.5
    assert value(metrics, "dragoman_source_tokens_total", **LABELS) == 3
    assert value(metrics, "dragoman_target_tokens_total", **LABELS) == 2
    assert value(metrics, "dragoman_failed_steps_total", **LABELS) == 4
    assert value(metrics, "dragoman_finished_total", **LABELS, reason="length") == 1
    assert value(metrics, "dragoman_finished_total", **LABELS, reason="stop") == 0


def test_totals_never_fall_while_a_version_is_served(metrics: Metrics) -> None:
    old, new = (Watched(EngineStats(totals=Totals(source_tokens=tokens))) for tokens in (5, 0))
    metrics.watch(MODEL, old)
    metrics.watch(MODEL, new)
    new.counts.totals.source_tokens = 2
    assert value(metrics, "dragoman_source_tokens_total", **LABELS) == 7
    metrics.forget(MODEL, old)
    metrics.forget(MODEL, old)
    assert value(metrics, "dragoman_source_tokens_total", **LABELS) == 7
    metrics.forget(MODEL, new)
    assert value(metrics, "dragoman_source_tokens_total", **LABELS) is None


def test_sums_of_seconds_never_fall_by_a_rounding_error(metrics: Metrics) -> None:
    rng = random.Random(1)

    def seconds() -> float:
        found = value(metrics, "dragoman_queue_duration_seconds_sum", **LABELS)
        assert found is not None
        return found

    engines: list[Watched] = []
    for _ in range(500):
        while len(engines) < 3:
            engines.append(Watched(EngineStats(totals=Totals())))
            metrics.watch(MODEL, engines[-1])
        for engine in engines:
            engine.counts.totals.queue_seconds.add(rng.random())
        before = seconds()
        metrics.forget(MODEL, engines.pop(rng.randrange(3)))
        assert seconds() >= before


def test_engine_state_is_read_when_scraped(metrics: Metrics) -> None:
    engine = Watched(EngineStats(waiting=2, rows_used=3, cached_positions=20))
    metrics.watch(MODEL, engine)
    assert value(metrics, "dragoman_queue_depth", **LABELS) == 2
    assert value(metrics, "dragoman_kv_cache_tokens", **LABELS) == 20
    assert value(metrics, "dragoman_kv_cache_capacity_tokens", **LABELS) == 16 * (101 + 200)
    engine.counts, engine.healthy = EngineStats(waiting=5, rows_used=1), False
    assert value(metrics, "dragoman_queue_depth", **LABELS) == 5
    assert value(metrics, "dragoman_slots_used", **LABELS) == 1
    assert value(metrics, "dragoman_kv_cache_tokens", **LABELS) == 0
    assert value(metrics, "dragoman_slots_total", **LABELS) == 16
    assert value(metrics, "dragoman_engine_healthy", **LABELS) == 0
    assert value(metrics, "dragoman_model_info", **LABELS, precision="fp32", device="cpu") == 1


def test_a_version_that_is_gone_leaves_no_series(metrics: Metrics) -> None:
    old, new = Watched(EngineStats()), Watched(EngineStats())
    other = dataclasses.replace(MODEL, version="2")
    for model, engine in ((MODEL, old), (other, old), (MODEL, new)):
        metrics.watch(model, engine)
    metrics.forget(MODEL, old)  # its place was taken by another engine of the same version
    assert value(metrics, "dragoman_slots_total", **LABELS) == 16
    rejected = Watched(EngineStats(waiting=7))
    metrics.watch(dataclasses.replace(MODEL, precision="int8"), rejected)
    assert value(metrics, "dragoman_queue_depth", **LABELS) == 7
    metrics.forget(MODEL, rejected)  # it was loaded, but never served: the one that does is there again
    assert value(metrics, "dragoman_queue_depth", **LABELS) == 0
    assert value(metrics, "dragoman_model_info", **LABELS, precision="fp32", device="cpu") == 1
    assert value(metrics, "dragoman_model_info", **LABELS, precision="int8", device="cpu") is None
    metrics.forget(MODEL, new)
    text = generate_latest(metrics.registry).decode()
    assert 'version="1"' not in text
    assert 'version="2"' in text


def test_aliases_are_shown_as_they_are(metrics: Metrics) -> None:
    model = served(FakeWorkers())
    for aliases in ({"stable": Alias("1")}, {"canary": Alias("1", 0.5)}, {}):
        metrics.show_aliases("loud", ModelEntry({"1": model}, "1", aliases))
        shown = [s.labels["alias"] for f in metrics.model_aliases.collect() for s in f.samples]
        assert shown == list(aliases)


def test_a_stream_that_outlives_its_version_brings_no_series_back(metrics: Metrics) -> None:
    engine = Watched(EngineStats())
    metrics.watch(MODEL, engine)
    metrics.first_chunk(MODEL, 0.5)
    metrics.show_changed_files(MODEL, 2)
    assert value(metrics, "dragoman_time_to_first_token_seconds_count", **LABELS) == 1
    assert value(metrics, "dragoman_model_files_changed", **LABELS) == 2
    metrics.forget(MODEL, engine)
    assert value(metrics, "dragoman_model_files_changed", **LABELS) is None
    metrics.first_chunk(MODEL, 0.5)
    assert value(metrics, "dragoman_time_to_first_token_seconds_count", **LABELS) is None
