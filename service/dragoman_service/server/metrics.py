"""Every Prometheus metric of the server, its labels, and its buckets: this page is their list.

The registry is passed in. Labels have small, closed sets of values: never a text, an address, or a caller's key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from dragoman_service.engine import stats
from dragoman_service.engine.stats import EngineStats, Totals
from dragoman_service.repository.models import ModelDescription
from dragoman_service.repository.observer import WatchedEngine
from dragoman_service.repository.registry import ModelEntry
from dragoman_service.server.gpu_metrics import gpu_collector

LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_VERSION = ("model", "version")


class Metrics:
    """The metrics of one server process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._gpu_watched = False
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)  # process_* and python_*
        self.requests = self._counter("requests", "Calls ended, by gRPC status code.", "method", "code")
        self.requests_running = self._gauge("requests_running", "Calls being answered.", "method")
        self.request_seconds = self._histogram(
            "request_duration_seconds", "From a call's arrival to its end.", LATENCY_BUCKETS, "method"
        )
        self.first_chunk_seconds = self._histogram(
            "time_to_first_token_seconds",
            "From the arrival of a streaming call to its first piece of text.",
            LATENCY_BUCKETS,
            *_VERSION,
        )
        self.rejections = self._counter("rejections", "Calls refused or failed, by reason.", "reason")
        self.cancellations = self._counter(
            "cancellations", "Calls given up: cancelled by the caller, or past their deadline.", "reason"
        )
        self._declare_models()
        self._engines = _Engines()
        registry.register(self._engines)

    def _declare_models(self) -> None:
        self.model_aliases = self._gauge("model_alias", "1 for each alias of a version in service.", *_VERSION, "alias")
        self.model_loads = self._counter(
            "model_loads", "Versions taken from the repository, by result: success or failure.", "model", "result"
        )
        self.load_seconds = self._histogram(
            "model_load_duration_seconds",
            "Time to load a version and prove it, while the one before it serves.",
            LATENCY_BUCKETS,
            "model",
        )
        self.repository_errors = self._counter("repository_errors", "Looks at the repository that failed.")

    def watch(self, model: ModelDescription, engine: WatchedEngine) -> None:
        """Report a version of a model, and its engine at every scrape; in place of the engine that it had before."""
        self._engines.watch(model, engine)

    def forget(self, model: ModelDescription, engine: WatchedEngine) -> None:
        """Report an engine no more: its version is then that of the one that came before or after, if there is one."""
        if not self._engines.forget(model, engine):
            self.first_chunk_seconds.remove_by_labels({"model": model.name, "version": model.version})

    def show_aliases(self, name: str, entry: ModelEntry | None) -> None:
        """Report the aliases of a model, and no others."""
        self.model_aliases.remove_by_labels({"model": name})
        for alias, value in entry.aliases.items() if entry else ():
            self.model_aliases.labels(name, value.version, alias).set(1)

    def loaded(self, name: str, seconds: float, *, good: bool) -> None:
        """Count a version that was loaded, or could not be."""
        self.model_loads.labels(name, "success" if good else "failure").inc()
        self.load_seconds.labels(name).observe(seconds)

    def repository_failed(self) -> None:
        """Count a look at the repository that failed."""
        self.repository_errors.inc()

    def watch_gpu(self, bus_id: str) -> None:
        """Report the GPU at a place of the bus; once is enough."""
        if not self._gpu_watched and (collector := gpu_collector(bus_id)):
            self.registry.register(collector)
            self._gpu_watched = True

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"dragoman_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"dragoman_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"dragoman_{name}", help_text, labels, buckets=buckets, registry=self.registry)


class _Seen(NamedTuple):
    """What there is to report of a version at a scrape."""

    model: ModelDescription
    healthy: bool
    counts: EngineStats
    totals: Totals


_Family: TypeAlias = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily


class _Metric(NamedTuple):
    """A metric of engines: the values of a version, by the labels that it has beside model and version."""

    kind: type[_Family]
    name: str
    help: str
    read: Callable[[_Seen], Mapping[tuple[str, ...], float | stats.Histogram]]
    labels: tuple[str, ...] = ()


