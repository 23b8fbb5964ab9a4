"""The page of all processes: sums that never fall, and nothing of what is gone."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

from dragoman_service.server.fronts.merge import Pages, families_of


class Process:
    """The metrics of a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("dragoman_requests", "", ["method"], registry=self.registry)
        self.tokens = Counter("dragoman_token_requests", "", ["token"], registry=self.registry)
        self.first = Histogram(
            "dragoman_time_to_first_token_seconds", "", ["model", "version"], buckets=(0.1, 1), registry=self.registry
        )
        self.running = Gauge("dragoman_requests_running", "", registry=self.registry)
        self.damaged = Gauge("dragoman_token_file_damaged", "", registry=self.registry)
        self.expiry = Gauge("dragoman_tls_certificate_expiry_timestamp_seconds", "", registry=self.registry)
        self.info = Gauge("dragoman_model_info", "", ["model", "version"], registry=self.registry)
        self.healthy = Gauge("dragoman_engine_healthy", "", ["model", "version"], registry=self.registry)


class Shown(Collector):
    def __init__(self, pages: Pages) -> None:
        self.pages = pages

    def collect(self):  # type: ignore[no-untyped-def]
        return self.pages.metrics()


class Server:
    """Processes and their page."""

    def __init__(self) -> None:
        self.pages = Pages(["supervisor", "engine", "front 1", "front 2"])
        self.running = {name: Process() for name in ("engine", "front 1", "front 2")}
        self.registry = CollectorRegistry()
        self.registry.register(Shown(self.pages))
        self.running["engine"].info.labels("m", "1").set(1)
        self.running["engine"].healthy.labels("m", "1").set(1)

    def replace(self, name: str) -> None:
        self.pages.gone(name)
        self.running[name] = Process()

    def value(self, name: str, **labels: str) -> float | None:
        for each, process in self.running.items():
            self.pages.take_in(each, families_of(process.registry))
        return self.registry.get_sample_value(name, labels)


def test_counters_and_histograms_are_sums_and_gauges_what_they_mean() -> None:
    server = Server()
    one, two = server.running["front 1"], server.running["front 2"]
    for process, count in ((one, 3), (two, 4)):
        process.requests.labels("Translate").inc(count)
        process.first.labels("m", "1").observe(0.05 * count)
        process.running.set(count)
        process.expiry.set(1000 + count)
    two.damaged.set(1)
    server.running["engine"].expiry.set(2000)
    assert server.value("dragoman_requests_total", method="Translate") == 7
    buckets = [
        server.value("dragoman_time_to_first_token_seconds_bucket", model="m", version="1", le=le)
        for le in ("0.1", "1.0", "+Inf")
    ]
    assert buckets == [0, 2, 2]
    assert server.value("dragoman_requests_running") == 7
    assert server.value("dragoman_token_file_damaged") == 1
    assert server.value("dragoman_tls_certificate_expiry_timestamp_seconds") == 1003
    text = generate_latest(server.registry).decode()
    assert text.count("# TYPE dragoman_requests_total counter") == 1
    assert "# TYPE dragoman_time_to_first_token_seconds histogram" in text


def test_what_a_process_counted_stays_when_it_is_replaced() -> None:
    server = Server()
    rng = random.Random(1)
    counts = server.running["front 1"].requests.labels("Translate")
    for name in ("engine", "front 2"):
        server.running[name].requests.labels("Translate").inc(0.7)
    for number in range(200):
        counts.inc(rng.random())
        before = server.value("dragoman_requests_total", method="Translate")
        if number % 2:
            server.replace("front 1")
            after = server.value("dragoman_requests_total", method="Translate")
            assert after == before, "to the last bit: a total that falls is a restart to Prometheus"
            counts = server.running["front 1"].requests.labels("Translate")
    server.running["front 1"].running.set(5)
    assert server.value("dragoman_requests_running") == 5
    server.replace("front 1")
    assert server.value("dragoman_requests_running") == 0


def test_series_of_a_token_or_version_that_is_gone_do_not_come_back() -> None:
    server = Server()
    front = server.running["front 1"]
    front.tokens.labels("shop").inc(5)
    server.running["front 2"].tokens.labels("shop").inc(2)
    front.first.labels("m", "0").observe(0.1)
    assert server.value("dragoman_token_requests_total", token="shop") == 7
    server.replace("front 1")
    assert server.value("dragoman_token_requests_total", token="shop") == 7
    assert server.value("dragoman_time_to_first_token_seconds_count", model="m", version="0") is None
    server.running["front 2"].tokens.clear()
    assert server.value("dragoman_token_requests_total", token="shop") is None
    server.running["front 2"].tokens.labels("shop").inc(1)
    assert server.value("dragoman_token_requests_total", token="shop") == 1


def test_an_engine_that_is_gone_is_not_healthy() -> None:
    server = Server()
    assert server.value("dragoman_engine_healthy", model="m", version="1") == 1
    server.pages.gone("engine")
    del server.running["engine"]
    assert server.value("dragoman_engine_healthy", model="m", version="1") == 0
    assert server.value("dragoman_model_info", model="m", version="1") is None