_OF_ENGINES = (
    _Metric(
        GaugeMetricFamily,
        "model_info",
        "1 for each version of a model in service.",
        lambda it: {(it.model.precision, it.model.device): 1},
        ("precision", "device"),
    ),
    _Metric(
        GaugeMetricFamily,
        "slots_used",
        "Rows of the running batch that are taken.",
        lambda it: {(): it.counts.rows_used},
    ),
    _Metric(
        GaugeMetricFamily,
        "slots_total",
        "Rows that the running batch can have.",
        lambda it: {(): it.model.max_rows},
    ),
    _Metric(
        GaugeMetricFamily,
        "kv_cache_tokens",
        "Positions in use in the self- and cross-attention caches, over all rows.",
        lambda it: {(): it.counts.cached_positions},
    ),
    _Metric(
        GaugeMetricFamily,
        "kv_cache_capacity_tokens",
        "Positions that these caches can have, all rows at their limits.",
        lambda it: {(): it.model.max_rows * (it.model.max_source_tokens + it.model.max_target_tokens)},
    ),
    _Metric(
        GaugeMetricFamily,
        "queue_depth",
        "Sentences waiting for a place in the running batch.",
        lambda it: {(): it.counts.waiting},
    ),
    _Metric(
        GaugeMetricFamily,
        "engine_healthy",
        "1 while the engine works, 0 once it is dead.",
        lambda it: {(): it.healthy},
    ),
    _Metric(
        CounterMetricFamily,
        "source_tokens",
        "Tokens of translated sentences.",
        lambda it: {(): it.totals.source_tokens},
    ),
    _Metric(
        CounterMetricFamily,
        "target_tokens",
        "Tokens of translations (best hypothesis).",
        lambda it: {(): it.totals.target_tokens},
    ),
    _Metric(
        CounterMetricFamily,
        "failed_steps",
        "Steps that raised; their sentences were run again, or one of them failed.",
        lambda it: {(): it.totals.failed_steps},
    ),
    _Metric(
        CounterMetricFamily,
        "finished",
        "Sentences translated, by how they ended.",
        lambda it: {("stop",): it.totals.stopped, ("length",): it.totals.cut},
        ("reason",),
    ),
    _Metric(
        HistogramMetricFamily,
        "step_duration_seconds",
        "Duration of a step by phase: encode, decode, or schedule (all the rest).",
        lambda it: {
            ("encode",): it.totals.encode_seconds,
            ("decode",): it.totals.decode_seconds,
            ("schedule",): it.totals.schedule_seconds,
        },
        ("phase",),
    ),
    _Metric(
        HistogramMetricFamily,
        "step_rows",
        "Rows of the running batch in a step.",
        lambda it: {(): it.totals.step_rows},
    ),
    _Metric(
        HistogramMetricFamily,
        "queue_duration_seconds",
        "Wait of a sentence for a place in the running batch.",
        lambda it: {(): it.totals.queue_seconds},
    ),
    _Metric(
        HistogramMetricFamily,
        "inter_token_latency_seconds",
        "Mean time between a sentence's tokens.",
        lambda it: {(): it.totals.token_seconds},
    ),
)


@dataclass(slots=True, eq=False)
class _Watched:
    """An engine that serves a version, or is about to; or that has served it, and left its totals."""

    model: ModelDescription
    engine: WatchedEngine
    ended: Totals | None = None


class _Version:
    """The engines that serve or have served a version, in the order in which they came.

    A sum of floats depends on the order of addition, so the totals of an engine that has gone stay in their place. A
    total that falls, be it by a rounding error, would mean to Prometheus that the server was restarted.
    """

    def __init__(self) -> None:
        self._engines: list[_Watched] = []
        self._ended = Totals()  # of engines that came before all of these, and have gone

    def add(self, model: ModelDescription, engine: WatchedEngine) -> None:
        self._engines.append(_Watched(model, engine))

    def remove(self, engine: WatchedEngine) -> bool:
        """Keep the totals of an engine that has gone; whether another one is left."""
        for watched in self._engines:
            if watched.engine is engine and watched.ended is None:
                watched.ended = engine.stats().totals
        while self._engines and (ended := self._engines[0].ended) is not None:
            self._ended += ended
            del self._engines[0]
        return any(watched.ended is None for watched in self._engines)

    def look(self) -> _Seen:
        """Read the counts of the newest engine, and the totals of all that have served this version."""
        newest = next(watched for watched in reversed(self._engines) if watched.ended is None)
        counts = newest.engine.stats()
        totals = self._ended
        for watched in self._engines:
            totals += counts.totals if watched is newest else watched.ended or watched.engine.stats().totals
        return _Seen(newest.model, newest.engine.healthy, counts, totals)


class _Engines(Collector):
    """Reads the engines' counts at a scrape: their threads count in plain numbers, and know nothing of Prometheus."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], _Version] = {}
        self._lock = threading.Lock()

    def watch(self, model: ModelDescription, engine: WatchedEngine) -> None:
        with self._lock:
            self._versions.setdefault((model.name, model.version), _Version()).add(model, engine)

    def forget(self, model: ModelDescription, engine: WatchedEngine) -> bool:
        """Drop an engine; whether another one is left that serves its version."""
        labels = (model.name, model.version)
        with self._lock:
            version = self._versions.get(labels)
            if version is None:
                return False
            left = version.remove(engine)
            if not left:
                del self._versions[labels]
            return left

    def describe(self) -> Iterator[Metric]:
        """No names in advance: `collect` is not called when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All metrics of all engines."""
        with self._lock:
            seen = {labels: version.look() for labels, version in self._versions.items()}
        for each in _OF_ENGINES:
            family = each.kind(f"dragoman_{each.name}", each.help, labels=(*_VERSION, *each.labels))
            for labels, version in seen.items():
                for more, value in each.read(version).items():
                    _add(family, (*labels, *more), value)
            yield family


def _add(family: _Family, labels: tuple[str, ...], value: float | stats.Histogram) -> None:
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(value, stats.Histogram)
        bounds = [floatToGoString(bound) for bound in (*value.bounds, float("inf"))]  # type: ignore[no-untyped-call]
        # Prometheus counts in each bucket what is in the lower ones too.
        family.add_metric(labels, list(zip(bounds, accumulate(value.counts), strict=True)), value.sum)
    else:
        assert not isinstance(value, stats.Histogram)
        family.add_metric(labels, value)
